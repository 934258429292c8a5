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

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from wne_jax._internal.extras import extra
from wne_jax.images.units import from_unit, to_unit

Noise = Callable[[jax.Array, ArrayLike, ArrayLike], jax.Array]

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
    for axis in (-3, -2):
        taps = enumerate(_unit_energy_taps(x.shape[axis]))
        rolled = [float(w) * jnp.roll(noise, k, axis) for k, w in taps if w]
        noise = functools.reduce(operator.add, rolled)
    return x + sigma * noise


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
}
"""Every keyed degradation, by its name in configs and on command lines."""


def draw_level(
    key: jax.Array, level: float | Sequence[float], shape: tuple[int, ...] = ()
) -> jax.Array:
    """Draw noise levels: a number stands for itself, a pair (low, high) for uniform draws between.

    >>> draw_level(jax.random.key(0), 0.1, (2,)).tolist()
    [0.10000000149011612, 0.10000000149011612]

    Args:
        key: a key, unused where `level` is a number.
        level: a number or a pair of numbers, 0 <= low <= high.
        shape: of the result, `(B,)` for one level an image.

    Returns:
        `f32[*shape]`.

    Raises:
        ValueError: `level` is neither, is negative, or its ends are swapped.
    """
    ends = np.atleast_1d(np.asarray(level, np.float32))
    if ends.ndim != 1 or ends.size > 2 or not 0.0 <= ends[0] <= ends[-1] < np.inf:
        raise ValueError(f"level is {level!r}; expected a number or a pair 0 <= low <= high")
    low, high = float(ends[0]), float(ends[-1])
    if low == high:
        return jnp.full(shape, low, jnp.float32)
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


def _unit_energy_taps(size: int) -> np.ndarray:
    """Circular Gaussian taps of one pixel, cut at 4 pixels, the sum of their squares being 1."""
    offsets = np.arange(-4, 5)
    taps = np.zeros(size)
    np.add.at(taps, offsets % size, np.exp(-0.5 * offsets**2))
    return taps / np.sqrt(np.sum(taps**2))
