"""Names that options, configurations and tables share.

Command lines are parsed without JAX, so the names stand here by themselves. What each stands for is in
a table of its room; a test compares the two.
"""

from typing import Literal

BACKBONES = ("dncnn", "fdncnn", "ffdnet", "drunet", "swinir", "restormer")
"""Of `wne_jax.models.MODELS`."""

STATISTICS = ("mean_std", "noise_level", "haar_mad", "high_pass", "median_mad", "min_max")
"""Of `wne_jax.statistics.STATISTICS`."""

NOISES = (
    *("gaussian", "uniform", "laplace", "rayleigh", "poisson", "speckle"),
    *("salt_and_pepper", "correlated", "varying", "coloured", "camera", "camera_jpeg"),
)
"""Of `wne_jax.images.degradations.NOISES`."""

WrapperKind = Literal["wne", "scale", "input"]
Split = Literal["train", "test"]
Parallel = Literal["auto", "single", "mesh", "pmap"]
Placement = Literal["auto", "device", "host"]
