"""The method as modules, and what may stand between a wrapper and its backbone."""

from wne_jax.wrappers import one_level, rescaled, smooth_base
from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant
from wne_jax.wrappers.nnx import NNXWNE

__all__ = [
    "NNXWNE",
    "WNE",
    "InputNormalized",
    "ScaleEquivariant",
    "one_level",
    "rescaled",
    "smooth_base",
]
