"""Compare f(T y) with T f(y) for every output of a map, given a rounding tolerance."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from wne_jax.outputs import Kind, Output, map_outputs, require_shape
from wne_jax.symmetry.actions import Action
from wne_jax.symmetry.rounding import floating, rounding_tolerance


class Pair(NamedTuple):
    """One output: its actual value f(T y) and its expected value T f(y)."""

    path: str
    actual: Array
    expected: Array
    kind: Kind


class Rounding(NamedTuple):
    """The options of `wne_jax.symmetry.rounding.rounding_tolerance`."""

    axes: Sequence[int] | None
    gain: float
    compute_dtype: DTypeLike


class Compared(NamedTuple):
    """A pair, its difference, the tolerance, and their ratio."""

    pair: Pair
    difference: Array
    allowed: Array
    excess: Array


def is_pair(x: Any) -> bool:
    """Whether a node of a pytree is one output."""
    return isinstance(x, Pair)


def pairs_of(
    f: Callable[[Array], Any],
    action: Action,
    y: Array,
    value: Any,
    output: Output,
    output_action: Action | None,
) -> Any:
    """f(T y) and T f(y) for each output, in a pytree with the structure of `value` = f(y)."""
    if not isinstance(action, Action):
        raise TypeError(
            f"action must be one of wne_jax.symmetry, for example Affine(2.0, 0.5), not {action!r}"
        )
    if not jax.tree.leaves(value):
        raise ValueError(f"f returned {value!r}: it must return an array, or a pytree of arrays")
    moved = f(action(y))
    structure: Any = jax.tree.structure(moved)
    if structure != jax.tree.structure(value):
        raise ValueError("f(T y) and f(y) are pytrees with different structures")
    actual = iter(jax.tree.leaves(moved))

    def pair(h: Array, kind: Kind, path: str) -> Pair:
        _require_that_it_acts(action, y, h, kind, path, output_action)
        other = jnp.asarray(next(actual))
        if other.shape != h.shape:
            raise ValueError(f"f(T y){path} has shape {other.shape}, but f(y){path} has {h.shape}")
        return Pair(path, other, (output_action or action).on(h, kind), kind)

    return map_outputs(pair, value, output)


def _require_that_it_acts(
    action: Action, y: Array, h: Array, kind: Kind, path: str, output_action: Action | None
) -> None:
    """Reject an output on which an action of the input cannot act."""
    if h.ndim < 1 or h.shape[0] != y.shape[0]:
        raise ValueError(
            f"f(y){path} must keep the batch axis of size {y.shape[0]}, but has shape {h.shape}"
        )
    if output_action is not None:
        return
    for part in action.contrast_and_brightness():
        shape = (y.shape[0],) + (1,) * (y.ndim - 1) if jnp.ndim(part) < 2 else jnp.shape(part)
        require_shape(h.shape, shape, kind, name=f"f(y){path}")
    if action.moves and (h.ndim != y.ndim or h.shape[1:-1] != y.shape[1:-1]):
        raise ValueError(
            f"f(y){path} has shape {h.shape}, but {type(action).__name__} acts on shape {y.shape}: "
            "pass output_action="
        )


def compare(
    f: Callable[[Array], Any],
    action: Action,
    y: Array,
    value: Any,
    output: Output,
    output_action: Action | None,
    rounding: Rounding,
) -> list[Compared]:
    """Compare every output."""
    compared = []
    pairs = pairs_of(f, action, y, value, output, output_action)
    for pair in jax.tree.leaves(pairs, is_leaf=is_pair):
        allowed = rounding_tolerance(
            action, y, output=pair.kind, output_action=output_action, **rounding._asdict()
        )
        compared.append(Compared(pair, *_compared(pair.actual, pair.expected, allowed)))
    return compared


@jax.jit
def _compared(actual: Array, expected: Array, allowed: Array) -> tuple[Array, Array, Array]:
    """The difference, the tolerance in its shape, and their ratio."""
    allowed = _fitted(allowed, expected.shape)
    dtype = floating(expected).dtype
    difference = jnp.abs(actual.astype(dtype) - expected.astype(dtype))
    ratio = difference / jnp.where(allowed > 0, allowed, 1).astype(dtype)
    ratio = jnp.where(allowed > 0, ratio, jnp.inf)
    excess = jnp.where(difference == 0, 0, jnp.where(jnp.isnan(ratio), jnp.inf, ratio))
    return difference, jnp.broadcast_to(allowed, excess.shape), excess


def _fitted(allowed: Array, shape: tuple[int, ...]) -> Array:
    """The tolerance, broadcastable to an output; per instance its maximum if the output has another rank."""
    if len(shape) == allowed.ndim and all(m in (1, n) for m, n in zip(allowed.shape, shape)):
        return allowed
    largest = jnp.max(allowed, axis=tuple(range(1, allowed.ndim)))
    return jnp.reshape(largest, (-1,) + (1,) * (len(shape) - 1))
