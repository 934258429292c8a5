"""Contracts for extensions of the library: tests of a backbone, a statistic and a layout.

    wne.testing.check_backbone(MyNetwork())
    wne.testing.check_statistic(my_statistic)
    wne.testing.check_layout(my_layout, shapes)

Each function returns nothing if the contract holds, and raises an `AssertionError` of one line otherwise.
They run on small arrays. `random_variables` and `tiny` are helpers for tests of a network.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from wne_jax import models, protocol
from wne_jax.statistics import Statistic, check_contract
from wne_jax.symmetry.actions import Scale
from wne_jax.symmetry.equivariance import assert_equivariant, assert_normalization_equivariant
from wne_jax.weights import WeightsError, load_model, save
from wne_jax.weights.conversion import fill
from wne_jax.weights.layouts import Layout, Plan, Shapes
from wne_jax.wrappers.bridge import as_linen
from wne_jax.wrappers.linen import WNE

__all__ = ["TINY", "check_backbone", "check_layout", "check_statistic", "random_variables", "tiny"]

TINY: dict[str, dict[str, Any]] = {
    "dncnn": {"depth": 4, "features": 8},
    "fdncnn": {"depth": 4, "features": 8},
    "ffdnet": {"depth": 3, "features": 8},
    "drunet": {"features": (4, 6), "blocks": 1},
    "swinir": {"groups": 1, "blocks": 2, "features": 8, "heads": 2, "window": 4},
    "restormer": {"dim": 4, "blocks": (1, 1), "heads": (1, 2), "refinement_blocks": 0},
    "resnet": {"depth": 18, "classes": 5},
}
"""Options of the smallest networks with all parts, by name of `models.build`."""

SIGMA = 0.1
"""The noise level for a conditioned backbone, in the units of the image."""


def tiny(name: str, **options: Any) -> nn.Module:
    """The smallest version of a network of the library with all its parts.

    Args:
        name: A name of `models.build`.
        **options: Options of the network, which extend or replace those of `TINY`.

    Example:
        >>> tiny("fdncnn").features, tiny("fdncnn", features=4).features
        (8, 4)
    """
    return models.build(name, **TINY[name] | options)


def random_variables(
    model: nn.Module, *args: Any, seed: int = 0, spread: float = 1.0, **kwargs: Any
) -> Any:
    r"""Random numbers in the shapes of a module's variables, away from their initial values.

    Many networks are initialized as the identity or with zero biases, where tests detect little. Here,
    kernels are normal with variance 1 / fan-in, which preserves the size of a signal; biases and running
    means are normal with standard deviation 0.3; single numbers are uniform in [0.2, 0.8]; scales and running
    variances are above 1. They are drawn with NumPy, because initializers take seconds to compile.

    Args:
        model: The Linen module.
        *args: Arguments of `model.init` after the key: an example of the input.
        seed: Random seed.
        spread: Factor of all standard deviations.
        **kwargs: Further arguments of `model.init`.

    Returns:
        The variables, in the dtypes of `model.init`.

    Example:
        >>> variables = random_variables(nn.Dense(2), jnp.ones((1, 3)))
        >>> jax.tree.map(jnp.shape, variables["params"])
        {'bias': (2,), 'kernel': (3, 2)}
    """
    shapes = jax.eval_shape(lambda key: model.init(key, *args, **kwargs), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> Array:
        noise = spread * rng.standard_normal(leaf.shape)
        if leaf.ndim > 1:
            value = noise / np.sqrt(np.prod(leaf.shape[:-1]))
        elif path[-1].key in ("bias", "mean"):
            value = 0.3 * noise
        else:
            value = 1 + 0.1 * np.abs(noise) if leaf.ndim else 0.5 + 0.3 * np.tanh(noise)
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def check_backbone(model: Any, y: ArrayLike | None = None) -> None:
    r"""Check that a backbone satisfies its declarations, and that the wrapper makes it equivariant.

    The backbone, with random variables:

    - returns images of the shape and dtype of its input, with the same result compiled and uncompiled;
    - gives an image the same result, bit for bit, independently of the other images of the batch;
    - accepts sides that are multiples of its declared `multiple`;
    - changes no bit of its output farther from a changed pixel than `receptive_radius`;
    - takes the noise level by its `noise_argument`, and uses it;
    - has the declared `symmetry`.

    Wrapped in `WNE`, it

    - has the same variables as without the wrapper;
    - satisfies f(a y + b) = a f(y) + b, bit for bit if b = 0 and a is a power of two;
    - returns constant images unchanged, with finite gradients there and elsewhere;
    - accepts images of any size.

    The declarations and their defaults are listed in `wne_jax.protocol`.

    Args:
        model: A Linen module, an NNX module, or a function of `[B, ..., C]`.
        y: Two or more images `[B, H, W, C]`, or volumes `[B, D, H, W, C]`, that it accepts, in about unit
            range (default: random ones with one channel and the smallest size that suits `multiple`).

    Raises:
        AssertionError: A check fails; the message names it.

    Example:
        >>> check_backbone(lambda y: 0.9 * y)
        >>> check_backbone(lambda y: y - y.mean(axis=0, keepdims=True))
        Traceback (most recent call last):
          ...
        AssertionError: <lambda>: an image's result depends on its neighbours in the batch
    """
    multiple = protocol.multiple(model)
    side = -(-8 // multiple) * multiple
    if y is None:
        sides = [side] * (protocol.ndim(model) - 1)
        y = np.random.default_rng(0).normal(0.4, 0.2, (2, *sides, side + multiple, 1))
    y = jnp.asarray(y, jnp.float32)
    bare, wrapped, variables = _prepare(model, y)
    name = type(model).__name__ if isinstance(model, nn.Module | nnx.Module) else _name(model)

    compiled = jax.jit(bare)
    f = lambda y: compiled(variables, y, _level(y))  # noqa: E731

    _check_output(name, bare(variables, y, _level(y)), f(y), y)
    _check_neighbours(name, f, y)
    _check_radius(name, f, y, model)
    if protocol.condition(model, SIGMA):
        low, high = f(y), compiled(variables, y, 5 * _level(y))
        _require(bool((low != high).any()), f"{name}: the noise level changes nothing")
    _check_symmetry(name, _following(compiled, variables, y), y, protocol.symmetry(model))
    _check_wrapped(name, wrapped, variables, y, multiple)


def check_statistic(statistic: Statistic) -> None:
    """Check that a statistic gives normalization equivariance: `statistics.check_contract` on examples.

    The examples are textures with noise: gray, in colour, with a large offset, rounded to whole numbers, and
    pooled only over the image. Computation by blocks is checked if the statistic supports it.

    Args:
        statistic: `statistic(y, *, axes, where) -> Statistics`.

    Raises:
        AssertionError: A clause fails; the message has the clause, the place and the error.

    Example:
        >>> from wne_jax.statistics import mean_std, root_mean_square
        >>> check_statistic(mean_std)
        >>> check_statistic(root_mean_square)
        Traceback (most recent call last):
          ...
        AssertionError: root_mean_square: location(a y + b) differs from a location(y) + b ...
    """
    gray = np.asarray(_texture((2, 17, 12, 1)))
    check_contract(statistic, np.concatenate([gray, gray[:1] + 5, np.round(255 * gray[1:])]))
    for axes in ((1, 2, 3), (1, 2)):
        check_contract(statistic, _texture((2, 17, 12, 3)), axes=axes)


def check_layout(layout: Layout, shapes: Shapes) -> None:
    """Check that a layout reads a checkpoint: each tensor is used once, and each variable filled once.

    On random tensors of these shapes it also checks that no value is lost, that the model can be saved and
    loaded bit for bit, that a checkpoint with a missing tensor is rejected, and that the layout does not
    accept other checkpoints.

    Args:
        layout: The function that recognises the checkpoint.
        shapes: The shapes of the tensors of a small checkpoint, by name.

    Raises:
        AssertionError: A check fails; the message names it.

    Example:
        >>> from wne_jax.weights.layouts import kair_dncnn
        >>> check_layout(kair_dncnn, {"model.0.weight": (4, 1, 3, 3), "model.0.bias": (4,)})
        Traceback (most recent call last):
          ...
        AssertionError: kair_dncnn: does not recognise the tensors model.0.weight, model.0.bias
    """
    name = layout.__name__
    plan = layout(shapes)
    if plan is None:
        raise AssertionError(f"{name}: does not recognise the tensors {', '.join(shapes)}")
    rng = np.random.default_rng(0)
    tensors = {
        tensor: np.zeros(shape, np.float32)
        if tensor in plan.zeros
        else rng.uniform(0.5, 2, shape).astype(np.float32)
        for tensor, shape in shapes.items()
    }
    try:
        variables = fill(plan, tensors, name)
    except WeightsError as error:
        raise AssertionError(str(error)) from error
    for source, target, convert in plan.entries:
        tensor = tensors[source]
        for i in rng.integers(tensor.size, size=8):
            moved = tensor.copy()
            moved.flat[i] += 1
            kept = not np.array_equal(convert(moved), convert(tensor))
            _require(kept, f"{name}: {source} loses values in {'/'.join(target)}")
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "x.safetensors"), plan.config, variables)
        config, loaded = load_model(Path(folder, "x.safetensors"))
    same = jax.tree.map(lambda one, other: one.tobytes() == other.tobytes(), variables, loaded)
    _require(config == plan.config and all(jax.tree.leaves(same)), f"{name}: not what was saved")

    for source in {entry.source for entry in plan.entries}:
        partial = {tensor: value for tensor, value in tensors.items() if tensor != source}
        _require(not _reads(layout, partial, name), f"{name}: does not miss {source}")
    own = not _answers(layout, {"other.weight": (3,)})
    _require(own, f"{name}: takes tensors that are not its own")


def _prepare(model: Any, y: Array) -> tuple[Callable, Callable, Any]:
    """`bare(variables, y, sigma)`, the same of the wrapped model, and variables for both."""
    if not isinstance(model, nn.Module):
        model, _ = as_linen(model)
    told = protocol.condition(model, SIGMA)
    options = protocol.mode(model, train=False)
    variables = random_variables(model, y, **told, **options)
    wne: Any = WNE(model)
    apply: Any = model.apply
    sigma_for_wne = {"sigma": SIGMA} if told else {}
    of_wrapped = jax.eval_shape(lambda: wne.init(jax.random.key(0), y, **sigma_for_wne, **options))
    same = jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, of_wrapped)
    _require(same, f"{type(model).__name__}: the wrapper changes the tree of variables")
    return (
        lambda v, y, sigma: apply(v, y, **dict.fromkeys(told, sigma), **options),
        lambda v, y, sigma: wne.apply(v, y, **dict.fromkeys(sigma_for_wne, sigma), **options),
        variables,
    )


def _check_output(name: str, eager: Array, compiled: Array, y: Array) -> None:
    """Check that shape and dtype are those of the input, and that compilation does not change the result."""
    one = hasattr(eager, "shape")
    _require(
        one,
        f"{name}: returns a {type(eager).__name__}, not one image: check one of its outputs",
    )
    _require(eager.shape == y.shape, f"{name}: the output is {eager.shape} for {y.shape}")
    _require(eager.dtype == y.dtype, f"{name}: the output is {eager.dtype} for {y.dtype}")
    _require(bool(jnp.isfinite(eager).all()), f"{name}: the output is not finite")
    difference = float(jnp.abs(eager - compiled).max() / jnp.abs(eager).max())
    _require(difference < 1e-4, f"{name}: compiled, the output differs by {difference:.1e} of it")


def _check_neighbours(name: str, f: Callable[[Array], Array], y: Array) -> None:
    """Check that the first image's result does not depend on the others."""
    same = f(y)[0] == f(jnp.concatenate([y[:1], 50 * y[1:] + 7]))[0]
    _require(bool(same.all()), f"{name}: an image's result depends on its neighbours in the batch")


