"""The host's change between the units of an image and the float32 that a model gets."""

import dataclasses

import numpy as np
from jax.typing import ArrayLike

from wne_jax.images.units import full_scale, saturate


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """The change from an image's units to the float32 that a model gets, (y - pivot) / scale, and back.

    Attributes:
        dtype: Dtype of the image.
        pivot: Offset, broadcastable to the image.
        scale: Factor, likewise.
    """

    dtype: np.dtype
    pivot: np.ndarray | float
    scale: np.ndarray | float

    def enter(self, y: np.ndarray) -> np.ndarray:
        """Pixels of the image to float32."""
        return ((y.astype(np.float64) - self.pivot) / self.scale).astype(np.float32)

    def leave(self, x: ArrayLike) -> np.ndarray:
        """Float32 to pixels: integers rounded and saturated, floats not clipped."""
        return saturate(np.asarray(x, np.float64) * self.scale + self.pivot, self.dtype)

    def level(self, sigma: float) -> np.ndarray:
        """A noise level, which no offset changes."""
        return np.asarray(sigma / np.asarray(self.scale), np.float32)


def near_zero(first: np.ndarray, peak: np.ndarray | float) -> Coordinates:
    """The change for a normalization-equivariant model: an offset and a power of two, which lose nothing.

    Args:
        first: A pixel of every image, the pivot; its dtype is the image's.
        peak: The largest distance from it in every image.

    Raises:
        ValueError: The image spans more than float64 holds.
    """
    if not np.isfinite(peak).all():
        raise ValueError("image spans more than float64 holds: divide it first")
    return Coordinates(first.dtype, first.astype(np.float64), 2.0 ** np.frexp(peak)[1])


def unit_range(dtype: np.dtype) -> Coordinates:
    """The change for any other model: integers to [0, 1], floats as they are."""
    return Coordinates(dtype, 0.0, full_scale(dtype))
