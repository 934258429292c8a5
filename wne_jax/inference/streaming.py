"""Statistics of images that never fit in memory: read block by block, equal to those of the whole.

Moments of blocks merge by Chan's formula; medians are selected exactly, in two passes over the file. The
work on pixels is NumPy's, so that no block compiles anything. `image` is `[H, W, C]`: an array, or a memory
map of a file, whose pages are let go as soon as they are read.
"""

import functools
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wne_jax import statistics
from wne_jax.statistics import _NORMAL_MAD, FLOOR, STATISTICS, Moments, Statistic, Statistics, merge

_BLOCK = 2**20
"""Values read at a time, if a row has no more."""

_Pair = tuple[float, float]
"""Location and scale."""


def find_peak(image: np.ndarray, *, rows: int | None = None) -> float:
    """The largest distance from the first pixel, in one pass, which also looks for broken pixels.

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
    stream = _Stream(image, lambda block: block.astype(np.float64), rows)
    first = float(image[0, 0, 0])
    broken, peak = 0, 0.0
    for block in stream.blocks():
        finite = np.isfinite(block)
        broken += int(block.size - np.count_nonzero(finite))
        if not broken:
            peak = max(peak, float(np.max(np.abs(block - first))))
    if broken:
        raise ValueError(f"image has {broken} NaN or infinite pixels")
    return peak


def stream_statistics(
    pair: str | Statistic,
    image: np.ndarray,
    *,
    prepare: Callable[[np.ndarray], np.ndarray],
    rows: int | None = None,
) -> Statistics:
    """Location and scale of a whole image, as `pair(prepare(image)[None])` finds them in memory.

    They agree to float32 rounding; the medians themselves, before they are divided, agree exactly.

    Args:
        pair: A name in `wne_jax.statistics.STATISTICS`, or one of its functions, or `root_mean_square`.
        image: `[H, W, C]`, real.
        prepare: Map from values of the file to float32, a block `[n, W, C]` at a time, value by value.
        rows: Rows to read at a time (default: about a million values).

    Returns:
        Statistics of shape `[1, 1, 1, 1]`, float32.

    Raises:
        TypeError: Boolean or complex pixels.
        ValueError: A pair that cannot be streamed, a wrong rank, or no pixels.

    Example:
        >>> image = np.arange(12, dtype=np.uint16).reshape(4, 3, 1)
        >>> location, scale = stream_statistics("median_mad", image, prepare=np.float32, rows=1)
        >>> location.item(), (scale * 0.6744897501960817).item()
        (5.5, 3.0)

    References:
        Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979. Munro & Paterson, "Selection and sorting with limited storage", 1980.
    """
    function = STATISTICS.get(pair) if isinstance(pair, str) else pair
    for known, compute in _STREAMED.items():
        if function is known:
            location, scale = compute(_Stream(image, prepare, rows))
            shape = (1, 1, 1, 1)
            return Statistics(*(jnp.full(shape, x, jnp.float32) for x in (location, scale)))
    name = pair if isinstance(pair, str) else getattr(pair, "__name__", repr(pair))
    raise ValueError(
        f"pair {name} cannot be streamed: use {', '.join(STATISTICS)} or root_mean_square"
    )


def stream_noise(
    image: np.ndarray, *, prepare: Callable[[np.ndarray], np.ndarray], rows: int | None = None
) -> float:
    """The noise level of a whole image, as `estimate_sigma(prepare(image)[None])` finds it in memory.

    Arguments as in `stream_statistics`.
    """
    return _noise(_Stream(image, prepare, rows))


def release_pages(array: np.ndarray) -> None:
    """Let go of the pages that a memory map holds in this process; others, and the file, keep them.

    Without it every page ever touched counts as resident, and a large file seems to fill the memory. A
    copy-on-write map would lose what was written to it, and keeps its pages.
    """
    mapped = getattr(array, "_mmap", None)
    shared = getattr(array, "mode", "c") != "c"
    if mapped is not None and shared and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class _Stream:
    """An image as prepared blocks of rows."""

    image: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray]
    rows: int | None = None

    def __post_init__(self):
        image = self.image
        if image.ndim != 3 or image.size == 0:
            raise ValueError(f"image must be [H, W, C] and not empty; its shape is {image.shape}")
        if image.dtype.kind not in "uif":
            raise TypeError(f"image must hold integers or floats, not {image.dtype}")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows must be 1 or more, not {self.rows}")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, prepared: `[stop - start, W, C]`."""
        block = self.prepare(self.image[start:stop])
        release_pages(self.image)
        return block

    def spans(self, height: int) -> Iterator[tuple[int, int]]:
        """Where the blocks of the first `height` rows start and stop."""
        rows = self.rows or max(1, _BLOCK // (self.image.shape[1] * self.image.shape[2]))
        for start in range(0, height, rows):
            yield start, min(start + rows, height)

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, each once."""
        for start, stop in self.spans(len(self.image)):
            yield self.read(start, stop)

    def details(self) -> Iterator[np.ndarray]:
        """Absolute diagonal Haar details, unscaled, on the axes that are longer than one."""
        height, width = self.image.shape[:2]
        for start, stop in self.spans(max(height - 1, 1)):
            block = self.read(start, min(stop + 1, height))
            block = np.diff(block, axis=0) if height > 1 else block
            yield np.abs(np.diff(block, axis=1) if width > 1 else block)

    def second_differences(self) -> Iterator[np.ndarray]:
        """The circular high-pass of `wne_jax.statistics.high_pass`."""
        height, width = self.image.shape[:2]
        gain = np.float32(np.sqrt(6.0))
        for start, stop in self.spans(height):
            block = self.read(start, stop)
            if height > 1:
                above, below = (start - 1) % height, stop % height
                around = np.concatenate(
                    [self.read(above, above + 1), block, self.read(below, below + 1)]
                )
                block = (2 * block - around[:-2] - around[2:]) / gain
            if width > 1:
                block = (2 * block - np.roll(block, 1, 1) - np.roll(block, -1, 1)) / gain
            yield block


def _mean_std(stream: _Stream) -> _Pair:
    parts = [_moments(block) for block in stream.blocks()]
    with jax.enable_x64(True):  # merged at the precision of the parts
        whole = functools.reduce(merge, (Moments(*map(jnp.float64, part)) for part in parts))
        mean, std = whole.statistics
        return float(mean), float(std)


def _moments(block: np.ndarray) -> tuple[float, float, float]:
    """Number, mean and squared deviations, in float64 around the first entry: constants are exact."""
    pivot = float(block.flat[0])
    centred = block.astype(np.float64) - pivot
    offset = float(np.mean(centred))
    return block.size, pivot + offset, float(np.sum(np.square(centred - offset)))


def _median(make_pass: Callable[[], Iterator[np.ndarray]]) -> float:
    """The exact median of all float32 entries that an iterator yields, in two passes.

    The bits of floats, the negative ones flipped, are ordered as the floats are. A histogram of the high 16
    bits says in which bins the two middle entries lie; one of the low 16 bits in these bins says where.
    """
    high = np.zeros(1 << 16, np.int64)
    for values in make_pass():
        high += _histogram(_ordered_bits(values) >> 16)
    upto = np.cumsum(high)
    ranks = np.array([(upto[-1] - 1) // 2, upto[-1] // 2])
    bins = np.searchsorted(upto, ranks, side="right")

    low = {int(b): np.zeros(1 << 16, np.int64) for b in bins}
    for values in make_pass():
        bits = _ordered_bits(values)
        for b, histogram in low.items():
            histogram += _histogram(bits[bits >> 16 == b] & 0xFFFF)
    within = ranks - (upto - high)[bins]
    found = [
        b << 16 | int(np.searchsorted(np.cumsum(low[b]), rank, side="right"))
        for b, rank in zip(map(int, bins), within)
    ]
    lower, upper = _floats(np.array(found, np.uint32))
    return float((lower + upper) / np.float32(2))


def _histogram(values: np.ndarray) -> np.ndarray:
    """How often each 16-bit number occurs."""
    return np.bincount(values.ravel(), minlength=1 << 16)


def _ordered_bits(x: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the floats `x` (f32 -> u32), as in `wne_jax.statistics.order`."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits >= sign, ~bits, bits | sign)


def _floats(bits: np.ndarray) -> np.ndarray:
    """The inverse of `_ordered_bits`."""
    sign = np.uint32(1 << 31)
    return np.where(bits >= sign, bits ^ sign, ~bits).view(np.float32)


def _root_mean_square(values: Iterator[np.ndarray]) -> float:
    """The root of the mean square of all entries that an iterator yields."""
    power, number = 0.0, 0
    for block in values:
        power += float(np.sum(np.square(block, dtype=np.float64)))
        number += block.size
    return float(np.sqrt(power / number))


def _floored(stream: _Stream, raw: float) -> _Pair:
    """Mean, and `raw` but at least `FLOOR` standard deviations."""
    mean, std = _mean_std(stream)
    return mean, max(raw, FLOOR * std)


def _noise(stream: _Stream) -> float:
    detail_axes = sum(size > 1 for size in stream.image.shape[:2])
    if not detail_axes:
        return 0.0
    return _median(stream.details) / float(np.sqrt(2.0) ** detail_axes * _NORMAL_MAD)


def _noise_level(stream: _Stream) -> _Pair:
    return _floored(stream, _noise(stream))


def _high_pass(stream: _Stream) -> _Pair:
    if max(stream.image.shape[:2]) == 1:
        return _floored(stream, 0.0)
    return _floored(stream, _root_mean_square(stream.second_differences()))


def _median_mad(stream: _Stream) -> _Pair:
    centre = _median(stream.blocks)
    deviations = _median(lambda: (np.abs(block - np.float32(centre)) for block in stream.blocks()))
    return centre, _floored(stream, deviations / _NORMAL_MAD)[1]


def _min_max(stream: _Stream) -> _Pair:
    extremes = [(block.min(), block.max()) for block in stream.blocks()]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    return float(low), float(high - low)


def _zero_and_root_mean_square(stream: _Stream) -> _Pair:
    return 0.0, _root_mean_square(stream.blocks())


_STREAMED: dict[Statistic, Callable[[_Stream], _Pair]] = {
    statistics.mean_std: _mean_std,
    statistics.haar_mad: _noise_level,
    statistics.high_pass: _high_pass,
    statistics.median_mad: _median_mad,
    statistics.min_max: _min_max,
    statistics.root_mean_square: _zero_and_root_mean_square,
}
