r"""How the noise of an image grows with its intensity, and whether it is white.

Photons arrive at random, so that the variance of a sensor's noise is a line over intensity,
$\alpha x + \beta$. The blocks of `wne_jax.statistics.flat_blocks` are sorted by their mean into bins of equal
number, and the flat ones of each bin give a variance there. A line goes through the bins; it weighs them by
the inverse variances of these variances, and less where one is far off (Huber's weights). It is centred at
the mean of the image: the variance there and the slope follow y -> a y + b, where an intercept at 0 would
not. Texture makes bins disagree, on white noise too. So a slope counts by its significance, its ratio to its
standard error: not at all up to `DOUBTFUL`, fully from `CERTAIN` on, and continuously in between. And where
the bins lie far from any line, they show structure, not noise.

What cameras and JPEG files do to noise correlates its neighbours. V, which reads the corner of the spectrum,
then sees a small part of it. The ratio q of the middle band to the corner tells: white noise has q = 1. If
the spectrum is a product along the two axes, a corner of variance v and a middle of $q^2 v$ make $q^4 v$ the
level of the band of low frequencies, where the noise is. A flat block then has more energy e than v, too; how
much more is computed for a Gaussian blur of the same q.

Structure also raises q. But the energies of noise are alike in all flat blocks of a bin, where those of
structure are scattered; and noise makes many blocks of a bin alike, where structure leaves few.

References:
    Foi, Trimeche, Katkovnik & Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data", 2008.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax.statistics.base import NORMAL_MAD, compiled, prepare, sqrt_from_zero
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.flat_blocks import (
    GROWTH,
    MEDIAN_OF_BLOCK,
    block_energies,
    block_means,
    mid_energies,
)
from wne_jax.statistics.flat_grid import Grid, grid_of, read_blocks
from wne_jax.statistics.mean_std import mean_std
from wne_jax.statistics.noise import sigma_of_blocks
from wne_jax.statistics.order import entries_of_rank, median

BINS = 24
"""Intensity bins, of equal numbers of blocks."""

LEVELS = 2**14
"""Intensities that are told apart."""

FLATTEST, FEWEST, TIMES = 0.05, 12, 3
"""The first set of a bin: this share of its blocks, but at least so many; and how often it grows."""

DOUBTFUL, CERTAIN = 6.0, 12.0
"""Significances of a slope from which it counts at all, and fully."""

SCATTERED, ALIKE = 0.62, 0.70
"""Lowest decile of the middle band over its median, of structure and of noise: 0.75 on noise alone."""

FEW, MANY = 0.2, 0.4
"""Share of the blocks of a bin that are flat, of structure and of noise."""

AGREE, DISAGREE = 0.2, 0.4
"""Median distance of bins from the line, over the line, of noise and of structure."""

NEARLY_WHITE, COLOURED = 1.45, 1.85
"""Ratios q from which noise counts as correlated at all, and fully."""

STEPS = 8
"""Reweighted fits of the line."""

SMALLEST = 0.1
"""The line never falls below this share of the mean variance where it weighs bins."""


MEASURES = (block_energies, mid_energies, block_means)
"""What is measured on blocks."""

_RHO = np.linspace(0, 0.95, 96)
"""Correlations of neighbours of noise behind a Gaussian blur; at distance d the power d^2 of them."""

_CORNER, _LOW = (
    6 + sign * 8 * _RHO + 2 * _RHO**4 for sign in (-1, 1)
)  # variance of (1, -2, 1), (1, 2, 1)

RATIOS = _LOW / _CORNER
"""q^2 of these correlations, increasing."""

MORE = (
    (10 + 8 * (_RHO - _RHO**4 - _RHO**9) - 2 * _RHO**16)
    * (70 + 112 * _RHO + 56 * _RHO**4 + 16 * _RHO**9 + 2 * _RHO**16)
    / 700
    / np.square(_CORNER / 6)
)
"""Energy e of a flat block over the variance in the corner, of the same."""


class NoiseCurve(NamedTuple):
    """The variance of the noise over intensity, of each image; arrays over the batch, and over bins.

    Attributes:
        intensity: Mean of the flat blocks of every bin, `[B, bins]`.
        variance: Of the noise there, in the corner of the spectrum.
        blocks: Flat blocks of every bin; 0 where a bin is empty.
        mean: Of the image, `[B]`.
        at_mean: The line's variance at the mean.
        slope: The line's slope, 0 or more.
        significance: The slope over its standard error.
        typical: The median of the variances of all bins.
        ratio: q, the standard deviation in the middle band over that in the corner, the median of all bins.
        least_ratio: The ratio that all bins but a fifth exceed: structure, unlike noise, spares some of them.
        homogeneous: Whether many blocks of the bins are flat, from 0 to 1, as only noise has them.
        evidence: Whether what bins show is noise, from 0 (structure) to 1.
    """

    intensity: Array
    variance: Array
    blocks: Array
    mean: Array
    at_mean: Array
    slope: Array
    significance: Array
    typical: Array
    ratio: Array
    least_ratio: Array
    homogeneous: Array
    evidence: Array

    @property
    def trust(self) -> Array:
        """How much the slope counts, from 0 to 1."""
        return _ramp(self.significance, DOUBTFUL, CERTAIN)

    @property
    def coloured(self) -> Array:
        """How much the noise counts as correlated, from 0 to 1."""
        return self.evidence * _ramp(self.least_ratio, NEARLY_WHITE, COLOURED)

    @property
    def of_band(self) -> Array:
        """The variance in the band where the noise is, over that in the corner; 1 on white noise."""
        return 1 + self.coloured * (jnp.square(jnp.square(self.ratio)) - 1)

    @property
    def of_all(self) -> Array:
        """The variance of the noise over that in the corner; 1 on white noise."""
        all_over_corner = jnp.interp(jnp.square(self.ratio), RATIOS, np.square(6 / _CORNER))
        return 1 + self.coloured * (all_over_corner - 1)


@compiled
def noise_curve(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> NoiseCurve:
    """Measure how the noise of images grows with their intensity.

    `wne_jax.evaluation.plotting.noise_curve` draws it.

    Args:
        y: Images `[B, ..., C]` of 12 x 12 pixels or more.
        axes: Axes to pool, the spatial ones among them (default: all but the batch).
        where: Boolean mask, True where an entry is valid; a block counts if all its pixels are.

    Returns:
        The curve and its line, the pooled axes removed and the bins last; zeros where there are no blocks.

    Raises:
        ValueError: Images in which no block fits.

    Example:
        >>> import jax
        >>> x = jnp.broadcast_to(jnp.linspace(10, 100, 256), (1, 256, 256))
        >>> y = (x + jnp.sqrt(2 * x) * jax.random.normal(jax.random.key(0), x.shape))[..., None]
        >>> bool(abs(noise_curve(y).slope[0] - 2) < 0.2)
        True
    """
    y, axes, where = prepare(y, axes, where)
    grid = grid_of(y, axes, where)
    if grid is None:
        raise ValueError(f"no block of 12 x 12 pixels fits into images of shape {y.shape}")
    return curve_of(grid, axes, mean_std(y, axes=axes, where=where).location)


def curve_of(grid: Grid, axes: tuple[int, ...], mean: Array) -> NoiseCurve:
    """The curve from the blocks of images; their mean has its axes kept."""
    energies, *others = (grid.measure(measure) for measure in MEASURES)
    pooled = [_pooled_last(part, axes) for part in (*energies, *others, grid.usable)]
    return fit(*pooled, mean=jnp.squeeze(mean, axis=axes))


def fit(
    corner: Array, chosen_by: Array, middle: Array, intensity: Array, usable: Array, *, mean: Array
) -> NoiseCurve:
    """The curve of blocks, `[..., N]`.

    Args:
        corner: V of each block; see `wne_jax.statistics.flat_blocks`.
        chosen_by: E of each block.
        middle: Its energy in the middle band.
        intensity: Its mean.
        usable: Whether it counts.
        mean: Of the image, `[...]`, where the line is centred.
    """
    bins = _bins(corner, chosen_by, middle, intensity, usable)
    at_mean, slope, significance, scatter = _line(
        bins.mean - mean[..., None], bins.variance, bins.blocks
    )
    parts = jnp.stack([bins.variance, bins.ratio, bins.lowest, bins.share])
    typical, ratio, lowest, share = _median_of_bins(parts, jnp.stack([bins.blocks] * 4) > 0)
    many = _ramp(share, FEW, MANY)
    agreement = 1 - _ramp(scatter, AGREE, DISAGREE)
    evidence = agreement * jnp.maximum(_ramp(lowest, SCATTERED, ALIKE), many)
    return NoiseCurve(
        bins.mean, bins.variance, bins.blocks, mean, at_mean, slope, significance,
        typical, ratio, _lowest_fifth(bins.ratio, bins.blocks > 0), many, evidence,
    )  # fmt: skip


def curve_over_blocks(blocks: Blocks, mean: float) -> tuple[NoiseCurve, float]:
    """The curve of an image that is read by blocks, in two passes, and the level of its flattest places.

    Args:
        blocks: An image of 12 pixels or more along both axes.
        mean: Its mean.
    """
    found = read_blocks(blocks, *MEASURES)
    # At the next power of two, few sizes are ever compiled.
    number = found[0].size
    padded = [np.pad(part, (0, 2 ** (number - 1).bit_length() - number)) for part in found]
    usable = np.arange(padded[0].size) < number
    return _fit(*padded, usable, mean=jnp.float32(mean)), sigma_of_blocks(*found[:2])


_fit = jax.jit(fit)


class _Bins(NamedTuple):
    """Of the flat blocks of each bin, `[..., bins]`."""

    mean: Array
    variance: Array
    blocks: Array
    ratio: Array
    lowest: Array  # decile of the middle band, over its median
    share: Array  # of the blocks of the bin


def _median_of_bins(x: Array, where: Array) -> Array:
    """The median over the last axis, short enough to be sorted; 0 where nothing counts."""
    ordered = jnp.sort(jnp.where(where, x, jnp.inf), axis=-1)
    number = jnp.sum(where, axis=-1, keepdims=True, dtype=jnp.int32)
    ranks = jnp.concatenate([jnp.maximum(number - 1, 0) // 2, number // 2], axis=-1)
    ranks = jnp.minimum(ranks, x.shape[-1] - 1)
    entries = jnp.take_along_axis(jnp.where(jnp.isfinite(ordered), ordered, 0), ranks, axis=-1)
    return jnp.mean(entries, axis=-1)


def _lowest_fifth(x: Array, where: Array) -> Array:
    """What all bins but a fifth exceed; 0 where nothing counts."""
    ordered = jnp.sort(jnp.where(where, x, jnp.inf), axis=-1)
    rank = jnp.sum(where, axis=-1, keepdims=True, dtype=jnp.int32) // 5
    found = jnp.take_along_axis(ordered, rank, axis=-1)[..., 0]
    return jnp.where(jnp.isfinite(found), found, 0)


def _ramp(x: Array, start: float, stop: float) -> Array:
    """From 0 to 1 between two values."""
    return jnp.clip((x - start) / (stop - start), 0, 1)


def _pooled_last(x: Array, axes: tuple[int, ...]) -> Array:
    """The pooled axes as one, the last."""
    if not all(
        isinstance(side, int) for side in x.shape
    ):  # their product must be known to be positive
        x = jnp.pad(x, [(0, 3 if axis in axes else 0) for axis in range(x.ndim)])
    moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: -len(axes)], -1)


def _bins(corner: Array, chosen_by: Array, middle: Array, intensity: Array, usable: Array) -> _Bins:
    """Sort blocks into bins, and choose the flat ones of each."""
    order = _order(lax.stop_gradient(intensity), lax.stop_gradient(corner), usable)
    number = jnp.sum(usable, axis=-1, keepdims=True, dtype=jnp.int32)
    lead = (1,) * (corner.ndim - 1)
    edges = number * jnp.arange(BINS + 1, dtype=jnp.int32).reshape(*lead, -1) // BINS
    size = -(-corner.shape[-1] // BINS)
    ranks = edges[..., :-1, None] + jnp.arange(size, dtype=jnp.int32).reshape(*lead, 1, -1)
    there = ranks < edges[..., 1:, None]
    ranks = jnp.where(there, ranks, 0)
    last = (ranks.ndim - 1,)

    def sorted_into_bins(x: Array) -> Array:
        x = jnp.take_along_axis(x, order, axis=-1)
        return jnp.take_along_axis(x[..., None, :], ranks, axis=-1)

    v, mid, x = map(sorted_into_bins, (corner, middle, intensity))
    e = lax.stop_gradient(sorted_into_bins(chosen_by))
    in_bin = jnp.sum(there, axis=-1, keepdims=True, dtype=v.dtype)
    wanted = jnp.minimum(jnp.maximum(jnp.ceil(FLATTEST * in_bin), FEWEST), in_bin)
    (first,) = entries_of_rank(e, [jnp.maximum(wanted, 1).astype(jnp.int32) - 1], last, there)

    def typical(x: Array, limit: Array) -> Array:
        return median(x, axes=last, where=there & (e <= limit))

    def ratio_of(variance: Array, centre: Array) -> Array:
        positive = variance > 0
        return jnp.where(positive, centre / jnp.where(positive, variance, 1), 1)

    def grown(_: int, limit: Array) -> Array:
        variance, centre = (typical(lax.stop_gradient(part), limit) for part in (v, mid))
        more = jnp.interp(ratio_of(variance, centre), RATIOS.astype(v.dtype), MORE.astype(v.dtype))
        return jnp.maximum(first, GROWTH / MEDIAN_OF_BLOCK * variance * more)

    limit = lax.fori_loop(0, TIMES, grown, first)
    flat = there & (e <= limit)
    variance, centre = typical(v, limit), typical(mid, limit)
    ratio = ratio_of(variance, centre)
    blocks = jnp.sum(flat, axis=-1, keepdims=True, dtype=v.dtype)
    (lowest,) = entries_of_rank(mid, [(blocks / 10).astype(jnp.int32)], last, flat)
    some = centre > 0
    found = (
        jnp.sum(x, axis=-1, keepdims=True, where=flat) / jnp.maximum(blocks, 1),
        variance / MEDIAN_OF_BLOCK,
        blocks,
        sqrt_from_zero(ratio),
        jnp.where(some, lax.stop_gradient(lowest) / jnp.where(some, centre, 1), 0),
        blocks / jnp.maximum(in_bin, 1),
    )
    return _Bins(*(part[..., 0] for part in found))


def _order(intensity: Array, corner: Array, usable: Array) -> Array:
    """The order of blocks by intensity, the usable ones first.

    Many blocks of whole numbers have one mean, which y -> a y + b rounds apart. So intensities count to a
    share of their range, and equal ones are in the order of their V.
    """
    low = jnp.min(intensity, axis=-1, keepdims=True, initial=jnp.inf, where=usable)
    high = jnp.max(intensity, axis=-1, keepdims=True, initial=-jnp.inf, where=usable)
    some = high > low
    share = (intensity - jnp.where(some, low, 0)) / jnp.where(some, high - low, 1)
    key = jnp.where(usable, jnp.round(LEVELS * share), jnp.inf)
    places = lax.broadcasted_iota(jnp.int32, key.shape, key.ndim - 1)
    return lax.sort((key, corner, places), num_keys=2)[2]


def _line(x: Array, variance: Array, blocks: Array) -> tuple[Array, Array, Array, Array]:
    """A robust line through bins, `[..., bins]`.

    These are its value at x = 0, its slope, the significance of that, and the median distance of the bins
    from it, over its value there. Both coordinates are divided by their size first: what follows is made of
    pure numbers.
    """
    number = jnp.maximum(jnp.sum(blocks, axis=-1, keepdims=True), 1)
    typical = jnp.sum(blocks * variance, axis=-1, keepdims=True) / number
    spread = sqrt_from_zero(jnp.sum(blocks * jnp.square(x), axis=-1, keepdims=True) / number)
    v = jnp.where(typical > 0, variance / jnp.where(typical > 0, typical, 1), 0)
    t = jnp.where(spread > 0, x / jnp.where(spread > 0, spread, 1), 0)
    total = lambda part: jnp.sum(part, axis=-1, keepdims=True)  # noqa: E731

    def reweighted(step: int, found: tuple[Array, ...]) -> tuple[Array, ...]:
        line, trusted, *_ = found
        weight = blocks * trusted / jnp.square(line)
        s_0, s_1, s_2 = total(weight), total(weight * t), total(weight * jnp.square(t))
        v_0, v_1 = total(weight * v), total(weight * t * v)
        determinant = s_0 * s_2 - jnp.square(s_1)
        solvable = determinant > 1e-6 * jnp.square(s_0)
        safe = jnp.where(solvable, determinant, 1)
        slope = jnp.maximum(jnp.where(solvable, s_0 * v_1 - s_1 * v_0, 0) / safe, 0)
        level = (v_0 - slope * s_1) / jnp.maximum(s_0, 1e-6)
        line = jnp.maximum(level + slope * t, SMALLEST)
        distance = lax.stop_gradient(jnp.abs(v - line) / line)
        scatter = _median_of_bins(distance, blocks > 0)[..., None]
        off = distance * jnp.sqrt(blocks)
        deviation = _median_of_bins(off, blocks > 0)[..., None] / NORMAL_MAD
        trusted = jnp.minimum(1, deviation / jnp.maximum(off, 1e-6))
        error = jnp.maximum(deviation, 1e-6) * jnp.sqrt(s_0 / safe)
        significance = jnp.where(solvable, slope / jnp.maximum(error, 1e-6), 0)
        return line, trusted, level, slope, significance, scatter

    one, none = jnp.ones_like(v), jnp.zeros_like(typical)
    start = (one, one, none, none, none, none)
    _, _, level, slope, significance, scatter = lax.fori_loop(0, STEPS, reweighted, start)
    size = jnp.where(spread > 0, typical / jnp.where(spread > 0, spread, 1), 0)
    at_mean = jnp.maximum(level, 0) * typical
    return at_mean[..., 0], (slope * size)[..., 0], significance[..., 0], scatter[..., 0]
