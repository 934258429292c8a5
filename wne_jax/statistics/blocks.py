"""Images that never fit in memory, as blocks of rows: what the passes of a statistic read.

The work on pixels is NumPy's, so that no block compiles anything.
"""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK = 2**20
"""Values read at a time, if a row has no more."""


@dataclass(frozen=True)
class Blocks:
    """An image as prepared blocks of rows; iterating over it reads every row once.

    Attributes:
        image: `[H, W, C]`, real: an array, or a memory map of a file, whose pages are let go as soon as they
            are read.
        prepare: Map from values of the image to float32, a block `[n, W, C]` at a time, value by value.
        rows: Rows to read at a time (default: about a million values).

    Raises:
        TypeError: Boolean or complex pixels.
        ValueError: A wrong rank, no pixels, or no rows at a time.

    Example:
        >>> [block.shape for block in Blocks(np.zeros((5, 4, 1)), np.float32, rows=2)]
        [(2, 4, 1), (2, 4, 1), (1, 4, 1)]
    """

    image: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray]
    rows: int | None = None

    def __post_init__(self):
        """Reject what is no image."""
        image = self.image
        if image.ndim != 3 or image.size == 0:
            raise ValueError(f"image must be [H, W, C] and not empty; its shape is {image.shape}")
        if image.dtype.kind not in "uif":
            raise TypeError(f"image must hold integers or floats, not {image.dtype}")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows must be 1 or more, not {self.rows}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of the whole image."""
        return self.image.shape

    @property
    def rows_at_once(self) -> int:
        """Rows of a block: as asked for, or about a million values."""
        return self.rows or max(1, _BLOCK // (self.shape[1] * self.shape[2]))

    def __iter__(self) -> Iterator[np.ndarray]:
        """All rows, each once."""
        return self.bands(1)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, prepared: `[stop - start, W, C]`."""
        block = self.prepare(self.image[start:stop])
        release_pages(self.image)
        return block

    def spans(self, height: int) -> Iterator[tuple[int, int]]:
        """Where the blocks of the first `height` rows start and stop."""
        for start in range(0, height, self.rows_at_once):
            yield start, min(start + self.rows_at_once, height)

    def bands(self, size: int) -> Iterator[np.ndarray]:
        """Blocks that overlap, so that every window of `size` rows lies in exactly one of them.

        Example:
            >>> blocks = Blocks(np.arange(5.0).reshape(5, 1, 1), np.float32, rows=2)
            >>> [band.ravel().tolist() for band in blocks.bands(2)]
            [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
        """
        for start, stop in self.spans(len(self.image) - size + 1):
            yield self.read(start, stop + size - 1)


def root_mean_square(parts: Iterator[np.ndarray]) -> float:
    """The root of the mean square of all entries of some arrays, in float64."""
    power, number = 0.0, 0
    for part in parts:
        power += float(np.sum(np.square(part, dtype=np.float64)))
        number += part.size
    return float(np.sqrt(power / number))


def release_pages(array: np.ndarray) -> None:
    """Let go of the pages that a memory map holds in this process; others, and the file, keep them.

    Without it every page ever touched counts as resident, and a large file seems to fill the memory. A
    copy-on-write map would lose what was written to it, and keeps its pages.
    """
    mapped = getattr(array, "_mmap", None)
    shared = getattr(array, "mode", "c") != "c"
    if mapped is not None and shared and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
