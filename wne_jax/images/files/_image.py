"""What a file of images holds, whatever its format: an array, the names of its axes, and metadata."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax.images._errors import image_error
from wne_jax.images.reading import UPRIGHT

CMYK_LOST = "CMYK becomes RGB, without its colour profile"
EXIF_LOST = "its EXIF block is not kept"
ALPHA_GUESSED = "the last of its samples is taken for alpha, and kept"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels, in the terms that formats share.

    Attributes:
        orientation: EXIF's and TIFF's number of how the stored pixels are to be turned; 1 is upright.
        premultiplied: Whether the colours are stored times alpha.
        dpi: Pixels per inch, horizontally and vertically.
        icc: The colour profile.
        exif: The EXIF block, as stored.
        xmp: The XMP packet.
        comment: The comment of a JPEG.
        transparent: The value of a gray PNG of 16 bits that stands for a transparent pixel.
        png: Chunks `(name, data)` or `(key, text)` of a PNG: its texts, gamma and chromaticities.
        tiff: Arguments of `tifffile.imwrite` that repeat what only a TIFF can say.
        pages: Tags of each page of a TIFF, where later ones have their own; see `_tiff_pages`.
    """

    orientation: int = 1
    premultiplied: bool = False
    dpi: tuple[float, float] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    transparent: int | None = None
    png: tuple[tuple[str | bytes, Any], ...] = ()
    tiff: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pages: tuple[tuple[Any, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """The content of a file.

    Attributes:
        path: Where it was read.
        pixels: The array as stored, a read-only memory map where the file allows it.
        axes: One letter for each axis of `pixels`: Y and X are rows and columns, S the samples of a pixel
            (gray or RGB, with or without alpha), C channels; any other axis is a stack.
        alpha: Whether the last of the samples is alpha, which is no image and is kept as it is.
        metadata: What else the file says.
        notes: What the file holds that is not kept, or is not kept as it is; a line each.

    Example:
        >>> stack = ImageFile(Path("x.npy"), np.zeros((5, 2, 40, 30)), "ZCYX")
        >>> stack.number, stack.plane_shape
        (10, (40, 30))
    """

    path: Path
    pixels: np.ndarray
    axes: str
    alpha: bool = False
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples a pixel has, alpha included."""
        return self.pixels.shape[self.axes.index("S")] if "S" in self.axes else 1

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """`(H, W)`, or `(H, W, 3)`."""
        stacked, rank = self._stacked(self.pixels)
        return stacked.shape[rank:]

    @property
    def has_colours(self) -> bool:
        """Whether planes are RGB, and the channels of one at least differ."""
        if "S" not in self.axes or len(self.plane_shape) < 3:
            return False
        return any(
            not np.array_equal(plane[..., 0], plane[..., channel])
            for plane in self.planes()
            for channel in (1, 2)
        )

    @property
    def number(self) -> int:
        """How many planes there are."""
        stacked, rank = self._stacked(self.pixels)
        return math.prod(stacked.shape[:rank])

    def planes(self, array: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Every image of the file: views `[H, W]` or `[H, W, 3]`, without alpha.

        Three samples, or three channels where there are no samples, are a colour image; any other number of
        them are gray images, one for each.

        Args:
            array: Of the shape of `pixels`, to be walked through in the same way (default: `pixels`).
        """
        stacked, rank = self._stacked(self.pixels if array is None else array)
        for index in np.ndindex(stacked.shape[:rank]):
            yield stacked[index]

    def copy_alpha(self, out: np.ndarray) -> None:
        """Copy what `planes` leaves out into an array of the shape of `pixels`.

        Pixels that are transparent by their value keep it, and no others get it.
        """
        if self.alpha:
            np.moveaxis(out, self.axes.index("S"), -1)[..., -1] = np.moveaxis(
                self.pixels, self.axes.index("S"), -1
            )[..., -1]
        if (value := self.metadata.transparent) is not None:
            clear = self.pixels == value
            beside = value - 1 if value else 1
            out[...] = np.where(clear, self.pixels, np.where(out == value, beside, out))

    def upright(self) -> "ImageFile":
        """The same image, turned as its orientation says, for formats that cannot say it; a view."""
        turn = UPRIGHT.get(self.metadata.orientation)
        if turn is None:
            return self
        plane = self.axes.index("Y"), self.axes.index("X")
        pixels = np.moveaxis(turn(np.moveaxis(self.pixels, plane, (0, 1))), (0, 1), plane)
        sideways, dpi = self.metadata.orientation >= 5, self.metadata.dpi
        dpi = (dpi[1], dpi[0]) if dpi and sideways else dpi
        metadata = dataclasses.replace(self.metadata, orientation=1, dpi=dpi)
        return dataclasses.replace(self, pixels=pixels, metadata=metadata)

    def transposed(self, axes: str) -> "ImageFile":
        """The same image with its axes in another order; a view."""
        pixels = self.pixels.transpose([self.axes.index(axis) for axis in axes])
        return dataclasses.replace(self, pixels=pixels, axes=axes)

    def without_alpha(self, note: str) -> "ImageFile":
        """The same image without its alpha, a view; the note says why."""
        pixels = np.moveaxis(np.moveaxis(self.pixels, self.axes.index("S"), 0)[:-1], 0, -1)
        axes = self.axes.replace("S", "") + "S"
        return dataclasses.replace(self, pixels=pixels, axes=axes, alpha=False).noting(note)

    def noting(self, note: str) -> "ImageFile":
        """The same image, with one more note."""
        return dataclasses.replace(self, notes=(*self.notes, note))

    def _stacked(self, array: np.ndarray) -> tuple[np.ndarray, int]:
        """The array without alpha, the axes of a plane last, and how many axes come before them."""
        colour = "S" if "S" in self.axes else "C"
        if self.alpha:
            array = np.moveaxis(
                np.moveaxis(array, self.axes.index("S"), 0)[:-1], 0, self.axes.index("S")
            )
        is_colour = colour in self.axes and array.shape[self.axes.index(colour)] == 3
        plane = "YX" + (colour if is_colour else "")
        stack = "".join(axis for axis in self.axes if axis not in plane)
        return array.transpose([self.axes.index(axis) for axis in stack + plane]), len(stack)


def check_axes(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    """Refuse names of axes that do not fit an array."""
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(set(axes)) != len(axes):
        raise image_error(
            path, f"axes {axes!r} must name Y and X once, and no axis twice (ZYX, YXC, CYX)"
        )
    if len(axes) != len(shape):
        raise image_error(
            path, f"axes {axes!r} are {len(axes)} and the array has {len(shape)}: {shape}"
        )
    if 0 in shape:
        raise image_error(path, f"the array has shape {shape}: it has no pixels")
