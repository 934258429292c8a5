"""Plain stacks of convolutions: DnCNN and FDnCNN of KAIR, Herbreteau et al., Mohan et al., Saied & Fleuret
and SCICO; FFDNet of KAIR.

Names do not tell everything. In the files of Saied & Fleuret, every name starts with `model.`, with and
without a wrapper (their configuration is in a separate file); an ordinary network is assumed to be trained
inside WNE. A normalization-equivariant and a scale-equivariant FDnCNN have the same tensors, so both layouts
match.
"""  # noqa: D205

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wne_jax.config import ModelConfig
from wne_jax.weights.layouts._affine import affine_convolution
from wne_jax.weights.layouts._table import (
    ASSUMED_WRAPPER,
    Entry,
    Plan,
    Shapes,
    batch_norm,
    convolution_entries,
    same,
)

_IRCNN_DEPTH = 7
"""Layers of KAIR's IRCNN, which has the names and shapes of a DnCNN but dilated convolutions."""

_BATCH_NORM = (
    ("params", "scale"),
    ("params", "bias"),
    ("batch_stats", "mean"),
    ("batch_stats", "var"),
)
"""The variables of Flax's batch normalization."""


class _Stack(NamedTuple):
    """A chain of convolutions, by name in the file."""

    names: list[str]
    features: int
    inputs: int
    outputs: int

    def options(self, **more: Any) -> dict[str, Any]:
        """The options of every plain model, and further ones."""
        conditioned = {"conditioned": True} if self.inputs == self.outputs + 1 else {}
        return {"depth": len(self.names), "features": self.features, **conditioned, **more}


def kair_dncnn(shapes: Shapes) -> Plan | None:
    """`model.0`, `model.2`, ...: DnCNN with merged batch normalization; it predicts the noise."""
    stack = _sequential(shapes, "model.")
    if stack is None or stack.inputs != stack.outputs or len(stack.names) == _IRCNN_DEPTH:
        return None
    config = ModelConfig("dncnn", stack.options(batch_norm=False))
    return Plan(config, _convolutions(stack.names))


def kair_fdncnn(shapes: Shapes) -> Plan | None:
    """`model.0`, `model.2`, ... with the noise level as additional input channel; it predicts the image."""
    stack = _sequential(shapes, "model.")
    if stack is None or stack.inputs != stack.outputs + 1 or stack.outputs % 4 == 0:
        return None
    config = ModelConfig("fdncnn", stack.options(last_bias=True))
    return Plan(config, _convolutions(stack.names))


def kair_ffdnet(shapes: Shapes) -> Plan | None:
    """The same names, with four channels per input channel plus the noise level; it predicts the image."""
    stack = _sequential(shapes, "model.")
    if stack is None or stack.inputs != stack.outputs + 1 or stack.outputs % 4:
        return None
    return Plan(ModelConfig("ffdnet", stack.options()), _convolutions(stack.names))


def fdncnn(shapes: Shapes) -> Plan | None:
    """`fdncnn.0`, `fdncnn.2`, ... with biases on all but the last (Herbreteau et al., Saied & Fleuret)."""
    stack, wrapped = _fdncnn(shapes)
    if stack is None or f"{stack.names[0]}.bias" not in shapes:
        return None
    config = ModelConfig("fdncnn", stack.options(), wrapper="wne" if wrapped else None)
    entries = _convolutions(stack.names)[:-1]  # the last entry is the last bias
    return Plan(config, entries, note=ASSUMED_WRAPPER if wrapped else None)


def fdncnn_scale_equivariant(shapes: Shapes) -> Plan | None:
    """`fdncnn.0`, `fdncnn.2`, ... without biases, read as kernels."""
    stack, _ = _fdncnn(shapes)
    if stack is None or f"{stack.names[0]}.bias" in shapes:
        return None
    config = ModelConfig("fdncnn", stack.options(mode="scale-equivariant"))
    return Plan(config, _convolutions(stack.names, bias=False))


def fdncnn_normalization_equivariant(shapes: Shapes) -> Plan | None:
    """`fdncnn.0`, `fdncnn.2`, ... without biases, read as free weights of affine convolutions.

    The code of Saied & Fleuret uses the parametrization and the channel pairs of Herbreteau et al.
    """
    stack, _ = _fdncnn(shapes)
    if stack is None or f"{stack.names[0]}.bias" in shapes or stack.features % 2:
        return None
    options = stack.options(mode="normalization-equivariant")
    entries, last = [], len(stack.names) - 1
    for i, name in enumerate(stack.names):
        change = partial(
            affine_convolution,
            exempt=int(i == 0 and "conditioned" in options),
            sorted_before=i > 0,
            sorted_after=i < last,
        )
        entries.append(Entry(f"{name}.weight", ("params", f"conv_{i}", "kernel"), change))
    return Plan(ModelConfig("fdncnn", options), entries)


