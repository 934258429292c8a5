"""Opening TIFF files: nothing but the file itself is read, and what it lacks is not made up."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from wne_jax._internal.extras import extra
from wne_jax.images._errors import image_error

if TYPE_CHECKING:
    import tifffile

_JPEG = 7  # the number of the compression

_MOST_MISSING = 10_000
"""How many planes a description may have beyond the pages of a file; tifffile holds a place for each."""


@contextmanager
def open_tiff(path: Path, **flags: bool) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF for reading. What its descriptions say of other files is not followed.

    While it is open, tifffile logs nothing: what matters of that is refused or noted by who reads.

    Args:
        path: The file.
        **flags: Of `tifffile.TiffFile`, as `is_imagej=False`, to leave a description unread.

    Raises:
        ImageError: It is no TIFF, or its OME description has far more planes than it has pages.
    """
    with extra("images", "TIFF files"):
        import tifffile

    own: dict[str, Any] = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}
    with _silenced(logging.getLogger("tifffile")):
        try:
            tif = tifffile.TiffFile(path, **(own | flags))
        except tifffile.TiffFileError as err:
            raise image_error(path, f"the content is not TIFF ({err})") from err
        with tif:
            if tif.is_ome:
                _check_claims(path, tif)
            yield tif


def _check_claims(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse numbers in an OME description for which tifffile would fill the memory."""
    claimed = 0
    for element in ElementTree.fromstring(tif.ome_metadata or "<OME/>").iter():
        said, name = element.get, element.tag.rpartition("}")[2]
        if name == "Pixels":
            claimed += math.prod(int(said(f"Size{axis}", 1)) for axis in "ZCT")
        elif name == "TiffData":
            claimed = max(claimed, int(said("PlaneCount", said("NumPlanes", 0))))
        elif name.startswith("ModuloAlong"):
            steps = (float(said("End", 0)) - float(said("Start", 0))) / float(said("Step", 1))
            claimed = max(claimed, math.ceil(steps))
    if claimed > len(tif.pages) + _MOST_MISSING:
        there = len(tif.pages)
        raise image_error(
            path, f"claims {claimed:,} planes in its OME description, and has {there}"
        )


def check_ends(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose chain of pages ends by the end of the file, and not by its own word."""
    offset, form = tif.pages.next_page_offset, tif.tiff.offsetformat
    if offset is not None:
        tif.filehandle.seek(offset)
        raw = tif.filehandle.read(tif.tiff.offsetsize)
        if len(raw) == tif.tiff.offsetsize and struct.unpack(form, raw)[0] == 0:
            return
    raise image_error(path, "is cut off: its last pages are missing")


def check_segments(path: Path, pages: Iterable[tifffile.TiffPage]) -> str:
    """Look whether the strips or tiles of pages have data.

    Args:
        path: The file.
        pages: Its pages, in order.

    Returns:
        How many have none, for a note; nothing where all have some.

    Raises:
        ImageError: Data lie beyond the end of the file, or a page has none at all.
    """
    size, missing, total, kind = path.stat().st_size, 0, 0, "strips"
    for number, page in enumerate(pages, 1):
        expected = math.prod(page.chunked)
        there = [(o, n) for o, n in zip(page.dataoffsets, page.databytecounts) if o and n]
        if not there:
            raise image_error(path, f"page {number} has no data: it was never finished")
        # Some writers count too many bytes where nothing is compressed.
        most = page.nbytes if page.compression == 1 else size
        if max(offset + min(count, most) for offset, count in there) > size:
            raise image_error(path, f"is cut off: page {number} lacks data")
        if page.compression == _JPEG and _lacks_data(page, there):
            raise image_error(path, f"is cut off: page {number} lacks data")
        missing, total = missing + max(expected - len(there), 0), total + expected
        kind = "tiles" if page.is_tiled else kind
    return f"{missing} of its {total} {kind} have no data: their pixels are 0" if missing else ""


def _lacks_data(page: tifffile.TiffPage, there: list[tuple[int, int]]) -> bool:
    """Whether the data of a JPEG inside a page end early; its tables may be a tag."""
    from wne_jax.images import jpeg_data

    file, tables = page.parent.filehandle, page.jpegtables
    for offset, count in there:
        file.seek(offset)
        content = file.read(count) + b"\xff\xd9"  # an end, for one that lacks its own
        if jpeg_data.lacks_data(content if tables is None else tables[:-2] + content[2:]):
            return True
    return False


@contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
