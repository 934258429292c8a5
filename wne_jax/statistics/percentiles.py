"""Two percentiles, which become 0 and 1: how microscopy normalizes its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistics, compiled, prepare
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.mean_std import mean_std
from wne_jax.statistics.noise import least_scale
from wne_jax.statistics.order import quantiles, quantiles_of_parts


@dataclass(frozen=True)
class Percentiles:
    """See `percentiles`."""

    low: float = 1.0
    high: float = 99.8
    name: ClassVar[str] = "percentiles"

    def __post_init__(self):
        """Reject what are no two percentiles in order."""
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"percentiles must be from 0 to 100, the first below the second: {self.low}, {self.high}"
            )

    @property
    def shares(self) -> tuple[float, float]:
        """The percentiles as shares of 1."""
        return self.low / 100, self.high / 100

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """The percentiles of the valid entries."""
        y, axes, where = prepare(y, axes, where)
        low, high = quantiles(y, self.shares, axes=axes, where=where)
        std = mean_std(y, axes=axes, where=where).scale
        return Statistics(low, jnp.maximum(high - low, least_scale(std)))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """Two passes for the percentiles, one for the moments."""
        low, high = quantiles_of_parts(lambda: iter(blocks), self.shares)
        return low, max(high - low, least_scale(mean_std.over_blocks(blocks)[1]))


def percentiles(low: float = 1.0, high: float = 99.8) -> Percentiles:
    """The statistic whose location is one percentile, and whose scale is another minus that.

    Bright and dark outliers do not count, as long as they are few. Where the two percentiles are the same, a
    thousandth of the standard deviation is the scale: it is 0 on constants alone.

    Args:
        low: The percentile that becomes 0.
        high: The percentile that becomes 1.

    Raises:
        ValueError: Values that are not from 0 to 100, or not in order.

    Example:
        >>> percentiles(0, 50)(jnp.array([[1.0, 2.0, 3.0, 4.0, 50.0]])).scale.item()
        2.0

    References:
        Weigert et al., "Content-aware image restoration: pushing the limits of fluorescence microscopy",
        Nature Methods 2018.
    """
    return Percentiles(low, high)
