r"""Stride-1 convolution that keeps the size, with zero, reflection or circular padding.

Convention: `x` is `[B, H, W, C]`, kernels are `[k, k, C, O]` with k odd, and the operation is the
cross-correlation that deep learning calls convolution. Volumes are `[B, D, H, W, C]`, and their kernels
`[k, k, k, C, O]`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array, lax

Padding = Literal["zeros", "reflect", "circular"]

_PAD_MODES: dict[str, Literal["reflect", "wrap"]] = {"reflect": "reflect", "circular": "wrap"}


def conv(
    x: Array, kernel: Array, *, padding: Padding = "zeros", precision: PrecisionLike = None
) -> Array:
    r"""Convolve every image with a kernel at stride 1, keeping the size.

    $$\mathrm{out}_{b,i,j,o} = \sum_{u,v,c} \mathrm{kernel}_{u,v,c,o}\; \tilde x_{b,\,i+u-r,\,j+v-r,\,c},
    \qquad k = 2 r + 1,$$

    where $\tilde x$ is the padded image; volumes have one more index. Reflection follows NumPy: the border
    pixel is not repeated, except on an axis of size one.

    Args:
        x: Images `[B, H, W, C]`, or volumes `[B, D, H, W, C]`, with sides of 1 or more.
        kernel: `[k, k, C, O]` or `[k, k, k, C, O]`, k odd, in the dtype of `x`.
        padding: "zeros", "reflect" or "circular".
        precision: As in `jax.lax.conv`.

    Returns:
        `[B, ..., O]`.

    Raises:
        ValueError: An unknown padding, or shapes that do not match.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> conv(ramp, jnp.ones((3, 3, 1, 1)), padding="circular")[0, 0, :, 0].tolist()
        [12.0, 9.0, 18.0, 15.0]
    """
    _check(x, kernel, padding)
    radius = kernel.shape[0] // 2
    if radius == 0:  # a matrix product takes half the time of XLA's convolution on CPU
        matrix = jnp.reshape(kernel, kernel.shape[-2:])
        return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())), precision=precision)
    border = [(radius, radius)] * (x.ndim - 2)
    if padding == "zeros":
        return _correlate(x, kernel, border, precision)
    if x.ndim > 4:
        return _padded_first(x, kernel, padding=padding, precision=precision)

    # On CPU, XLA's convolution takes two to three times as long if it does no padding.
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_zeros_and_ring, padding=padding, precision=precision),
        default=partial(_padded_first, padding=padding, precision=precision),
    )


class Conv(nn.Module):
    """Linen layer: `conv` with a bias.

    Attributes:
        features: Output channels.
        kernel_size: Odd side of the square or cubic kernel.
        padding: "zeros", "reflect" or "circular".
        use_bias: Whether to add a bias per output channel.
        dtype: Precision of the computation (None: that of input and parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of `kernel`, `[k, ..., C, features]`; LeCun normal by default, as in Flax.
        bias_init: Initializer of `bias`, `[features]`.
        precision: As in `jax.lax.conv`.

    Example:
        >>> import jax
        >>> y, variables = Conv(8).init_with_output(jax.random.key(0), jnp.ones((1, 5, 7, 3)))
        >>> y.shape, variables["params"]["kernel"].shape
        ((1, 5, 7, 8), (3, 3, 3, 8))
    """

    features: int
    kernel_size: int = 3
    padding: Padding = "zeros"
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve `x`, `[B, ..., C]`, to `[B, ..., features]`."""
        shape = (*(self.kernel_size,) * (x.ndim - 2), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = conv(x, kernel, padding=self.padding, precision=self.precision)
        return x if bias is None else x + jnp.reshape(bias, (1,) * (x.ndim - 1) + (-1,))


def _padded_first(x: Array, kernel: Array, *, padding: Padding, precision: PrecisionLike) -> Array:
    """Pad the image, then convolve without padding."""
    radius = kernel.shape[0] // 2
    sides = x.shape[1:-1]
    if all(isinstance(size, int) for size in sides):
        border = ((0, 0), *((radius, radius),) * len(sides), (0, 0))
        padded = jnp.pad(x, border, mode=_PAD_MODES[padding])
    else:
        padded = x
        for axis, size in enumerate(sides, start=1):
            padded = jnp.take(padded, positions(size, radius, padding), axis=axis)
    return _correlate(padded, kernel, [(0, 0)] * len(sides), precision)


def _zeros_and_ring(
    x: Array, kernel: Array, *, padding: Padding, precision: PrecisionLike
) -> Array:
    """Convolve with zero padding, then add the contribution of the padded ring around the image.

    The four sides of the ring, r pixels wide, meet only the kernel's outer rows or columns. Corners belong to
    top and bottom.
    """
    radius = kernel.shape[0] // 2
    height, width = x.shape[1:3]
    rows, columns = (positions(size, radius, padding) for size in (height, width))
    before, after, both, neither = (0, radius - 1), (radius - 1, 0), (radius, radius), (0, 0)

    above, below = x[:, rows[:radius]][:, :, columns], x[:, rows[-radius:]][:, :, columns]
    top = _correlate(above, kernel[:radius], [before, neither], precision)
    bottom = _correlate(below, kernel[-radius:], [after, neither], precision)
    left = _correlate(x[:, :, columns[:radius]], kernel[:, :radius], [both, before], precision)
    right = _correlate(x[:, :, columns[-radius:]], kernel[:, -radius:], [both, after], precision)

    out = _correlate(x, kernel, [both, both], precision)
    out = out.at[:, :radius].add(top[:, :height])
    out = out.at[:, -radius:].add(bottom[:, -height:])
    out = out.at[:, :, :radius].add(left[:, :, :width])
    return out.at[:, :, -radius:].add(right[:, :, -width:])


def positions(size: Any, radius: int, padding: Padding) -> Any:
    """Pixel indices at -radius, ..., size + radius - 1 of a padded axis; `size` may be symbolic."""
    if isinstance(size, int):
        return np.pad(np.arange(size), radius, mode=_PAD_MODES[padding])
    at = jnp.arange(-radius, size + radius)
    if padding == "circular":
        return at % size
    return size - 1 - abs(size - 1 - at % (2 * (size - 1)))


def _correlate(x: Array, kernel: Array, border: Sequence[tuple[int, int]], precision: Any) -> Array:
    """Cross-correlation with zero padding."""
    space = "DHW"[-len(border) :]
    layout = (f"N{space}C", f"{space}IO", f"N{space}C")
    return lax.conv_general_dilated(
        x, kernel, (1,) * len(border), border, dimension_numbers=layout, precision=precision
    )


def _check(x: Array, kernel: Array, padding: str) -> None:
    """Reject invalid arguments of `conv`."""
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, not {padding!r}")
    if x.ndim not in (4, 5):
        raise ValueError(
            f"x must be [B, H, W, C], of rank 4, or [B, D, H, W, C]; its shape is {x.shape}"
        )
    sides = kernel.shape[:-2]
    if kernel.ndim != x.ndim or len(set(sides)) > 1 or sides[0] % 2 == 0:
        expected = ", ".join("k" * (x.ndim - 2))
        raise ValueError(
            f"kernel must be [{expected}, C, O] with k odd; its shape is {kernel.shape}"
        )
    if kernel.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"kernel {kernel.shape} takes {kernel.shape[-2]} channels, but x {x.shape} has {x.shape[-1]}"
        )
