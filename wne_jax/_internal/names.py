"""Names shared by options, configurations and tables.

Command lines are parsed without JAX, so the names are repeated here. A table in another package maps each
name to its object; a test compares the two.
"""

from typing import Literal

BACKBONES = ("dncnn", "fdncnn", "ffdnet", "drunet", "swinir", "restormer")
"""The names in `wne_jax.models.MODELS`."""

STATISTICS = (
    *("mean_std", "noise_level", "haar_mad", "high_pass", "median_mad", "min_max"),
    *("percentiles", "photon", "adaptive_noise", "local_noise"),
)
"""The names in `wne_jax.statistics.STATISTICS`."""

NOISES = (
    *("gaussian", "uniform", "laplace", "rayleigh", "poisson", "speckle"),
    *("salt_and_pepper", "correlated", "varying", "coloured", "camera", "camera_jpeg"),
)
"""The names in `wne_jax.images.degradations.NOISES`."""

WrapperKind = Literal["wne", "scale", "input"]
Split = Literal["train", "test"]
Parallel = Literal["auto", "single", "mesh", "pmap"]
Placement = Literal["auto", "device", "host"]
