"""The blocks of a whole image that may show its noise: in memory, and as an image is read.

What is measured on blocks, and which pixels hold no noise, is in `wne_jax.statistics.flat_blocks`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from wne_jax.statistics.base import count_valid, detail_axes
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.flat_blocks import (
    FINE_BELOW,
    FINE_STRIDE,
    FOOTPRINT,
    PLATEAU,
    STRIDE,
    TIED,
    footprints,
    plateaus,
    stride_of,
)

Measure = Callable[..., Any]
"""`measure(y, rows, columns, stride)`: a pytree of arrays like y, with one entry a block."""


class Grid(NamedTuple):
    """Blocks of images.

    Attributes:
        y: The images.
        rows: Axis of the rows.
        columns: Axis of the columns.
        stride: Distance between blocks.
        every: Of how many blocks along an axis one is taken.
        usable: Which blocks count: the good ones, or all valid ones if none is good.
    """

    y: Array
    rows: int
    columns: int
    stride: int
    every: int
    usable: Array

    def measure(self, measure: Measure) -> Any:
        """What is measured on the blocks."""
        return jax.tree.map(self.thin, measure(self.y, self.rows, self.columns, self.stride))

    def thin(self, part: Array) -> Array:
        """Leave out the blocks that are not taken."""
        along = (self.rows, self.columns)
        each = (slice(None, None, self.every if a in along else None) for a in range(part.ndim))
        return part[tuple(each)]


def grid_of(y: Array, axes: tuple[int, ...], where: Array | None) -> Grid | None:
    """The blocks of images; None where not one fits.

    Args:
        y: Images, as `prepare` leaves them.
        axes: Axes that are pooled.
        where: Valid entries, at full shape, or None.
    """
    along = detail_axes(y, axes)
    sides = tuple(y.shape[axis] for axis in along)
    if len(along) < 2 or any(isinstance(side, int) and side < FOOTPRINT for side in sides):
        return None
    rows, columns = along
    symbolic = not known_sides(y, axes)
    stride, every = (FINE_STRIDE, 1) if symbolic else stride_of(*sides)
    if symbolic:
        # The sizes are known when an exported program runs: at least one block, if an invalid one.
        margin = [(0, FOOTPRINT if axis in along else 0) for axis in range(y.ndim)]
        where = jnp.pad(jnp.ones(y.shape, bool) if where is None else where, margin)
        y = jnp.pad(y, margin)
    bad = _written_or_clipped(y, along, axes, where)
    invalid = jnp.zeros_like(bad) if where is None else ~where
    grid = Grid(y, rows, columns, stride, every, bad)
    good, valid = (
        ~grid.thin(footprints(mask, rows, columns, stride)) for mask in (bad | invalid, invalid)
    )
    if symbolic:
        on_grid = _on_grid(valid, along, sides)
        good, valid = good & on_grid, valid & on_grid
    return grid._replace(usable=jnp.where(jnp.any(good, axis=axes, keepdims=True), good, valid))


def known_sides(y: Array, axes: tuple[int, ...]) -> bool:
    """Whether the sizes of images are numbers, not symbols of a program to export."""
    return all(isinstance(y.shape[axis], int) for axis in detail_axes(y, axes))


def _on_grid(like: Array, along: tuple[int, ...], sides: tuple[Any, ...]) -> Array:
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
        for k, reduce in enumerate((np.fmin.reduce, np.fmax.reduce)):
            own = reduce(block, axis=None)
            if own != extremes[k] and reduce([own, extremes[k]]) == own:
                extremes[k], number[k] = own, 0
            number[k] += int(np.count_nonzero(block == extremes[k]))
    enough = max(TIED * np.prod(blocks.shape), 1)
    return [extreme for extreme, n in zip(extremes, number) if n > enough]


def read_blocks(blocks: Blocks, *measures: Measure) -> list[np.ndarray]:
    """What is measured on the blocks of an image that is read twice: of those that count, in any order.

    Args:
        blocks: An image of 12 pixels or more along both axes; NaN marks pixels that are not valid.
        *measures: Each gives one array.

    Returns:
        For each measure an array `[N]`.
    """
    clipped = _tied_extremes(blocks)
    parts = list(_rows_of_blocks(blocks, clipped, measures))
    *found, good = (
        np.concatenate([np.ravel(part[k]) for part in parts]) for k in range(len(parts[0]))
    )
    return [part[good] if good.any() else part for part in found]


def _rows_of_blocks(
    blocks: Blocks, clipped: list[np.float32], measures: tuple[Measure, ...]
) -> Iterator[tuple[np.ndarray, ...]]:
    """The measures, and whether the footprint is good, for rows of blocks."""
    height, width, _ = blocks.shape
    stride, every = stride_of(height, width)
    margin = PLATEAU - 1  # a plateau reaches into a footprint from so far outside
    step = stride * every
    last = (height - FOOTPRINT) // step + 1
    at_once = max(1, blocks.rows_at_once // step)
    for start in range(0, last, at_once):
        stop = min(start + at_once, last)
        top, bottom = start * step, (stop - 1) * step + FOOTPRINT
        above, below = max(top - margin, 0), min(bottom + margin, height)
        band = blocks.read(above, below)
        bad = plateaus(band, 0, 1, np.pad) | np.isnan(band)
        for extreme in clipped:
            bad |= band == extreme
        inner = slice(top - above, bottom - above)
        options = {"rows": 0, "columns": 1, "stride": stride}
        thin = slice(None, None, every)
        found = jax.tree.leaves([measure(band[inner], **options) for measure in measures])
        good = ~footprints(bad[inner], **options)
        yield tuple(part[thin, thin] for part in (*found, good))