def _check_radius(name: str, f: Callable[[Array], Array], y: Array, model: Any) -> None:
    """Check that a changed pixel changes nothing farther away than the radius."""
    radius, multiple = protocol.receptive_radius(model), protocol.multiple(model)
    if radius is None:
        return
    width = -(-(2 * radius + 3) // multiple) * multiple
    across = [multiple] * (y.ndim - 3)
    strip, at = _texture((1, *across, width, y.shape[-1])), width // 2
    changed = strip.at[:, *[0] * len(across), at].add(3.0)
    same = np.moveaxis(np.asarray(f(changed) == f(strip)), -2, 0).reshape(width, -1).all(axis=1)
    reach = int(np.abs(np.flatnonzero(~same) - at).max(initial=0))
    _require(
        reach <= radius,
        f"{name}: a pixel changes the output {reach} pixels away, but receptive_radius is {radius}",
    )


def _check_symmetry(
    name: str, f: Callable[[Array], Array], y: Array, symmetry: protocol.Symmetry
) -> None:
    """Check f(a y) = a f(y), or f(a y + b) = a f(y) + b, if declared."""
    if symmetry == "normalization":
        assert_normalization_equivariant(f, y, jax.random.key(1), samples=4, gain=_gain(f, y))
    elif symmetry == "scale":
        for a in (0.01, 3.7, 200.0):
            assert_equivariant(f, Scale(a), y, gain=_gain(f, y))
    elif symmetry != "none":
        raise AssertionError(f"{name}: symmetry is none, scale or normalization; not {symmetry!r}")


def _check_wrapped(name: str, wrapped: Callable, variables: Any, y: Array, multiple: int) -> None:
    compiled = jax.jit(wrapped)
    f = _following(compiled, variables, y)
    value = f(y)
    assert_normalization_equivariant(f, y, jax.random.key(1), samples=4, gain=_gain(f, y))
    for k in (-20, -1, 13):
        exact = bool((f(2.0**k * y) == 2.0**k * value).all())
        _require(exact, f"{name}: wrapped, f(2^{k} y) is not 2^{k} f(y), bit for bit")
    constant = jnp.full_like(y, 0.3)
    kept = bool((compiled(variables, constant, _level(y)) == constant).all())
    _require(kept, f"{name}: wrapped, a constant image is not returned unchanged")

    @jax.jit
    def gradients(variables: Any, y: Array) -> Any:
        loss = lambda v, y: jnp.sum(jnp.square(wrapped(v, y, _level(y))))  # noqa: E731
        return jax.grad(loss, argnums=(0, 1))(variables, y)

    for what, image in (("an image", y), ("a constant image", constant)):
        finite = jax.tree.map(lambda g: jnp.isfinite(g).all(), gradients(variables, image))
        _require(
            all(map(bool, jax.tree.leaves(finite))), f"{name}: a gradient on {what} is not finite"
        )
    row = _texture((2, *[1] * (y.ndim - 3), multiple + 2, y.shape[-1]))
    shape = compiled(variables, row, _level(row)).shape
    _require(shape == row.shape, f"{name}: wrapped, the output is {shape} for {row.shape}")


def _level(y: Array) -> Array:
    """The noise level of every image."""
    return jnp.full(y.shape[:1], SIGMA, y.dtype)


def _following(compiled: Callable, variables: Any, y: Array) -> Callable[[Array], Array]:
    """The model as a function of only the images, with sigma proportional to their contrast."""
    contrast = lambda y: jnp.ptp(y, axis=tuple(range(1, y.ndim)))  # noqa: E731
    reference = contrast(y)
    return lambda moved: compiled(variables, moved, SIGMA * contrast(moved) / reference)


def _gain(f: Callable[[Array], Array], y: Array) -> float:
    """The amplification of rounding errors by a random network, estimated from its output."""
    return float(4 + jnp.max(jnp.abs(f(y) - y)) / jnp.std(y))


def _texture(shape: tuple[int, ...]) -> Array:
    """Waves along the last two spatial axes and noise, in unit range, different in every channel."""
    rows, columns = np.mgrid[: shape[-3], : shape[-2]]
    waves = 0.5 + 0.2 * np.sin(rows / 2) * np.cos(columns / 3)
    noise = 0.05 * np.random.default_rng(0).standard_normal(shape)
    return jnp.asarray(waves[..., None] + noise, jnp.float32)


def _answers(layout: Layout, shapes: Shapes) -> Plan | None:
    """The plan of a layout; like in `weights.convert`, it may raise on checkpoints of other layouts."""
    try:
        return layout(shapes)
    except (LookupError, ValueError, ArithmeticError):
        return None


def _reads(layout: Layout, tensors: dict[str, np.ndarray], name: str) -> bool:
    """Whether a layout accepts these tensors as a complete checkpoint."""
    plan = _answers(layout, {tensor: value.shape for tensor, value in tensors.items()})
    try:
        return plan is not None and fill(plan, tensors, name) is not None
    except WeightsError:
        return False


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
