r"""Maps by their frequencies: band limits, resampling by sinc interpolation, power over radial frequency.

Conventions of this module: `x` is real, `[B, ..., H, W, C]`, periodic over H and W, which may have any size
from 1; results are in float32, or float64 for float64. Frequencies are in cycles a pixel. An axis of n
samples carries the frequencies k / n with |k| <= K = (n - 1) // 2, each with an amplitude and a phase; an
even one carries Nyquist's 1/2 besides, without a phase of its own, so that no real map can be moved there
(`wne_jax.symmetry.actions.Translation`). *The band* of a grid is what has |k| <= K along both axes.

The maps of this module commute with `Translation`, resampling with the displacement measured in new pixels. A
NaN or an infinity spreads over its own channel of its own image.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32

MATRIX_SIZE = 128
"""Up to this size `resample` multiplies by a matrix along each axis, and goes through FFTs above.

On a CPU the patches of training take less than half the time so: 16x40x40x32 to a grid of 58x58 and back,
with its gradient, 16 ms against 54 on two cores. Matrices of 190x128 take five times as long as FFTs.
"""


def without_nyquist(x: ArrayLike) -> Array:
    """Remove the Nyquist frequency along H and along W, where the size is even.

    Args:
        x: Real array `[B, ..., H, W, C]`.

    Returns:
        The array of that shape whose frequencies all lie in the band; a map of two odd sizes comes back as
        it is.

    Raises:
        ValueError: A rank below 4.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
        >>> without_nyquist(x).ravel().tolist()
        [1.5, 1.5, 3.5, 3.5]
    """
    x = _spatial(x)
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        if size % 2 == 0:
            shape = [size if i == axis else 1 for i in range(x.ndim)]
            sign = jnp.asarray((-1.0) ** np.arange(size), x.dtype).reshape(shape)
            x = x - sign * jnp.mean(sign * x, axis=axis, keepdims=True)
    return x


def low_pass(x: ArrayLike, cutoff: float) -> Array:
    r"""Keep the frequencies with $\sqrt{f_y^2 + f_x^2} \le$ `cutoff`.

    Args:
        x: Real array `[B, ..., H, W, C]`.
        cutoff: In cycles a pixel: 0 keeps the mean, $\sqrt{1/2}$ and more keep everything.

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
        raise ValueError(f"cutoff must be 0 or more, in cycles a pixel, not {cutoff}")
    x = _spatial(x)
    height, width = x.shape[-3:-1]
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3))
    spectrum = jnp.where(_radial_frequency(height, width) <= cutoff, spectrum, 0)
    return jnp.moveaxis(jnp.fft.irfft2(spectrum, (height, width)), -3, -1)


