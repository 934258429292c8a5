"""Pixels of files that hold no data: GDAL's tag, and NaN."""

import math
from typing import Any

import numpy as np

from wne_jax.images.files import ImageFile

GDAL_NODATA = 42113
"""The tag of a TIFF that names the value of no data, as text."""


class Masks:
    """Which pixels of a file's planes are valid.

    A value of no data is compared in the file's own type, band by band. One that the type cannot hold masks
    nothing.

    Args:
        image: The file.
        nan: Whether NaN pixels are masked.

    Attributes:
        value: The value of no data in the file's type, or None.
        notes: A line where the tag cannot be read, or its value be represented.
    """

    def __init__(self, image: ImageFile, nan: bool):
        self.nan = nan
        self.value, self.notes = _no_data(image)

    def of(self, plane: np.ndarray, number: int) -> np.ndarray | None:
        """True where a plane is valid; None where all of it is.

        Raises:
            ValueError: NaN that is not masked, or infinite pixels: the plane and the place of the first.
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
        """No valid pixel becomes the value of no data: one that would, takes the nearest other value."""
        if self.value is None or np.isnan(self.value):
            return
        lost = result == self.value if valid is None else valid & (result == self.value)
        if lost.any():
            up = plane[lost] > self.value
            result[lost] = np.where(up, *_neighbours(self.value))


def _no_data(image: ImageFile) -> tuple[Any, tuple[str, ...]]:
    """The value of no data, and a note where it is not to be had."""
    tags = {tag[0]: tag[3] for tag in image.metadata.tiff.get("extratags", ())}
    text = tags.get(GDAL_NODATA)
    if text is None:
        return None, ()
    text = (text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)).strip("\0 ")
    dtype = image.pixels.dtype.newbyteorder("=")
    try:
        number: float = int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return None, (f"its tag of no data, {text!r}, is no number: nothing is masked",)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = dtype.type(number)
        fits = math.isinf(number) or not np.isinf(value)
    else:
        info = np.iinfo(dtype)
        fits = math.isfinite(number) and number == int(number) and info.min <= number <= info.max
        value = dtype.type(int(number)) if fits else None
    if not fits:
        return None, (f"its value of no data, {text}, is none of {dtype}: nothing is masked",)
    return value, ()


def _neighbours(value: Any) -> tuple[Any, Any]:
    """The nearest values above and below in the type; at an end, the one that there is."""
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
