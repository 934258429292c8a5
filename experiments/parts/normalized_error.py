"""The error of trained networks in normalized coordinates, as a function of the input's difficulty."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wne_jax.evaluation.sweeps import Denoise
from wne_jax.images import degradations as noise
from wne_jax.statistics import mean_std
from wne_jax.symmetry import analysis

BINS = 16
"""Number of equal intervals of difficulty."""


Row = Mapping[str, Any]
"""A patch: `arm`, `trained`, `level`, `difficulty`, `scale`, `error` and `psnr`."""


def measure(
    networks: Mapping[tuple[str, tuple[float, ...]], Denoise],
    clean: np.ndarray,
    levels: Iterable[float],
    key: jax.Array,
) -> list[Row]:
    """Difficulty, scale, normalized error (dB) and PSNR (dB): a row for each patch, level and network.

    All networks use the coordinates of mean and standard deviation; estimates are not clipped.

    Args:
        networks: Functions by arm and training levels.
        clean: Patches f32[N, H, W, C] in unit range.
        levels: Noise levels in 8-bit units.
        key: Random key; all networks get the same noise.
    """
    difficulty, scale_of = jax.jit(analysis.difficulty), jax.jit(lambda y: mean_std(y).scale)
    records = []
    for i, level in enumerate(levels):
        noisy = noise.gaussian(jax.random.fold_in(key, i), jnp.asarray(clean), level / 255)
        delta, scale = difficulty(noisy, clean), scale_of(noisy).ravel()
        for (arm, trained), f in networks.items():
            error = analysis.normalized_error(f, noisy, clean)
            psnr = analysis.psnr_from_error(error, scale, clean[0].size)
            measured = {"difficulty": delta, "scale": scale, "error": error, "psnr": psnr}
            columns = (np.asarray(c, float).round(6).tolist() for c in measured.values())
            place = {"arm": arm, "trained": trained, "level": level}
            records += [place | dict(zip(measured, values)) for values in zip(*columns)]
    return records


def bins_of(records: Sequence[Row], d: int) -> np.ndarray:
    """The index of each record's difficulty interval, of `BINS` intervals from 0 to sqrt(d)."""
    delta = np.array([record["difficulty"] for record in records])
    return np.minimum((BINS * delta / np.sqrt(d)).astype(int), BINS - 1)


def excess(records: Sequence[Row], d: int) -> float:
    """How much the error depends on the noise level at equal difficulty, in dB.

    The median error of its difficulty interval is subtracted from every error; the residuals are averaged for
    each test level. The result is the root mean square of these averages. It is 0 if patches of equal
    difficulty have the same error at all noise levels.
    """
    error = np.array([record["error"] for record in records])
    level = np.array([record["level"] for record in records])
    places = bins_of(records, d)
    for place in np.unique(places):
        error[places == place] -= np.median(error[places == place])
    return float(np.sqrt(np.mean([error[level == s].mean() ** 2 for s in np.unique(level)])))


def medians(records: Sequence[Row], d: int) -> list[tuple[float, float, int]]:
    """Median difficulty, median error and number of patches of every interval that is not empty."""
    values = np.reshape([(row["difficulty"], row["error"]) for row in records], (-1, 2))
    places = bins_of(records, d)
    groups = [values[places == place] for place in np.unique(places)]
    return [(*map(float, np.median(of, axis=0)), len(of)) for of in groups]
