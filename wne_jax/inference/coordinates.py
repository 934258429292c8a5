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
        return (_minus(y, self.pivot) / self.scale).astype(np.float32)

    def leave(self, x: ArrayLike) -> np.ndarray:
        """Float32 to pixels: integers rounded and saturated, floats not clipped."""
        return _plus(np.asarray(x, np.float64) * self.scale, self.pivot, self.dtype)

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
    wide = first.dtype.kind in "iu" and first.dtype.itemsize == 8 and np.max(peak) < 2.0**62
    pivot = first if wide else first.astype(np.float64)  # float64 has no integers beyond 2^53
    return Coordinates(first.dtype, pivot, 2.0 ** np.frexp(peak)[1])


def unit_range(dtype: np.dtype, white: float | None = None) -> Coordinates:
    """The change for any other model: integers to [0, 1], floats as they are; or `white` to 1."""
    return Coordinates(dtype, 0.0, full_scale(dtype) if white is None else white)


def _minus(y: np.ndarray, pivot: np.ndarray | float) -> np.ndarray:
    """Y - pivot in float64; where both are integers of 64 bits, the difference is exact before that."""
    if not isinstance(pivot, np.ndarray) or pivot.dtype.kind == "f":
        return y.astype(np.float64) - pivot
    return (_bits(y) - _bits(pivot)).view(np.int64).astype(np.float64)


def _plus(delta: np.ndarray, pivot: np.ndarray | float, dtype: np.dtype) -> np.ndarray:
    """Delta + pivot in a dtype; integers of 64 bits are added as such."""
    if not isinstance(pivot, np.ndarray) or pivot.dtype.kind == "f":
        return saturate(delta + pivot, dtype)
    steps, start = saturate(delta, np.int64), pivot.astype(dtype.newbyteorder("="))
    moved = (_bits(pivot) + steps.view(np.uint64)).view(start.dtype)
    limits = np.iinfo(start.dtype)
    over, under = (steps > 0) & (moved < start), (steps < 0) & (moved > start)
    return np.where(over, limits.max, np.where(under, limits.min, moved)).astype(dtype)


def _bits(y: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(y, y.dtype.newbyteorder("=")).view(np.uint64)
