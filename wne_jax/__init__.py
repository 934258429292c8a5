"""Exact normalization equivariance for any JAX/Flax backbone.

    z, stats = wne.normalize(y)
    h = wne.process(backbone, z)
    x = wne.denormalize(h, stats)

`wne.wrap` composes the three around a function, `wne.WNE` around a Linen module, `wne.NNXWNE` around an NNX
module. `wne.actions` and `wne.equivariance` check the result, and `wne.Denoiser` applies a trained model to
images as people have them. `wne.translation` and `wne.layerwise` tell which layers commute with shifts and
translations, and where a network loses them.
"""

from wne_jax import (
    actions,
    analysis,
    equivariance,
    frozen,
    layers,
    layerwise,
    metrics,
    models,
    noise,
    solvers,
    spectra,
    statistics,
    translation,
    weights,
)
from wne_jax._version import __version__
from wne_jax.denoiser import Denoiser
from wne_jax.modules import NNXWNE, WNE, InputNormalized, ScaleEquivariant
from wne_jax.statistics import Statistics
from wne_jax.transforms import Anchor, denormalize, normalize, process, wrap

__all__ = [
    "NNXWNE",
    "WNE",
    "Anchor",
    "Denoiser",
    "InputNormalized",
    "ScaleEquivariant",
    "Statistics",
    "__version__",
    "actions",
    "analysis",
    "denormalize",
    "equivariance",
    "frozen",
    "layers",
    "layerwise",
    "metrics",
    "models",
    "noise",
    "normalize",
    "process",
    "solvers",
    "spectra",
    "statistics",
    "translation",
    "weights",
    "wrap",
]
