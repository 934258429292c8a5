r"""What every statistic is made of: the value, the protocol, and moments that merge.

A statistic $(\mu, s)$ generates the whole class of normalization-equivariant maps when

$$\mu(a y + b) = a\,\mu(y) + b, \qquad s(a y + b) = a\,s(y), \qquad s(y) = 0 \iff y \text{ constant}$$

for every $a > 0$ and real $b$.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32

P = ParamSpec("P")
R = TypeVar("R")

NORMAL_MAD = 0.6744897501960817
"""Median absolute deviation of a standard normal variable."""


class Statistics(NamedTuple):
    """Location and scale of every instance, shaped to broadcast against it, and the gain, if there is one.

    Attributes:
        location: m, with m(a y + b) = a m(y) + b.
        scale: s, with s(a y + b) = a s(y), 0 on constants alone.
        gain: g >= 0, with g(a y + b) = a g(y), for noise that grows with intensity; see
            `wne_jax.statistics.gain`. It is 0 where the scale is 0. None, which is known without looking at
            numbers, leaves the coordinates linear.
    """

    location: Array
    scale: Array
    gain: Array | None = None


class Statistic(Protocol):
    """A function of an array, the pooled axes and a mask, which returns location and scale.

    Any function with this signature is a statistic. An object may declare more, and nothing requires it to:

    - `over_blocks(blocks)`: the same numbers, location, scale and the gain if any, for an image that is read
      block by block; see `wne_jax.statistics.blocks.Blocks`. Without it an image is read as a whole, and a
      note says so.
    - `unit_noise`: whether the scale is the standard deviation of the noise, so that the noise of a
      normalized image has variance 1.
    - `with_noise(sigma) -> Statistic`: the statistic whose scale is a known noise level in place of an
      estimate.
    - `has_gain`: whether it returns a gain beside location and scale.
    - `symmetry`: "normalization", or "scale" for a statistic that follows a y alone.

    The functions `has_unit_noise`, `has_gain`, `takes_noise` and `symmetry_of` read these with their
    defaults.
    """

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """Return location and scale, with the pooled axes kept as axes of size one."""
        ...


def has_unit_noise(statistic: Statistic) -> bool:
    """Whether noise has variance 1 behind a statistic: what a Wiener gain relies on."""
    return bool(getattr(statistic, "unit_noise", False))


def has_gain(statistic: Statistic) -> bool:
    """Whether a statistic returns a gain, so that its coordinates are curved."""
    return bool(getattr(statistic, "has_gain", False))


def takes_noise(statistic: Statistic) -> bool:
    """Whether a known noise level can take the place of a statistic's estimate, by `with_noise(sigma)`."""
    return hasattr(statistic, "with_noise")


def symmetry_of(statistic: Statistic) -> Literal["normalization", "scale"]:
    """What a wrapper around this statistic is equivariant to: a y + b, or a y alone."""
    return getattr(statistic, "symmetry", "normalization")


def name_of(statistic: Any) -> str:
    """What messages call a statistic."""
    return str(getattr(statistic, "name", None) or getattr(statistic, "__name__", repr(statistic)))


def require_statistic(statistic: Any) -> None:
    """Reject anything but a statistic, for example a name.

    Raises:
        TypeError: The statistic is not callable.
    """
    if not callable(statistic):
        raise TypeError(
            f"statistics must be a function such as wne_jax.statistics.mean_std, not {statistic!r}: "
            "for a name, use wne_jax.statistics.STATISTICS[name]"
        )


def require_value(found: Any) -> Statistics:
    """Reject anything but the value of a statistic, for example a plain tuple.

    Raises:
        TypeError: It is not `Statistics`.
    """
    if not isinstance(found, Statistics):
        raise TypeError(
            f"a statistic returns Statistics(location, scale), not {type(found).__name__}"
        )
    return found


