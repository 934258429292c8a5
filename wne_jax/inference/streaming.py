"""Statistics of images that do not fit in memory: read block by block, equal to those of the whole image.

`image` is `[H, W, C]`: an array, or a memory map of a file, whose pages are released once they are read.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wne_jax.statistics import STATISTICS, Statistic, Statistics
from wne_jax.statistics.base import name_of
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.haar_mad import haar_sigma_over_blocks


def find_peak(image: np.ndarray, *, rows: int | None = None) -> float:
    """The largest distance from the first pixel, in one pass that also looks for NaN and infinite pixels.

    Args:
        image: `[H, W, C]`, integers or floats in any range.
        rows: Rows to read at a time (default: about a million values).

    Raises:
        TypeError: Boolean or complex pixels.
        ValueError: A wrong rank, no pixels, or NaN or infinite ones.

    Example:
        >>> find_peak(np.array([[[100]], [[103]], [[93]]], np.uint16))
        7.0
    """
    blocks = Blocks(image, lambda block: block.astype(np.float64), rows)
    first = float(image[0, 0, 0])
    broken, peak = 0, 0.0
    for block in blocks:
        finite = np.isfinite(block)
        broken += int(block.size - np.count_nonzero(finite))
        if not broken:
            peak = max(peak, float(np.max(np.abs(block - first))))
    if broken:
        raise ValueError(f"image has {broken} NaN or infinite pixels")
    return peak


def stream_statistics(
    statistic: str | Statistic,
    image: np.ndarray,
    *,
    prepare: Callable[[np.ndarray], np.ndarray],
    rows: int | None = None,
) -> Statistics:
    """The statistics of a whole image, as `statistic(prepare(image)[None])` finds them in memory.

    They agree to float32 rounding; medians, before they are divided, agree exactly. A statistic without
    passes over blocks is computed once on the whole image, with a warning.

    Args:
        statistic: A name in `wne_jax.statistics.STATISTICS`, or a statistic.
        image: `[H, W, C]`, real.
        prepare: Map from values of the file to float32, a block `[n, W, C]` at a time, value by value.
        rows: Rows to read at a time (default: about a million values).

    Returns:
        Statistics, float32: `[1, 1, 1, 1]`, or what a statistic without passes returns for `[1, H, W, C]`.

    Raises:
        TypeError: Boolean or complex pixels.
        ValueError: An unknown name, a wrong rank, or no pixels.

    Example:
        >>> image = np.arange(12, dtype=np.uint16).reshape(4, 3, 1)
        >>> location, scale, _ = stream_statistics("median_mad", image, prepare=np.float32, rows=1)
        >>> location.item(), (scale * 0.6744897501960817).item()
        (5.5, 3.0)
    """
    if isinstance(statistic, str):
        if statistic not in STATISTICS:
            raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}, not {statistic!r}")
        statistic = STATISTICS[statistic]
    blocks = Blocks(image, prepare, rows)
    over_blocks = getattr(statistic, "over_blocks", None)
    if over_blocks is None:
        height, width = blocks.shape[:2]
        warnings.warn(
            f"{name_of(statistic)} has no passes over blocks: all {height} x {width} pixels were read into "
            "memory for it",
            stacklevel=2,
        )
        return Statistics(*jax.jit(statistic)(blocks.read(0, height)[None]))
    shape = (1, 1, 1, 1)
    return Statistics(*(jnp.full(shape, part, jnp.float32) for part in over_blocks(blocks)))


def stream_noise(
    image: np.ndarray, *, prepare: Callable[[np.ndarray], np.ndarray], rows: int | None = None
) -> float:
    """The noise level of a whole image, as `haar_sigma(prepare(image)[None])` finds it in memory.

    Arguments as in `stream_statistics`.
    """
    return haar_sigma_over_blocks(Blocks(image, prepare, rows))
