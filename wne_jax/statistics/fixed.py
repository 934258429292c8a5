"""Statistics that are known already: of a whole image, for its tiles, and of noise that was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistic, Statistics, has_unit_noise, prepare, symmetry_of
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.gain import of_line
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


def fixed_noise(
    sigma: ArrayLike | None = None,
    *,
    alpha: ArrayLike | None = None,
    beta: ArrayLike | None = None,
) -> Statistic:
    r"""The mean, and noise that is known: one level, or the line of a calibrated camera.

    With a level, $f(a y + b, a \sigma) = a f(y, \sigma) + b$. With a line, whose variance at the intensity x
    is $\alpha x + \beta$, the line of a y + b has slope $a \alpha$ and intercept $a^2 \beta - a b \alpha$;
    see `wne_jax.statistics.gain`.

    Args:
        sigma: The standard deviation in units of the data, a scalar or `[B]`, 0 or more. It is never
            overridden: only constants have the scale 0. Where it is 0 there is nothing to remove: the
            location is the image itself, and any f returns it.
        alpha: In place of sigma, the slope of the variance over intensity, a scalar or `[B]`, positive.
        beta: The variance at intensity 0, likewise, of any sign; the line counts as 0 where it is negative.

    Raises:
        ValueError: Not one of the two forms; a negative level, an alpha that is not positive, NaN or infinity
            (outside of traced code); or the statistic meets data of another number of instances.

    Example:
        >>> fixed_noise(0.5)(jnp.array([[1.0, 3.0]])).scale.item()
        0.5
        >>> of_camera = fixed_noise(alpha=2.0, beta=4.5)(jnp.array([[1.0, 3.0]]))
        >>> of_camera.gain.item(), round(of_camera.scale.item() ** 2, 4)
        (2.0, 10.0)
    """
    if (sigma is None) == (alpha is None) or (alpha is None) != (beta is None):
        raise ValueError("give sigma, or alpha and beta")
    if alpha is not None and beta is not None:
        if not _known(alpha, lambda a: (a > 0) & (a < np.inf)) or not _known(beta, np.isfinite):
            raise ValueError(f"alpha must be positive, and beta finite, not {alpha} and {beta}")
        return _FixedLine(alpha, beta)
    assert sigma is not None
    if not _known(sigma, lambda s: (s >= 0) & (s < np.inf)):
        raise ValueError(f"sigma must be finite and not negative, not {sigma}")
    return _FixedNoise(sigma)


def _known(value: Any, fits: Callable[[np.ndarray], Any]) -> bool:
    """Whether all of a value fits; traced ones count."""
    return isinstance(value, jax.core.Tracer) or bool(np.all(fits(np.asarray(value))))


@dataclass(frozen=True, eq=False)
class _Fixed:
    """See `fixed`."""

    stats: Statistics
    unit_noise: bool
    symmetry: str
    name: ClassVar[str] = "fixed"

    @property
    def has_gain(self) -> bool:
        """Whether what was found has one."""
        return self.stats.gain is not None

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        return self.stats

    def over_blocks(self, blocks: Blocks) -> tuple[float, ...]:
        return tuple(part.item() for part in jax.tree.leaves(self.stats))


@dataclass(frozen=True, eq=False)
class _FixedNoise:
    """See `fixed_noise`."""

    sigma: ArrayLike
    name: ClassVar[str] = "fixed_noise"
    unit_noise: ClassVar[bool] = True

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        mean, std, _ = mean_std(y, axes=axes, where=where)
        level = _of_instances(self.sigma, std, "sigma")
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


@dataclass(frozen=True, eq=False)
class _FixedLine:
    """See `fixed_noise`."""

    alpha: ArrayLike
    beta: ArrayLike
    name: ClassVar[str] = "fixed_noise"
    unit_noise: ClassVar[bool] = True
    has_gain: ClassVar[bool] = True

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        mean, std, _ = mean_std(y, axes=axes, where=where)
        alpha = _of_instances(self.alpha, std, "alpha")
        variance = jnp.maximum(alpha * mean + _of_instances(self.beta, std, "beta"), 0)
        return of_line(mean, std, variance, jnp.broadcast_to(alpha, std.shape))

    def over_blocks(self, blocks: Blocks) -> tuple[float, ...]:
        mean, std = mean_std.over_blocks(blocks)
        alpha, beta = (float(np.reshape(np.asarray(part), ())) for part in (self.alpha, self.beta))
        scale = np.sqrt(max(alpha * mean + beta, 0.0) + 0.375 * alpha**2)
        return (mean, float(scale), alpha) if std > 0 else (mean, 0.0, 0.0)


def _of_instances(known: ArrayLike, like: Array, name: str) -> Array:
    """What is known, `[B, 1, ...]` or one for all, in the dtype of the standard deviations."""
    known = jnp.asarray(known, like.dtype)
    if known.size not in (1, like.shape[0]):
        raise ValueError(f"{name} must be a scalar or [B] = [{like.shape[0]}], not {known.shape}")
    return jnp.reshape(known, (-1,) + (1,) * (like.ndim - 1))
