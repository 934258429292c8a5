"""Median and median absolute deviation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from wne_jax.statistics.base import NORMAL_MAD, Statistics, compiled, prepare
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.mean_std import floored, floored_over_blocks, mean_std
from wne_jax.statistics.order import median, median_of_parts


@dataclass(frozen=True)
class MedianMad:
    """Median, and median absolute deviation over 0.6745, but at least `FLOOR` standard deviations."""

    name: ClassVar[str] = "median_mad"

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """Both medians are exact."""
        y, axes, where = prepare(y, axes, where)
        centre = median(y, axes=axes, where=where)
        deviation = median(jnp.abs(y - centre), axes=axes, where=where) / NORMAL_MAD
        whole = mean_std(y, axes=axes, where=where)
        return floored(whole, deviation)._replace(location=centre)

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """Two passes for either median, one for the moments."""
        centre = np.float32(median_of_parts(lambda: iter(blocks)))
        deviation = median_of_parts(lambda: (np.abs(block - centre) for block in blocks))
        _, scale = floored_over_blocks(blocks, deviation / NORMAL_MAD)
        return float(centre), scale


median_mad = MedianMad()
