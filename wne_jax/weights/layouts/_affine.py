"""The affine layers of Herbreteau et al., whose weights and channel pairs have another order than ours."""

import numpy as np

from wne_jax.layers.affine_conv import affine_weights
from wne_jax.layers.sort_pool import pair_order


def affine_convolution(
    tensor: np.ndarray, *, exempt: int = 0, sorted_before: bool = False, sorted_after: bool = False
) -> np.ndarray:
    r"""Convert weights `[O, I, kh, kw]` of their `AffineConv2d` to our `AffineConv`, `[kh, kw, I, O]`.

    Their kernel is $k_i = w_{i-1} - w_i + 1/n$, with i running over (I, kh, kw). The kernel is computed in
    float64 and converted to our weights, which run over (kh, kw, I).

    Args:
        tensor: Their weights.
        exempt: Number of last input channels that are not constrained.
        sorted_before: Whether the input comes from their sort pooling, which pairs neighbouring channels;
        ours
            pairs the two halves.
        sorted_after: Whether the output goes into sort pooling.

    Returns:
        Our weights, in the dtype of `tensor`.
    """
    w = np.asarray(tensor, np.float64)
    constrained, free = np.split(w, [w.shape[1] - exempt], axis=1)
    rows = constrained.reshape(len(w), -1)
    rows = np.roll(rows, 1, axis=1) - rows + 1 / rows.shape[1]
    kernel = np.concatenate([rows.reshape(constrained.shape), free], axis=1).transpose(2, 3, 1, 0)
    if sorted_before:
        kernel = kernel[:, :, pair_order(kernel.shape[2])]
    if sorted_after:
        kernel = kernel[..., pair_order(kernel.shape[3])]
    return affine_weights(kernel, exempt=exempt).astype(tensor.dtype)
