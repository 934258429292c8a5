r"""Location and scale: the two numbers per instance that normalization removes.

A statistic $(\mu, s)$ generates the whole class of normalization-equivariant maps when

$$\mu(a y + b) = a\,\mu(y) + b, \qquad s(a y + b) = a\,s(y), \qquad s(y) = 0 \iff y \text{ constant}$$

for every $a > 0$ and real $b$ (Saied & Fleuret 2026 take the mean and the standard deviation; any other will
do). Here a statistic is a function `statistic(y, *, axes, where) -> Statistics`, and `check_contract` tells
whether one of your own qualifies.

Conventions: `y` is `[B, ..., C]`, rank 2 or more. `axes` are pooled (default: all but the batch) and remain
as axes of size one. `where` is a boolean mask that broadcasts to `y`, True where an entry is valid: masked
entries, NaN included, influence nothing. Statistics are computed in float32, or float64 for float64 input.
Float32 data must keep its deviations from the mean within about 1e-18 to 1e18, where their squares neither
vanish nor overflow.

Each statistic has a file of its own, which holds its formula in memory and its passes over blocks, for images
that never fit in memory.
"""

from wne_jax._internal.importing import import_object, is_import_path
from wne_jax.statistics.base import (
    Moments,
    Statistic,
    Statistics,
    has_gain,
    has_unit_noise,
    merge,
    moments,
    prepare,
    symmetry_of,
    takes_noise,
)
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.contract import check_contract
from wne_jax.statistics.fixed import fixed, fixed_noise
from wne_jax.statistics.haar_mad import haar_mad, haar_sigma
from wne_jax.statistics.high_pass import high_pass
from wne_jax.statistics.local_noise import local_noise
from wne_jax.statistics.mean_std import FLOOR, floored, mean_std
from wne_jax.statistics.median_mad import median_mad
from wne_jax.statistics.min_max import min_max
from wne_jax.statistics.noise import estimate_sigma, noise_level
from wne_jax.statistics.noise_curve import NoiseCurve, noise_curve
from wne_jax.statistics.percentiles import percentiles
from wne_jax.statistics.photon import adaptive_noise, photon
from wne_jax.statistics.report import NoiseReport, noise_report
from wne_jax.statistics.root_mean_square import root_mean_square

STATISTICS: dict[str, Statistic] = {
    "mean_std": mean_std,
    "noise_level": noise_level,
    "haar_mad": haar_mad,
    "high_pass": high_pass,
    "median_mad": median_mad,
    "min_max": min_max,
    "percentiles": percentiles(),
    "photon": photon,
    "adaptive_noise": adaptive_noise,
    "local_noise": local_noise,
}
"""The statistics that generate normalization equivariance, by the names that configurations use."""


def named(name: str) -> Statistic:
    """A statistic by its name, as configurations and command lines have it.

    Args:
        name: A key of `STATISTICS`, or an import path "my_package.stats:mine".

    Raises:
        ValueError: There is none.

    Example:
        >>> named("mean_std") is mean_std
        True
    """
    if is_import_path(name):
        return import_object(name)
    if name not in STATISTICS:
        raise ValueError(
            f"statistics must be one of {', '.join(STATISTICS)}, or package.module:name; not {name!r}"
        )
    return STATISTICS[name]


__all__ = [
    "FLOOR",
    "STATISTICS",
    "Blocks",
    "Moments",
    "NoiseCurve",
    "NoiseReport",
    "Statistic",
    "Statistics",
    "adaptive_noise",
    "check_contract",
    "estimate_sigma",
    "fixed",
    "fixed_noise",
    "floored",
    "haar_mad",
    "haar_sigma",
    "has_gain",
    "has_unit_noise",
    "high_pass",
    "local_noise",
    "mean_std",
    "median_mad",
    "merge",
    "min_max",
    "moments",
    "named",
    "noise_curve",
    "noise_level",
    "noise_report",
    "percentiles",
    "photon",
    "prepare",
    "root_mean_square",
    "symmetry_of",
    "takes_noise",
]
