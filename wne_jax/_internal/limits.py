"""Limits on reading untrusted files, checked before memory is allocated.

They are far above the needs of images and networks, and low enough that a file of a few megabytes cannot fill
the memory or block the processor.
"""

from pathlib import Path

MAX_PIXELS = 2**28
"""Maximum number of pixels of an image that must be decoded as a whole. Pillow's own limit is lower: twice
`PIL.Image.MAX_IMAGE_PIXELS`, by default 179 million."""

MAX_UNPACKED = 2**31
"""Maximum number of bytes to which any file may be unpacked."""

MAX_RATIO = 16
"""Maximum ratio of unpacked size to file size, for files larger than `MAX_UNPACKED / MAX_RATIO`."""

MAX_NESTING = 100
"""Maximum depth of nested containers."""


def excess(claimed: int, path: Path) -> str:
    """The message if the unpacked size of a file is above the limits, otherwise "".

    Args:
        claimed: The unpacked size that the file claims, in bytes.
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
