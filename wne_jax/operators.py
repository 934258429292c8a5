r"""Linear degradations of images: blurs, downsampling, mosaics, masks, and their compositions.

An operator A is a linear map of images `[B, H, W, C]`, `A(x)`, with its adjoint, `A.adjoint(y)`: the inner
products <A x, y> and <x, A.adjoint(y)> are equal. An observation is y = A x + noise; `degrade` combines an
operator with a noise.

If A preserves constants, $A\,\mathbf 1 = \mathbf 1$, then $A(a x + b) = a\,A x + b$. So a change of contrast
and brightness of the scene is the same change of the observation, and a restoration can and should be
normalization-equivariant. The property `keeps_constants` tells whether A does. A blur whose kernel sums to
one preserves constants, and so do downsampling and a Bayer mosaic. A mask preserves them only at the pixels
that it keeps.

Operators are pytrees: one compiled function works for all operators of the same kind and shape.
"""

import abc
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

Boundary = Literal["circular", "reflect"]
"""Padding: the opposite side, or the mirrored image without repeating the border pixel."""

_SUM = 1e-6  # tolerance for the sum of a kernel


class Operator(abc.ABC):
    """A linear map of images."""

    @property
    @abc.abstractmethod
    def keeps_constants(self) -> bool:
        """Whether A maps every constant image to the same constant."""

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """A x."""

    @abc.abstractmethod
    def adjoint(self, y: Array) -> Array:
        """Apply the adjoint of A to y; the result has the size of x."""

    def transfer(self, shape: tuple[int, ...]) -> Array | None:
        """The spectrum of A, `[H, W]`, for images `(B, H, W, C)`; None if A is no circular convolution."""
        return None

    def __matmul__(self, other: "Operator") -> "Operator":
        """A @ B applies B first, then A."""
        return Composition(self, other)


@struct.dataclass
class Identity(Operator):
    """A x = x, for denoising.

    Example:
        >>> Identity().keeps_constants
        True
    """

    @property
    def keeps_constants(self) -> bool:
        """Yes."""
        return True

    def __call__(self, x: Array) -> Array:
        """The image."""
        return x

    def adjoint(self, y: Array) -> Array:
        """The image."""
        return y

    def transfer(self, shape: tuple[int, ...]) -> Array:
        """Ones."""
        return jnp.ones(shape[1:3])


