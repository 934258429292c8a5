r"""Does a map commute with an action: f(T y) = T f(y)?

`defect` measures the error. `assert_equivariant` asserts equality up to a tolerance from a rounding-error
model (`wne_jax.symmetry.rounding`). The Jacobian of a normalization-equivariant map satisfies
$f(y) = J(y)\,y$ and $J(y)\,\mathbf 1 = \mathbf 1$, which test the same property at one point. All functions
take a plain function of arrays `[B, ..., C]`.

`output=` states how T acts on an output: its kind, or a pytree of kinds (`wne_jax.outputs`). Use
`output_action=` if the output moves differently from the input: after 2x super-resolution, a shift by 1
becomes a shift by 2.

Assertions raise in eager code. In traced code they are checks of `jax.experimental.checkify`: apply
`chex.chexify` or `checkify.checkify` around `jax.jit`. `violation` is the number that assertions compare
with 1; it works under any transformation.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import checkify
from jax.typing import ArrayLike, DTypeLike

from wne_jax.outputs import Output
from wne_jax.symmetry.actions import Action, Affine, Scale
from wne_jax.symmetry.comparison import Compared, Rounding, compare, is_pair, pairs_of
from wne_jax.symmetry.rounding import explanation, floating, spread

Map = Callable[[Array], Any]

_UNCHANGED = Affine()
"""The action on an invariant output, of whatever shape."""


def relative_l2(actual: Array, expected: Array, *, tau: float = 1e-6) -> Array:
    """‖actual - expected‖ / (‖expected‖ + tau), one value per instance, `[B]`."""
    axes = tuple(range(1, expected.ndim))
    norm = jnp.sqrt(jnp.sum(jnp.square(expected), axis=axes))
    return jnp.sqrt(jnp.sum(jnp.square(actual - expected), axis=axes)) / (norm + tau)


def cosine_error(actual: Array, expected: Array) -> Array:
    """1 - cosine similarity over channels, averaged over all pixels, one value per instance, `[B]`.

    It is computed as half the squared distance of the unit vectors, which avoids the cancellation of
    1 - cosine. Two zero vectors have error 0; a zero and a non-zero vector have error 1/2.

    References:
        Scanvic, Barthélemy & Tachella 2025, section 4 (the measure of their tables).
    """

    def unit(x: Array) -> Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
        return x / jnp.where(norm > 0, norm, 1)

    distance = jnp.sum(jnp.square(unit(actual) - unit(expected)), axis=-1) / 2
    return jnp.mean(distance, axis=tuple(range(1, distance.ndim)))


def largest_difference(actual: Array, expected: Array) -> Array:
    """The largest absolute difference, one value per instance, `[B]`."""
    return jnp.max(jnp.abs(actual - expected), axis=tuple(range(1, expected.ndim)))


METRICS = {
    "relative_l2": jax.jit(relative_l2),
    "cosine": jax.jit(cosine_error),
    "max": jax.jit(largest_difference),
}


def defect(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    metric: Literal["relative_l2", "cosine", "max"]
    | Callable[[Array, Array], Array] = "relative_l2",
    output: Output = "value",
    output_action: Action | None = None,
) -> Any:
    """The difference between f(T y) and T f(y), by a metric.

    Args:
        f: A map that keeps the batch axis.
        action: The transformation T.
        y: Array `[B, ..., C]`.
        metric: "relative_l2" (the epsilon_NE of Saied & Fleuret 2026 for one draw of a, b), "cosine" (Scanvic
            et al. 2025), "max", or a function `(actual, expected) -> [B]`.
        output: How the output follows the input: a kind, or a pytree of kinds; see `wne_jax.outputs`.
        output_action: The action on the output, if it is not T.

    Returns:
        One value per instance, `[B]`; a pytree of these for a pytree of outputs.

    Raises:
        ValueError: An unknown metric, or an output on which the action cannot act.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> float(defect(jnp.abs, Affine(1.0, -1.0), y, metric="max")[0])
        2.0
    """
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)} or a function, not {metric!r}")
    measure = metric if callable(metric) else METRICS[metric]
    y = floating(y)
    pairs = pairs_of(f, action, y, f(y), output, output_action)
    return jax.tree.map(lambda pair: measure(pair.actual, pair.expected), pairs, is_leaf=is_pair)


def normalization_defect(f: Map, y: ArrayLike, key: Array, *, samples: int = 8) -> Array:
    r"""The normalization-equivariance defect $\varepsilon_{NE}$ of Saied & Fleuret (2026).

    It is the mean of the relative L2 defect over `samples` draws of $a \sim U(0.5, 1.5)$ and
    $b \sim U(-0.25, 0.25)$, independent for every instance.

    Args:
        f: A map of arrays `[B, ..., C]`.
        y: Array in unit range.
        key: Random key.
        samples: Number of draws per instance, 1 or more.

    Returns:
        One value per instance, `[B]`.
    """
    _require_samples(samples)
    y = floating(y)
    key_a, key_b = jax.random.split(key)
    shape = (samples, y.shape[0])
    a = jax.random.uniform(key_a, shape, y.dtype, minval=0.5, maxval=1.5)
    b = jax.random.uniform(key_b, shape, y.dtype, minval=-0.25, maxval=0.25)
    value = f(y)
    pairs = [pairs_of(f, Affine(*draw), y, value, "value", None) for draw in zip(a, b)]
    measure = METRICS["relative_l2"]
    return jnp.stack([measure(pair.actual, pair.expected) for pair in pairs]).mean(axis=0)


def violation(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    output: Output = "value",
    output_action: Action | None = None,
    axes: Sequence[int] | None = None,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> Array:
    """The largest difference of f(T y) and T f(y) over the rounding tolerance; at most 1 if equivariant.

    It may be used under `jit`, `vmap` and `pmap`. Arguments are those of `assert_equivariant`.

    Returns:
        One value per instance, `[B]`; infinite where f returns NaN.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> bool(jax.jit(lambda y: violation(lambda x: x / 2, Scale(3.0), y))(y)[0] <= 1)
        True
    """
    y = floating(y)
    rounding = Rounding(axes, gain, compute_dtype)
    compared = compare(f, action, y, f(y), output, output_action, rounding)
    each = [jnp.max(one.excess, axis=tuple(range(1, one.excess.ndim))) for one in compared]
    return jnp.max(jnp.stack(each), axis=0)


def assert_equivariant(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    output: Output = "value",
    output_action: Action | None = None,
    axes: Sequence[int] | None = None,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> None:
    """Assert f(T y) = T f(y) up to `wne_jax.symmetry.rounding.rounding_tolerance`.

    Args:
        f: A map that keeps the batch axis.
        action: The transformation T.
        y: Array `[B, ..., C]`.
        output: How the output follows the input: a kind, or a pytree of kinds; see `wne_jax.outputs`.
        output_action: The action on the output, if it is not T.
        axes: Axes over which contrast is shared (default: all but the batch); (1, 2) for one per channel.
        gain: By how much the map amplifies small errors; see `rounding_tolerance`.
        compute_dtype: Dtype of the backbone's arithmetic; see `rounding_tolerance`.

    Raises:
        AssertionError: The message has the action, the largest violation, its position and the tolerance. If
            the violation looks like rounding, it also has the option that would allow it.
        ValueError: An output on which the action cannot act.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> assert_equivariant(lambda y: y / 2, Scale(3.0), y)
        >>> assert_equivariant(jnp.square, Scale(3.0), y, output="variance")
        >>> assert_equivariant(jnp.square, Scale(3.0), y)
        Traceback (most recent call last):
          ...
        AssertionError: ...square is not equivariant to Affine(a=3.0, b=0.0): ... at (0, 2), ...
    """
    y = floating(y)
    rounding = Rounding(axes, gain, compute_dtype)
    _assert(f, action, y, f(y), output, output_action, rounding)


def assert_invariant(
    f: Map,
    action: Action,
    y: ArrayLike,
    *,
    axes: Sequence[int] | None = None,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> None:
    """Assert f(T y) = f(y), for outputs of any shape that keep the batch axis.

    Arguments and errors are those of `assert_equivariant`.

    Example:
        >>> y = jnp.array([[0.0, 1.0, 2.0]])
        >>> assert_invariant(lambda y: jnp.argmax(y, -1), Affine(3.0, 1.0), y)
    """
    assert_equivariant(
        f, action, y, output="invariant", output_action=_UNCHANGED, axes=axes, gain=gain,
        compute_dtype=compute_dtype,
    )  # fmt: skip


def assert_normalization_equivariant(
    f: Map,
    y: ArrayLike,
    key: Array,
    *,
    samples: int = 8,
    output: Output = "value",
    axes: Sequence[int] | None = None,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> None:
    """Assert f(a y + b) = a f(y) + b for random contrasts and offsets over several decades.

    Each instance has its own a and b in every draw, and so has each channel if `axes` exclude channels. a is
    log-uniform in [1e-3, 1e3]. b has a random sign, and its size is log-uniform in [1e-2, 10] times a times
    the standard deviation of the instance.

    Args:
        f: A map of arrays `[B, ..., C]`.
        y: Array.
        key: Random key.
        samples: Number of draws, 1 or more.
        output: See `assert_equivariant`.
        axes: See `assert_equivariant`.
        gain: See `assert_equivariant`.
        compute_dtype: See `assert_equivariant`.

    Raises:
        AssertionError: As in `assert_equivariant`.
        ValueError: `samples` below 1, or an output on which the action cannot act.
    """
    _require_samples(samples)
    y = floating(y)
    value = f(y)
    for draw in zip(*_draws(key, spread(y, axes), samples=samples)):
        rounding = Rounding(axes, gain, compute_dtype)
        _assert(f, Affine(*draw), y, value, output, None, rounding)


@partial(jax.jit, static_argnames="samples")
def _draws(key: Array, scale: Array, *, samples: int) -> tuple[Array, Array]:
    """The contrasts and offsets of `assert_normalization_equivariant`, `[samples, *scale.shape]`."""
    shape, dtype = (samples, *scale.shape), scale.dtype
    key_a, key_b, key_sign = jax.random.split(key, 3)
    a = 10 ** jax.random.uniform(key_a, shape, dtype, minval=-3, maxval=3)
    size = 10 ** jax.random.uniform(key_b, shape, dtype, minval=-2, maxval=1)
    sign = jax.random.rademacher(key_sign, shape, dtype)
    return a, sign * size * a * scale[None]


def assert_exact_under_powers_of_two(
    f: Map,
    y: ArrayLike,
    *,
    exponents: Iterable[int] = range(-20, 21),
    output: Output = "value",
) -> None:
    """Assert f(2^k y) = 2^k f(y), bit for bit.

    The identity holds only within one executable. Here `f` is compiled once; in traced code it is the body of
    a loop.

    Args:
        f: A map of arrays.
        y: Array whose values do not overflow or underflow for any exponent.
        exponents: The k to try.
        output: How the output follows the input; for a variance, the expected output is 4^k f(y).

    Raises:
        AssertionError: The message has the first k that fails.
    """
    y = floating(y)
    exponents = tuple(exponents)
    if not exponents:
        raise ValueError("exponents must hold one or more")
    if isinstance(y, jax.core.Tracer):
        powers = jnp.asarray([1.0, *(2.0**k for k in exponents)], y.dtype)
        all_values = jax.lax.map(lambda power: f(power * y), powers)
        values = [jax.tree.map(lambda h, i=i: h[i], all_values) for i in range(len(powers))]
    else:
        compiled = f if isinstance(f, jax.stages.Wrapped) else jax.jit(f)
        values = [compiled(y), *(compiled(Scale(2.0**k)(y)) for k in exponents)]
    for k, value in zip(exponents, values[1:]):
        pairs = pairs_of(partial(_constant, value), Scale(2.0**k), y, values[0], output, None)
        for pair in jax.tree.leaves(pairs, is_leaf=is_pair):
            same = jnp.array_equal(pair.actual, pair.expected)
            message = f"f(2^{k} y) is not 2^{k} f(y){pair.path}, bit for bit"
            if isinstance(same, jax.core.Tracer):
                checkify.check(same, message)
            elif not same:
                raise AssertionError(message)


def euler_residual(f: Map, y: ArrayLike) -> Array:
    r"""$f(y) - J(y)\,y$ by one JVP; zero for a scale-equivariant map (Euler's identity).

    Args:
        f: A differentiable map.
        y: Array `[B, ..., C]`, in floating point.

    Returns:
        The residual, of the shape of f(y). Its norm divided by that of f(y) is rho of Saied & Fleuret (2026).
    """
    y = floating(y)
    value, along = jax.jvp(f, (y,), (y,))
    return value - along


def row_sums(f: Map, y: ArrayLike) -> Array:
    r"""$J(y)\,\mathbf 1$ by one JVP; one for a normalization-equivariant map.

    The rows of the Jacobian are the adaptive filters that f applies at `y`; these are their sums.

    Args:
        f: A differentiable map.
        y: Array `[B, ..., C]`, in floating point.

    Returns:
        The sums, of the shape of f(y).
    """
    y = floating(y)
    return jax.jvp(f, (y,), (jnp.ones_like(y),))[1]


def _require_samples(samples: int) -> None:
    if samples < 1 or samples != int(samples):
        raise ValueError(f"samples must be a whole number, 1 or more, not {samples}")


def _assert(
    f: Map,
    action: Action,
    y: Array,
    value: Any,
    output: Output,
    output_action: Action | None,
    rounding: Rounding,
) -> None:
    """Raise an error if an output exceeds its tolerance; in traced code, add a check."""
    inner = f
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    symmetry = "invariant" if output_action is _UNCHANGED else "equivariant"
    for one in compare(f, action, y, value, output, output_action, rounding):
        if isinstance(one.excess, jax.core.Tracer):
            checkify.check(
                jnp.all(one.excess <= 1),
                f"{name} is not {symmetry} to {type(action).__name__}: a difference{one.pair.path} is "
                "{excess} times what rounding allows",
                excess=jnp.max(one.excess),
            )
        elif not bool(jnp.all(one.excess <= 1)):
            hint = _cause(f, y, value, output, output_action, rounding, one)
            raise AssertionError(_message(name, symmetry, action, one) + hint)


def _cause(
    f: Map,
    y: Array,
    value: Any,
    output: Output,
    output_action: Action | None,
    rounding: Rounding,
    one: Compared,
) -> str:
    """A second line for the message of a violation: its cause, if it can be determined."""
    values = [np.asarray(h) for h in jax.tree.leaves(value)]
    if any(h.dtype.kind in "fc" and not np.isfinite(h).all() for h in values):
        return "\nf(y) itself has NaN or infinite values"
    if not all(np.array_equal(h, again) for h, again in zip(values, jax.tree.leaves(f(y)))):
        return (
            "\nf(y) differs between calls, as with dropout: pass the same random key to each call"
        )
    told_otherwise = output_action is not None and not output_action.moves
    return explanation(
        f,
        y,
        excess=float(jnp.max(one.excess)),
        relative=float(jnp.max(one.difference) / jnp.max(jnp.abs(one.pair.expected))),
        gain=rounding.gain,
        exact=told_otherwise or _exact_under_doubling(f, y, value, output),
    )


def _message(name: str, symmetry: str, action: Action, one: Compared) -> str:
    """One line with the action, the position and the size of the violation."""
    excess = np.asarray(one.excess)
    place = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))

    def here(parameter: Any) -> float:
        values = np.asarray(parameter)
        index = [i if i < n else 0 for i, n in zip(place, values.shape)]
        return float(values[(*index, *(0,) * (values.ndim - len(index)))])

    return (
        f"{name} is not {symmetry} to {jax.tree.map(here, action)}: f(T y) = "
        f"{float(one.pair.actual[place]):.6g} but {'T ' * (symmetry == 'equivariant')}f(y) = "
        f"{float(one.pair.expected[place]):.6g} at "
        f"{place}{one.pair.path and ' of ' + one.pair.path}, a difference of "
        f"{float(one.difference[place]):.3g} where rounding allows {float(one.allowed[place]):.3g}"
    )


def _exact_under_doubling(f: Map, y: Array, value: Any, output: Output) -> bool:
    """Whether f(2 y) = 2 f(y), bit for bit."""
    pairs = pairs_of(f, Scale(2.0), y, value, output, Scale(2.0))
    leaves = jax.tree.leaves(pairs, is_leaf=is_pair)
    return all(bool(jnp.array_equal(pair.actual, pair.expected)) for pair in leaves)


def _constant(value: Any, _: Array) -> Any:
    return value
