"""A trained model as a function of images, of any size, on any device, in any iteration."""

from wne_jax.inference import plug_and_play, solvers
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.exporting import load_exported

__all__ = ["Denoiser", "load_exported", "plug_and_play", "solvers"]
