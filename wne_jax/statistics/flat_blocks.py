r"""The level of white noise, read where an image is flat.

Texture and edges pass for noise in every high-pass. But most images have some flat places, and there a filter
shows the noise alone. Two filters of the corner of the spectrum serve: $d$, the product of two second
differences, measures, and $e$, the energy of a smoothed first difference along either axis, chooses. They are
nearly uncorrelated on white noise, so that choosing blocks by $e$ does not bias $d$.

Over blocks of 8 x 8 values let $V$ be the mean of $d^2$ and $E$ that of $e$, both of unit gain on white
noise. The flattest blocks, those of the smallest $E$, give a first variance, the median of their $V$. Twice
the set grows to all blocks whose $E$ is within 1.5 times that variance. A block counts only if its 12 x 12
pixels are valid. Pixels inside a plateau of 8 x 8 equal values are not, nor are those at the smallest or the
largest value where many pixels have it: such places were written by a program, or clipped, and hold no noise.
If nothing else is left, they count.

Everything is a comparison of energies or an order statistic, so that the level of a y + b is a times that of
y. The same functions work on NumPy arrays and on JAX arrays: blocks of an image on the host, and whole images
on a device.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BLOCK, FOOTPRINT, PLATEAU = 8, 12, 8
"""Values of a block along an axis, pixels that they depend on, and the side of the smallest plateau."""

STRIDE, FINE_STRIDE, FINE_BELOW = 4, 2, 128
"""Distance between blocks; a smaller one where a side has fewer pixels than the last."""

MOST_BLOCKS = 2**22
"""Larger images take every second block along both axes, or every fourth ...: their pairs fit in memory."""

TIED = 0.002
"""Share of pixels at the smallest or largest value from which they count as clipped."""

FLATTEST, FEWEST = 0.01, 24
"""The first set: this share of the blocks, but at least so many."""

GROWTH, TIMES = 1.5, 2
"""How far the energy of a flat block may exceed the variance, and how often the set grows."""

MEDIAN_OF_BLOCK = 0.961
"""Median of V on white noise of variance 1: that of chi-squared with 16.93 degrees of freedom, over them."""

Reduction = Callable[[Any, Any], Any]


class Energies(NamedTuple):
    """Of every block: the mean of d squared, and that of e."""

    measured: Any
    chosen_by: Any


def stride_of(height: int, width: int) -> tuple[int, int]:
    """Distance between the blocks of an image, and of how many, along an axis, one is taken."""
    if min(height, width) < FINE_BELOW:
        return FINE_STRIDE, 1
    every = 1
    while height * width > MOST_BLOCKS * (STRIDE * every) ** 2:
        every *= 2
    return STRIDE, every


def block_energies(y: Any, rows: int, columns: int, stride: int) -> Energies:
    """V and E of the blocks whose footprints lie in `y`.

    Args:
        y: Real array.
        rows: Axis of the rows, of 12 pixels or more.
        columns: Axis of the columns, likewise.
        stride: 2 or 4, the distance between blocks.

    Returns:
        Arrays like `y`, with one entry a block along both axes.
    """
    d = y
    for axis in (rows, columns):
        d = _part(d, axis, 1, -1)  # d at the places of e
        first = _part(d, axis, 1, None) - _part(d, axis, 0, -1)
        d = _part(first, axis, 1, None) - _part(first, axis, 0, -1)
    energy = _square(_slope(y, rows, columns)) + _square(_slope(y, columns, rows))
    blocks = functools.partial(_in_blocks, rows=rows, columns=columns, stride=stride)
    per = BLOCK * BLOCK
    return Energies(blocks(_square(d)) / (36 * per), blocks(energy) / (2 * 700 * per))


def mid_energies(y: Any, rows: int, columns: int, stride: int) -> Any:
    """The mean over each block of the energy of the middle band: (1, -2, 1) x (1, 2, 1), and across.

    Like V it is 1 on white noise of variance 1. On correlated noise it is more than V, which is of the corner
    of the spectrum.
    """
    energy = 0
    for along, across in ((rows, columns), (columns, rows)):
        band = y
        for axis in (along, across):
            band = _part(band, axis, 1, -1)  # at the places of e
        for sign, axis in ((operator.sub, along), (operator.add, across)):
            for _ in range(2):
                band = sign(_part(band, axis, 1, None), _part(band, axis, 0, -1))
        energy = energy + _square(band)
    return _in_blocks(energy, rows, columns, stride) / (2 * 36 * BLOCK * BLOCK)


def block_means(y: Any, rows: int, columns: int, stride: int) -> Any:
    """The mean over the 8 x 8 pixels of each block, as `block_energies` has them."""
    for axis in (rows, columns):
        y = _part(y, axis, 2, -2)
    return _in_blocks(y, rows, columns, stride) / (BLOCK * BLOCK)


def footprints(bad: Any, rows: int, columns: int, stride: int) -> Any:
    """Whether any pixel of a block's footprint is bad, one entry a block as in `block_energies`."""
    for axis in (rows, columns):
        bad = _sliding(bad, axis, FOOTPRINT - BLOCK + 1, operator.or_)  # what a value depends on
        bad = _windows(bad, axis, BLOCK, stride, operator.or_)
    return bad


