"""Images: files and formats, units, degradations, metrics."""

from wne_jax.images import degradations, metrics, units

__all__ = ["degradations", "metrics", "units"]
