r"""Does a map commute with an action: f(T y) = T f(y)?

`defect` measures it, `assert_equivariant` decides it to within a model of rounding, and the identities of the
Jacobian of a normalization-equivariant map, $f(y) = J(y)\,y$ and $J(y)\,\mathbf 1 = \mathbf 1$, tell the
same without a second point. All take a plain function of arrays `[B, ..., C]`.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.statistics import mean_std
from wne_jax.symmetry.actions import Action, Affine, Scale

Map = Callable[[Array], Array]

ROUNDING_CONSTANT = 32.0
"""The factor C of the rounding model: how many roundings may add up along the way."""


def relative_l2(actual: Array, expected: Array, *, tau: float = 1e-6) -> Array:
    """‖actual - expected‖ / (‖expected‖ + tau), one value an instance `[B]`."""
    axes = tuple(range(1, expected.ndim))
    norm = jnp.sqrt(jnp.sum(jnp.square(expected), axis=axes))
    return jnp.sqrt(jnp.sum(jnp.square(actual - expected), axis=axes)) / (norm + tau)


def cosine_error(actual: Array, expected: Array) -> Array:
    """1 - cosine similarity over channels, the mean over all places, one value an instance `[B]`.

    Computed as half the squared distance of the unit vectors, which keeps its digits where 1 - cosine
    cancels. Two zero vectors agree; a zero and a non-zero one differ by 1/2.

    References:
        Scanvic, Barthélemy & Tachella 2025, section 4 (the measure of their tables).
    """

    def unit(x: Array) -> Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
        return x / jnp.where(norm > 0, norm, 1)

    distance = jnp.sum(jnp.square(unit(actual) - unit(expected)), axis=-1) / 2
    return jnp.mean(distance, axis=tuple(range(1, distance.ndim)))


def largest_difference(actual: Array, expected: Array) -> Array:
    """The largest absolute difference, one value an instance `[B]`."""
    return jnp.max(jnp.abs(actual - expected), axis=tuple(range(1, expected.ndim)))


METRICS = {"relative_l2": relative_l2, "cosine": cosine_error, "max": largest_difference}


def defect(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    metric: Literal["relative_l2", "cosine", "max"]
    | Callable[[Array, Array], Array] = "relative_l2",
) -> Array:
    """By how much f(T y) misses T f(y).

    Args:
        f: A map that keeps the batch axis.
        action: The transformation T.
        y: Array `[B, ..., C]`.
        metric: "relative_l2" (the epsilon_NE of Saied & Fleuret 2026 for one draw of a, b), "cosine" (Scanvic
            et al. 2025), "max", or a function `(actual, expected) -> [B]`.

    Returns:
        One value an instance, `[B]`.

    Raises:
        ValueError: An unknown metric.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> float(defect(jnp.abs, Affine(1.0, -1.0), y, metric="max")[0])
        2.0
    """
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)} or a function, not {metric!r}")
    measure = metric if callable(metric) else METRICS[metric]
    y = _floating(y)
    return measure(f(action(y)), action(f(y)))


def normalization_defect(f: Map, y: ArrayLike, key: Array, *, samples: int = 8) -> Array:
    r"""The normalization-equivariance defect $\varepsilon_{NE}$ of Saied & Fleuret (2026).

    The mean of the relative L2 defect over `samples` draws of $a \sim U(0.5, 1.5)$, $b \sim U(-0.25, 0.25)$,
    drawn anew for every instance.

    Args:
        f: A map of arrays `[B, ..., C]`.
        y: Array in unit range.
        key: Random key.
        samples: Draws for each instance.

    Returns:
        One value an instance, `[B]`.
    """
    y = _floating(y)
    key_a, key_b = jax.random.split(key)
    shape = (samples, y.shape[0])
    a = jax.random.uniform(key_a, shape, y.dtype, minval=0.5, maxval=1.5)
    b = jax.random.uniform(key_b, shape, y.dtype, minval=-0.25, maxval=0.25)
    value = f(y)
    draws = [Affine(*ab) for ab in zip(a, b)]
    return jnp.stack([relative_l2(f(draw(y)), draw(value)) for draw in draws]).mean(axis=0)


def rounding_tolerance(
    action: Action, y: ArrayLike, *, gain: float = 1.0, compute_dtype: DTypeLike = jnp.float32
) -> Array:
    r"""How far f(T y) and T f(y) may lie apart by rounding alone, in the units of T y.

    $$a\,s \cdot C \cdot \text{gain} \cdot \left[\epsilon \left(1 + \frac{\max |y|}{s}
    + \frac{|b|}{a s}\right) + \epsilon_{\text{compute}}\right]$$

    with $s$ the standard deviation of the instance, $\epsilon$ the rounding unit of float32 (of float64 where
    `y` is that), and $\epsilon_{\text{compute}}$ that of the backbone's arithmetic
    where it is coarser. The bracket is the error that rounding a y + b brings into normalized coordinates.

    Args:
        action: The transformation T.
        y: Array `[B, ..., C]`.
        gain: How much the map amplifies small errors in normalized coordinates (its Lipschitz constant).
        compute_dtype: What the backbone computes in; for TF32 give float16, whose precision it has.

    Returns:
        `[B, 1, ..., 1]`, absolute.
    """
    y = _floating(y)
    a, b = (
        jnp.reshape(jnp.asarray(part, y.dtype), (-1,) + (1,) * (y.ndim - 1))
        for part in action.contrast_and_brightness()
    )
    s = mean_std(y).scale
    largest = jnp.max(jnp.abs(y), axis=tuple(range(1, y.ndim)), keepdims=True)
    eps = float(jnp.finfo(y.dtype).eps)
    eps_compute = float(jnp.finfo(compute_dtype).eps)
    coarse = eps_compute if eps_compute > eps else 0.0
    return ROUNDING_CONSTANT * gain * (eps * (a * s + a * largest + jnp.abs(b)) + coarse * a * s)


def assert_equivariant(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> None:
    """Assert f(T y) = T f(y) to within `rounding_tolerance`.

    Args:
        f: A map that keeps the batch axis.
        action: The transformation T.
        y: Array `[B, ..., C]`.
        gain: How much the map amplifies small errors; see `rounding_tolerance`.
        compute_dtype: What the backbone computes in; see `rounding_tolerance`.

    Raises:
        AssertionError: Naming the action, the largest violation, where it is, and what was allowed.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> assert_equivariant(lambda y: y / 2, Scale(3.0), y)
        >>> assert_equivariant(jnp.square, Scale(3.0), y)
        Traceback (most recent call last):
          ...
        AssertionError: ...square is not equivariant to Affine(a=3.0, b=0.0): ... at (0, 2), ...
    """
    y = _floating(y)
    actual, expected = f(action(y)), action(f(y))
    chex.assert_equal_shape((actual, expected))
    tolerance = rounding_tolerance(action, y, gain=gain, compute_dtype=compute_dtype)
    difference = np.asarray(jnp.abs(actual - expected), np.float64)
    allowed = np.broadcast_to(np.asarray(tolerance, np.float64), difference.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(difference == 0, 0.0, np.nan_to_num(difference / allowed, nan=np.inf))
    place = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    name = getattr(f, "__name__", type(f).__name__)
    action = jax.tree.map(lambda p: float(np.ravel(p)[place[0] if np.size(p) > 1 else 0]), action)
    chex.assert_scalar_in(
        float(excess[place]),
        0.0,
        1.0,
        custom_message=(
            f"{name} is not equivariant to {action}: f(T y) = {float(actual[place]):.6g} but "
            f"T f(y) = {float(expected[place]):.6g} at {place}, a difference of "
            f"{difference[place]:.3g} where rounding allows {allowed[place]:.3g}"
        ),
        include_default_message=False,
    )


def assert_normalization_equivariant(
    f: Map,
    y: ArrayLike,
    key: Array,
    *,
    samples: int = 8,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> None:
    """Assert f(a y + b) = a f(y) + b for contrasts and offsets drawn over several decades.

    Every draw has its own a and b for each instance: a log-uniform in [1e-3, 1e3], and b of either sign with
    a log-uniform size in [1e-2, 10] standard deviations of the instance times a.

    Args:
        f: A map of arrays `[B, ..., C]`.
        y: Array.
        key: Random key.
        samples: Draws.
        gain: See `rounding_tolerance`.
        compute_dtype: See `rounding_tolerance`.

    Raises:
        AssertionError: As `assert_equivariant`.
    """
    y = _floating(y)
    shape = (samples, y.shape[0])
    key_a, key_b, key_sign = jax.random.split(key, 3)
    a = 10 ** jax.random.uniform(key_a, shape, y.dtype, minval=-3, maxval=3)
    size = 10 ** jax.random.uniform(key_b, shape, y.dtype, minval=-2, maxval=1)
    sign = jax.random.rademacher(key_sign, shape, y.dtype)
    b = sign * size * a * mean_std(y).scale.reshape(1, -1)
    for draw in zip(a, b):
        assert_equivariant(f, Affine(*draw), y, gain=gain, compute_dtype=compute_dtype)


def assert_exact_under_powers_of_two(
    f: Map, y: ArrayLike, *, exponents: Iterable[int] = range(-20, 21)
) -> None:
    """Assert f(2^k y) = 2^k f(y), bit for bit.

    The promise holds for one executable and one shape: `f` is compiled once here.

    Args:
        f: A map of arrays.
        y: Array whose values leave room for the exponents.
        exponents: The k to try.

    Raises:
        AssertionError: Naming the first k that fails.
    """
    y = _floating(y)
    compiled = jax.jit(f)
    reference = compiled(y)
    for k in exponents:
        scale = Scale(2.0**k)
        chex.assert_trees_all_equal(
            compiled(scale(y)), scale(reference), custom_message=f"f(2^{k} y) is not 2^{k} f(y)"
        )


def euler_residual(f: Map, y: ArrayLike) -> Array:
    r"""$f(y) - J(y)\,y$, zero for a scale-equivariant map (Euler's identity), by one JVP.

    Args:
        f: A differentiable map.
        y: Array `[B, ..., C]`, in floating point.

    Returns:
        The residual, of the shape of f(y). Its norm over that of f(y) is the rho of Saied & Fleuret (2026).
    """
    y = _floating(y)
    value, along = jax.jvp(f, (y,), (y,))
    return value - along


def row_sums(f: Map, y: ArrayLike) -> Array:
    r"""$J(y)\,\mathbf 1$, one for a normalization-equivariant map, by one JVP.

    The rows of the Jacobian are the adaptive filters that f applies at `y`; this is the sum of each.

    Args:
        f: A differentiable map.
        y: Array `[B, ..., C]`, in floating point.

    Returns:
        The sums, of the shape of f(y).
    """
    y = _floating(y)
    return jax.jvp(f, (y,), (jnp.ones_like(y),))[1]


def _floating(y: ArrayLike) -> Array:
    """The array in float32, or float64: coarser input would round T y itself."""
    y = jnp.asarray(y)
    return y.astype(at_least_float32(y.dtype))
