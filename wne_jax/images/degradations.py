r"""Degradations as pure functions `(key, x, level) -> y`.

Throughout, `x` is one image `f[H, W, C]` or a batch `f[B, H, W, C]` in the unit range, and `level` is
a standard deviation sigma in the unit range (`sigma_255 / 255`) unless the function says otherwise:
a scalar, or `f[B]` with one level an image. Results have the dtype of `x` and are never clipped. Noise
is independent over pixels and channels unless stated.

One key serves a whole batch. Where an image's noise must not depend on its neighbours, map over keys:

>>> keys = jax.random.split(jax.random.key(0), 2)
>>> jax.vmap(gaussian)(keys, jnp.zeros((2, 8, 8, 1)), jnp.array([0.1, 0.2])).shape
(2, 8, 8, 1)
"""

import functools
import io
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax._internal.extras import extra
from wne_jax.images.units import BT601, from_unit, to_unit

Noise = Callable[[jax.Array, ArrayLike, ArrayLike], jax.Array]

COLOURED = (0.3, 1.2)
"""Widths in pixels, from and to, of the blur of `coloured`."""

READING = 0.1
"""Share of the variance of `camera` on white that does not depend on the light."""

_GAUSSIAN_LIMIT = 2.0**-8  # of `poisson`


def gaussian(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """White Gaussian noise: y = x + sigma n, n ~ N(0, 1)."""
    x, sigma = _prepare(x, level)
    return x + sigma * jax.random.normal(key, x.shape, x.dtype)


def uniform(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """White uniform noise of standard deviation sigma: n ~ U(-sqrt(3), sqrt(3))."""
    x, sigma = _prepare(x, level)
    return x + sigma * jax.random.uniform(key, x.shape, x.dtype, -math.sqrt(3.0), math.sqrt(3.0))


def laplace(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """White Laplace noise of standard deviation sigma: density exp(-sqrt(2) |n|) / sqrt(2)."""
    x, sigma = _prepare(x, level)
    return x + sigma * jax.random.laplace(key, x.shape, x.dtype) / math.sqrt(2.0)


def rayleigh(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """White Rayleigh noise of standard deviation sigma and, uncentred, mean sigma sqrt(pi / (4 - pi))."""
    x, sigma = _prepare(x, level)
    # Of 1 - u, which is never 0: jax.random.rayleigh takes the logarithm of u, and one in 2^23 is infinite.
    u = jax.random.uniform(key, x.shape, x.dtype)
    return x + sigma * jnp.sqrt(-4.0 / (4.0 - math.pi) * jnp.log1p(-u))


def poisson(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Photon noise, y = sigma^2 Poisson(x / sigma^2): sigma is the standard deviation on white, x = 1.

    The mean is x and the variance sigma^2 x. Negative entries have rate 0. Where sigma < 2^-8, more than
    65,536 photons on white, the Gaussian limit x + sigma sqrt(x) n is drawn: JAX's `float32` sampler distorts
    the variance from there on, by up to 20 %. JAX draws Poisson numbers from threefry keys only.
    """
    x, sigma = _prepare(x, level)
    # Half precision cannot hold the counts.
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    rate, deviation = jnp.maximum(x, 0.0).astype(wide), sigma.astype(wide)
    photon = jnp.square(jnp.maximum(deviation, _GAUSSIAN_LIMIT))
    counted = photon * jax.random.poisson(key, rate / photon, x.shape).astype(wide)
    limit = x.astype(wide) + deviation * jnp.sqrt(rate) * jax.random.normal(key, x.shape, wide)
    return jnp.where(deviation < _GAUSSIAN_LIMIT, limit, counted).astype(x.dtype)


def speckle(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Multiplicative noise: y = x + sigma x n, n ~ N(0, 1)."""
    x, sigma = _prepare(x, level)
    return x + sigma * x * jax.random.normal(key, x.shape, x.dtype)


def salt_and_pepper(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Impulses: `level` is the probability that an entry is replaced, half by 0 and half by 1."""
    x, probability = _prepare(x, level)
    probability = probability.astype(jnp.float32)  # half precision has too few values of u
    u = jax.random.uniform(key, x.shape, jnp.float32)
    return jnp.where(u < 0.5 * probability, 0.0, jnp.where(u < probability, 1.0, x))


def correlated(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Gaussian noise blurred by a circular Gaussian of one pixel, at variance sigma^2 again.

    The taps w of each axis have sum w^2 = 1, wrapped onto the image first if it is smaller than the
    filter, so the variance is sigma^2 exactly at every pixel of an image of any size.
    """
    x, sigma = _prepare(x, level)
    noise = jax.random.normal(key, x.shape, x.dtype)
    return x + sigma * _blurred(noise, jnp.ones((), at_least_float32(x.dtype)))


def coloured(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Gaussian noise of variance sigma^2 whose correlation is another one in every image.

    As `correlated`, but the width of the blur is drawn for each image: uniform from 0.3 pixels, where noise
    is nearly white, to 1.2, where it is coarse grain.
    """
    x, sigma = _prepare(x, level)
    width_key, noise_key = jax.random.split(key)
    shape = (x.shape[0], 1, 1, 1) if x.ndim == 4 else ()
    width = jax.random.uniform(width_key, shape, at_least_float32(x.dtype), *COLOURED)
    return x + sigma * _blurred(jax.random.normal(noise_key, x.shape, x.dtype), width)


def camera(
    key: jax.Array, x: ArrayLike, level: ArrayLike, *, quality: int | None = None
) -> jax.Array:
    r"""Noise as a camera makes it: of photons and of reading, mosaicked, interpolated, rounded to 8 bits.

    A sensor behind a Bayer mosaic (RGGB) measures one colour at each pixel, with noise of variance
    proportional to $(1 - r)\,x + r$, r = 0.1: photons (Poisson) and reading (Gaussian). The other two colours
    of a pixel are the means of its neighbours that measured them, which correlates the noise between
    neighbours. A gray image is the luma of three equal colours. The picture itself keeps its resolution: the
    interpolation is linear, and the noise alone goes through it.

    The noise is scaled to the mean variance $\sigma^2$ over the pixels of a white image, x = 1. Where sigma
    is 0, the image stays as it is, and is not rounded.

    Args:
        key: A key.
        x: As everywhere here, of 1 or 3 channels.
        level: sigma.
        quality: Of a JPEG file that the result passes through, 1 to 100; it then is saturated, too. JPEG runs
            on the host.

    Raises:
        ValueError: Other channels.

    References:
        Foi, Trimeche, Katkovnik & Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for
        single-image raw-data", 2008.
    """
    x, sigma = _prepare(x, level)
    channels = x.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"x has {channels} channels; a camera's image has 1 or 3")
    photon_key, read_key = jax.random.split(key)
    sites = jnp.asarray(_bayer(*x.shape[-3:-1]), x.dtype).reshape(
        *(1,) * (x.ndim - 3), *x.shape[-3:-1], 3
    )
    raw = jnp.sum(jnp.maximum(x, 0) * sites, axis=-1, keepdims=True)  # what the sensor sees
    photons = _photons(photon_key, raw, math.sqrt(1 - READING) * sigma)
    reading = math.sqrt(READING) * sigma * jax.random.normal(read_key, raw.shape, x.dtype)
    noise = _demosaicked(photons + reading, sites)
    if channels == 1:
        weights = jnp.asarray(BT601, x.dtype).reshape((1,) * (x.ndim - 1) + (3,))
        noise = jnp.sum(noise * weights, axis=-1, keepdims=True)
    y = quantize(x + noise / _camera_gain(channels), 256)
    return jnp.where(sigma > 0, y if quality is None else _through_jpeg(y, quality), x)


def camera_jpeg(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """What `camera` gives, from a JPEG file of quality 75."""
    return camera(key, x, level, quality=75)


def varying(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
    """Gaussian noise whose deviation rises threefold from left to right, of mean variance sigma^2."""
    x, sigma = _prepare(x, level)
    ramp = np.linspace(0.5, 1.5, x.shape[-2]).reshape((1,) * (x.ndim - 2) + (-1, 1))
    profile = jnp.asarray(ramp / np.sqrt(np.mean(ramp**2)), x.dtype)
    return x + sigma * profile * jax.random.normal(key, x.shape, x.dtype)


NOISES: dict[str, Noise] = {
    "gaussian": gaussian,
    "uniform": uniform,
    "laplace": laplace,
    "rayleigh": rayleigh,
    "poisson": poisson,
    "speckle": speckle,
    "salt_and_pepper": salt_and_pepper,
    "correlated": correlated,
    "varying": varying,
    "coloured": coloured,
    "camera": camera,
    "camera_jpeg": camera_jpeg,
}
"""Every keyed degradation, by its name in configs and on command lines."""


def mixed(noises: Sequence[Noise], weights: Sequence[float]) -> Noise:
    """One of several noises for each call, drawn by the key.

    >>> either = mixed([gaussian, poisson], [3, 1])
    >>> either(jax.random.key(0), jnp.ones((8, 8, 1)), 0.1).shape
    (8, 8, 1)

    Args:
        noises: The kinds.
        weights: The probability of each, up to a common factor.

    Returns:
        A noise like the others. Mapped over keys, it draws for each image by itself, and computes every kind
        for every image.
    """
    logits = jnp.log(jnp.asarray(weights, jnp.float32))

    def either(key: jax.Array, x: ArrayLike, level: ArrayLike) -> jax.Array:
        key_kind, key_noise = jax.random.split(key)
        kind = jax.random.categorical(key_kind, logits)
        return jax.lax.switch(kind, noises, key_noise, x, level)

    return either


class LogUniform(NamedTuple):
    """Noise levels from `low` to `high` whose logarithm is uniform: as many from 1 to 5 as from 5 to 25."""

    low: float
    high: float


def draw_level(
    key: jax.Array, level: float | Sequence[float], shape: tuple[int, ...] = ()
) -> jax.Array:
    """Draw noise levels: a number stands for itself, a pair (low, high) for uniform draws between.

    >>> draw_level(jax.random.key(0), 0.1, (2,)).tolist()
    [0.10000000149011612, 0.10000000149011612]

    Args:
        key: a key, unused where `level` is a number.
        level: a number or a pair of numbers, 0 <= low <= high; or a `LogUniform`, 0 < low.
        shape: of the result, `(B,)` for one level an image.

    Returns:
        `f32[*shape]`.

    Raises:
        ValueError: `level` is neither, is negative, or its ends are swapped; a `LogUniform` begins at 0.
    """
    ends = np.atleast_1d(np.asarray(level, np.float32))
    if ends.ndim != 1 or ends.size > 2 or not 0.0 <= ends[0] <= ends[-1] < np.inf:
        raise ValueError(f"level is {level!r}; expected a number or a pair 0 <= low <= high")
    low, high = float(ends[0]), float(ends[-1])
    if low == high:
        return jnp.full(shape, low, jnp.float32)
    if isinstance(level, LogUniform):
        if not low:
            raise ValueError(f"level is {level!r}; the low end of a LogUniform must be above 0")
        drawn = jnp.exp(jax.random.uniform(key, shape, jnp.float32, np.log(low), np.log(high)))
        return jnp.clip(drawn, low, high)  # exp rounds
    return jax.random.uniform(key, shape, jnp.float32, low, high)


def quantize(x: ArrayLike, levels: int) -> jax.Array:
    """Round to the nearest of `levels` equidistant values, of which 0 and 1 are two; no clipping.

    >>> quantize(jnp.array([0.0, 0.4, 0.6, 1.0]), 3).tolist()
    [0.0, 0.5, 0.5, 1.0]

    Args:
        x: any shape, floating, unit range.
        levels: at least 2; 256 is what an 8-bit file does.
    """
    if levels < 2:
        raise ValueError(f"levels is {levels}; quantization needs at least 2")
    x = _floats(x)
    return jnp.round(x * (levels - 1)) / (levels - 1)


def jpeg(x: np.ndarray, quality: int) -> np.ndarray:
    """Compress as JPEG and back, in memory: Pillow's baseline encoder, chroma subsampled 4:2:0.

    It runs on the host, and what passes through it is rounded and saturated to 8 bits, as in a file.

    Args:
        x: `f[H, W, C]`, C in {1, 3}, unit range.
        quality: 1 (worst) to 100.

    Returns:
        `f32[H, W, C]`, multiples of 1 / 255.

    Raises:
        ValueError: `quality` is out of range, or `x` is not one image.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; expected 1 to 100")
    pixels = from_unit(x, np.uint8)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise ValueError(f"x has shape {pixels.shape}; expected one image, [H, W, 1] or [H, W, 3]")
    with extra("images", "JPEG files"):
        from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        encoded, "JPEG", quality=quality, subsampling="4:2:0"
    )
    with Image.open(encoded, formats=("JPEG",)) as decoded:
        return to_unit(np.asarray(decoded).reshape(pixels.shape))


DEGRADATIONS: dict[str, Callable[[np.ndarray, int], ArrayLike]] = {
    "jpeg": jpeg,
    "quantize": quantize,
}
"""Every degradation without a key, by its name on command lines: of one image and a whole number."""


def _prepare(x: ArrayLike, level: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Check `x` and give `level` its dtype, and a shape that broadcasts against it."""
    x = _floats(x)
    if x.ndim not in (3, 4):
        raise ValueError(f"x has shape {x.shape}; expected [H, W, C] or [B, H, W, C]")
    level = jnp.asarray(level, x.dtype)
    if level.ndim == 0:
        return x, level
    if x.ndim != 4 or level.shape != x.shape[:1]:
        raise ValueError(
            f"level has shape {level.shape} and x {x.shape}; "
            "give a scalar, or [B] with x of [B, H, W, C]"
        )
    return x, level.reshape(-1, 1, 1, 1)


def _floats(x: ArrayLike) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x has dtype {x.dtype}; expected floats: convert with to_unit")
    return x


def _blurred(noise: jax.Array, width: jax.Array) -> jax.Array:
    """White noise through a circular Gaussian of this width, cut at 4 pixels, at the same variance."""
    for axis in (-3, -2):
        taps: dict[int, jax.Array] = {}  # wrapped onto an image that is smaller than the filter
        for k in range(-4, 5):
            wrapped = k % noise.shape[axis]
            taps[wrapped] = taps.get(wrapped, 0) + jnp.exp(-0.5 * jnp.square(k / width))
        norm = jnp.sqrt(functools.reduce(operator.add, map(jnp.square, taps.values())))
        rolled = [
            (w / norm).astype(noise.dtype) * jnp.roll(noise, k, axis) for k, w in taps.items()
        ]
        noise = functools.reduce(operator.add, rolled)
    return noise


def _bayer(height: int, width: int) -> np.ndarray:
    """Which colour is measured where, RGGB: 1 or 0, `[H, W, 3]`."""
    odd = np.add.outer(np.arange(height) % 2, np.arange(width) % 2)
    red, green = odd == 0, odd == 1
    return np.stack([red, green, ~red & ~green], -1).astype(np.float64)


def _demosaicked(raw: jax.Array, sites: jax.Array) -> jax.Array:
    """Bilinear interpolation: the mean of the nearest sites of each colour, `[..., H, W, 3]`."""

    def spread(a: jax.Array) -> jax.Array:
        margin = [(0, 0)] * (a.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        height, width = a.shape[-3:-1]
        a = jnp.pad(a, margin)
        at = lambda i, j: a[..., 1 + i : 1 + i + height, 1 + j : 1 + j + width, :]  # noqa: E731
        beside = at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1)
        corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
        diagonal = jnp.asarray([1, 0, 1], a.dtype).reshape(
            (1,) * (a.ndim - 1) + (3,)
        )  # the green sites around a pixel are beside it
        return 4 * at(0, 0) + (1 + diagonal) * beside + diagonal * corners

    number = spread(sites)
    return spread(raw * sites) / jnp.where(number > 0, number, 1)


@functools.cache
def _camera_gain(channels: int) -> float:
    """What interpolation leaves of the standard deviation of white noise, over all pixels and channels."""
    energies = np.array([9 / 16, 5 / 8, 9 / 16])  # of the four pixels of a Bayer cell, the mean
    energy = np.mean(energies) if channels == 3 else np.sum(np.square(BT601) * energies)
    return float(np.sqrt(energy))


def _photons(key: jax.Array, rate: jax.Array, sigma: jax.Array) -> jax.Array:
    """The noise of `poisson`, drawn for each image by itself: JAX's sampler lets neighbours interfere."""
    if rate.ndim == 3:
        return poisson(key, rate, sigma) - rate
    levels = jnp.broadcast_to(jnp.ravel(sigma), rate.shape[:1])
    return jax.vmap(poisson)(jax.random.split(key, len(rate)), rate, levels) - rate


def _through_jpeg(y: jax.Array, quality: int) -> jax.Array:
    """`jpeg` of each image, also in compiled code."""

    def on_host(y: np.ndarray) -> np.ndarray:
        images = np.asarray(y, np.float32).reshape(-1, *y.shape[-3:])
        done = np.stack([jpeg(image, quality) for image in images])
        return done.reshape(y.shape).astype(y.dtype)

    shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
    return jax.pure_callback(on_host, shape, y, vmap_method="sequential")
