"""Gaussian blur."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax.layers.conv import positions


def gaussian_blur(x: Array, sigma: float) -> Array:
    """Convolve images with a sampled Gaussian, truncated at four standard deviations, with sum one.

    Args:
        x: Images `[B, H, W, C]`; padding is by reflection.
        sigma: Standard deviation in pixels.

    Returns:
        Images of the same shape.

    Example:
        >>> x = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
        >>> y = gaussian_blur(x, 1.0)
        >>> round(float(y[0, 4, 5, 0] / y[0, 4, 4, 0]), 4) == round(math.exp(-0.5), 4)
        True
    """
    taps = _taps(sigma).tolist()
    for axis in (1, 2):
        x = _along(x, taps, axis)
    return x


def blur_radius(sigma: float) -> int:
    """Radius of the kernel of `gaussian_blur`, in pixels."""
    return math.ceil(4 * sigma)


def _taps(sigma: float) -> np.ndarray:
    radius = blur_radius(sigma)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def _along(x: Array, taps: Sequence[float], axis: int) -> Array:
    """Correlate along one axis with an odd number of taps."""
    radius = len(taps) // 2
    size = x.shape[axis]
    padded = jnp.take(x, positions(size, radius, "reflect"), axis=axis)
    moved = [padded[(slice(None),) * axis + (slice(i, i + size),)] for i in range(len(taps))]
    return sum((tap * part for tap, part in zip(taps[1:], moved[1:])), start=taps[0] * moved[0])