def prepare(
    y: ArrayLike, axes: Sequence[int] | None, where: ArrayLike | None
) -> tuple[Array, tuple[int, ...], Array | None]:
    """Bring the arguments of a statistic into one form, and reject invalid ones.

    Args:
        y: Real array `[B, ..., C]`; integers are cast to float32, never rescaled.
        axes: Axes to pool, or None for all but the first.
        where: Mask of valid entries that broadcasts to `y`, or None.

    Returns:
        `y` in floating point with masked entries set to 0, non-negative sorted axes, and the mask at
        full shape (or None).

    Raises:
        ValueError: Rank below 2, no entries, axes that are absent, repeated or the batch axis, a mask
            that does not broadcast, or (in eager code) integers beyond 2^24, which float32 cannot hold.
        TypeError: Complex data, several arrays, axes by letters, or a mask that is not boolean.
    """
    if not hasattr(y, "shape") and any(getattr(leaf, "ndim", 0) for leaf in jax.tree.leaves(y)):
        raise TypeError(
            f"y must be one array [B, ..., C], not a {type(y).__name__} of arrays: stack instances, and name "
            'further inputs, with_y=("guide",)'
        )
    if isinstance(axes, str):
        raise TypeError(f"axes must be numbers such as (1, 2), not {axes!r}")
    _reject_inexact_integers(y)
    y = jnp.asarray(y)
    if y.ndim < 2:
        raise ValueError(f"y must be [B, ..., C], of rank 2 or more; its shape is {y.shape}")
    if y.size == 0:
        raise ValueError(f"y has no entries: its shape is {y.shape}")
    if jnp.issubdtype(y.dtype, jnp.complexfloating):
        raise TypeError(f"y must be real, not {y.dtype}: normalize real and imaginary parts apart")
    y = y.astype(at_least_float32(y.dtype))

    wanted = range(1, y.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    if not all(-y.ndim <= axis < y.ndim for axis in wanted):
        raise ValueError(f"axes {tuple(wanted)} do not all exist in an array of rank {y.ndim}")
    resolved = tuple(sorted(axis % y.ndim for axis in wanted))
    if not resolved or len(set(resolved)) < len(resolved):
        raise ValueError(f"axes must name at least one axis, each once; got {tuple(wanted)}")
    if resolved[0] == 0:
        raise ValueError(
            f"axes {tuple(wanted)} pool the batch axis 0, which would make an instance depend on its "
            "neighbours; add a leading axis (y[None]) to pool the whole array as one instance"
        )
    if where is None:
        return y, resolved, None

    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"where must be boolean (True where valid), not {where.dtype}")
    if where.ndim != y.ndim or any(m not in (1, n) for m, n in zip(where.shape, y.shape)):
        raise ValueError(
            f"where must have the rank of y and sizes 1 or y's: {where.shape} against {y.shape}"
        )
    where = jnp.broadcast_to(where, y.shape)
    return jnp.where(where, y, 0), resolved, where


def compiled(call: Callable[P, R]) -> Callable[P, R]:
    """A function of y, axes and where, such as a statistic's `__call__`, compiled once for every shape.

    Operation by operation, the loops inside would be compiled anew by every call. The arguments are prepared
    before, since some checks read values. In a compiled function it is part of that one.
    """
    signature = inspect.signature(call)

    @functools.partial(jax.jit, static_argnums=(0, 2), inline=True)
    def run(owner: tuple[Any, ...], y: Array, axes: tuple[int, ...], where: Array | None) -> Any:
        function: Any = call
        return function(*owner, y, axes=axes, where=where)

    @functools.wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        owner = (given["self"],) if "self" in given else ()
        return run(owner, *prepare(given["y"], given.get("axes"), given.get("where")))

    return checked


def _reject_inexact_integers(y: ArrayLike) -> None:
    """Integers beyond 2^24 would lose digits in float32, or wrap on their way to the device."""
    dtype = jnp.result_type(y) if isinstance(y, Array) else np.asarray(y).dtype
    if isinstance(y, jax.core.Tracer) or dtype.kind not in "iu" or dtype.itemsize <= 2:
        return
    host = np.asarray(y)
    if host.size and max(int(host.max()), -int(host.min())) > 2**24:
        raise ValueError(
            f"y holds integers beyond 2^24 ({host.dtype}), which float32 cannot hold exactly: subtract an "
            "offset first, or let a Denoiser do it"
        )


