r"""Feature maps in the frequency domain: band limits, sinc resampling, radial power spectra.

Conventions: `x` is real, `[B, ..., H, W, C]`, and periodic over H and W, which are 1 or more. Results are in
float32, or in float64 for float64. Frequencies are in cycles per pixel. An axis of n samples carries the
frequencies k / n with |k| <= K = (n - 1) // 2, each with amplitude and phase. An even axis also carries the
Nyquist frequency 1/2, but not its phase, so a real map cannot be translated there
(`wne_jax.symmetry.actions.Translation`). *The band* of a grid is |k| <= K along both axes.

All functions here commute with `Translation`; for resampling, the displacement is measured in new pixels. A
NaN or an infinity spreads over its own channel of its own image only.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32

MATRIX_SIZE = 128
"""Up to this size `resample` multiplies by a matrix along each axis; above it uses FFTs.

On a CPU with two cores, resampling a training batch (16x40x40x32 to a grid of 58x58 and back, with gradient)
takes 16 ms by matrices and 54 ms by FFTs. Matrices of 190x128 take five times as long as FFTs.
"""


def without_nyquist(x: ArrayLike) -> Array:
    """Remove the Nyquist frequency along H and W, if their size is even.

    Args:
        x: Real array `[B, ..., H, W, C]`.

    Returns:
        The array limited to the band, of the same shape. A map with two odd sizes is returned unchanged.

    Raises:
        ValueError: A rank below 4.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
        >>> without_nyquist(x).ravel().tolist()
        [1.5, 1.5, 3.5, 3.5]
    """
    return _without_nyquist(_spatial(x))


def low_pass(x: ArrayLike, cutoff: float) -> Array:
    r"""Keep the frequencies with $\sqrt{f_y^2 + f_x^2} \le$ `cutoff`.

    Args:
        x: Real array `[B, ..., H, W, C]`.
        cutoff: In cycles per pixel; 0 keeps the mean only, $\sqrt{1/2}$ or more keeps everything.

    Returns:
        The filtered array, of the shape of `x`.

    Raises:
        ValueError: A rank below 4, or a negative cutoff.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 4, 1)
        >>> low_pass(x, 0.0).ravel().tolist()
        [3.0, 3.0, 3.0, 3.0]
    """
    if not cutoff >= 0:
        raise ValueError(f"cutoff must be 0 or more, in cycles per pixel, not {cutoff}")
    x = _spatial(x)
    return _low_pass(x, _radial_frequency(*x.shape[-3:-1]) <= cutoff)


def resample(x: ArrayLike, height: int, width: int) -> Array:
    r"""Sample the same periodic function on another grid, by band-limited (sinc) interpolation.

    The spectrum is truncated to the smaller band, or padded with zeros. This preserves values and the mean,
    and removes the frequencies that the new grid cannot carry, so nothing aliases. Along each axis it removes
    the Nyquist frequency of the smaller grid, so `resample(x, H, W)` equals `without_nyquist(x)`. From n to m
    pixels, a translation by d pixels becomes one by d m / n pixels.

    Args:
        x: Real array `[B, ..., H, W, C]`.
        height: Number of rows of the new grid, 1 or more.
        width: Number of columns of the new grid, 1 or more.

    Returns:
        `[B, ..., height, width, C]`. Pixel (0, 0) stays where it was.

    Raises:
        ValueError: A rank below 4, or a size below 1.

    Example:
        >>> wave = jnp.cos(2 * jnp.pi * jnp.arange(3.0) / 3).reshape(1, 1, 3, 1)
        >>> print(resample(wave, 1, 6).ravel().round(3))
        [ 1.   0.5 -0.5 -1.  -0.5  0.5]
    """
    x = _spatial(x)
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be 1 or more, not {height} and {width}")
    by_fft = max(height, width, *x.shape[-3:-1]) > MATRIX_SIZE
    return (_resample_by_fft if by_fft else _resample_by_matrices)(x, height=height, width=width)


def radial_power(x: ArrayLike, bins: int | None = None) -> tuple[Array, Array]:
    r"""Radial power spectral density: the mean of $|X|^2 / (H W)$ over rings of equal radial frequency.

    White noise of variance $s^2$ has density $s^2$ at every frequency. The mean of the density, weighted by
    the number of frequencies in each ring, equals the mean of $x^2$ (Parseval).

    Args:
        x: Real array `[B, ..., H, W, C]`.
        bins: Number of rings of equal width, from 0 to $\sqrt{1/2}$ cycles per pixel (the corner of the
            spectrum). By default half the shorter side, at least 1.

    Returns:
        The central frequency of every ring, in cycles per pixel, and its power, averaged over batch and
        channels; both `[bins]`. A ring without any frequency has the power NaN.

    Raises:
        ValueError: A rank below 4, no pixels, or fewer bins than 1.

    References:
        Scanvic, Barthélemy & Tachella 2025, figure 1.

    Example:
        >>> x = jnp.full((1, 4, 4, 1), 5.0)
        >>> frequency, power = radial_power(x, bins=2)
        >>> print(power)  # all power is at frequency 0, whose ring has 5 frequencies
        [80.  0.]
    """
    x = _spatial(x)
    if x.size == 0:
        raise ValueError(f"x must have pixels; its shape is {x.shape}")
    bins = max(min(x.shape[-3:-1]) // 2, 1) if bins is None else bins
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins}")
    return _radial_power(x, bins=bins)


# Compiled as a whole: in eager code, an operation costs more than a small map.


@jax.jit
def _without_nyquist(x: Array) -> Array:
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        if size % 2 == 0:
            shape = [size if i == axis else 1 for i in range(x.ndim)]
            sign = jnp.asarray((-1.0) ** np.arange(size), x.dtype).reshape(shape)
            x = x - sign * jnp.mean(sign * x, axis=axis, keepdims=True)
    return x


@jax.jit
def _low_pass(x: Array, kept: Array) -> Array:
    """Leave out frequencies, of `[H, W // 2 + 1]`."""
    spectrum = jnp.where(kept, jnp.fft.rfft2(jnp.moveaxis(x, -1, -3)), 0)
    return jnp.moveaxis(jnp.fft.irfft2(spectrum, x.shape[-3:-1]), -3, -1)


@partial(jax.jit, static_argnames="bins")
def _radial_power(x: Array, *, bins: int) -> tuple[Array, Array]:
    height, width = x.shape[-3:-1]
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3), norm="ortho")
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    power = jnp.mean(power, axis=tuple(range(power.ndim - 2)))

    largest = np.sqrt(0.5)
    # A radius on the border of two rings belongs to the outer ring, on every machine.
    ring = np.floor(_radial_frequency(height, width) / largest * bins + 1e-9).astype(int)
    ring = np.minimum(ring, bins - 1)
    weight = np.full(ring.shape, 2.0)  # each column also represents its conjugate
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    number = np.bincount(ring.ravel(), weight.ravel(), minlength=bins)
    total = jnp.zeros(bins, x.dtype).at[ring].add(jnp.asarray(weight, x.dtype) * power)
    frequency = (np.arange(bins) + 0.5) / bins * largest
    return jnp.asarray(frequency, x.dtype), total / jnp.asarray(number, x.dtype)


@partial(jax.jit, static_argnames=("height", "width"))
def _resample_by_matrices(x: Array, *, height: int, width: int) -> Array:
    """Multiply by a matrix along each axis."""
    rows, columns = (
        jnp.asarray(_interpolation(*sizes), x.dtype)
        for sizes in zip(x.shape[-3:-1], (height, width))
    )
    x = jnp.einsum("hi,...ijc->...hjc", rows, x, precision="highest")
    return jnp.einsum("wj,...hjc->...hwc", columns, x, precision="highest")


@partial(jax.jit, static_argnames=("height", "width"))
def _resample_by_fft(x: Array, *, height: int, width: int) -> Array:
    """Truncate the spectrum, or pad it with zeros."""
    old_height, old_width = x.shape[-3:-1]
    rows, columns = (min(old_height, height) - 1) // 2, (min(old_width, width) - 1) // 2
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3), norm="forward")[..., : columns + 1]
    positive, negative = spectrum[..., : rows + 1, :], spectrum[..., old_height - rows :, :]
    zeros = jnp.zeros((*spectrum.shape[:-2], height - 2 * rows - 1, columns + 1), spectrum.dtype)
    spectrum = jnp.concatenate([positive, zeros, negative], axis=-2)
    # irfft2 takes missing columns as zeros.
    return jnp.moveaxis(jnp.fft.irfft2(spectrum, (height, width), norm="forward"), -3, -1)


def _interpolation(old: int, new: int) -> np.ndarray:
    """Resampling along one axis as a matrix `[new, old]`: the Dirichlet kernel between the two grids."""
    frequency = np.arange(1, (min(old, new) - 1) // 2 + 1)
    distance = np.arange(new)[:, None] / new - np.arange(old) / old
    return (1 + 2 * np.cos(2 * np.pi * distance[..., None] * frequency).sum(axis=-1)) / old


def _radial_frequency(height: int, width: int) -> np.ndarray:
    """Radial frequency of a real map's half spectrum, in cycles per pixel: `[H, W // 2 + 1]`."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))


def _spatial(x: ArrayLike) -> Array:
    """Return `x` as a real floating-point array `[B, ..., H, W, C]`, or raise an error."""
    x = jnp.asarray(x)
    if x.ndim < 4:
        raise ValueError(
            f"x must be [B, ..., H, W, C], of rank 4 or more; its shape is {x.shape}"
            " (x[None] adds a batch, x[..., None] adds a channel)"
        )
    if not all(isinstance(size, int) for size in x.shape[-3:-1]):
        raise ValueError(
            f"a spectrum needs known sizes, but {x.shape} is symbolic (jax.export), so even and odd "
            "sizes cannot be distinguished; export at a fixed size"
        )
    return x.astype(at_least_float32(x.dtype))
