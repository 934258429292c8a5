"""Scale alone: the control that ignores brightness."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax.numpy as jnp
from jax.typing import ArrayLike

from wne_jax.statistics import blocks as by_blocks
from wne_jax.statistics.base import (
    Statistics,
    compiled,
    count_valid,
    prepare,
    sqrt_from_zero,
    sum_valid,
)
from wne_jax.statistics.blocks import Blocks


@dataclass(frozen=True)
class RootMeanSquare:
    """Zero, and sqrt(mean y^2): the statistic of *scale* equivariance, f(a y) = a f(y).

    It does not generate normalization equivariance, since an offset changes its scale.
    """

    name: ClassVar[str] = "root_mean_square"
    symmetry: ClassVar[Literal["scale"]] = "scale"

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """The root mean square of the valid entries."""
        y, axes, where = prepare(y, axes, where)
        count = jnp.maximum(count_valid(y, axes, where), 1)
        power = sum_valid(jnp.square(y), axes, where) / count
        return Statistics(jnp.zeros_like(power), sqrt_from_zero(power))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        """One pass."""
        return 0.0, by_blocks.root_mean_square(iter(blocks))


root_mean_square = RootMeanSquare()
