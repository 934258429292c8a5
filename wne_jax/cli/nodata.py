"""No-data pixels of files, marked by GDAL's tag or NaN."""

import math
from typing import Any

import numpy as np

from wne_jax.images.files import ImageFile

GDAL_NODATA = 42113
"""The TIFF tag with the no-data value as text."""


class Masks:
    """The valid pixels of a file's planes.

    A no-data value is compared in the type of the file, separately in each band. A value that the type cannot
    represent masks nothing.

    Args:
        image: The file.
        nan: Whether NaN pixels are masked.

    Attributes:
        value: The no-data value in the file's type, or None.
        notes: A line if the tag cannot be read or its value cannot be represented.
    """

    def __init__(self, image: ImageFile, nan: bool):
        self.nan = nan
        self.value, self.notes = _no_data(image)

    def of(self, plane: np.ndarray, number: int) -> np.ndarray | None:
        """True where a plane is valid; None if the whole plane is valid.

        Raises:
            ValueError: There are unmasked NaN or infinite pixels; the message names the first one.
        """
        valid = np.ones(plane.shape, bool) if self.value is None else plane != self.value
        if plane.dtype.kind == "f":
            if self.nan or (self.value is not None and np.isnan(self.value)):
                valid = valid & ~np.isnan(plane)
            broken = valid & ~np.isfinite(plane)
            if broken.any():
                place = ", ".join(str(int(i)) for i in np.argwhere(broken)[0])
                what = f"plane {number} has {np.sum(broken)} NaN or infinite pixels, the first at {place}"
                masks = "" if self.nan else " (--mask-nan leaves NaN as it is)"
                raise ValueError(what + masks)
        return None if valid.all() else valid

    def keep_apart(self, plane: np.ndarray, result: np.ndarray, valid: np.ndarray | None) -> None:
        """Replace results of valid pixels that equal the no-data value by the nearest other value."""
        if self.value is None or np.isnan(self.value):
            return
        lost = result == self.value if valid is None else valid & (result == self.value)
        if lost.any():
            up = plane[lost] > self.value
            result[lost] = np.where(up, *_neighbours(self.value))


def _no_data(image: ImageFile) -> tuple[Any, tuple[str, ...]]:
    """The no-data value, and a note if it cannot be used."""
    tags = {tag[0]: tag[3] for tag in image.metadata.tiff.get("extratags", ())}
    text = tags.get(GDAL_NODATA)
    if text is None:
        return None, ()
    text = (text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)).strip("\0 ")
    dtype = image.pixels.dtype.newbyteorder("=")
    try:
        number: float = int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return None, (f"its no-data tag {text!r} is not a number: nothing is masked",)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = dtype.type(number)
        fits = math.isinf(number) or not np.isinf(value)
    else:
        info = np.iinfo(dtype)
        fits = math.isfinite(number) and number == int(number) and info.min <= number <= info.max
        value = dtype.type(int(number)) if fits else None
    if not fits:
        return None, (f"its no-data value {text} is not a value of {dtype}: nothing is masked",)
    return value, ()


def _neighbours(value: Any) -> tuple[Any, Any]:
    """The nearest values of the type above and below; at an end of the range, the existing one twice."""
    if value.dtype.kind == "f":
        ends = np.nextafter(value, np.array([np.inf, -np.inf], value.dtype))
        finite = ends[np.isfinite(ends)]
        return (ends[0] if np.isfinite(ends[0]) else finite[0]), (
            ends[1] if np.isfinite(ends[1]) else finite[0]
        )
    info, number = np.iinfo(value.dtype), int(value)
    above = number + 1 if number < info.max else number - 1
    below = number - 1 if number > info.min else number + 1
    return value.dtype.type(above), value.dtype.type(below)
