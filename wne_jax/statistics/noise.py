"""Mean, and the level of the noise, read where the image is flat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistic, Statistics, compiled, prepare, sqrt_from_zero
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.fixed import fixed_noise
from wne_jax.statistics.flat_blocks import (
    FOOTPRINT,
    GROWTH,
    MEDIAN_OF_BLOCK,
    TIMES,
    Energies,
    block_energies,
    first_rank,
)
from wne_jax.statistics.flat_grid import Grid, grid_of, known_sides, read_blocks
from wne_jax.statistics.haar_mad import haar_noise, haar_sigma_over_blocks
from wne_jax.statistics.mean_std import mean_std
from wne_jax.statistics.order import entries_of_rank, median


@dataclass(frozen=True)
class NoiseLevel:
    """Mean, and the noise's standard deviation, read where the image is flat (see `estimate_sigma`).

    It brings the *noise*, not the contrast, to the same strength in every instance. A clean image may have an
    estimate of 0, hence a floor, see `least_scale`.
    """

    name: ClassVar[str] = "noise_level"
    unit_noise: ClassVar[bool] = True

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A block counts if all its pixels are valid."""
        y, axes, where = prepare(y, axes, where)
        mean, std, _ = mean_std(y, axes=axes, where=where)
        sigma = noise_of(y, axes, where, grid_of(y, axes, where))
        return Statistics(mean, jnp.maximum(sigma, least_scale(std)))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """One pass for the extremes, one for the energies of all blocks, one for the moments."""
        mean, std = mean_std.over_blocks(blocks)
        return mean, max(sigma_over_blocks(blocks), least_scale(std))

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """The known level in place of the estimate."""
        return fixed_noise(sigma)


noise_level = NoiseLevel()


def least_scale(std: Any) -> Any:
    """What the estimate never falls below."""
    return 0.001 * std


@compiled
def estimate_sigma(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Array:
    r"""Estimate the standard deviation of white noise in each instance, where it is flat.

    The method is that of `wne_jax.statistics.flat_blocks`: texture, edges, plateaus of one value and clipped
    pixels do not count as noise. Whole numbers give continuous estimates, which hold the rounding, too:
    $\sqrt{\sigma^2 + 1/12}$. There is no floor: a clean image may have 0. Where no block of 12 x 12 valid
    pixels fits, or along a single axis, the answer is that of `haar_sigma`.

    Args:
        y: Real array `[B, ..., C]`, rank 3 or more.
        axes: Axes to pool, the spatial ones among them (default: all but the batch).
        where: Boolean mask, True where an entry is valid.

    Returns:
        The estimate in units of `y`, the pooled axes removed: `[B]` by default.

    Example:
        >>> import jax
        >>> noise = jax.random.normal(jax.random.key(0), (1, 64, 64, 1))
        >>> halves = jnp.where(jnp.arange(64) < 32, 0.2 * noise[0, ..., 0], 7.0)[None, ..., None]
        >>> bool(0.17 < estimate_sigma(halves)[0] < 0.23)
        True
    """
    y, axes, where = prepare(y, axes, where)
    return jnp.squeeze(noise_of(y, axes, where, grid_of(y, axes, where)), axis=axes)


def sigma_over_blocks(blocks: Blocks) -> float:
    """`estimate_sigma` of an image that is read by blocks, in two passes; it keeps two numbers a block."""
    if min(blocks.shape[:2]) < FOOTPRINT:
        return haar_sigma_over_blocks(blocks)
    return sigma_of_blocks(*read_blocks(blocks, block_energies))


def sigma_of_blocks(measured: np.ndarray, chosen_by: np.ndarray) -> float:
    """The level of an image from V and E of its blocks, `[N]`."""
    rank = first_rank(np.float32(measured.size))
    first = np.partition(chosen_by, rank)[rank]
    limit, variance = first, np.float32(0)
    for _ in range(1 + TIMES):
        variance = np.median(measured[chosen_by <= limit]) / np.float32(MEDIAN_OF_BLOCK)
        limit = max(first, np.float32(GROWTH) * variance)
    return float(np.sqrt(variance))


def noise_of(y: Array, axes: tuple[int, ...], where: Array | None, grid: Grid | None) -> Array:
    """The raw noise estimate of `estimate_sigma`, axes kept, from the blocks of `grid_of`."""
    if grid is None:
        return haar_noise(y, axes, where)
    variance = flat_variance(grid.measure(block_energies), axes, grid.usable)
    if where is None and known_sides(y, axes):
        return sqrt_from_zero(variance)
    some = jnp.any(grid.usable, axis=axes, keepdims=True)
    haar = lax.cond(
        jnp.all(some), lambda: jnp.zeros_like(variance), lambda: haar_noise(y, axes, where)
    )
    return jnp.where(some, sqrt_from_zero(variance), haar)


def flat_variance(energies: Energies, axes: tuple[int, ...], usable: Array) -> Array:
    """The median of V over the flat blocks, axes kept; 0 where no block is usable."""
    measured, chosen_by = energies.measured, lax.stop_gradient(energies.chosen_by)
    number = jnp.sum(usable, axis=axes, keepdims=True, dtype=measured.dtype)
    (first,) = entries_of_rank(chosen_by, [first_rank(number, jnp)], axes, usable)
    limit = first
    for _ in range(1 + TIMES):
        flat = usable & (chosen_by <= limit)
        variance = median(measured, axes=axes, where=flat) / MEDIAN_OF_BLOCK
        limit = jnp.maximum(first, GROWTH * lax.stop_gradient(variance))
    return variance