def resample(x: ArrayLike, height: int, width: int) -> Array:
    r"""The same periodic function on another grid: band-limited (sinc) interpolation.

    The spectrum is cut to the frequencies that the bands of both grids hold, or filled up with zeros:
    values, and with them the mean, are kept, and what the new grid cannot carry is removed before it could
    alias. The Nyquist frequency of the smaller grid of an axis is not kept, hence
    `resample(x, H, W)` is `without_nyquist(x)`. A translation by d pixels of the n of an axis becomes one by
    d m / n of its m.

    Args:
        x: Real array `[B, ..., H, W, C]`.
        height: New number of rows, 1 or more.
        width: New number of columns, 1 or more.

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
    if max(height, width, *x.shape[-3:-1]) > MATRIX_SIZE:
        return _resample_by_fft(x, height, width)
    rows, columns = (
        jnp.asarray(_interpolation(*sizes), x.dtype)
        for sizes in zip(x.shape[-3:-1], (height, width))
    )
    x = jnp.einsum("hi,...ijc->...hjc", rows, x, precision="highest")
    return jnp.einsum("wj,...hjc->...hwc", columns, x, precision="highest")


def radial_power(x: ArrayLike, bins: int | None = None) -> tuple[Array, Array]:
    r"""Radial power spectral density: the mean of $|X|^2 / (H W)$ over rings of one radial frequency.

    White noise of variance $s^2$ has $s^2$ at every frequency. Weighted by the number of frequencies in each
    ring, the mean of the density is the mean of $x^2$ (Parseval).

    Args:
        x: Real array `[B, ..., H, W, C]`.
        bins: Number of rings, of equal width from 0 to $\sqrt{1/2}$ cycles a pixel, where a square map's
            corner lies. By default half the shorter side, and at least 1.

    Returns:
        The frequency in the middle of every ring, in cycles a pixel, and the power there, the mean over batch
        and channels; both `[bins]`. The power of a ring that holds no frequency is NaN.

    Raises:
        ValueError: A rank below 4, no pixels, or fewer bins than 1.

    References:
        Scanvic, Barthélemy & Tachella 2025, figure 1.

    Example:
        >>> x = jnp.full((1, 4, 4, 1), 3.0)
        >>> frequency, power = radial_power(x, bins=2)
        >>> print(power)  # all at frequency 0, with four others in its ring
        [28.8  0. ]
    """
    x = _spatial(x)
    height, width = x.shape[-3:-1]
    if x.size == 0:
        raise ValueError(f"x must have pixels; its shape is {x.shape}")
    bins = max(min(height, width) // 2, 1) if bins is None else bins
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins}")
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3), norm="ortho")
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    power = jnp.mean(power, axis=tuple(range(power.ndim - 2)))

    largest = np.sqrt(0.5)
    # A radius on the border of two rings belongs to the outer one, on every machine.
    ring = np.floor(_radial_frequency(height, width) / largest * bins + 1e-9).astype(int)
    ring = np.minimum(ring, bins - 1)
    weight = np.full(ring.shape, 2.0)  # a column stands for its conjugate, too
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    number = np.bincount(ring.ravel(), weight.ravel(), minlength=bins)
    total = jnp.zeros(bins, x.dtype).at[ring].add(jnp.asarray(weight, x.dtype) * power)
    frequency = (np.arange(bins) + 0.5) / bins * largest
    return jnp.asarray(frequency, x.dtype), total / jnp.asarray(number, x.dtype)


def _resample_by_fft(x: Array, height: int, width: int) -> Array:
    """Cut the spectrum, or fill it up with zeros."""
    old_height, old_width = x.shape[-3:-1]
    rows, columns = (min(old_height, height) - 1) // 2, (min(old_width, width) - 1) // 2
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3), norm="forward")[..., : columns + 1]
    positive, negative = spectrum[..., : rows + 1, :], spectrum[..., old_height - rows :, :]
    zeros = jnp.zeros((*spectrum.shape[:-2], height - 2 * rows - 1, columns + 1), spectrum.dtype)
    spectrum = jnp.concatenate([positive, zeros, negative], axis=-2)
    # irfft2 takes the columns that are missing for zeros.
    return jnp.moveaxis(jnp.fft.irfft2(spectrum, (height, width), norm="forward"), -3, -1)


def _interpolation(old: int, new: int) -> np.ndarray:
    """The same along one axis, as a matrix `[new, old]`: the Dirichlet kernel between the two grids."""
    frequency = np.arange(1, (min(old, new) - 1) // 2 + 1)
    distance = np.arange(new)[:, None] / new - np.arange(old) / old
    return (1 + 2 * np.cos(2 * np.pi * distance[..., None] * frequency).sum(axis=-1)) / old


def _radial_frequency(height: int, width: int) -> np.ndarray:
    """Of every entry of a real map's half spectrum, in cycles a pixel: `[H, W // 2 + 1]`."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))


def _spatial(x: ArrayLike) -> Array:
    """`x` as a real floating-point array `[B, ..., H, W, C]`, or an error."""
    x = jnp.asarray(x)
    if x.ndim < 4:
        raise ValueError(
            f"x must be [B, ..., H, W, C], of rank 4 or more; its shape is {x.shape}"
            " (x[None] adds a batch, x[..., None] adds a channel)"
        )
    if not all(isinstance(size, int) for size in x.shape[-3:-1]):
        raise ValueError(
            f"a spectrum needs sizes that are known: {x.shape} is symbolic (jax.export), which does not "
            "tell even from odd; export at one size"
        )
    return x.astype(at_least_float32(x.dtype))
