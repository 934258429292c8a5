"""Limits on reading untrusted files, checked before memory is allocated.

They are far above the needs of images and networks, and low enough that a file of a few megabytes cannot fill
the memory or block the processor.
"""

from collections.abc import Mapping
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

MAX_INSTRUCTIONS = 500_000
"""Maximum number of pickle instructions of a PyTorch file, each of which costs microseconds; a tensor of a
checkpoint has about 30."""

MAX_JSON = 2**24
"""Maximum number of bytes of a JSON file."""

MAX_OPTION = 10_000
"""The largest number in the options of a network, for example its depth."""

MAX_WINDOW = 32
"""The largest side of an attention window; memory grows with its fourth power."""

MAX_BLUR = 50.0
"""The largest standard deviation of a blur in a model, in pixels, since the program has every tap."""

MAX_ENTRIES = 100
"""Maximum number of entries of an option that is a sequence."""

CALLS_A_TENSOR = 4
"""Maximum number of module calls per tensor of a weight file; a network with more does not match the file."""


def check_option(name: str, value: object, *, depth: int = 0) -> None:
    """Reject an option of a network that is above the limits.

    Raises:
        ValueError: A number is too large, or there are too many numbers.

    Example:
        >>> check_option("depth", 10**9)
        Traceback (most recent call last):
        ValueError: depth is 1000000000; at most 10000 is built
    """
    if isinstance(value, int | float):
        limit = MAX_WINDOW if name == "window" else MAX_OPTION
        if abs(value) > limit:
            raise ValueError(f"{name} is {value}; at most {limit} is built")
    elif isinstance(value, Mapping | list | tuple):
        entries = list(value.values() if isinstance(value, Mapping) else value)
        if len(entries) > MAX_ENTRIES:
            raise ValueError(f"{name} has {len(entries)} entries; at most {MAX_ENTRIES} are built")
        if depth == 2:
            raise ValueError(f"{name} is nested more than two levels deep")
        for entry in entries:
            check_option(name, entry, depth=depth + 1)


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
