"""What Pillow does not say of a JPEG: that its data end early, and which of its segments it leaves out.

libjpeg fills up what is missing, mostly in gray, and warns; neither Pillow nor imagecodecs pass that on.
"""

import io
import re
from collections.abc import Iterator

import numpy as np

from wne_jax._internal.extras import extra

with extra("images", "image files"):
    from PIL import Image

_ROWS = 256  # that are compared at a time

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a restart is part of the data
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN = {0xC0: False, 0xC1: False, 0xC2: True}
"""Frames whose data have Huffman's code, and whether they are progressive."""

_KEPT = (
    b"JFIF\0",
    b"Exif\0",
    b"http://ns.adobe.com/xap/1.0/\0",
    b"ICC_PROFILE\0",
    b"MPF\0",
    b"Adobe",
)
"""How application segments begin that Pillow reads, or that say how pixels are stored."""

_NOISE = b"\x95" + np.random.default_rng(0).integers(1, 255, 64, np.uint8).tobytes()
"""Its first bit is 1, where libjpeg fills up with zeros; many ones would be no code."""


def lacks_data(content: bytes, image: Image.Image | None = None) -> bool:
    """Whether the data of a JPEG end before its last pixel.

    A decoder that has all data of a scan passes over what follows it. So the file is decoded twice, as it is
    and with noise behind the data of each scan: only where data are missing do the pixels differ. Besides,
    every component needs its scans, down to the last bit.

    Args:
        content: The file. False for one without Huffman's code, or that Pillow does not know.
        image: The file as Pillow has decoded it, if it has.
    """
    filled = _filled(content)
    if filled is None:
        return False
    if not filled:
        return True
    try:
        image = image or Image.open(io.BytesIO(content), formats=("JPEG",))
        other = Image.open(io.BytesIO(filled), formats=("JPEG",))
    except Image.UnidentifiedImageError:
        return False
    image.load()
    try:
        other.load()
    except OSError:  # the noise broke the scan
        return True
    width, height = image.size
    for top in range(0, height, _ROWS):
        box = (0, top, width, min(top + _ROWS, height))
        if image.crop(box).tobytes() != other.crop(box).tobytes():
            return True
    return False


def left_out(content: bytes) -> str:
    """What of a JPEG Pillow leaves out, for a note; nothing where it has all."""
    names, comments = [], 0
    for marker, data, _, end in _segments(content):
        comments += marker == _COMMENT
        if 0xE0 <= marker <= 0xEF and not data.startswith(_KEPT):
            names.append(f"APP{marker - 0xE0}")
        if marker == _END and content[end:].strip(b"\0"):
            names.append(f"{len(content) - end:,} bytes behind the image")
    if comments > 1:
        names.append("more than one comment")
    return ", ".join(dict.fromkeys(names))


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """The marker of every segment of a JPEG's first image, its data, and where a scan's data begin and end.

    For other segments both are where they end.
    """
    place = 2
    while found := _MARKER.search(content, place):
        marker, place = content[found.start() + 1], found.end()
        if marker in (_START, 1):
            continue
        if marker == _END:
            yield marker, b"", place, place
            return
        size = max(2, int.from_bytes(content[place : place + 2], "big"))
        data, place = content[place + 2 : place + size], place + size
        end = place
        if marker == _SCAN:
            following = _MARKER.search(content, place)
            end = following.start() if following else len(content)
        yield marker, data, place, end
        place = end


def _filled(content: bytes) -> bytes | None:
    """A JPEG with noise, and each restart marker, behind the data of each scan.

    Returns:
        None where that would change the pixels of a whole file, too; nothing where scans are missing.
    """
    parts, start, progressive = [], 0, None
    # The coefficients of each component that are not read to the last bit.
    lacking: dict[int, set[int]] = {}
    for marker, data, place, end in _segments(content):
        if marker in _FRAMES:
            if marker not in _HUFFMAN:
                return None
            progressive = _HUFFMAN[marker]
            lacking = {component: set(range(64)) for component in data[6::3]}
        elif marker == _SCAN and data:
            number = data[0]
            first, last, bits = (*data[1 + 2 * number :], 0, 0, 0)[:3]
            for component in data[1 : 1 + 2 * number : 2]:
                if not progressive:
                    lacking.pop(component, None)
                elif bits & 15 == 0:
                    lacking.get(component, set()).difference_update(range(first, last + 1))
            parts.append(content[start:end].rstrip(b"\xff"))
            restarts = len(_RESTART.findall(content, place, end))
            parts += [_NOISE + bytes([0xFF, 0xD0 + (restarts + n) % 8]) for n in range(8)]
            start = end
        elif marker == _END:
            whole = progressive is not None and not any(lacking.values())
            return b"".join(parts) + content[start:] if whole else b""
    return None  # without an end, which Pillow refuses
