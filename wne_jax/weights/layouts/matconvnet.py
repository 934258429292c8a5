"""DnCNN, FDnCNN and FFDNet of their authors: chains of MatConvNet, named as by `read_tensors`.

The index of the first convolution shows what precedes it: nothing before `layers.1`, the appended noise level
before `layers.2`, and `pixel_unshuffle` with the noise level before `layers.3`.
"""

from typing import Any

import numpy as np

from wne_jax.config import ModelConfig
from wne_jax.weights.layouts._table import Entry, Plan, Shapes, same

_PIXELS = [0, 2, 1, 3]
"""Order of the four pixels as channels: MATLAB counts columns first, `pixel_unshuffle` rows first."""


def matconvnet_dncnn(shapes: Shapes) -> Plan | None:
    """`layers.1`, `layers.3`, ...; it predicts the noise."""
    return _plan(shapes, 1, "dncnn", batch_norm=False)


def matconvnet_fdncnn(shapes: Shapes) -> Plan | None:
    """`layers.2`, `layers.4`, ...; it takes the noise level and predicts the image."""
    return _plan(shapes, 2, "fdncnn", conditioned=True, last_bias=True)


def matconvnet_ffdnet(shapes: Shapes) -> Plan | None:
    """`layers.3`, `layers.5`, ...; the same with four channels per gray channel."""
    plan = _plan(shapes, 3, "ffdnet", conditioned=True)
    if plan is None or shapes[plan.entries[-1].source] != (len(_PIXELS),):
        return None
    first, *middle, last_kernel, last_bias = plan.entries
    entries = [
        first._replace(convert=lambda w: w[:, :, [*_PIXELS, len(_PIXELS)]]),
        *middle,
        last_kernel._replace(convert=_shuffled),
        last_bias._replace(convert=_shuffled),
    ]
    return plan._replace(entries=entries)


def _plan(shapes: Shapes, first: int, backbone: str, **options: Any) -> Plan | None:
    """The chain whose first convolution has this index."""
    names = [f"layers.{first + 2 * i}" for i in range(len(shapes) // 2)]
    kernels = [shapes.get(f"{name}.filters", ()) for name in names]
    if len(kernels) < 2 or any(len(kernel) != 4 for kernel in kernels):
        return None
    if kernels[0][2] != kernels[-1][3] + int("conditioned" in options):
        return None
    entries = []
    for i, name in enumerate(names):
        entries.append(Entry(f"{name}.filters", ("params", f"conv_{i}", "kernel"), same))
        entries.append(Entry(f"{name}.biases", ("params", f"conv_{i}", "bias"), same))
    sizes = {"depth": len(names), "features": kernels[0][3]}
    return Plan(ModelConfig(backbone, sizes | options), entries)


def _shuffled(tensor: np.ndarray) -> np.ndarray:
    return tensor[..., _PIXELS]
