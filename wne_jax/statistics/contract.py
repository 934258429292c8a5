"""What a statistic must satisfy to generate normalization equivariance, checked on examples."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import (
    Statistic,
    Statistics,
    name_of,
    prepare,
    require_statistic,
    require_value,
)
from wne_jax.statistics.blocks import Blocks

DECADES = ((1.0, 3.0), (0.01, 0.0), (0.01, -10.0), (7.0, 1.0), (1000.0, -300.0))
"""The a and b of a y + b."""

POWERS = (2.0**-20, 2.0**20)
"""Factors that pass bit for bit."""

CONSTANTS = (0.0, 0.1, -7.3, 1e4)
"""Values of constant images."""


def check_contract(
    statistic: Statistic, y: ArrayLike, *, axes: Sequence[int] | None = None
) -> None:
    """Check that a statistic generates normalization equivariance on examples.

    Checked are the shapes, that location, scale and gain follow a y + b over several decades of a and b, that
    powers of two pass bit for bit, that the scale is positive on `y` and no gain negative, that a constant
    has exactly its value as location and exactly 0 as scale and gain, with finite gradients, that an instance
    does not depend on its neighbours, and that masked entries influence nothing. Location and scale may be
    images: then all of this holds at every pixel.

    A statistic with passes over blocks must give the same numbers by them, whatever the size of the blocks,
    and the clauses on powers of two and on constants hold for it, too. That is checked on examples
    `[B, H, W, C]` that are pooled over all axes.

    Args:
        statistic: The function to check, `statistic(y, *, axes, where) -> Statistics`.
        y: Examples `[B, ..., C]`, none of them constant over `axes`.
        axes: Axes to pool (default: all but the batch).

    Raises:
        AssertionError: Naming the clause that fails, where, and by how much.
        TypeError: It is not a function, or does not return `Statistics`.

    Example:
        >>> from wne_jax.statistics import mean_std, root_mean_square
        >>> y = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
        >>> check_contract(mean_std, y)
        >>> check_contract(root_mean_square, y)
        Traceback (most recent call last):
          ...
        AssertionError: root_mean_square: location(a y + b) differs from a location(y) + b ...
    """
    require_statistic(statistic)
    y, axes, _ = prepare(y, axes, None)
    y = np.asarray(y)  # the statistic alone is compiled
    name = name_of(statistic)
    compiled = jax.jit(lambda y: require_value(statistic(y, axes=axes, where=None)))
    compute = lambda y: jax.device_get(compiled(y))  # noqa: E731
    _check_shapes(name, compute(y), y, axes)
    _check_symmetry(name, compute, y, axes)
    _check_independence(name, statistic, y, axes)
    if hasattr(statistic, "over_blocks") and y.ndim == 4 and axes == (1, 2, 3):
        _check_blocks(name, statistic, compute, y)


def _check_shapes(name: str, found: Statistics, y: np.ndarray, axes: tuple[int, ...]) -> None:
    """Location and scale broadcast against `y`, and the scale is positive."""
    for part, value in _parts(found):
        if value.ndim != y.ndim or any(m not in (1, n) for m, n in zip(value.shape, y.shape)):
            pooled = tuple(1 if axis in axes else size for axis, size in enumerate(y.shape))
            raise AssertionError(
                f"{name}: {part} has shape {value.shape}, which must fit {pooled} or {y.shape}"
            )
    if not np.all(found.scale > 0):
        smallest = float(found.scale.min())
        raise AssertionError(f"{name}: the scale of a non-constant array is {smallest}")
    if found.gain is not None and not np.all(found.gain >= 0):
        raise AssertionError(
            f"{name}: a gain is {float(found.gain.min())}, and must not be negative"
        )


def _check_symmetry(
    name: str, compute: Callable[[np.ndarray], Statistics], y: np.ndarray, axes: tuple[int, ...]
) -> None:
    """The clauses of the contract on a y + b, on powers of two and on constants."""
    found = compute(y)
    location, scale, gain = found
    eps = float(np.finfo(y.dtype).eps)
    largest = np.max(np.abs(y), axis=axes, keepdims=True)
    for a, b in DECADES:
        moved = compute(a * y + b)
        allowed = 64 * eps * (a * largest + abs(b))
        _compare(name, "location(a y + b)", "a location(y) + b", moved.location,
                 a * location + b, allowed, f"a = {a}, b = {b}")  # fmt: skip
        _compare(name, "scale(a y + b)", "a scale(y)", moved.scale,
                 a * scale, allowed, f"a = {a}, b = {b}")  # fmt: skip
        if gain is not None:
            _compare(name, "gain(a y + b)", "a gain(y)", moved.gain,
                     a * gain, allowed, f"a = {a}, b = {b}")  # fmt: skip
    for a in POWERS:
        moved = compute(a * y)
        for (part, actual), (_, expected) in zip(_parts(moved), _parts(found)):
            _compare(name, f"{part}(a y)", f"a {part}(y)", actual, a * expected, 0.0, f"a = {a}")
    for c in CONSTANTS:
        _check_constant(name, compute(np.full_like(y, c)), c)


def _check_independence(
    name: str, statistic: Statistic, y: np.ndarray, axes: tuple[int, ...]
) -> None:
    """The clauses of the contract on neighbours, masks and gradients."""

    def total(y: Array, where: Array) -> tuple[Any, Statistics]:
        found = statistic(y, axes=axes, where=where)
        return sum(jnp.sum(part) for _, part in _parts(found)), found

    with_gradient = jax.jit(jax.grad(total, has_aux=True))
    compute = lambda y, where: jax.device_get(with_gradient(y, where)[1])  # noqa: E731
    everything = np.ones(y.shape, bool)
    two = y[:1].repeat(max(len(y), 2), axis=0)
    with_another = np.concatenate([y[:1], 3 * two[1:] + 7])
    masks = np.ones(two.shape, bool)
    some = everything.copy()
    some[(0, *(size // 2 for size in y.shape[1:]))] = False
    place = "the first instance"
    for what, first, second in (
        ("with another neighbour", compute(two, masks), compute(with_another, masks)),
        (
            "with a masked entry changed",
            compute(y, some),
            compute(np.where(some, y, y.dtype.type(99)), some),
        ),
    ):
        for (part, actual), (_, expected) in zip(_parts(first), _parts(second)):
            _compare(name, f"{part}(y)", f"{part}(y) {what}", actual[0], expected[0], 0.0, place)
    gradient, _ = with_gradient(np.full_like(y, 0.3), everything)
    if not np.isfinite(gradient).all():
        raise AssertionError(f"{name}: the gradient on a constant is not finite")


def _check_blocks(
    name: str, statistic: Statistic, compute: Callable[[np.ndarray], Statistics], y: np.ndarray
) -> None:
    """The clauses of the contract on passes over blocks, for every instance."""
    eps = float(np.finfo(np.float32).eps)
    examples = np.asarray(y, np.float32)
    together = compute(examples)
    for i, image in enumerate(examples):
        expected = jax.tree.map(lambda part, i=i: part[i : i + 1], together)
        allowed = 64 * eps * float(np.abs(image).max())
        for rows in (1, 3, None):
            found = _over_blocks(statistic, image, rows)
            for (part, actual), (_, other) in zip(_parts(found), _parts(expected), strict=True):
                _compare(name, f"{part} over blocks", f"{part}(y)", actual, other[0], allowed,
                         f"rows = {rows}")  # fmt: skip
            for a in POWERS:
                moved = _over_blocks(statistic, np.float32(a) * image, rows)
                for (part, actual), (_, other) in zip(_parts(moved), _parts(found)):
                    _compare(name, f"{part}(a y) over blocks", f"a {part}(y)", actual,
                             np.float32(a) * other, 0.0, f"a = {a}, rows = {rows}")  # fmt: skip
            for c in CONSTANTS:
                _check_constant(name, _over_blocks(statistic, np.full_like(image, c), rows), c)


def _over_blocks(statistic: Any, image: np.ndarray, rows: int | None) -> Statistics:
    """The statistic of an image f32[H, W, C] by its passes, in float32."""
    found = statistic.over_blocks(Blocks(image, np.asarray, rows))
    parts: Any = map(np.float32, found)
    return Statistics(*parts)


def _parts(found: Statistics) -> list[tuple[str, Any]]:
    """Location and scale by their names, and the gain if there is one."""
    return [(name, part) for name, part in found._asdict().items() if part is not None]


def _check_constant(name: str, found: Statistics, c: float) -> None:
    """The location of a constant is its value, and its scale and gain are 0."""
    for part, actual in _parts(found):
        expected = c if part == "location" else 0.0
        value = actual.dtype.type(expected)
        _compare(name, f"{part}(c)", f"{expected:g}", actual, value, 0.0, f"c = {c}")


def _compare(name, left, right, actual, expected, allowed, setting) -> None:
    """Raise where `actual` leaves `expected` by more than `allowed`, NaN included."""
    difference = np.abs(actual - expected)
    if not np.all(difference <= allowed):
        worst = float(np.max(difference))
        raise AssertionError(f"{name}: {left} differs from {right} by {worst:.3g} at {setting}")
