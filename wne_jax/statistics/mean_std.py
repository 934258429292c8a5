"""Mean and standard deviation; the floor under the robust scales, which it sets."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import Moments, Statistics, compiled, merge, moments
from wne_jax.statistics.blocks import Blocks

FLOOR = 0.02
"""Robust scales never fall below this share of the standard deviation (they are 0 on many images)."""


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation: the statistic of Saied & Fleuret (2026)."""

    name: ClassVar[str] = "mean_std"

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """The moments of every instance."""
        return moments(y, axes=axes, where=where).statistics

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """The moments of the blocks, merged at the precision at which they are found: one pass."""
        parts = [_moments(block) for block in blocks]
        with jax.enable_x64(True):
            found = functools.reduce(merge, parts).statistics
            return float(found.location), float(found.scale)


mean_std = MeanStd()


def floored(mean_and_std: Statistics, raw: Array) -> Statistics:
    """The mean, and `raw` but at least `FLOOR` standard deviations: zero on constants alone.

    Args:
        mean_and_std: What `mean_std` gives.
        raw: A scale, of the shape of the standard deviation or a scalar.
    """
    mean, std, _ = mean_and_std
    return Statistics(mean, jnp.where(std > 0, jnp.maximum(raw, FLOOR * std), 0))


def floored_over_blocks(blocks: Blocks, raw: float) -> tuple[float, float]:
    """`floored` by the mean and standard deviation of all blocks."""
    with jax.enable_x64(True):
        mean_and_std = Statistics(*map(jnp.float64, mean_std.over_blocks(blocks)))
        mean, scale, _ = floored(mean_and_std, jnp.float64(raw))
        return float(mean), float(scale)


def _moments(block: np.ndarray) -> Moments:
    """`moments` of one block in NumPy, in float64 around the first entry: constants are exact."""
    pivot = float(block.flat[0])
    centred = block.astype(np.float64) - pivot
    offset = float(np.mean(centred))
    with jax.enable_x64(True):
        m2 = np.sum(np.square(centred - offset))
        return Moments(*map(jnp.float64, (block.size, pivot + offset, m2)))
