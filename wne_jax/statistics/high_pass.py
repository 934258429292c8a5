"""Mean, and the strength of a linear high-pass."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from wne_jax.statistics.base import (
    Statistics,
    compiled,
    count_valid,
    detail_axes,
    prepare,
    sqrt_from_zero,
    sum_valid,
)
from wne_jax.statistics.blocks import Blocks, root_mean_square
from wne_jax.statistics.mean_std import floored, floored_over_blocks, mean_std

_GAIN = math.sqrt(6.0)
"""Root of the energy of (-1, 2, -1)."""


@dataclass(frozen=True)
class HighPass:
    """Mean, and the root mean square of a circular high-pass of unit noise gain.

    The filter is the second difference (-1, 2, -1) / sqrt(6) along each of the last two spatial axes. It
    annihilates constants, and as it is circular, the statistic commutes exactly with translations. (On an
    axis of two pixels, whose neighbours coincide, its gain is larger.)
    """

    name: ClassVar[str] = "high_pass"

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A value counts if its own neighbours are valid."""
        y, axes, where = prepare(y, axes, where)
        whole = mean_std(y, axes=axes, where=where)
        detail, valid = y, where
        along = detail_axes(y, axes)
        if not along:
            return floored(whole, 0 * count_valid(y, axes, where))
        for axis in along:
            around = jnp.roll(detail, 1, axis), jnp.roll(detail, -1, axis)
            detail = (2 * detail - around[0] - around[1]) / _GAIN
            if valid is not None:
                valid = valid & jnp.roll(valid, 1, axis) & jnp.roll(valid, -1, axis)
        count = jnp.maximum(count_valid(y, axes, valid), 1)
        power = sum_valid(jnp.square(detail), axes, valid) / count
        return floored(whole, sqrt_from_zero(power))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """One pass for the mean square, one for the moments."""
        if max(blocks.shape[:2]) == 1:
            return floored_over_blocks(blocks, 0.0)
        return floored_over_blocks(blocks, root_mean_square(_details(blocks)))


high_pass = HighPass()


def _details(blocks: Blocks) -> Iterator[np.ndarray]:
    """The filtered image, block by block: rows beyond an end are those of the other end."""
    height, width = blocks.shape[:2]
    for start, stop in blocks.spans(height):
        block = blocks.read(start, stop)
        if height > 1:
            above, below = (start - 1) % height, stop % height
            first, last = blocks.read(above, above + 1), blocks.read(below, below + 1)
            around = np.concatenate([first, block, last])
            block = (2 * block - around[:-2] - around[2:]) / _GAIN
        if width > 1:
            block = (2 * block - np.roll(block, 1, 1) - np.roll(block, -1, 1)) / _GAIN
        yield block
