"""Mean, and the level of the noise by the median of Haar details."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax.statistics.base import (
    NORMAL_MAD,
    Statistic,
    Statistics,
    compiled,
    count_valid,
    detail_axes,
    prepare,
)
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.fixed import fixed_noise
from wne_jax.statistics.mean_std import floored, floored_over_blocks, mean_std
from wne_jax.statistics.order import median, median_of_parts


@dataclass(frozen=True)
class HaarMad:
    """Mean, and the noise's standard deviation by the median of Haar details (see `haar_sigma`).

    It brings the *noise*, not the contrast, to the same strength in every instance. The estimate is 0
    on many clean images, hence the floor of `FLOOR` times the standard deviation. Being a median, and of
    details that stop at the border, it commutes with translations nearly, not exactly (`high_pass` does).
    """

    name: ClassVar[str] = "haar_mad"
    unit_noise: ClassVar[bool] = True

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A detail counts if all its entries are valid."""
        y, axes, where = prepare(y, axes, where)
        return floored(mean_std(y, axes=axes, where=where), haar_noise(y, axes, where))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """Two passes for the median, one for the moments."""
        return floored_over_blocks(blocks, haar_sigma_over_blocks(blocks))

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """The known level in place of the estimate."""
        return fixed_noise(sigma)


haar_mad = HaarMad()


@compiled
def haar_sigma(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Array:
    r"""Estimate the standard deviation of white Gaussian noise in each instance, wherever there is detail.

    The median absolute value of the overlapping diagonal Haar detail
    $(y_{i,j} - y_{i+1,j} - y_{i,j+1} + y_{i+1,j+1}) / 2$, over 0.6745, on the last two spatial axes (on one
    axis where there is only one). Smooth regions and straight edges hardly show in it. Unlike the
    scale of `haar_mad` it has no floor: a clean image may have 0.

    Args:
        y: Real array `[B, ..., C]`, rank 3 or more.
        axes: Axes to pool, the spatial ones among them (default: all but the batch).
        where: Boolean mask, True where an entry is valid; a detail counts if all its entries do.

    Returns:
        The estimate in units of `y`, the pooled axes removed: `[B]` by default.

    References:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, section 4.2.
    """
    y, axes, where = prepare(y, axes, where)
    return jnp.squeeze(haar_noise(y, axes, where), axis=axes)


def haar_sigma_over_blocks(blocks: Blocks) -> float:
    """`haar_sigma` of an image that is read by blocks: two passes."""
    along = sum(size > 1 for size in blocks.shape[:2])
    if not along:
        return 0.0
    gain = float(np.sqrt(2.0) ** along)
    return median_of_parts(lambda: _details(blocks)) / (gain * NORMAL_MAD)


def haar_noise(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The raw noise estimate of `haar_sigma`, axes kept; 0 where an instance has no detail."""
    detail, valid = y, where
    along = detail_axes(y, axes)
    if not along:
        return 0 * count_valid(y, axes, where)
    for axis in along:
        size = y.shape[axis]
        detail = lax.slice_in_dim(detail, 1, size, axis=axis) - lax.slice_in_dim(
            detail, 0, size - 1, axis=axis
        )
        if valid is not None:
            valid = lax.slice_in_dim(valid, 1, size, axis=axis) & lax.slice_in_dim(
                valid, 0, size - 1, axis=axis
            )
    gain = 2.0 ** (len(along) / 2)
    return median(jnp.abs(detail), axes=axes, where=valid) / (gain * NORMAL_MAD)


def _details(blocks: Blocks) -> Iterator[np.ndarray]:
    """Absolute diagonal Haar details, unscaled, on the axes that are longer than one."""
    height, width = blocks.shape[:2]
    for band in blocks.bands(min(height, 2)):
        detail = np.diff(band, axis=0) if height > 1 else band
        yield np.abs(np.diff(detail, axis=1) if width > 1 else detail)
