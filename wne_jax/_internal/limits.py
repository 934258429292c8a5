"""What reading a file may cost, whatever it claims: bounds that are checked before memory is asked for.

They are far beyond what images and networks need, and small enough that no file of a few megabytes fills the
memory or keeps the processor busy.
"""

from pathlib import Path

MAX_PIXELS = 2**28
"""Pixels of an image that has to be decoded as a whole. What Pillow decodes ends earlier, at twice
`PIL.Image.MAX_IMAGE_PIXELS`: 179 million, unless that is set."""

MAX_UNPACKED = 2**31
"""Bytes that any file may be unpacked to."""

MAX_RATIO = 16
"""How many times its own size a file larger than `MAX_UNPACKED / MAX_RATIO` may be unpacked to."""

MAX_NESTING = 100
"""Containers inside each other, in files of nested containers."""


def excess(claimed: int, path: Path) -> str:
    """What is wrong with the number of bytes that a file would be unpacked to; nothing within the bounds.

    Args:
        claimed: What the file says that it holds, in bytes.
        path: The file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     excess(2**20, Path(file.name)), excess(2**40, Path(file.name))
        ('', 'claims 1,099,511,627,776 bytes in a file of 0: at most 2,147,483,648 are unpacked')
    """
    size = path.stat().st_size
    largest = max(MAX_UNPACKED, MAX_RATIO * size)
    if claimed <= largest:
        return ""
    return f"claims {claimed:,} bytes in a file of {size:,}: at most {largest:,} are unpacked"