@struct.dataclass
class Blur(Operator):
    """Convolution of every channel with a kernel.

    Attributes:
        kernel: `[h, w]`; its centre is at `(h // 2, w // 2)`. See `gaussian_kernel`, `motion_kernel`.
        boundary: "circular" (computed in Fourier space), or "reflect" (sides larger than half the kernel).

    Example:
        >>> x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
        >>> Blur(jnp.array([[0.25, 0.5, 0.25]]))(x)[0, 2, :, 0].round(3).tolist()
        [0.0, 0.25, 0.5, 0.25, 0.0]
    """

    kernel: Array | np.ndarray
    boundary: Boundary = struct.field(pytree_node=False, default="circular")

    @property
    def keeps_constants(self) -> bool:
        """Whether the kernel sums to one."""
        return bool(abs(np.sum(np.asarray(self.kernel, np.float64)) - 1) < _SUM)

    def __call__(self, x: Array) -> Array:
        """The blurred image, of the size of x."""
        if self.boundary not in get_args(Boundary):
            raise ValueError(f"boundary must be circular or reflect, not {self.boundary!r}")
        if self.boundary == "circular":
            return _filtered(x, _transfer(self.kernel, x.shape[1:3]))
        top, left = (side // 2 for side in self.kernel.shape)
        bottom, right = (side - 1 - side // 2 for side in self.kernel.shape)
        # True convolution flips the kernel, and with it the padding before and after.
        widths = ((0, 0), (bottom, top), (right, left), (0, 0))
        padded = jnp.pad(x, widths, mode="reflect")
        blurred = _filtered(padded, _transfer(self.kernel, padded.shape[1:3]))
        return blurred[:, bottom : bottom + x.shape[1], right : right + x.shape[2]]

    def adjoint(self, y: Array) -> Array:
        """Blur by the flipped kernel; at a mirrored border, add the mirrored part."""
        if self.boundary == "circular":
            return _filtered(y, jnp.conj(_transfer(self.kernel, y.shape[1:3])))
        (x,) = jax.linear_transpose(self, jax.ShapeDtypeStruct(y.shape, y.dtype))(y)
        return x

    def transfer(self, shape: tuple[int, ...]) -> Array | None:
        """The discrete Fourier transform of the kernel, centred at pixel (0, 0)."""
        return _transfer(self.kernel, shape[1:3]) if self.boundary == "circular" else None


@struct.dataclass
class Downsample(Operator):
    """Reduce height and width by a factor, after an anti-aliasing filter.

    The filter is Keys' cubic, stretched by the factor (the "bicubic" of super-resolution benchmarks). At the
    border it is truncated, and its weights are normalized to sum one.

    Attributes:
        factor: A whole number that divides height and width.

    Example:
        >>> Downsample(2)(jnp.full((1, 6, 4, 1), 3.0)).shape
        (1, 3, 2, 1)
    """

    factor: int = struct.field(pytree_node=False)

    @property
    def keeps_constants(self) -> bool:
        """Yes."""
        return True

    def __call__(self, x: Array) -> Array:
        """The smaller image."""
        batch, height, width, channels = x.shape
        n = self.factor
        if n < 1 or height % n or width % n:
            raise ValueError(f"factor must divide height and width, {height} and {width}, not {n}")
        smaller = (batch, height // n, width // n, channels)
        return jax.image.resize(x, smaller, "cubic", antialias=True, precision="highest")

    def adjoint(self, y: Array) -> Array:
        """The adjoint, an image of the larger size."""
        batch, height, width, channels = y.shape
        n = self.factor
        shape = jax.ShapeDtypeStruct((batch, height * n, width * n, channels), y.dtype)
        (x,) = jax.linear_transpose(self, shape)(y)
        return x


@struct.dataclass
class BayerMosaic(Operator):
    """One colour at each pixel, `[B, H, W, 3]` to `[B, H, W, 1]`: red, green / green, blue.

    Example:
        >>> x = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (1, 2, 2, 3))
        >>> BayerMosaic()(x)[0, :, :, 0].tolist()
        [[1.0, 2.0], [2.0, 3.0]]
    """

    @property
    def keeps_constants(self) -> bool:
        """True; the constant must be the same in all channels."""
        return True

    def __call__(self, x: Array) -> Array:
        """The mosaic."""
        if x.shape[-1] != 3:
            raise ValueError(f"x must be colour images [B, H, W, 3]; its shape is {x.shape}")
        return jnp.sum(jnp.where(_bayer(x.shape), x, 0), axis=-1, keepdims=True)

    def adjoint(self, y: Array) -> Array:
        """Every value in the channel of its colour, and zeros elsewhere."""
        return jnp.where(_bayer((*y.shape[:3], 3)), y, 0)


@struct.dataclass
class Mask(Operator):
    """Keep some pixels and set the others to zero, for inpainting.

    Attributes:
        keep: Boolean, True where a pixel is kept; broadcastable to `[B, H, W, C]`, of rank 4.
    """

    keep: Array | np.ndarray

    @property
    def keeps_constants(self) -> bool:
        """Whether all pixels are kept; constants are always preserved at kept pixels."""
        return bool(np.all(np.asarray(self.keep)))

    def __call__(self, x: Array) -> Array:
        """Set pixels to zero where the mask is False, including NaN."""
        if self.keep.dtype != bool or self.keep.ndim != x.ndim:
            raise ValueError(
                f"keep must be boolean and of rank {x.ndim} as the images, not {self.keep.dtype} "
                f"{self.keep.shape}"
            )
        return jnp.where(self.keep, x, 0)

    def adjoint(self, y: Array) -> Array:
        """The same as A."""
        return self(y)


@struct.dataclass
class Composition(Operator):
    """The composition `outer @ inner`, which applies the inner operator first.

    Example:
        >>> seen = Downsample(2) @ Blur(gaussian_kernel(1.0))
        >>> seen(jnp.ones((1, 8, 8, 1))).shape, seen.keeps_constants
        ((1, 4, 4, 1), True)
    """

    outer: Operator
    inner: Operator

    @property
    def keeps_constants(self) -> bool:
        """Whether both operators keep constants."""
        return self.outer.keeps_constants and self.inner.keeps_constants

    def __call__(self, x: Array) -> Array:
        """A B x."""
        return self.outer(self.inner(x))

    def adjoint(self, y: Array) -> Array:
        """The adjoints in reverse order."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def transfer(self, shape: tuple[int, ...]) -> Array | None:
        """The product, if both are circular convolutions."""
        inner, outer = self.inner.transfer(shape), self.outer.transfer(shape)
        return None if inner is None or outer is None else outer * inner


def gaussian_kernel(sigma_px: float) -> np.ndarray:
    """A sampled Gaussian with sum one, truncated at four standard deviations.

    Args:
        sigma_px: Standard deviation in pixels, above 0.

    Returns:
        `[k, k]`, k odd.
    """
    if not sigma_px > 0:
        raise ValueError(f"sigma_px must be above 0, not {sigma_px}")
    radius = int(np.ceil(4 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel = np.outer(taps, taps)
    return (kernel / kernel.sum()).astype(np.float32)


def motion_kernel(length: float, degrees: float) -> np.ndarray:
    """Kernel of a straight, uniform motion: a line with sum one, drawn with bilinear weights.

    Args:
        length: Length of the line in pixels, above 0.
        degrees: Its angle, counter-clockwise from the horizontal.

    Returns:
        `[k, k]`, k odd.

    Example:
        >>> print(motion_kernel(3, 0)[2].round(2))
        [0.04 0.29 0.33 0.29 0.04]
    """
    if not length > 0:
        raise ValueError(f"length must be above 0, not {length}")
    radius = int(np.ceil(length / 2 + 1e-6))
    angle = np.deg2rad(degrees)
    count = 32 * int(np.ceil(length))
    steps = length * ((np.arange(count) + 0.5) / count - 0.5)
    rows, columns = radius - steps * np.sin(angle), radius + steps * np.cos(angle)
    side = np.arange(2 * radius + 1)
    weight_r = np.maximum(1 - np.abs(rows[:, None] - side), 0)
    weight_c = np.maximum(1 - np.abs(columns[:, None] - side), 0)
    kernel = weight_r.T @ weight_c
    return (kernel / kernel.sum()).astype(np.float32)


def degrade(
    operator: Operator, noise: Callable[[Array, ArrayLike, ArrayLike], Array]
) -> Callable[[Array, ArrayLike, ArrayLike], Array]:
    """A degradation `(key, x, level) -> y` of an operator and a noise.

    Args:
        operator: A.
        noise: A function of `wne_jax.images.degradations`, for example `gaussian`.

    Returns:
        `noise(key, A x, level)`.
    """

    def degraded(key: Array, x: ArrayLike, level: ArrayLike) -> Array:
        return noise(key, operator(jnp.asarray(x)), level)

    return degraded


def check_operator(operator: Operator, key: Array, shape: tuple[int, ...]) -> None:
    """Check the declarations of an operator on random images.

    It checks linearity, the adjoint (against JAX's transpose of the operator), `keeps_constants`, and the
    spectrum.

    Args:
        operator: A.
        key: Random key.
        shape: Shape `(B, H, W, C)` of its input.

    Raises:
        AssertionError: The message has the identity that fails, and its error.

    Example:
        >>> check_operator(Downsample(2), jax.random.key(0), (1, 4, 6, 1))
    """
    u, v = jax.random.normal(key, (2, *shape))
    a_u = operator(u)
    y = jax.random.normal(jax.random.fold_in(key, 1), a_u.shape)
    (transposed,) = jax.linear_transpose(operator, u)(y)
    clauses = [
        ("A (2 u - 3 v)", "2 A u - 3 A v", operator(2 * u - 3 * v), 2 * a_u - 3 * operator(v)),
        ("A.adjoint(y)", "the transpose of A", operator.adjoint(y), transposed),
    ]
    if operator.keeps_constants:
        clauses.append(("A 1", "1", operator(jnp.ones(shape)), jnp.ones(a_u.shape)))
    if (transfer := operator.transfer(shape)) is not None:
        clauses.append(("A u", "what its spectrum gives", a_u, _filtered(u, transfer)))
    for left, right, actual, expected in clauses:
        if actual.shape != expected.shape:
            raise AssertionError(f"{left} has shape {actual.shape}, which must be {expected.shape}")
        difference = float(jnp.max(jnp.abs(actual - expected)))
        if not difference <= 1024 * float(jnp.finfo(u.dtype).eps):
            raise AssertionError(f"{left} differs from {right} by {difference:.3g}")


def _transfer(kernel: ArrayLike, size: tuple[int, ...]) -> Array:
    """The discrete Fourier transform `[H, W]` of a kernel centred at pixel (0, 0), wrapped if larger."""
    kernel = jnp.asarray(kernel)
    rows, columns = ((np.arange(k) - k // 2) % n for k, n in zip(kernel.shape, size))
    placed = jnp.zeros(size, kernel.dtype).at[rows[:, None], columns[None]].add(kernel)
    return jnp.fft.fft2(placed)


def _filtered(x: Array, transfer: Array) -> Array:
    """Images multiplied by a spectrum `[H, W]`."""
    spectrum = jnp.fft.fft2(x, axes=(1, 2))
    spectrum = spectrum * transfer.astype(spectrum.dtype)[None, :, :, None]
    return jnp.fft.ifft2(spectrum, axes=(1, 2)).real.astype(x.dtype)


def _bayer(shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the pixels where each colour is measured, bool[1, H, W, 3]."""
    rows, columns = np.mgrid[: shape[1], : shape[2]] % 2
    return np.stack(
        [~(rows | columns).astype(bool), rows != columns, (rows & columns).astype(bool)], -1
    )[None]
