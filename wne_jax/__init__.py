"""Exact normalization equivariance for any JAX/Flax backbone.

    z, stats = wne.normalize(y)
    h = wne.process(backbone, z)
    x = wne.denormalize(h, stats)

`wne.wrap` composes the three around a function, `wne.WNE` around a Linen module, `wne.NNXWNE` around an NNX
module. `wne.symmetry` checks the result, and predicts which layers commute with shifts and translations.
`wne.Denoiser` applies a trained model to images in their original types and units.

The names below are public. Each is imported on first use.
"""

from typing import TYPE_CHECKING

from wne_jax._version import __version__

if TYPE_CHECKING:
    from wne_jax import (
        config,
        data,
        evaluation,
        images,
        inference,
        layers,
        models,
        operators,
        outputs,
        protocol,
        statistics,
        symmetry,
        testing,
        training,
        weights,
        wrappers,
    )
    from wne_jax.inference.denoiser import Denoiser
    from wne_jax.statistics import Statistics
    from wne_jax.transforms import Anchor, denormalize, normalize, process, wrap
    from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant
    from wne_jax.wrappers.nnx import NNXWNE
else:
    from wne_jax._internal.lazy import on_demand

    __getattr__, __dir__ = on_demand(__name__)
    del on_demand

__all__ = [
    "NNXWNE",
    "WNE",
    "Anchor",
    "Denoiser",
    "InputNormalized",
    "ScaleEquivariant",
    "Statistics",
    "__version__",
    "config",
    "data",
    "denormalize",
    "evaluation",
    "images",
    "inference",
    "layers",
    "models",
    "normalize",
    "operators",
    "outputs",
    "process",
    "protocol",
    "statistics",
    "symmetry",
    "testing",
    "training",
    "weights",
    "wrap",
    "wrappers",
]
