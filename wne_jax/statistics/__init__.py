r"""Location and scale: the two numbers per instance that normalization removes.

A pair of statistics $(\mu, s)$ generates the whole class of normalization-equivariant maps when

$$\mu(a y + b) = a\,\mu(y) + b, \qquad s(a y + b) = a\,s(y), \qquad s(y) = 0 \iff y \text{ constant}$$

for every $a > 0$ and real $b$ (Saied & Fleuret 2026 take the mean and the standard deviation; any such
pair will do). Here a pair is a function `pair(y, *, axes, where) -> Statistics`, and
`check_contract` tells whether one of your own qualifies.

Conventions of this module: `y` is `[B, ..., C]`, rank 2 or more. `axes` are pooled (default: all but
the batch) and remain as axes of size one. `where` is a boolean mask that broadcasts to `y`, True where an
entry is valid: masked entries, NaN included, influence nothing. Statistics are computed in
float32, or float64 for float64 input. Float32 data must keep its deviations from the mean within about
1e-18 to 1e18, where their squares neither vanish nor overflow.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.statistics.order import median

FLOOR = 0.02
"""Robust scales never fall below this share of the standard deviation (they are 0 on many images)."""

_NORMAL_MAD = 0.6744897501960817
"""Median absolute deviation of a standard normal variable."""


class Statistics(NamedTuple):
    """Location and scale of every instance, shaped to broadcast against it."""

    location: Array
    scale: Array


class Statistic(Protocol):
    """What a pair of statistics is: a function of an array, the pooled axes and a mask."""

    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """Return location and scale, with the pooled axes kept as axes of size one."""
        ...


def prepare(
    y: ArrayLike, axes: Sequence[int] | None, where: ArrayLike | None
) -> tuple[Array, tuple[int, ...], Array | None]:
    """Bring the arguments of a pair into one form, or refuse them.

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
        TypeError: Complex data, or a mask that is not boolean.
    """
    _refuse_inexact_integers(y)
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


def _refuse_inexact_integers(y: ArrayLike) -> None:
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
        return Statistics(self.mean, _sqrt(self.m2 / jnp.maximum(self.number, 1)))


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
    count = _count(y, axes, where)
    centred = y - pivot
    offset = _sum(centred, axes, where) / jnp.maximum(count, 1)
    m2 = _sum(jnp.square(centred - offset), axes, where)
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


def mean_std(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Mean and standard deviation: the pair of Saied & Fleuret (2026)."""
    return moments(y, axes=axes, where=where).statistics


