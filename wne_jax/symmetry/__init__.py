"""Does f(T x) = T f(x)? Groups that act on images, and maps and layers tested against them."""

from wne_jax.symmetry import actions, analysis, equivariance, layerwise, report, translation

__all__ = ["actions", "analysis", "equivariance", "layerwise", "report", "translation"]
