"""The range of values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistics, compiled, count_valid, prepare
from wne_jax.statistics.blocks import Blocks


@dataclass(frozen=True)
class MinMax:
    """Smallest entry, and largest minus smallest: normalized values fill [0, 1]."""

    name: ClassVar[str] = "min_max"

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """The range of the valid entries."""
        y, axes, where = prepare(y, axes, where)
        low = jnp.min(y, axis=axes, keepdims=True, initial=jnp.inf, where=where)
        high = jnp.max(y, axis=axes, keepdims=True, initial=-jnp.inf, where=where)
        some = count_valid(y, axes, where) > 0
        return Statistics(jnp.where(some, low, 0), jnp.where(some, high - low, 0))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """One pass."""
        extremes = [(block.min(), block.max()) for block in blocks]
        low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
        return float(low), float(high - low)


min_max = MinMax()
