"""What Pillow does not do for PNG.

It cuts 16 bits of colour to 8, where imagecodecs keeps them, and makes up the rows that a file lacks.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wne_jax._internal.extras import extra

with extra("images", "image files"):
    from PIL import Image

_PIECE = 2**20  # bytes that are held at a time
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the type of colour
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
"""First column and row of each pass of an interlaced image, and the steps to the next ones."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP tEXt zTXt iTXt pHYs eXIf".split())
"""Chunks that Pillow reads."""


def is_for_imagecodecs(path: Path) -> bool:
    """Whether a file is a PNG that imagecodecs is to decode.

    That is one of 16 bits which is not plain gray; and one of gray and alpha, for which Pillow holds four
    bytes a pixel, where imagecodecs is installed.
    """
    # Behind the signature: length, "IHDR", width, height, bit depth (byte 24), colour type (25).
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or head[:8] != _SIGNATURE:
        return False
    if head[24] == 16:
        return head[25] != 0
    return head[25] == 4 and util.find_spec("imagecodecs") is not None


def lacks_rows(path: Path) -> bool:
    """Whether the compressed data of a PNG end before the last row; Pillow would fill it up with zeros."""
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return False
        chunks = _stored_chunks(file)
        name, header = next(chunks, (b"", b""))
        if name != b"IHDR" or len(header) != 13:
            return False  # which Pillow refuses
        expected = _raw_size(*struct.unpack(">IIBB2xB", header))
        found, inflate = 0, zlib.decompressobj()
        for name, data in chunks:
            while name == b"IDAT" and data and found < expected:
                try:
                    found += len(inflate.decompress(data, _PIECE))
                except zlib.error:
                    return False  # likewise
                data = inflate.unconsumed_tail
        return found < expected


def left_out(path: Path) -> str:
    """The names of the chunks of a PNG that Pillow leaves out, for a note; nothing where it reads all."""
    with path.open("rb") as file:
        names = dict.fromkeys(name for name, _ in _stored_chunks(file, read=False))
    return ", ".join(name.decode("ascii", "replace") for name in names if name not in _KEPT)


def _raw_size(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """Bytes of the rows of all passes, each with one byte before it."""
    bits = depth * _SAMPLES.get(colour, 0)
    size = 0
    for x, y, dx, dy in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = (width - x + dx - 1) // dx, (height - y + dy - 1) // dy
        size += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return size


def _stored_chunks(file: BinaryIO, *, read: bool = True) -> Iterator[tuple[bytes, bytes]]:
    """The name of every chunk of a file, and its data, in pieces; checksums are left to Pillow."""
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        left = int.from_bytes(head[:4], "big")
        if not read:
            file.seek(left, 1)
            yield head[4:], b""
        while read:
            data = file.read(min(left, _PIECE))
            yield head[4:], data
            left -= len(data)
            if not left or not data:
                break
        file.seek(4, 1)


def imagecodecs() -> Any:
    """The package.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import imagecodecs as package
    except ImportError as error:
        raise ImportError(
            "16-bit PNG with colour or alpha needs imagecodecs: pip install imagecodecs; or save it as TIFF"
        ) from error
    return package


def decode(content: bytes) -> np.ndarray:
    """The pixels of a PNG, u8 or u16 [H, W, S]: gray and alpha, RGB, or RGB and alpha."""
    return imagecodecs().png_decode(content)


def encode(pixels: np.ndarray, **options: Any) -> bytes:
    """A PNG.

    Args:
        pixels: u16[H, W, S], S in {2, 3, 4}.
        **options: What else it says, as `PIL.Image.Image.save` takes it.
    """
    beside = io.BytesIO()
    Image.new("RGB", (1, 1)).save(beside, "PNG", **options)
    image = list(_chunks(imagecodecs().png_encode(np.ascontiguousarray(pixels))))
    said = [c for c in _chunks(beside.getvalue()) if c[0] not in (b"IHDR", b"IDAT", b"IEND")]
    return _SIGNATURE + b"".join(_chunk(*chunk) for chunk in (image[0], *said, *image[1:]))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and the data of every chunk."""
    place = len(_SIGNATURE)
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        place += 12 + size


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
