"""Converts the tensors of a checkpoint to a model and its variables, by a fully checked table."""

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from wne_jax import protocol
from wne_jax._internal.limits import CALLS_A_TENSOR
from wne_jax.config import ModelConfig
from wne_jax.weights._errors import WeightsError, WeightsNote, abbreviate
from wne_jax.weights.layouts import LAYOUTS
from wne_jax.weights.layouts._table import Layout, Plan, Shapes

Flat = Mapping[tuple[str, ...], Any]
"""Variables, or their shapes, by path: collection, modules, name."""

_PREFIXES = ("module.", "_orig_mod.", "net.", "model.")
"""Prefixes of all names added by PyTorch wrappers; layouts whose own names have such a prefix come first."""


def possible_channels(shapes: Iterable[tuple[int, ...]]) -> list[int]:
    """Possible numbers of channels of a model: first gray and colour, then those of its kernels.

    Args:
        shapes: Shapes of its variables. The first kernel is `[..., C, O]`, or C + 1 with a noise map.

    Example:
        >>> possible_channels([(3, 3, 5, 8), (8,)])
        [1, 3, 4, 5]
    """
    inputs = {shape[-2] for shape in shapes if len(shape) > 1}
    return [1, 3, *sorted((inputs | {n - 1 for n in inputs}) - {0, 1, 3})]


def convert(
    tensors: Mapping[str, np.ndarray], *, name: str = "tensors", mode: str | None = None
) -> tuple[ModelConfig, dict[str, Any]]:
    """Recognise a published checkpoint, and convert its tensors to a model's variables.

    Every tensor is used once or is a buffer, every variable is filled once, and shapes agree. If no layout
    matches the names, a common prefix `module.`, `_orig_mod.`, `net.` or `model.` is removed.

    Names and shapes do not determine everything. A scale-equivariant and a normalization-equivariant FDnCNN
    have the same ones, so `mode` must distinguish them. In the files of Saied & Fleuret, a network trained
    inside `WNE` and a bare one also have the same: an ordinary one is returned wrapped, with a warning;
    `dataclasses.replace(config, wrapper=None)` removes the wrapper.

    Args:
        tensors: Tensors by name, as returned by `read_tensors`.
        name: Name of the file, for messages.
        mode: "ordinary", "scale-equivariant" or "normalization-equivariant"; required if more than one model
            fits.

    Returns:
        The configuration, whose `build` makes the module, and the variables: NumPy arrays, in the dtypes of
        the tensors.

    Raises:
        WeightsError: No layout fits, or more than one; tensors or variables are left over, or shapes differ.

    Example:
        >>> widths = {"model.0": (4, 1), "model.2": (4, 4), "model.4": (1, 4)}
        >>> tensors = {f"{name}.weight": np.zeros((*io, 3, 3)) for name, io in widths.items()}
        >>> tensors |= {f"{name}.bias": np.zeros(io[0]) for name, io in widths.items()}
        >>> config, variables = convert(tensors)
        >>> config.backbone, config.options["depth"], list(variables["params"])
        ('dncnn', 3, ['conv_0', 'conv_1', 'conv_2'])
    """
    given = tensors
    while True:
        shapes = {tensor: tuple(value.shape) for tensor, value in tensors.items()}
        plans = [plan for layout in LAYOUTS if (plan := _plan(layout, shapes)) is not None]
        prefix = next(iter(tensors), "").partition(".")[0] + "."
        if plans or prefix not in _PREFIXES or not all(t.startswith(prefix) for t in tensors):
            break
        tensors = {tensor.removeprefix(prefix): value for tensor, value in tensors.items()}
    plan = _choose(plans, given, name, mode)
    if plan.note is not None:
        warnings.warn(f"{name}: {plan.note}", WeightsNote, stacklevel=2)
    return plan.config, fill(plan, tensors, name)


def check_variables(config: ModelConfig, variables: Flat, name: str) -> None:
    """Reject variables that do not match the model, for any number of channels.

    Args:
        config: The model.
        variables: Variables by path.
        name: Name of the file, for messages.

    Raises:
        WeightsError: Variables are missing or left over, or shapes differ.
    """
    given = {path: tuple(value.shape) for path, value in variables.items()}
    found: list[dict[str, list[str]]] = []
    failure = None
    for channels in possible_channels(given.values()):
        if channels > 3 and any(
            kinds["not filled"] or kinds["not in the model"] for kinds in found
        ):
            break  # another number of channels does not help
        try:
            with _few_calls(config, name, len(given)):
                expected = _expected_shapes(config, channels, name)
            complaints = _compare(given, expected)
        except _TooManyLayers:
            raise
        except WeightsError as error:  # a model that subtracts a mean colour has a fixed number
            failure = failure or error
            continue
        if not any(complaints.values()):
            return
        found.append(complaints)
    if failure is not None and not found:
        raise failure
    _reject(name, config, min(found, key=lambda kinds: sum(map(len, kinds.values()))))


class _TooManyLayers(WeightsError):
    """A configuration describes a network that is far larger than the stored tensors."""


