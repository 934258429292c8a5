"""What each page of a TIFF says for itself, taken from one file and given to another.

`tifffile` gives all pages of a stack the tags of the first. So every page's directory is written once more,
at the end of the file, with tags of its own, and the file is made to point there.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from wne_jax._internal.extras import extra
from wne_jax.images.tiff import open_tiff

with extra("images", "TIFF files"):
    import tifffile

DESCRIPTION, ORIENTATION, RESOLUTION, UNIT = 270, 274, (282, 283), 296
XMP, PROFILE = 700, 34675
DESCRIPTIVE = (
    *(
        269,
        271,
        272,
        285,
        286,
        287,
        297,
        306,
        315,
        316,
        33432,
    ),  # names, place on the page, time, who
    *(33550, 33922, 34264, 34735, 34736, 34737),  # where on Earth (GeoTIFF)
    *(42112, 42113),  # GDAL's metadata, and its value of no data
)
"""Tags that are kept as they are."""

OWN = frozenset({DESCRIPTION, ORIENTATION, *RESOLUTION, UNIT, XMP, PROFILE, *DESCRIPTIVE})
"""Tags that each page has for itself."""

_REPEATED = (*RESOLUTION, UNIT, PROFILE)
"""Those of the first page that `tifffile` gives to all pages."""

_CMYK = 5

# By TIFF's number of a type: the bytes of a value, and of the words that the byte order turns round.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_WORDS = _SIZES | {5: 4, 10: 4}


class Tag(NamedTuple):
    """A tag as it is stored: its number, the number of its type, how many values, and these, "<"."""

    code: int
    kind: int
    number: int
    data: bytes


def read_pages(pages: Sequence[tifffile.TiffPage]) -> tuple[tuple[Tag, ...], ...]:
    """The descriptive tags of each page; none where the later ones say what `tifffile` gives them.

    The first page's are left to those who write the file's own description.
    """
    repeated = {tag for tag in _tags(pages[0]) if tag.code in _REPEATED}
    found = [_tags(page) for page in pages[1:]]
    return () if all(set(tags) == repeated for tags in found) else ((), *found)


def write_pages(path: Path, pages: Sequence[Sequence[Tag]]) -> None:
    """Give the pages of a file their own tags, in place of descriptive ones that they have.

    Args:
        path: The file.
        pages: For each page its tags; the first page stays as it is.

    Raises:
        ValueError: The file has another number of pages.
    """
    with open_tiff(path) as tif:
        form = tif.tiff
        places = [page.offset for page in tif.pages]
    if len(places) != len(pages):
        raise ValueError(
            f"{len(places)} pages are written where {len(pages)} have tags of their own"
        )
    with path.open("r+b") as file:
        link = 8 if form.version == 43 else 4  # where the header points to the first directory
        for number, (place, tags) in enumerate(zip(places, pages)):
            entries = _entries(file, place, form)
            if number:
                kept = {code: entry for code, entry in entries.items() if code not in OWN}
                entries = kept | {tag.code: _entry(file, tag, form) for tag in tags}
            head = struct.pack(form.tagnoformat, len(entries))
            body = b"".join(entries[code] for code in sorted(entries))
            at = _append(file, head + body + bytes(form.offsetsize))
            file.seek(link)
            file.write(struct.pack(form.offsetformat, at))
            link = at + len(head) + len(body)


def _tags(page: tifffile.TiffPage) -> tuple[Tag, ...]:
    order, file = page.parent.byteorder, page.parent.filehandle
    left = {PROFILE} if page.photometric == _CMYK else set()  # which becomes RGB
    found = []
    for tag in page.tags:
        if tag.code in OWN and tag.dtype in _SIZES and tag.code not in left:
            file.seek(tag.valueoffset)
            data = _turned(file.read(tag.valuebytecount), int(tag.dtype), order)
            found.append(Tag(tag.code, int(tag.dtype), len(data) // _SIZES[tag.dtype], data))
    return tuple(found)


def _turned(data: bytes, kind: int, order: str) -> bytes:
    """Values of a type between a byte order and "<"; the same both ways."""
    size = _WORDS[kind]
    if order == "<" or size == 1:
        return data
    return b"".join(data[i : i + size][::-1] for i in range(0, len(data), size))


def _entries(file: BinaryIO, place: int, form: tifffile.TiffFormat) -> dict[int, bytes]:
    """The entries of a directory as they are stored, by the numbers of their tags."""
    file.seek(place)
    (number,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    entries = [file.read(form.tagsize) for _ in range(number)]
    return {struct.unpack(form.tagformat1, entry[:4])[0]: entry for entry in entries}


def _entry(file: BinaryIO, tag: Tag, form: tifffile.TiffFormat) -> bytes:
    """An entry of a directory; a value that does not fit into it goes to the end of the file."""
    data = _turned(tag.data, tag.kind, form.byteorder)
    if len(data) > form.offsetsize:
        data = struct.pack(form.offsetformat, _append(file, data))
    count = struct.pack(form.offsetformat, tag.number)
    return (
        struct.pack(form.tagformat1, tag.code, tag.kind)
        + count
        + data.ljust(form.offsetsize, b"\0")
    )


def _append(file: BinaryIO, data: bytes) -> int:
    """Write at the end of the file, and return where, an even place."""
    place = file.seek(0, 2)
    file.write(bytes(place % 2) + data)
    return place + place % 2
