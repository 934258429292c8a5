"""Exact normalization equivariance for any JAX/Flax backbone.

    z, stats = wne.normalize(y)
    h = wne.process(backbone, z)
    x = wne.denormalize(h, stats)

`wne.wrap` composes the three around a function, `wne.WNE` around a Linen module, `wne.NNXWNE` around an NNX
module. `wne.symmetry` checks the result, and tells which layers commute with shifts and translations.
`wne.Denoiser` applies a trained model to images as people have them.
"""

from wne_jax import (
    config,
    images,
    inference,
    layers,
    models,
    statistics,
    symmetry,
    weights,
    wrappers,
)
from wne_jax._version import __version__
from wne_jax.inference.denoiser import Denoiser
from wne_jax.statistics import Statistics
from wne_jax.transforms import Anchor, denormalize, normalize, process, wrap
from wne_jax.wrappers.linen import NNXWNE, WNE, InputNormalized, ScaleEquivariant

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
    "denormalize",
    "images",
    "inference",
    "layers",
    "models",
    "normalize",
    "process",
    "statistics",
    "symmetry",
    "weights",
    "wrap",
    "wrappers",
]
