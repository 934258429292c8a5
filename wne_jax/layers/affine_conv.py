r"""Convolution in which every output is an affine combination of inputs: the weights sum to one.

Such a layer commutes with $x \mapsto a x + b$ for all real a and b if its padding does. "reflect" and
"circular" do; "zeros" does not, since padded zeros do not follow b.
"""

import math
from typing import TypeVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array

from wne_jax.layers.conv import Padding, conv

AnyArray = TypeVar("AnyArray", Array, np.ndarray)

_GAIN = 1 / (1 - 1 / math.pi)
"""The inverse variance of the minimum (and of the maximum) of two standard normal variables."""


def affine_kernel(w: Array, *, exempt: int = 0) -> Array:
    r"""Turn free weights into a kernel that sums to one for each output channel.

    For the n entries of one output channel, in order,

    $$k_i = w_i - w_{i-1} + \tfrac1n \quad (\text{indices mod } n), \qquad \sum_i k_i = 1.$$

    Every kernel that sums to one has such weights, unique up to a constant; `affine_weights` computes them.

    Args:
        w: Free weights `[kh, kw, I, O]`, or `[kd, kh, kw, I, O]`.
        exempt: The last `exempt` input channels (a noise map) are not constrained.

    Returns:
        The kernel, of the same shape.

    Raises:
        ValueError: `w` is not of rank 4 or 5, or every input channel is exempt.

    Example:
        >>> k = affine_kernel(jnp.arange(36.0).reshape(3, 3, 2, 2))
        >>> k.sum((0, 1, 2)).round(5).tolist()
        [1.0, 1.0]

    References:
        Herbreteau, Moebel & Kervrann, "Normalization-Equivariant Neural Networks with Application to
        Image Denoising", NeurIPS 2023, section 4.1.
    """
    constrained, free = _split(w, exempt)
    rows = constrained.reshape(-1, w.shape[-1])
    rows = rows - jnp.roll(rows, 1, axis=0) + 1 / rows.shape[0]
    return jnp.concatenate([rows.reshape(constrained.shape), free], axis=-2)


def affine_weights(kernel: AnyArray, *, exempt: int = 0) -> AnyArray:
    r"""Weights that `affine_kernel` turns into a given kernel: $w_i = \sum_{j \le i} (k_j - 1/n)$.

    Use it to load a kernel from another implementation into `AffineConv`.

    Args:
        kernel: `[kh, kw, I, O]`, summing to one over all but the last axis and the exempt channels.
        exempt: As in `affine_kernel`.

    Returns:
        Free weights `[kh, kw, I, O]`. For a NumPy array, a NumPy array of the same dtype.

    Raises:
        ValueError: As in `affine_kernel`.

    Example:
        >>> box = jnp.ones((3, 3, 1, 1)) / 9
        >>> bool(jnp.allclose(affine_kernel(affine_weights(box)), box))
        True
    """
    constrained, free = _split(kernel, exempt)
    rows = constrained.reshape(-1, kernel.shape[-1])
    weights = (rows - 1 / rows.shape[0]).cumsum(axis=0).reshape(constrained.shape)
    if isinstance(kernel, np.ndarray):
        return np.concatenate([weights, free], axis=-2)
    return jnp.concatenate([weights, free], axis=-2)


class AffineConv(nn.Module):
    """Linen layer: `conv` with an `affine_kernel` and no bias.

    Its parameter has the same name and shape as the kernel of `Conv`. The default initializer keeps the
    variance constant through a stack of these layers and `sort_pool`. Sorting moves 1/pi of a channel's power
    into its mean, and the differences in `affine_kernel` cancel that mean; so kernels have variance
    1 / (1 - 1/pi) over the fan-in. The constraint is applied in `param_dtype`, before the cast to `dtype`.

    Attributes:
        features: Output channels.
        kernel_size: Odd side of the square or cubic kernel.
        padding: "zeros", "reflect" or "circular"; all but "zeros" commute with offsets.
        exempt: How many of the last input channels are not constrained.
        dtype: Precision of the computation (None: that of input and parameter together).
        param_dtype: Precision of the parameter.
        kernel_init: Initializer of `kernel`, the free weights `[k, k, C, features]`.
        precision: As in `jax.lax.conv`.

    Example:
        >>> import jax
        >>> y = jax.random.normal(jax.random.key(0), (1, 6, 6, 2))
        >>> f = lambda y: AffineConv(4).init_with_output(jax.random.key(1), y)[0]
        >>> bool(jnp.allclose(f(3 * y - 2), 3 * f(y) - 2, atol=1e-5))
        True
    """

    features: int
    kernel_size: int = 3
    padding: Padding = "reflect"
    exempt: int = 0
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.variance_scaling(_GAIN / 2, "fan_in", "normal")
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve `x`, `[B, ..., C]`, to `[B, ..., features]`."""
        shape = (*(self.kernel_size,) * (x.ndim - 2), x.shape[-1], self.features)
        weights = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        kernel = affine_kernel(weights, exempt=self.exempt)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return conv(x, kernel, padding=self.padding, precision=self.precision)


def _split(w: AnyArray, exempt: int) -> tuple[AnyArray, AnyArray]:
    """Split the input channels into the constrained and the exempt ones."""
    if w.ndim not in (4, 5):
        raise ValueError(
            f"a kernel must be [kh, kw, I, O], of rank 4, or [kd, kh, kw, I, O]; its shape is {w.shape}"
        )
    if not 0 <= exempt < w.shape[-2]:
        raise ValueError(
            f"exempt must leave at least one of the {w.shape[-2]} input channels; it is {exempt}"
        )
    constrained = w.shape[-2] - exempt
    return w[..., :constrained, :], w[..., constrained:, :]