def haar_mad(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Mean, and a robust estimate of the noise's standard deviation (see `estimate_sigma`).

    It brings the *noise*, not the contrast, to the same strength in every instance. The estimate is 0
    on many clean images, hence the floor of `FLOOR` times the standard deviation. Being a median, and of
    details that stop at the border, it commutes with translations nearly, not exactly (`high_pass` does).
    """
    y, axes, where = prepare(y, axes, where)
    return _floored(y, axes, where, _noise(y, axes, where))


def high_pass(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Mean, and the root mean square of a circular high-pass of unit noise gain.

    The filter is the second difference (-1, 2, -1) / sqrt(6) along each of the last two spatial axes. It
    annihilates constants, and as it is circular, the pair commutes exactly with translations. (On an axis of
    two pixels, whose neighbours coincide, its gain is larger.)
    """
    y, axes, where = prepare(y, axes, where)
    detail, valid = y, where
    detail_axes = _detail_axes(y, axes)
    if not detail_axes:
        return _floored(y, axes, where, 0 * _count(y, axes, where))
    for axis in detail_axes:
        detail = (2 * detail - jnp.roll(detail, 1, axis) - jnp.roll(detail, -1, axis)) / np.sqrt(
            6.0
        )
        if valid is not None:
            valid = valid & jnp.roll(valid, 1, axis) & jnp.roll(valid, -1, axis)
    count = jnp.maximum(_count(y, axes, valid), 1)
    return _floored(y, axes, where, _sqrt(_sum(jnp.square(detail), axes, valid) / count))


def median_mad(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Median, and median absolute deviation over 0.6745, with the floor of `haar_mad`."""
    y, axes, where = prepare(y, axes, where)
    centre = median(y, axes=axes, where=where)
    deviation = median(jnp.abs(y - centre), axes=axes, where=where) / _NORMAL_MAD
    return _floored(y, axes, where, deviation)._replace(location=centre)


def min_max(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Smallest entry, and largest minus smallest: normalized values fill [0, 1]."""
    y, axes, where = prepare(y, axes, where)
    low = jnp.min(y, axis=axes, keepdims=True, initial=jnp.inf, where=where)
    high = jnp.max(y, axis=axes, keepdims=True, initial=-jnp.inf, where=where)
    some = _count(y, axes, where) > 0
    return Statistics(jnp.where(some, low, 0), jnp.where(some, high - low, 0))


def root_mean_square(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """Zero, and sqrt(mean y^2): the pair of *scale* equivariance, f(a y) = a f(y).

    It is not a pair for normalization equivariance, since an offset changes its scale.
    """
    y, axes, where = prepare(y, axes, where)
    power = _sum(jnp.square(y), axes, where) / jnp.maximum(_count(y, axes, where), 1)
    return Statistics(jnp.zeros_like(power), _sqrt(power))


def fixed(stats: Statistics) -> Statistic:
    """The pair that returns statistics found elsewhere: of the whole image, for one of its tiles.

    Args:
        stats: Location and scale, broadcastable to what a pair returns.

    Example:
        >>> whole = mean_std(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
        >>> fixed(whole)(jnp.array([[1.0, 3.0]])) is whole
        True
    """

    def pair(
        y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        return stats

    return pair


def fixed_noise(sigma: ArrayLike) -> Statistic:
    r"""`haar_mad` for a noise level that is known: $f(a y + b, a \sigma) = a f(y, \sigma) + b$.

    Args:
        sigma: The standard deviation in units of the data, a scalar or `[B]`. The floor of `haar_mad`
            holds for it, too, and constants keep the scale 0.

    Raises:
        ValueError: The pair meets data of another number of instances.

    Example:
        >>> fixed_noise(0.5)(jnp.array([[1.0, 3.0]])).scale.item()
        0.5
    """

    def pair(
        y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        stats = mean_std(y, axes=axes, where=where)
        raw = jnp.asarray(sigma, stats.scale.dtype)
        if raw.size not in (1, stats.scale.shape[0]):
            raise ValueError(
                f"sigma must be a scalar or [B] = [{stats.scale.shape[0]}], not {raw.shape}"
            )
        return floored(stats, jnp.reshape(raw, (-1,) + (1,) * (stats.scale.ndim - 1)))

    return pair


STATISTICS: dict[str, Statistic] = {
    "mean_std": mean_std,
    "haar_mad": haar_mad,
    "high_pass": high_pass,
    "median_mad": median_mad,
    "min_max": min_max,
}
"""The pairs that generate normalization equivariance, by the names that configurations use."""


def estimate_sigma(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Array:
    r"""Estimate the standard deviation of white Gaussian noise in each instance.

    The median absolute value of the overlapping diagonal Haar detail
    $(y_{i,j} - y_{i+1,j} - y_{i,j+1} + y_{i+1,j+1}) / 2$, over 0.6745, on the last two spatial axes (on one
    axis where there is only one). Smooth regions and straight edges hardly show in it. Unlike the
    scale of `haar_mad` it has no floor: a clean image may have 0.

    Args:
        y: Real array `[B, ..., C]`, rank 3 or more.
        axes: Axes to pool, the spatial ones among them (default: all but the batch).
        where: Boolean mask, True where an entry is valid; a detail counts if all its entries do.

    Returns:
        The estimate in units of `y`, the pooled axes removed: `[B]` by default.

    References:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, section 4.2.
    """
    y, axes, where = prepare(y, axes, where)
    return jnp.squeeze(_noise(y, axes, where), axis=axes)


def check_contract(pair: Statistic, y: ArrayLike, *, axes: Sequence[int] | None = None) -> None:
    """Check that a pair of statistics generates normalization equivariance on examples.

    Checked are the shapes, that location and scale follow a y + b over several decades of a and b, that
    powers of two pass bit for bit, that the scale is positive on `y`, that a constant has exactly its value
    as location and exactly 0 as scale, with finite gradients, that an instance does not depend on its
    neighbours, and that masked entries influence nothing.

    Args:
        pair: The function to check, `pair(y, *, axes, where) -> Statistics`.
        y: Examples `[B, ..., C]`, none of them constant over `axes`.
        axes: Axes to pool (default: all but the batch).

    Raises:
        AssertionError: Naming the clause that fails, where, and by how much.

    Example:
        >>> y = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
        >>> check_contract(haar_mad, y)
        >>> check_contract(root_mean_square, y)
        Traceback (most recent call last):
          ...
        AssertionError: root_mean_square: location(a y + b) differs from a location(y) + b ...
    """
    y, axes, _ = prepare(y, axes, None)
    name = getattr(pair, "__name__", repr(pair))
    eps = float(jnp.finfo(y.dtype).eps)
    compute = jax.jit(lambda y: Statistics(*pair(y, axes=axes, where=None)))
    location, scale = compute(y)

    pooled = tuple(1 if axis in axes else size for axis, size in enumerate(y.shape))
    for part, value in (("location", location), ("scale", scale)):
        if value.ndim != y.ndim or any(m not in (1, n) for m, n in zip(value.shape, pooled)):
            raise AssertionError(f"{name}: {part} has shape {value.shape}, which must fit {pooled}")
    if not bool(jnp.all(scale > 0)):
        raise AssertionError(f"{name}: the scale of a non-constant array is {float(scale.min())}")

    largest = jnp.max(jnp.abs(y), axis=axes, keepdims=True)
    for a, b in ((1.0, 3.0), (0.01, 0.0), (0.01, -10.0), (7.0, 1.0), (1000.0, -300.0)):
        moved = compute(a * y + b)
        allowed = 64 * eps * (a * largest + abs(b))
        _compare(name, "location(a y + b)", "a location(y) + b", moved.location,
                 a * location + b, allowed, f"a = {a}, b = {b}")  # fmt: skip
        _compare(name, "scale(a y + b)", "a scale(y)", moved.scale,
                 a * scale, allowed, f"a = {a}, b = {b}")  # fmt: skip
    for a in (2.0**-20, 2.0**20):
        moved = compute(a * y)
        for part, actual, expected in zip(("location", "scale"), moved, (location, scale)):
            _compare(name, f"{part}(a y)", f"a {part}(y)", actual, a * expected, 0.0, f"a = {a}")
    for c in (0.0, 0.1, -7.3, 1e4):
        of_constant = compute(jnp.full_like(y, c))
        expected = jnp.asarray(c, y.dtype)
        _compare(name, "location(c)", "c", of_constant.location, expected, 0.0, f"c = {c}")
        _compare(name, "scale(c)", "0", of_constant.scale, 0 * expected, 0.0, f"c = {c}")
    _check_independence(name, pair, y, axes)


def _check_independence(name: str, pair: Statistic, y: Array, axes: tuple[int, ...]) -> None:
    """The clauses of the contract on neighbours, masks and gradients."""
    compute = jax.jit(lambda y, where: Statistics(*pair(y, axes=axes, where=where)))
    everything = jnp.ones(y.shape, bool)
    two = jnp.concatenate([y[:1], y[:1]])
    with_another = jnp.concatenate([y[:1], 3 * y[:1] + 7])
    masks = jnp.concatenate([everything[:1], everything[:1]])
    some = everything.at[(0, *(size // 2 for size in y.shape[1:]))].set(False)
    place = "the first instance"
    for what, first, second in (
        ("with another neighbour", compute(two, masks), compute(with_another, masks)),
        ("with a masked entry changed", compute(y, some), compute(jnp.where(some, y, 99.0), some)),
    ):
        for part, actual, expected in zip(("location", "scale"), first, second):
            _compare(name, f"{part}(y)", f"{part}(y) {what}", actual[0], expected[0], 0.0, place)
    gradient = jax.grad(lambda y: sum(jnp.sum(p) for p in compute(y, everything)))(0 * y + 0.3)
    if not bool(jnp.all(jnp.isfinite(gradient))):
        raise AssertionError(f"{name}: the gradient on a constant is not finite")


def _compare(name, left, right, actual, expected, allowed, setting) -> None:
    """Raise where `actual` leaves `expected` by more than `allowed`, NaN included."""
    difference = jnp.abs(actual - expected)
    if not bool(jnp.all(difference <= allowed)):
        worst = float(jnp.max(difference))
        raise AssertionError(f"{name}: {left} differs from {right} by {worst:.3g} at {setting}")


def _any_entry(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """Some valid entry of every instance: the first, or under a mask the smallest; 0 if none is."""
    if where is None:
        for axis in axes:
            y = lax.slice_in_dim(y, 0, 1, axis=axis)
        return y
    smallest = jnp.min(y, axis=axes, keepdims=True, initial=jnp.inf, where=where)
    return jnp.where(jnp.any(where, axis=axes, keepdims=True), smallest, 0)


def _sum(x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The sum of the valid entries, axes kept."""
    return jnp.sum(x, axis=axes, keepdims=True, where=where)


def _count(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The number of valid entries, axes kept, in the dtype of `y`."""
    if where is not None:
        return jnp.sum(where, axis=axes, keepdims=True, dtype=y.dtype)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(y.shape))
    sizes = [jnp.asarray(y.shape[axis], y.dtype) for axis in axes]  # symbolic ones, in jax.export
    return jnp.full(shape, math.prod(sizes, start=jnp.ones((), y.dtype)), y.dtype)


def _sqrt(x: Array) -> Array:
    """The square root with gradient 0 at 0 (guarded inside: a guard outside leaves NaN)."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def floored(mean_and_std: Statistics, raw: Array) -> Statistics:
    """The mean, and `raw` but at least `FLOOR` standard deviations: zero on constants alone.

    Args:
        mean_and_std: What `mean_std` gives.
        raw: A scale, of the shape of the standard deviation or a scalar.
    """
    mean, std = mean_and_std
    return Statistics(mean, jnp.where(std > 0, jnp.maximum(raw, FLOOR * std), 0))


def _floored(y: Array, axes: tuple[int, ...], where: Array | None, raw: Array) -> Statistics:
    """`floored` by the mean and standard deviation of `y`."""
    return floored(mean_std(y, axes=axes, where=where), raw)


def _detail_axes(y: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The last two spatial axes (those between batch and channels), less those of size one."""
    if y.ndim < 3:
        raise ValueError(
            f"these statistics look at spatial detail and need [B, ..., C] of rank 3 or more, not {y.shape}"
        )
    spatial = tuple(range(1, y.ndim - 1))[-2:]
    if not set(spatial) <= set(axes):
        raise ValueError(f"these statistics pool over the spatial axes {spatial}; axes are {axes}")
    return tuple(axis for axis in spatial if y.shape[axis] > 1)


def _noise(y: Array, axes: tuple[int, ...], where: Array | None) -> Array:
    """The raw noise estimate of `estimate_sigma`, axes kept; 0 where an instance has no detail."""
    detail, valid = y, where
    detail_axes = _detail_axes(y, axes)
    if not detail_axes:
        return 0 * _count(y, axes, where)
    for axis in detail_axes:
        size = y.shape[axis]
        detail = lax.slice_in_dim(detail, 1, size, axis=axis) - lax.slice_in_dim(
            detail, 0, size - 1, axis=axis
        )
        if valid is not None:
            valid = lax.slice_in_dim(valid, 1, size, axis=axis) & lax.slice_in_dim(
                valid, 0, size - 1, axis=axis
            )
    gain = np.sqrt(2.0) ** len(detail_axes)
    return median(jnp.abs(detail), axes=axes, where=valid) / (gain * _NORMAL_MAD)
