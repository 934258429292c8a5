"""Mean, and the level of the noise, read where the image is flat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax.statistics.base import (
    Statistic,
    Statistics,
    count_valid,
    detail_axes,
    prepare,
    sqrt_from_zero,
)
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.fixed import fixed_noise
from wne_jax.statistics.flat_blocks import (
    FINE_BELOW,
    FINE_STRIDE,
    FOOTPRINT,
    GROWTH,
    MEDIAN_OF_BLOCK,
    PLATEAU,
    STRIDE,
    TIED,
    TIMES,
    Energies,
    block_energies,
    first_rank,
    footprints,
    plateaus,
    stride_of,
)
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

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A block counts if all its pixels are valid."""
        y, axes, where = prepare(y, axes, where)
        mean, std = mean_std(y, axes=axes, where=where)
        return Statistics(mean, jnp.maximum(_noise(y, axes, where), least_scale(std)))

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
    return jnp.squeeze(_noise(y, axes, where), axis=axes)


def sigma_over_blocks(blocks: Blocks) -> float:
    """`estimate_sigma` of an image that is read by blocks, in two passes; it keeps two numbers a block."""
    height, width, _ = blocks.shape
    if min(height, width) < FOOTPRINT:
        return haar_sigma_over_blocks(blocks)
    clipped = _tied_extremes(blocks)
    stride, every = stride_of(height, width)
    parts = list(_energies_over_blocks(blocks, clipped, stride, every))
    measured, chosen_by, good = (
        np.concatenate([np.ravel(part[k]) for part in parts]) for k in range(3)
    )
    if good.any():
        measured, chosen_by = measured[good], chosen_by[good]
    rank = first_rank(np.float32(measured.size))
    first = np.partition(chosen_by, rank)[rank]
    limit, variance = first, np.float32(0)
    for _ in range(1 + TIMES):
        variance = np.median(measured[chosen_by <= limit]) / np.float32(MEDIAN_OF_BLOCK)
        limit = max(first, np.float32(GROWTH) * variance)
    return float(np.sqrt(variance))


def _noise(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The raw noise estimate of `estimate_sigma`, axes kept."""
    along = detail_axes(y, axes)
    sides = [y.shape[axis] for axis in along]
    if len(along) < 2 or any(isinstance(side, int) and side < FOOTPRINT for side in sides):
        return haar_noise(y, axes, where)
    energies, usable = _blocks(y, along, axes, where)
    variance = _flat_variance(energies, axes, usable)
    if where is None and all(isinstance(side, int) for side in sides):
        return sqrt_from_zero(variance)
    some = jnp.any(usable, axis=axes, keepdims=True)
    haar = lax.cond(
        jnp.all(some), lambda: jnp.zeros_like(variance), lambda: haar_noise(y, axes, where)
    )
    return jnp.where(some, sqrt_from_zero(variance), haar)


def _flat_variance(energies: Energies, axes: tuple[int, ...], usable: Array) -> Array:
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


def _blocks(
    y: Array, along: tuple[int, ...], axes: tuple[int, ...], where: Array | None
) -> tuple[Energies, Array]:
    """Energies of all blocks, and which are usable: the good ones, or all valid ones if none is good."""
    rows, columns = along
    sides = y.shape[rows], y.shape[columns]
    symbolic = not all(isinstance(side, int) for side in sides)
    stride, every = (FINE_STRIDE, 1) if symbolic else stride_of(*sides)
    if (
        symbolic
    ):  # the sizes are known when an exported program runs: at least one block, if an invalid one
        margin = [(0, FOOTPRINT if axis in along else 0) for axis in range(y.ndim)]
        where = jnp.pad(jnp.ones(y.shape, bool) if where is None else where, margin)
        y = jnp.pad(y, margin)
    bad = _written_or_clipped(y, along, axes, where)
    invalid = jnp.zeros_like(bad) if where is None else ~where
    thin = tuple(slice(None, None, every if axis in along else None) for axis in range(y.ndim))
    energies = Energies(*(part[thin] for part in block_energies(y, rows, columns, stride)))
    good, valid = (
        ~footprints(mask, rows, columns, stride)[thin] for mask in (bad | invalid, invalid)
    )
    if symbolic:
        on_grid = _on_grid(valid, along, sides)
        good, valid = good & on_grid, valid & on_grid
    return energies, jnp.where(jnp.any(good, axis=axes, keepdims=True), good, valid)


def _on_grid(like: Array, along: tuple[int, ...], sides: tuple[Any, Any]) -> Array:
    """Which blocks of the fine grid belong to that of the image's size."""
    coarse = jnp.minimum(*map(jnp.asarray, sides)) >= FINE_BELOW
    between = [lax.broadcasted_iota(jnp.int32, like.shape, a) * FINE_STRIDE % STRIDE for a in along]
    return ~coarse | ((between[0] == 0) & (between[1] == 0))


def _written_or_clipped(
    y: Array, along: tuple[int, ...], axes: tuple[int, ...], where: Array | None
) -> Array:
    """Pixels that hold no noise: in plateaus, or tied at the smallest or the largest value."""
    rows, columns = along
    enough = jnp.maximum(TIED * count_valid(y, axes, where), 1)
    bad = jnp.zeros(y.shape, bool)
    for reduce, none in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)):
        extreme = reduce(y, axis=axes, keepdims=True, initial=none, where=where)
        there = y == extreme if where is None else (y == extreme) & where
        bad |= there & (jnp.sum(there, axis=axes, keepdims=True, dtype=y.dtype) > enough)
    if where is None:
        return bad | plateaus(y, rows, columns, jnp.pad)
    # Masked entries are all 0: a plateau of their own, which counts for none of their neighbours.
    return bad | plateaus(jnp.where(where, y, jnp.nan), rows, columns, jnp.pad)


def _tied_extremes(blocks: Blocks) -> list[np.float32]:
    """The smallest and the largest value, each if many pixels share it: one pass."""
    number = [0, 0]
    extremes: list[Any] = [np.float32(np.inf), np.float32(-np.inf)]
    for block in blocks:
        for k, reduce in enumerate((np.min, np.max)):
            own = reduce(block)
            if own != extremes[k] and reduce([own, extremes[k]]) == own:
                extremes[k], number[k] = own, 0
            number[k] += int(np.count_nonzero(block == extremes[k]))
    enough = max(TIED * np.prod(blocks.shape), 1)
    return [extreme for extreme, n in zip(extremes, number) if n > enough]


def _energies_over_blocks(
    blocks: Blocks, clipped: list[np.float32], stride: int, every: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """V, E and whether the footprint is good, for rows of blocks."""
    height = blocks.shape[0]
    margin = PLATEAU - 1  # a plateau reaches into a footprint from so far outside
    step = stride * every
    last = (height - FOOTPRINT) // step + 1
    at_once = max(1, blocks.rows_at_once // step)
    for start in range(0, last, at_once):
        stop = min(start + at_once, last)
        top, bottom = start * step, (stop - 1) * step + FOOTPRINT
        above, below = max(top - margin, 0), min(bottom + margin, height)
        band = blocks.read(above, below)
        bad = plateaus(band, 0, 1, np.pad)
        for extreme in clipped:
            bad |= band == extreme
        inner = slice(top - above, bottom - above)
        options = {"rows": 0, "columns": 1, "stride": stride}
        thin = slice(None, None, every)
        energies = block_energies(band[inner], **options)
        good = ~footprints(bad[inner], **options)
        yield tuple(part[thin, thin] for part in (*energies, good))
