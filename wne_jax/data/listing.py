"""The entries of a source, listed before they are read, and reading them one by one."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wne_jax.images.reading import ImageError
from wne_jax.images.units import to_unit, with_channels

_LISTED = 10  # at most so many skipped entries are named in one message
_PACKAGE = str(Path(__file__).parent)


class NamedImage(NamedTuple):
    """An image and its name in tables and figures.

    Attributes:
        name: The file's name without its suffix, or with it if two files of a set have the same stem.
        pixels: `[H, W, C]`, `uint8`, `uint16` or `float32` as in the file. A pair is `[2, H, W, C]`, noisy
            and clean; repeats are `[K, H, W, C]`, K >= 2.
    """

    name: str
    pixels: np.ndarray


class Entry(NamedTuple):
    """One image, pair or scene that can be read.

    Attributes:
        label: Its name in messages.
        read: Reads it, or raises `ImageError` with the reason, without its name.
    """

    label: str
    read: Callable[[], NamedImage]


class Listing(NamedTuple):
    """The entries of a source.

    Attributes:
        place: The name of the source in messages.
        entries: The entries, in order.
        noun: What an entry is: "image", "pair" or "scene".
        skipped: The reasons for entries that were skipped without reading them.
        expected: What is missing, if there is no entry.
    """

    place: str
    entries: Iterable[Entry]
    noun: str = "image"
    skipped: tuple[str, ...] = ()
    expected: str = ""


def read_listing(
    listing: Listing,
    *,
    channels: int | None = None,
    min_size: int = 1,
    white: float | None = None,
) -> Iterator[NamedImage]:
    """Read entries one by one; at the end, one warning names the skipped entries.

    Args:
        listing: The entries to read.
        channels: 1 for gray, 3 for colour, None for the number in the file.
        min_size: Entries with a shorter side, in pixels, are skipped.
        white: Value that becomes 1 in `float32`; None keeps the dtype.

    Yields:
        The usable entries, at least one.

    Raises:
        ImageError: There is no usable entry; the message has the reasons.
    """
    skipped, usable = list(listing.skipped), 0
    for label, read in listing.entries:
        try:
            name, pixels = read()
        except ImageError as err:
            skipped.append(f"{label}: {err}")
            continue
        height, width = pixels.shape[-3:-1]
        if min(height, width) < min_size:
            skipped.append(f"{label}: {height} x {width} is smaller than min_size {min_size}")
            continue
        usable += 1
        pixels = pixels if white is None else to_unit(pixels, white)
        yield NamedImage(name, _with_channels(pixels, channels))
    more = f"; and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
    reasons = "; ".join(skipped[:_LISTED]) + more
    if not usable:
        raise ImageError(
            f"{listing.place}: no usable {listing.noun}: {reasons or listing.expected}"
        )
    if skipped:
        warnings.warn(
            f"{listing.place}: {len(skipped)} {listing.noun}s skipped: {reasons}",
            stacklevel=_level_outside(),
        )


def _with_channels(pixels: np.ndarray, channels: int | None) -> np.ndarray:
    if channels is None:
        return pixels
    if pixels.ndim == 3:
        return with_channels(pixels, channels)
    return np.stack([with_channels(shot, channels) for shot in pixels])


def _level_outside() -> int:
    """The `stacklevel` with which a warning points to the code that called this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
