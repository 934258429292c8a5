"""Statistics that are known already: of a whole image, for its tiles, and of noise that was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistic, Statistics, has_unit_noise, symmetry_of
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.mean_std import floored, floored_over_blocks, mean_std


def fixed(stats: Statistics, *, like: Statistic = mean_std) -> Statistic:
    """The statistic that returns what was found elsewhere: for the whole image, say, of one of its tiles.

    Args:
        stats: Location and scale, broadcastable to what a statistic returns.
        like: The statistic that found them; the result declares what it does.

    Example:
        >>> whole = mean_std(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
        >>> fixed(whole)(jnp.array([[1.0, 3.0]])) is whole
        True
    """
    return _Fixed(stats, has_unit_noise(like), symmetry_of(like))


def fixed_noise(sigma: ArrayLike) -> Statistic:
    r"""The mean, and a noise level that is known: $f(a y + b, a \sigma) = a f(y, \sigma) + b$.

    Args:
        sigma: The standard deviation in units of the data, a scalar or `[B]`. The floor of the robust scales
            holds for it, too, and constants keep the scale 0.

    Raises:
        ValueError: The statistic meets data of another number of instances.

    Example:
        >>> fixed_noise(0.5)(jnp.array([[1.0, 3.0]])).scale.item()
        0.5
    """
    return _FixedNoise(sigma)


@dataclass(frozen=True, eq=False)
class _Fixed:
    """See `fixed`."""

    stats: Statistics
    unit_noise: bool
    symmetry: str
    name: ClassVar[str] = "fixed"

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        return self.stats

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        location, scale = self.stats
        return location.item(), scale.item()


@dataclass(frozen=True, eq=False)
class _FixedNoise:
    """See `fixed_noise`."""

    sigma: ArrayLike
    name: ClassVar[str] = "fixed_noise"
    unit_noise: ClassVar[bool] = True

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        stats = mean_std(y, axes=axes, where=where)
        return floored(stats, self._raw(stats.scale))

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        return floored_over_blocks(blocks, float(jnp.reshape(jnp.asarray(self.sigma), ())))

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """Another level in place of this one."""
        return _FixedNoise(sigma)

    def _raw(self, like: Array) -> Array:
        """The levels, `[B, 1, ...]` or one for all, in the dtype of the standard deviations."""
        raw = jnp.asarray(self.sigma, like.dtype)
        if raw.size not in (1, like.shape[0]):
            raise ValueError(f"sigma must be a scalar or [B] = [{like.shape[0]}], not {raw.shape}")
        return jnp.reshape(raw, (-1,) + (1,) * (like.ndim - 1))
