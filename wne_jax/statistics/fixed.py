"""Statistics that are known already: of a whole image, for its tiles, and of noise that was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistic, Statistics, has_unit_noise, prepare, symmetry_of
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.mean_std import mean_std


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
        sigma: The standard deviation in units of the data, a scalar or `[B]`, 0 or more. It is never
            overridden: only constants have the scale 0. Where it is 0 there is nothing to remove: the
            location is the image itself, and any f returns it.

    Raises:
        ValueError: A negative level, NaN or infinity (outside of traced code); or the statistic meets data
            of another number of instances.

    Example:
        >>> fixed_noise(0.5)(jnp.array([[1.0, 3.0]])).scale.item()
        0.5
    """
    if not isinstance(sigma, jax.core.Tracer) and not np.all(_is_level(np.asarray(sigma))):
        raise ValueError(f"sigma must be finite and not negative, not {sigma}")
    return _FixedNoise(sigma)


def _is_level(sigma: np.ndarray) -> np.ndarray:
    return (sigma >= 0) & (sigma < np.inf)


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
        mean, std = mean_std(y, axes=axes, where=where)
        level = self._level(std)
        scale = jnp.where(std > 0, level, 0)
        if not isinstance(self.sigma, jax.core.Tracer) and np.all(np.asarray(self.sigma) > 0):
            return Statistics(mean, scale)
        return Statistics(jnp.where(level == 0, prepare(y, axes, where)[0], mean), scale)

    def over_blocks(self, blocks: Blocks) -> tuple[float, float]:
        sigma = float(np.reshape(np.asarray(self.sigma), ()))
        if sigma == 0:
            raise ValueError("sigma is 0: the image itself is the estimate, and no block is needed")
        mean, std = mean_std.over_blocks(blocks)
        return mean, sigma if std > 0 else 0.0

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """Another level in place of this one."""
        return fixed_noise(sigma)

    def _level(self, like: Array) -> Array:
        """The levels, `[B, 1, ...]` or one for all, in the dtype of the standard deviations."""
        level = jnp.asarray(self.sigma, like.dtype)
        if level.size not in (1, like.shape[0]):
            raise ValueError(
                f"sigma must be a scalar or [B] = [{like.shape[0]}], not {level.shape}"
            )
        return jnp.reshape(level, (-1,) + (1,) * (like.ndim - 1))
