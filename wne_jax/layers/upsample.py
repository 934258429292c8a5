r"""Upsampling by a 2x2 transposed convolution of stride 2, computed as a matrix product and a pixel shuffle.

The weights of `AffineUpsample` sum to one, so it commutes with $x \mapsto a x + b$.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array, lax

from wne_jax.layers.affine_conv import AffineConv
from wne_jax.layers.conv import Conv


def pixel_shuffle(x: Array, factor: int) -> Array:
    r"""Rearrange channels into pixels.

    $$\mathrm{out}_{b,\,h r + i,\,w r + j,\,c} = x_{b,\,h,\,w,\,c r^2 + i r + j}, \qquad 0 \le i, j < r$$

    For volumes, the channel is $c r^3 + (i r + j) r + k$.

    Args:
        x: Images `[B, H, W, C * factor**2]`, or volumes `[B, D, H, W, C * factor**3]`.
        factor: r, by which each side is multiplied.

    Returns:
        Images `[B, H * factor, W * factor, C]`, or volumes.

    Raises:
        ValueError: `x` is not of rank 4 or 5, or `factor**2` (`factor**3`) does not divide its channels.

    Example:
        >>> pixel_shuffle(jnp.arange(4).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
        [[0, 1], [2, 3]]

    References:
        Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
        Convolutional Neural Network", CVPR 2016, equation 4.
    """
    batch, *sides, channels = x.shape
    if (ndim := len(sides)) not in (2, 3):
        raise ValueError(
            f"x must be [B, H, W, C], of rank 4, or [B, D, H, W, C]; its shape is {x.shape}"
        )
    if factor < 1 or channels % factor**ndim:
        raise ValueError(
            f"factor**{ndim} must divide the {channels} channels of x, but factor is {factor}"
        )
    x = x.reshape(batch, *sides, -1, *(factor,) * ndim)
    pairs = (axis for i in range(ndim) for axis in (1 + i, 2 + ndim + i))
    x = x.transpose(0, *pairs, 1 + ndim)
    return x.reshape(batch, *(side * factor for side in sides), -1)


def double_linear(x: Array) -> Array:
    """Linear interpolation to twice the size; beyond its borders an image is zero.

    Args:
        x: Images `[B, H, W, C]`.

    Returns:
        Images `[B, 2 H, 2 W, C]`. An output pixel is 3/4 of the pixel that it lies in and 1/4 of the nearest
        other one, along each axis.

    Example:
        >>> double_linear(jnp.array([[4.0, 8.0]]).reshape(1, 1, 2, 1))[0, 0, :, 0].tolist()
        [2.25, 3.75, 5.25, 4.5]
    """
    for axis in (1, 2):
        padded = jnp.pad(x, [(1, 1) if k == axis else (0, 0) for k in range(4)])
        before, after = (lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in (0, 2))
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


class DoubleLinear(nn.Module):
    """Linen module of `double_linear`, without variables; `wne_jax.inference.few_shapes` looks for it."""

    def __call__(self, x: Array) -> Array:
        """Interpolate; see `double_linear`."""
        return double_linear(x)


class Upsample(nn.Module):
    """A 2x2 transposed convolution of stride 2: a 1x1 `Conv` to four times the features (eight times for
    volumes), `pixel_shuffle`, and a bias. On CPU, the gradient of XLA's transposed convolution takes more
    than five times as long.

    Attributes:
        features: Output channels.
        use_bias: Whether to add a bias per output channel.
        dtype: Precision of the computation (None: that of input and parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernel, `[1, 1, C, 4 * features]`.
        bias_init: Initializer of `bias`, `[features]`.
        precision: As in `jax.lax.conv`.
    """  # noqa: D205

    features: int
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Enlarge `x`, `[B, H, W, C]`, to `[B, 2 H, 2 W, features]`, or a volume."""
        conv = Conv(
            2 ** (x.ndim - 2) * self.features, kernel_size=1, use_bias=False, dtype=self.dtype,
            param_dtype=self.param_dtype, kernel_init=self.kernel_init, precision=self.precision,
            name="conv",
        )  # fmt: skip
        x = pixel_shuffle(conv(x), 2)
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, bias = promote_dtype(x, bias, dtype=self.dtype)
        return x + jnp.reshape(bias, (1,) * (x.ndim - 1) + (-1,))


class AffineUpsample(nn.Module):
    """A 2x2 transposed convolution of stride 2: a 1x1 `AffineConv` to four times the features, then
    `pixel_shuffle`. Each output value is an affine combination of one input pixel's channels.

    Attributes:
        features: Output channels.
        dtype: Precision of the computation (None: that of input and parameter together).
        param_dtype: Precision of the parameter.
        kernel_init: Initializer of the free weights; see `AffineConv`.
        precision: As in `jax.lax.conv`.
    """  # noqa: D205

    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = AffineConv.kernel_init
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Enlarge `x`, `[B, H, W, C]`, to `[B, 2 H, 2 W, features]`, or a volume."""
        conv = AffineConv(
            2 ** (x.ndim - 2) * self.features, kernel_size=1, dtype=self.dtype, param_dtype=self.param_dtype,
            kernel_init=self.kernel_init, precision=self.precision, name="conv",
        )  # fmt: skip
        return pixel_shuffle(conv(x), 2)
