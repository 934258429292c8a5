"""The method as modules, and modules that may be placed between a wrapper and its backbone."""

from wne_jax.wrappers import (
    limited_contrast,
    one_level,
    opponent_colours,
    rescaled,
    smooth_base,
    two_scales,
)
from wne_jax.wrappers.bridge import FromInitApply, as_linen, fill, variables_of
from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant
from wne_jax.wrappers.nnx import NNXWNE
from wne_jax.wrappers.one_level import OneLevel
from wne_jax.wrappers.opponent_colours import OpponentColours
from wne_jax.wrappers.rescaled import Rescaled
from wne_jax.wrappers.smooth_base import SmoothBase
from wne_jax.wrappers.two_scales import TwoScales

__all__ = [
    "NNXWNE",
    "WNE",
    "FromInitApply",
    "InputNormalized",
    "OneLevel",
    "OpponentColours",
    "Rescaled",
    "ScaleEquivariant",
    "SmoothBase",
    "TwoScales",
    "as_linen",
    "fill",
    "limited_contrast",
    "one_level",
    "opponent_colours",
    "rescaled",
    "smooth_base",
    "two_scales",
    "variables_of",
]
