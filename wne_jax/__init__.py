"""Exact normalization equivariance for any JAX/Flax backbone.

    z, stats = wne.normalize(y)
    h = wne.process(backbone, z)
    x = wne.denormalize(h, stats)

`wne.wrap` composes the three around a function, `wne.WNE` around a Linen module, `wne.NNXWNE` around an NNX
module. `wne.actions` and `wne.equivariance` check the result.
"""

from wne_jax import actions, equivariance, statistics
from wne_jax._version import __version__
from wne_jax.modules import NNXWNE, WNE, InputNormalized, ScaleEquivariant
from wne_jax.statistics import Statistics
from wne_jax.transforms import Anchor, denormalize, normalize, process, wrap

__all__ = [
    "NNXWNE",
    "WNE",
    "Anchor",
    "InputNormalized",
    "ScaleEquivariant",
    "Statistics",
    "__version__",
    "actions",
    "denormalize",
    "equivariance",
    "normalize",
    "process",
    "statistics",
    "wrap",
]