def dncnn_with_batch_norm(shapes: Shapes) -> Plan | None:
    """`first_layer`, `hidden_layer_list`, `bn_layer_list`, `last_layer` (Mohan et al., Saied & Fleuret).

    Without biases, normalization divides by the running standard deviation plus 1e-5, then scales; running
    means and biases in the file are zeros.
    """
    prefix = "model." if "model.first_layer.weight" in shapes else ""
    hidden = [
        f"{prefix}hidden_layer_list.{i}"
        for i in range(_count(shapes, f"{prefix}hidden_layer_list."))
    ]
    stack = _stack(shapes, [f"{prefix}first_layer", *hidden, f"{prefix}last_layer"])
    if stack is None or stack.inputs != stack.outputs:
        return None
    bias = f"{prefix}first_layer.bias" in shapes
    entries = _convolutions(stack.names, bias=bias)
    buffers, zeros = set(), set()
    for i in range(1, len(stack.names) - 1):
        source, target = f"{prefix}bn_layer_list.{i - 1}", f"norm_{i}"
        buffers.add(f"{source}.num_batches_tracked")
        if bias:
            entries += batch_norm(source, target)
            continue
        zeros |= {f"{source}.bias", f"{source}.running_mean"}
        entries += [
            Entry(f"{source}.weight", ("params", target, "scale"), same),
            Entry(f"{source}.running_var", ("batch_stats", target, "std"), _deviation),
        ]
    if not bias:
        config = ModelConfig("dncnn", stack.options(mode="scale-equivariant"))
    else:
        config = ModelConfig("dncnn", stack.options(), wrapper="wne" if prefix else None)
    note = ASSUMED_WRAPPER if bias and prefix else None
    return Plan(config, entries, frozenset(buffers), frozenset(zeros) & shapes.keys(), note)


def sequential_dncnn(shapes: Shapes) -> Plan | None:
    """`dncnn.0`, then `dncnn.2` and `dncnn.3` (batch normalization), `dncnn.5` and `dncnn.6`, ...; no biases.

    This is the widely used PyTorch port of DnCNN-S; it predicts the noise.
    """
    hidden = [
        name.removesuffix(".running_mean") for name in shapes if name.endswith(".running_mean")
    ]
    names = ["dncnn.0", *(f"dncnn.{3 * i + 2}" for i in range(len(hidden) + 1))]
    stack = _stack(shapes, names)
    if stack is None or stack.inputs != stack.outputs or len(hidden) != len(names) - 2:
        return None
    entries, buffers = _convolutions(names, bias=False), set()
    for i in range(1, len(names) - 1):
        norm = f"dncnn.{3 * i}"
        entries += batch_norm(norm, f"norm_{i}")
        buffers.add(f"{norm}.num_batches_tracked")
    config = ModelConfig("dncnn", stack.options(use_bias=False))
    return Plan(config, entries, frozenset(buffers))


def scico_dncnn(shapes: Shapes) -> Plan | None:
    """`conv_start`, `ConvBNBlock_N`, `conv_end`: circular padding, convolutions without biases.

    Networks that take the noise level have it as a second channel, also at the output, where SCICO drops it.
    """
    first, last = (shapes.get(f"params/{name}/kernel", ()) for name in ("conv_start", "conv_end"))
    if len(first) != 4 or len(last) != 4 or first[2] != last[3]:
        return None
    conditioned = first[2] == 2
    hidden = sum(name.endswith("/Conv_0/kernel") for name in shapes)
    names = ["conv_start", *(f"ConvBNBlock_{i}/Conv_0" for i in range(hidden)), "conv_end"]
    entries = [
        Entry(f"params/{name}/kernel", ("params", f"conv_{i}", "kernel"), same)
        for i, name in enumerate(names)
    ]
    if conditioned:
        entries[-1] = entries[-1]._replace(convert=_first_output)
    for i in range(hidden):
        for collection, leaf in _BATCH_NORM:
            source = f"{collection}/ConvBNBlock_{i}/BatchNorm_0/{leaf}"
            entries.append(Entry(source, (collection, f"norm_{i + 1}", leaf), same))
    stack = _Stack(names, first[3], first[2], 1 if conditioned else last[3])
    return Plan(ModelConfig("dncnn", stack.options(use_bias=False, padding="circular")), entries)


def _deviation(variance: np.ndarray) -> np.ndarray:
    return np.sqrt(variance) + np.asarray(1e-5, variance.dtype)


def _first_output(kernel: np.ndarray) -> np.ndarray:
    return kernel[..., :1]


def _fdncnn(shapes: Shapes) -> tuple[_Stack | None, bool]:
    """The stack, and whether its names have the prefix of Saied & Fleuret."""
    prefix = "model." if "model.fdncnn.0.weight" in shapes else ""
    stack = _sequential(shapes, f"{prefix}fdncnn.")
    if stack is not None and stack.inputs - stack.outputs not in (0, 1):
        stack = None
    return stack, bool(prefix)


def _sequential(shapes: Shapes, prefix: str) -> _Stack | None:
    """A PyTorch Sequential of convolutions, separated by activations without tensors."""
    return _stack(shapes, [f"{prefix}{2 * i}" for i in range(_count(shapes, prefix))])


def _count(shapes: Shapes, prefix: str) -> int:
    """The number of layers with weights in a list of layers."""
    return sum(name.startswith(prefix) and name.endswith(".weight") for name in shapes)


def _stack(shapes: Shapes, names: list[str]) -> _Stack | None:
    """The chain of these convolutions, if all exist."""
    kernels = [shapes.get(f"{name}.weight", ()) for name in names]
    if len(kernels) < 2 or any(len(kernel) != 4 for kernel in kernels):
        return None
    return _Stack(names, kernels[0][0], kernels[0][1], kernels[-1][0])


def _convolutions(names: list[str], *, bias: bool = True) -> list[Entry]:
    """The table of a chain of convolutions."""
    rows = (convolution_entries(name, f"conv_{i}", bias=bias) for i, name in enumerate(names))
    return [entry for row in rows for entry in row]
