r"""Stride-1 convolution of each channel with its own kernel, with zero, reflection or circular padding.

On CPU, XLA's grouped convolution is about fifty times as slow as nine products of shifted images (at
1x64x64x144 and 3x3). So on CPU the sum of those products is used instead.
"""

from functools import partial
from typing import get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array, lax

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.layers.conv import Padding, positions


def depthwise_conv(
    x: Array, kernel: Array, *, padding: Padding = "zeros", precision: PrecisionLike = None
) -> Array:
    r"""Convolve every channel with its own kernel.

    $$\mathrm{out}_{b,i,j,c} = \sum_{u,v} \mathrm{kernel}_{u,v,0,c}\; \tilde x_{b,\,i+u-r,\,j+v-r,\,c},
    \qquad k = 2 r + 1,$$

    where $\tilde x$ is the image padded as in `conv`.

    Args:
        x: Images `[B, H, W, C]`, of any size from 1x1.
        kernel: `[k, k, 1, C]`, k odd, in the dtype of `x`.
        padding: "zeros", "reflect" or "circular".
        precision: As in `jax.lax.conv`; on CPU, products always have the precision of the dtype.

    Returns:
        `[B, H, W, C]`, in the dtype of `x`.

    Raises:
        ValueError: An unknown padding, or shapes that do not match.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> depthwise_conv(ramp, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0].tolist()
        [1.0, 3.0, 6.0, 5.0]
        >>> depthwise_conv(ramp, jnp.ones((3, 3, 1, 1)), padding="circular")[0, 0, :, 0].tolist()
        [12.0, 9.0, 18.0, 15.0]
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, not {padding!r}")
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C], of rank 4; its shape is {x.shape}")
    side = kernel.shape[0]
    if side % 2 == 0 or kernel.shape != (side, side, 1, x.shape[3]):
        raise ValueError(
            f"kernel must be [k, k, 1, {x.shape[3]}] with k odd; its shape is {kernel.shape}"
        )
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_shifted, padding=padding),
        default=partial(_grouped, padding=padding, precision=precision),
    )


class DepthwiseConv(nn.Module):
    """Linen layer: `depthwise_conv` without bias.

    Attributes:
        kernel_size: Odd side of the square kernels.
        padding: "zeros", "reflect" or "circular".
        dtype: Precision of the computation (None: that of input and parameter together).
        param_dtype: Precision of the parameter.
        kernel_init: Initializer of `kernel`, `[k, k, 1, C]`.
        precision: As in `jax.lax.conv`.

    Example:
        >>> y, variables = DepthwiseConv().init_with_output(jax.random.key(0), jnp.ones((1, 5, 7, 3)))
        >>> y.shape, variables["params"]["kernel"].shape
        ((1, 5, 7, 3), (3, 3, 1, 3))
    """

    kernel_size: int = 3
    padding: Padding = "zeros"
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve `x`, `[B, H, W, C]`, to the same shape."""
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return depthwise_conv(x, kernel, padding=self.padding, precision=self.precision)


def _grouped(x: Array, kernel: Array, *, padding: Padding, precision: PrecisionLike) -> Array:
    """XLA's convolution with one group per channel."""
    convolve = partial(
        lax.conv_general_dilated, window_strides=(1, 1), feature_group_count=x.shape[3],
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision,
    )  # fmt: skip
    if padding == "zeros":
        return convolve(x, kernel, padding="SAME")

    @partial(jax.checkpoint, prevent_cse=False)  # stores the image, not its padded copy
    def padded_first(x: Array, kernel: Array) -> Array:
        return convolve(_continued(x, kernel.shape[0] // 2, padding), kernel, padding="VALID")

    return padded_first(x, kernel)


def _shifted(x: Array, kernel: Array, *, padding: Padding) -> Array:
    """The sum of shifted products, accumulated in at least float32."""
    dtype = at_least_float32(x.dtype)
    return _gather(x.astype(dtype), kernel.astype(dtype), padding).astype(x.dtype)


def _continued(x: Array, radius: int, padding: Padding) -> Array:
    """The image padded by `radius` pixels on every side."""
    if padding == "zeros" or radius == 0:
        return jnp.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
    rows = positions(x.shape[1], radius, padding)
    x = jnp.concatenate([x[:, rows[:radius]], x, x[:, rows[-radius:]]], axis=1)
    columns = positions(x.shape[2], radius, padding)
    return jnp.concatenate([x[:, :, columns[:radius]], x, x[:, :, columns[-radius:]]], axis=2)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _gather(x: Array, kernel: Array, padding: Padding) -> Array:
    """Sum slices of the padded image times kernel entries."""
    side, (height, width) = kernel.shape[0], x.shape[1:3]
    padded = _continued(x, side // 2, padding)
    padded = lax.optimization_barrier(padded)  # without it, x is recomputed for every slice
    out = jnp.zeros_like(x)
    for u in range(side):
        for v in range(side):
            entry = kernel[u : u + 1, v : v + 1]
            out += padded[:, u : u + height, v : v + width] * entry
    return out


def _scatter(x: Array, kernel: Array, padding: Padding) -> Array:
    """The same sum as a scatter: add each product of image and kernel entry at its shifted position."""
    side, (height, width) = kernel.shape[0], x.shape[1:3]
    last, start = side - 1, side // 2
    if padding != "zeros":  # padded zeros need not be multiplied
        x, start = _continued(x, side // 2, padding), last
    out = jnp.zeros((), x.dtype)
    for u in range(side):
        row = jnp.zeros((), x.dtype)
        for v in range(side):
            product = x * kernel[u : u + 1, v : v + 1]
            row += jnp.pad(product, ((0, 0), (0, 0), (last - v, v), (0, 0)))
        out += jnp.pad(row, ((0, 0), (last - u, u), (0, 0), (0, 0)))
    out = lax.optimization_barrier(out)  # for the transpose, as in `_gather`
    return out[:, start : start + height, start : start + width]


@_gather.defjvp
def _gather_jvp(
    padding: Padding, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Both terms of the product rule, each in the form whose transpose is fast.

    The transpose of a slice is a pad, and a sum of pads costs as much as the grouped convolution. The
    transpose of a pad is a slice. The checkpoint stores the image for the kernel's gradient, not nine slices.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    gather, scatter = (
        jax.checkpoint(partial(form, padding=padding), prevent_cse=False)
        for form in (_gather, _scatter)
    )
    return _gather(x, kernel, padding), scatter(dx, kernel) + gather(x, dkernel)
