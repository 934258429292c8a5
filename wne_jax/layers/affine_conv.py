r"""Convolution whose every output is an affine combination of its inputs: the weights sum to one.

Such a layer commutes with $x \mapsto a x + b$ for all real a and b, provided that the padding does (by
reflection or circular; zeros are not moved by b).
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
"""The inverse of the variance of the smaller of two standard normal variables, as of the larger."""


def affine_kernel(w: Array, *, exempt: int = 0) -> Array:
    r"""Turn free weights into a kernel that sums to one for each output channel.

    With the n entries of one output channel in a row,

    $$k_i = w_i - w_{i-1} + \tfrac1n \quad (\text{indices mod } n), \qquad \sum_i k_i = 1.$$

    Every kernel that sums to one is reached, by weights that are unique up to a constant; see
    `affine_weights`.

    Args:
        w: Free weights `[kh, kw, I, O]`.
        exempt: The last `exempt` input channels (a noise map) stay as they are, outside of the sum.

    Returns:
        The kernel `[kh, kw, I, O]`.

    Raises:
        ValueError: `w` is not of rank 4, or no input channel remains to be constrained.

    Example:
        >>> k = affine_kernel(jnp.arange(36.0).reshape(3, 3, 2, 2))
        >>> k.sum((0, 1, 2)).round(5).tolist()
        [1.0, 1.0]

    References:
        Herbreteau, Moebel & Kervrann, "Normalization-Equivariant Neural Networks with Application to
        Image Denoising", NeurIPS 2023, section 4.1.
    """
    constrained, free = _split(w, exempt)
    rows = constrained.reshape(-1, w.shape[3])
    rows = rows - jnp.roll(rows, 1, axis=0) + 1 / rows.shape[0]
    return jnp.concatenate([rows.reshape(constrained.shape), free], axis=2)


def affine_weights(kernel: AnyArray, *, exempt: int = 0) -> AnyArray:
    r"""Weights that `affine_kernel` turns into a given kernel: $w_i = \sum_{j \le i} (k_j - 1/n)$.

    It lets a kernel from elsewhere, whatever its parametrization, be loaded into `AffineConv`.

    Args:
        kernel: `[kh, kw, I, O]`, summing to one over all but the last axis and the exempt channels.
        exempt: As in `affine_kernel`.

    Returns:
        Free weights `[kh, kw, I, O]`; a NumPy array for a NumPy array, whose precision is kept.

    Raises:
        ValueError: As in `affine_kernel`.

    Example:
        >>> box = jnp.ones((3, 3, 1, 1)) / 9
        >>> bool(jnp.allclose(affine_kernel(affine_weights(box)), box))
        True
    """
    constrained, free = _split(kernel, exempt)
    rows = constrained.reshape(-1, kernel.shape[3])
    weights = (rows - 1 / rows.shape[0]).cumsum(axis=0).reshape(constrained.shape)
    if isinstance(kernel, np.ndarray):
        return np.concatenate([weights, free], axis=2)
    return jnp.concatenate([weights, free], axis=2)


class AffineConv(nn.Module):
    """Linen layer of `conv` with an `affine_kernel`, and no bias.

    Its parameter has the name and the shape of `Conv`'s. The default initializer keeps a stack of these
    layers and of `sort_pool` from fading: sorting moves 1/pi of a channel's power into its mean, which the
    differences in `affine_kernel` cancel between neighbours; hence kernels of variance 1 / (1 - 1/pi) over
    the fan-in. The constraint is imposed in `param_dtype`, before the cast to `dtype`.

    Attributes:
        features: Output channels.
        kernel_size: Odd side of the square kernel.
        padding: "reflect" or "circular" to commute with offsets.
        exempt: The last input channels that are left outside of the constraint.
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
        """Convolve `x`, `[B, H, W, C]`, to `[B, H, W, features]`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        weights = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        kernel = affine_kernel(weights, exempt=self.exempt)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return conv(x, kernel, padding=self.padding, precision=self.precision)


def _split(w: AnyArray, exempt: int) -> tuple[AnyArray, AnyArray]:
    """The input channels under the constraint, and the exempt ones."""
    if w.ndim != 4:
        raise ValueError(f"a kernel must be [kh, kw, I, O], of rank 4; its shape is {w.shape}")
    if not 0 <= exempt < w.shape[2]:
        raise ValueError(
            f"exempt must leave one of the {w.shape[2]} input channels at least; it is {exempt}"
        )
    constrained = w.shape[2] - exempt
    return w[:, :, :constrained], w[:, :, constrained:]
