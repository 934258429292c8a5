"""PNG of 16 bits with colour or alpha, which Pillow would cut to 8 bits: through imagecodecs."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.extras import extra

with extra("images", "image files"):
    from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def is_deep_colour(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits that is not plain gray."""
    # Behind the signature: length, "IHDR", width, height, bit depth (byte 24), colour type (25).
    with path.open("rb") as file:
        head = file.read(26)
    return len(head) == 26 and head[:8] == _SIGNATURE and head[24] == 16 and head[25] != 0


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
    """The pixels of a PNG, u16[H, W, S]: gray and alpha, RGB, or RGB and alpha."""
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