class Moments(NamedTuple):
    """Number of entries, mean, and sum of squared deviations: they merge exactly."""

    number: Array
    mean: Array
    m2: Array

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation (dividing by the count, not the count minus one)."""
        return Statistics(self.mean, sqrt_from_zero(self.m2 / jnp.maximum(self.number, 1)))


def moments(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Moments:
    r"""Moments in two passes around a pivot $p$, one of the entries.

    $\mu = p + \operatorname{mean}(y - p)$, and the squares are of $(y - p) - \operatorname{mean}(y - p)$.
    Around a pivot, a constant array has exactly its own value as mean and exactly 0 as deviation,
    whatever its size; without one both are off by rounding.

    Args:
        y: Real array `[B, ..., C]`.
        axes: Axes to pool (default: all but the batch).
        where: Boolean mask, True where an entry is valid.

    Returns:
        Moments with the pooled axes kept; number, mean and m2 are 0 where nothing is valid.
    """
    y, axes, where = prepare(y, axes, where)
    pivot = lax.stop_gradient(_any_entry(y, axes, where))
    count = count_valid(y, axes, where)
    centred = y - pivot
    offset = sum_valid(centred, axes, where) / jnp.maximum(count, 1)
    m2 = sum_valid(jnp.square(centred - offset), axes, where)
    return Moments(count, pivot + offset, m2)


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of two parts together (tiles of an image, shards of a batch, chunks of a stream).

    Exact in exact arithmetic, and stable in floating point; two constant parts of one value merge to
    that value and to zero deviation.

    Args:
        first: Moments of one part.
        second: Moments of the other, of a broadcastable shape.

    Returns:
        The moments of both.

    References:
        Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979.

    Example:
        >>> y = jnp.arange(12.0).reshape(1, 12)
        >>> parts = merge(moments(y[:, :5]), moments(y[:, 5:]))
        >>> [float(m[0, 0]) for m in parts] == [12.0, 5.5, 143.0]
        True
    """
    number = first.number + second.number
    share = second.number / jnp.maximum(number, 1)
    delta = second.mean - first.mean
    return Moments(
        number,
        jnp.where(first.number > 0, first.mean + delta * share, second.mean),
        first.m2 + second.m2 + jnp.square(delta) * first.number * share,
    )


def _any_entry(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """Some valid entry of every instance: the first, or under a mask the smallest; 0 if none is."""
    if where is None:
        for axis in axes:
            y = lax.slice_in_dim(y, 0, 1, axis=axis)
        return y
    smallest = jnp.min(y, axis=axes, keepdims=True, initial=jnp.inf, where=where)
    return jnp.where(jnp.any(where, axis=axes, keepdims=True), smallest, 0)


def sum_valid(x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The sum of the valid entries, axes kept."""
    return jnp.sum(x, axis=axes, keepdims=True, where=where)


def count_valid(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The number of valid entries, axes kept, in the dtype of `y`."""
    if where is not None:
        return jnp.sum(where, axis=axes, keepdims=True, dtype=y.dtype)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(y.shape))
    sizes = [jnp.asarray(y.shape[axis], y.dtype) for axis in axes]  # symbolic ones, in jax.export
    return jnp.full(shape, math.prod(sizes, start=jnp.ones((), y.dtype)), y.dtype)


def sqrt_from_zero(x: Array) -> Array:
    """The square root with gradient 0 at 0 (guarded inside: a guard outside leaves NaN)."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def detail_axes(y: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The last two spatial axes (those between batch and channels), less those of size one."""
    if y.ndim < 3:
        raise ValueError(
            f"these statistics look at spatial detail and need [B, ..., C] of rank 3 or more, not {y.shape}"
        )
    spatial = tuple(range(1, y.ndim - 1))[-2:]
    if not set(spatial) <= set(axes):
        raise ValueError(f"these statistics pool over the spatial axes {spatial}; axes are {axes}")
    return tuple(axis for axis in spatial if y.shape[axis] > 1)