@contextmanager
def _few_calls(config: ModelConfig, name: str, tensors: int) -> Iterator[None]:
    """Stop building a network that has far more layers than there are tensors."""
    calls, most = itertools.count(1), CALLS_A_TENSOR * (tensors + 16)

    def count(call: Callable[..., Any], args: Any, kwargs: Any, _: Any) -> Any:
        if next(calls) > most:
            raise _TooManyLayers(
                f"{name}: does not fit {config.backbone}: its {tensors} tensors belong to a smaller network"
            )
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        yield


def _compare(given: Flat, expected: Flat) -> dict[str, list[str]]:
    """Mismatches of shapes, by kind."""
    return {
        "of another shape": [
            f"{'/'.join(path)} is {given[path]}, not {shape}"
            for path, shape in expected.items()
            if given.get(path, shape) != shape
        ],
        "not filled": ["/".join(path) for path in expected if path not in given],
        "not in the model": ["/".join(path) for path in given if path not in expected],
    }


def _choose(plans: Sequence[Plan], tensors: Iterable[str], name: str, mode: str | None) -> Plan:
    """The one plan that fits."""
    if not plans:
        known = ", ".join(layout.__name__ for layout in LAYOUTS)
        raise WeightsError(
            f"{name}: no known layout has tensors named {abbreviate(tensors)}; known layouts are {known}"
        )
    fitting = [plan for plan in plans if mode is None or _mode(plan) == mode]
    if len(fitting) == 1:
        return fitting[0]
    models = abbreviate(f"{plan.config.backbone} of mode {_mode(plan)}" for plan in plans)
    if not fitting:
        raise WeightsError(f"{name}: mode is {mode!r}, but it fits {models}")
    raise WeightsError(f"{name}: fits more than one model: {models}; choose one with mode=")


def _plan(layout: Layout, shapes: Shapes) -> Plan | None:
    """The plan of one layout; None also if some names match, but other names or ranks do not."""
    try:
        return layout(shapes)
    except (LookupError, ValueError, ArithmeticError):
        return None


def _mode(plan: Plan) -> str:
    return plan.config.options.get("mode", "ordinary")


def fill(plan: Plan, tensors: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """Fill the variables from the table of a recognised checkpoint.

    Args:
        plan: The plan of the layout.
        tensors: Tensors by name.
        name: Name of the file, for messages.

    Returns:
        The variables, as NumPy arrays.

    Raises:
        WeightsError: Tensors or variables are left over, or filled twice, or shapes differ.
    """
    sources = Counter(entry.source for entry in plan.entries)
    targets = Counter(entry.target for entry in plan.entries)
    _reject(
        name,
        plan.config,
        {
            "missing": [source for source in sources if source not in tensors],
            "left over": [
                t for t in tensors if t not in sources and t not in plan.buffers | plan.zeros
            ],
            "not zero": [t for t in plan.zeros if np.any(tensors[t])],
            "not finite numbers": [s for s in sources if s in tensors and not _usable(tensors[s])],
            "used twice": [source for source, count in sources.items() if count > 1],
            "filled twice": ["/".join(target) for target, count in targets.items() if count > 1],
        },
    )
    flat, misfits = {}, []
    for source, target, change in plan.entries:
        try:
            flat[target] = np.asarray(change(tensors[source]))
        except (ValueError, IndexError):  # its rank differs from the table's
            misfits.append(
                f"{source} is {tensors[source].shape}, which cannot be {'/'.join(target)}"
            )
    _reject(name, plan.config, {"of another shape": misfits})
    check_variables(plan.config, flat, name)
    return unflatten_dict(flat)


def _usable(tensor: np.ndarray) -> bool:
    """Whether a tensor can be a parameter: floats (bfloat16 is void in NumPy) without NaN."""
    if tensor.dtype.kind not in "fV":
        return False
    return bool(np.isfinite(np.asarray(tensor, np.float32)).all())


def _expected_shapes(config: ModelConfig, channels: int, name: str) -> Flat:
    """The shapes of a model's variables, without computing them."""
    if config.inside is None:  # a wrapper has no variables, and tracing its statistic takes a while
        config = dataclasses.replace(config, wrapper=None)
    try:
        model = config.build()
        y = jax.ShapeDtypeStruct(protocol.example_shape(model, channels), jnp.float32)
        options = protocol.condition(model, jnp.ones(1)) | protocol.mode(model, train=False)
        variables = jax.eval_shape(
            lambda key, y: model.init(key, y, **options), jax.random.key(0), y
        )
    except WeightsError:
        raise
    except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{name}: {config.backbone} cannot be built: {reason}") from error
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _reject(name: str, config: ModelConfig, complaints: Mapping[str, list[str]]) -> None:
    """Raise one error with all complaints in one line, if there are any."""
    parts = [f"{kind}: {abbreviate(items)}" for kind, items in complaints.items() if items]
    if parts:
        raise WeightsError(f"{name}: does not fit {config.backbone}; {'; '.join(parts)}")