def plateaus(y: Any, rows: int, columns: int, pad: Callable[..., Any]) -> Any:
    """Pixels inside a window of 8 x 8 bitwise equal values.

    Args:
        y: Real array, of 8 pixels or more along both axes.
        rows: Axis of the rows.
        columns: Axis of the columns.
        pad: `np.pad` or `jnp.pad`, as `y` is.
    """
    equal = True
    for along, across in ((rows, columns), (columns, rows)):
        same = _part(y, along, 1, None) == _part(y, along, 0, -1)
        same = _sliding(same, along, PLATEAU - 1, operator.and_)
        equal = equal & _sliding(same, across, PLATEAU, operator.and_)
    margins = [(PLATEAU - 1,) * 2 if axis in (rows, columns) else (0, 0) for axis in range(y.ndim)]
    inside = pad(equal, margins)
    for axis in (rows, columns):
        inside = _sliding(inside, axis, PLATEAU, operator.or_)
    return inside


def _slope(y: Any, along: int, across: int) -> Any:
    """(1, 2, 0, -2, -1) along one axis and (1, 4, 6, 4, 1) across it."""
    at = lambda k: _part(y, along, k, k - 4 or None)  # noqa: E731
    difference = (at(0) - at(4)) + 2 * (at(1) - at(3))
    for _ in range(4):
        difference = _part(difference, across, 1, None) + _part(difference, across, 0, -1)
    return difference


def _square(x: Any) -> Any:
    return x * x


def _in_blocks(x: Any, rows: int, columns: int, stride: int) -> Any:
    """Sums over blocks of 8 x 8 values; sums of zeros are exactly zero."""
    for axis in (rows, columns):
        x = _windows(x, axis, BLOCK, stride, operator.add)
    return x


def _windows(x: Any, axis: int, size: int, stride: int, reduce: Reduction) -> Any:
    """Reduce over the windows of `size` entries at multiples of `stride`, of which `size` is a multiple."""
    number = x.shape[axis] // stride
    split = (*x.shape[:axis], number, stride, *x.shape[axis + 1 :])
    parts = _part(x, axis, 0, number * stride).reshape(split)
    whole = functools.reduce(reduce, (_take(parts, axis + 1, k) for k in range(stride)))
    return _sliding(whole, axis, size // stride, reduce)


def _sliding(x: Any, axis: int, size: int, reduce: Reduction) -> Any:
    """Reduce over every window of `size` entries, by doubling: sums only over sizes that double."""
    reached = 1
    while reached < size:
        step = min(reached, size - reached)
        x = reduce(_part(x, axis, 0, -step), _part(x, axis, step, None))
        reached += step
    return x


def _part(x: Any, axis: int, start: int, stop: int | None) -> Any:
    """Entries `start` to `stop` along an axis."""
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _take(x: Any, axis: int, index: int) -> Any:
    return x[(slice(None),) * axis + (index,)]


def first_rank(blocks: Any, xp: Any = np) -> Any:
    """Rank, from 0, of the energy up to which blocks are in the first set, where `blocks` of them count."""
    wanted = xp.maximum(xp.ceil(FLATTEST * blocks), FEWEST)
    return xp.maximum(xp.minimum(wanted, blocks), 1).astype(xp.int32) - 1
