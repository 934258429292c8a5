r"""How an output follows its input.

When the input changes to a y + b (a > 0), an output changes in a way that depends on its meaning:

| kind | f(a y + b) = | for example |
|---|---|---|
| "value" | a f(y) + b | an image, a quantile |
| "difference" | a f(y) | noise, a standard deviation, an edge map |
| "variance" | a^2 f(y) | the variance of a Gaussian likelihood |
| "invariant" | f(y) | logits, a segmentation, features |

A kind is one function, `act(h, a, b)`: the output h after the change y -> a y + b. Since $y = s z + m$, the
output in the units of y is `act(h, s, m)`, where h is the backbone's output for z. With an anchor, the
backbone works on $x = c z + d$ (see `wne_jax.Anchor`), and its output is transformed back by the inverse,
`act(h, 1 / c, -d / c)`. With a gain, the map from z to y is nonlinear: values follow it, other kinds follow
its tangent at the input. A map is equivariant if f(a y + b) equals `act(f(y), a, b)`, which
`wne_jax.symmetry.equivariance.assert_equivariant` checks.

For a backbone that returns a pytree, declare one kind for all leaves, or a pytree of kinds. Kinds that are
not in `OUTPUTS` are made with `Kind` and passed instead of a name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jax import Array

from wne_jax.statistics import Statistics
from wne_jax.statistics.gain import ratio, slope, unstabilized


@dataclass(frozen=True)
class Kind:
    """How an output follows its input.

    Attributes:
        act: `act(h, a, b)`, the output h after the change y -> a y + b. The arrays a and b broadcast to h;
            for a constant instance, a is 0.
        undo: The inverse, `undo(act(h, a, b), a, b) = h`; by default `act(h, 1 / a, -b / a)`.
        any_shape: Whether outputs may have any shape, because a and b are not used.

    Example:
        The logarithm of a variance, for a Gaussian likelihood, is not in the table:

        >>> def act(h, a, b):
        ...     return h + 2 * jnp.log(a)
        >>> log_variance = Kind(act)
        >>> float(log_variance.act(jnp.zeros(()), jnp.e, 0.0))
        2.0
    """

    act: Callable[[Array, Any, Any], Array]
    undo: Callable[[Array, Any, Any], Array] | None = None
    any_shape: bool = False

    def inverse(self, h: Array, a: Any, b: Any) -> Array:
        """Undo `act`."""
        return self.act(h, 1 / a, -b / a) if self.undo is None else self.undo(h, a, b)


VALUE = Kind(lambda h, a, b: a * h + b, lambda h, a, b: (h - b) / a)
DIFFERENCE = Kind(lambda h, a, b: a * h, lambda h, a, b: h / a)
VARIANCE = Kind(lambda h, a, b: a * (a * h), lambda h, a, b: h / a / a)
INVARIANT = Kind(lambda h, a, b: h, lambda h, a, b: h, any_shape=True)

OUTPUTS: dict[str, Kind] = {
    "value": VALUE,
    "difference": DIFFERENCE,
    "variance": VARIANCE,
    "invariant": INVARIANT,
}
"""The kinds by name."""

Output = Any
"""A kind (a name of `OUTPUTS`, or a `Kind`), or a pytree of kinds."""


def kind(output: str | Kind) -> Kind:
    """The kind with a given name, or the kind itself.

    Raises:
        ValueError: The name is unknown.
    """
    if isinstance(output, Kind):
        return output
    if not isinstance(output, str) or output not in OUTPUTS:
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}, a Kind or a pytree of these, not {output!r}"
        )
    return OUTPUTS[output]


def kinds(output: Output, h: Any) -> list[Kind]:
    """One kind for each leaf of a pytree, in the order of `jax.tree.leaves`.

    Args:
        output: One kind, or a pytree of kinds; a kind applies to all leaves below it. Lists and tuples are
            equivalent, and so are mappings, which can also declare a NamedTuple or a dataclass.
        h: The pytree.

    Raises:
        ValueError: The structures differ.

    Example:
        >>> kinds(("value", "variance"), [1.0, (2.0, 3.0)]) == [VALUE, VARIANCE, VARIANCE]
        True
    """
    if output is None or jax.tree_util.all_leaves([output]):
        return [kind(output)] * len(jax.tree.leaves(h))
    if isinstance(output, tuple | list) and isinstance(h, tuple):  # a NamedTuple by its places
        output, h = tuple(output), tuple(h)
    declared, returned = _children(output), _children(h)
    if declared.keys() != returned.keys():
        raise ValueError(
            f"output declares {_outline(declared)}, but the backbone returned {_outline(returned)}: "
            "declare one kind, or one for each part"
        )
    return [leaf for key, part in returned.items() for leaf in kinds(declared[key], part)]


def require_output(output: Output) -> None:
    """Reject what declares no kinds, before a backbone runs.

    Raises:
        ValueError: A name is unknown, or something is neither a name nor a `Kind`.
    """
    for part in jax.tree.leaves(output, is_leaf=lambda part: part is None):
        kind(part)


def hashable(output: Output) -> Output:
    """The same declaration in hashable form, for attributes of modules: frozen dicts and tuples.

    Example:
        >>> hash(hashable({"x": ["value"]})) == hash(hashable({"x": ("value",)}))
        True
    """
    if isinstance(output, Mapping):
        return FrozenDict({key: hashable(part) for key, part in output.items()})
    if isinstance(output, list):
        return tuple(hashable(part) for part in output)
    return output


def map_outputs(function: Callable[[Array, Kind, str], Any], h: Any, output: Output) -> Any:
    """Apply `function(leaf, kind, path)` to every leaf; the path is "" for a single array."""
    paths, structure = jax.tree_util.tree_flatten_with_path(h)
    leaves = [
        function(jnp.asarray(leaf), kind, jax.tree_util.keystr(path))
        for (path, leaf), kind in zip(paths, kinds(output, h))
    ]
    return jax.tree.unflatten(structure, leaves)


def restore(
    h: Any,
    stats: Statistics,
    output: Output = "value",
    *,
    z: Array | None = None,
    unbiased: bool = False,
) -> Any:
    """Convert normalized outputs to the units of the input.

    With a gain (see `wne_jax.statistics.gain`) the map from z to y is nonlinear. Values follow it; other
    kinds use its slope at the input's z, so they must have the size of the input.

    Args:
        h: Output in normalized coordinates, an array or a pytree.
        stats: The statistics removed from the input.
        output: Kinds of the outputs.
        z: The normalized input; needed with a gain, for outputs other than values.
        unbiased: Whether g / 4 is added to values with a gain; see `wne_jax.denormalize`.

    Raises:
        ValueError: An output's shape does not match the statistics.
    """
    location, scale, gain = stats
    carried = jnp.broadcast_shapes(location.shape, scale.shape)

    def leaf(h: Array, kind: Kind, path: str) -> Array:
        name = f"the output{path}"
        if gain is None or kind.any_shape or kind == VALUE:
            require_shape(h.shape, carried, kind, name=name)
            if gain is None or kind.any_shape:
                return kind.act(h, scale, location)
            value = scale * unstabilized(h, ratio(stats)) + location
            return value + gain / 4 if unbiased else value
        if z is None:
            raise ValueError(f"{name} is not a value: with a gain it needs z, the normalized input")
        require_shape(h.shape, jnp.broadcast_shapes(z.shape, carried), kind, name=name)
        steep = slope(z, stats)
        here = scale * unstabilized(z, ratio(stats)) + location
        return kind.act(h, steep, here - steep * z)

    return map_outputs(leaf, h, output)


def require_shape(
    shape: Sequence[Any],
    statistics: Sequence[Any],
    kind: Kind,
    *,
    batch: Any = None,
    name: str = "the output",
    advice: str = "return [B, ..., C] of that rank and batch, or declare output='invariant'",
) -> None:
    """Reject an output whose shape would change when it is combined with the statistics.

    Args:
        shape: Shape of the output.
        statistics: Shape of the statistics, for example `[B, 1, ..., 1]`.
        kind: Kind of the output.
        batch: Number of instances of the input, if known.
        name: Name of the output in the message.
        advice: How to fix it, for the message.

    Raises:
        ValueError: The ranks or the batches differ, or the statistics do not broadcast to the output's shape.
    """
    fits = (
        len(shape) == len(statistics)
        and all(m in (1, n) for m, n in zip(statistics, shape))
        and (batch is None or shape[0] == batch)
    )
    if not kind.any_shape and not fits:
        raise ValueError(
            f"{name} has shape {tuple(shape)}, which does not match statistics of shape "
            f"{tuple(statistics)}: {advice}"
        )


def _children(tree: Any) -> dict[str, Any]:
    """The direct children of a pytree by key, in the order of its leaves."""
    paths = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda part: part is not tree)[0]
    keys = (jax.tree_util.keystr(path) for path, _ in paths)
    by_name = (f"[{key[1:]!r}]" if key.startswith(".") else key for key in keys)  # as in a mapping
    return {key: part for key, (_, part) in zip(by_name, paths)}


def _outline(children: dict[str, Any]) -> str:
    """The keys of a pytree's children, for a message."""
    return "one array" if list(children) == [""] else f"the parts {', '.join(children) or 'none'}"
