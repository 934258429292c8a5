"""TIFF: stacks of any rank, of integers and floats, with the descriptions of ImageJ and OME."""

import dataclasses
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax.images.files._image import (
    ALPHA_GUESSED,
    CMYK_LOST,
    EXIF_LOST,
    ImageFile,
    Metadata,
    check_axes,
)
from wne_jax.images.files._pillow import decode
from wne_jax.images.reading import ORIENTATION, TIFF, UPRIGHT, check_size, image_error, open_pillow

with extra("images", "TIFF files"):
    import tifffile

SUFFIXES = TIFF

_MINISWHITE, _MINISBLACK, _RGB, _CMYK = 0, 1, 2, 5
_RESOLUTION, _UNIT, _XMP, _EXIF = (282, 283), 296, 700, 34665
_PER_INCH = {2: 1.0, 3: 2.54}  # resolution unit: inches, centimetres
# Artist, copyright, time, camera; where on Earth (GeoTIFF), and GDAL's value of no data.
_DESCRIPTIVE = (315, 33432, 306, 271, 272, 33550, 33922, 34264, 34735, 34736, 34737, 42113)
_OME_SIZES = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")


def read(path: Path, axes: str | None) -> ImageFile:
    """Map, or else decode, the one series of a TIFF."""
    try:
        tif = tifffile.TiffFile(path)
    except tifffile.TiffFileError as err:
        raise image_error(path, f"the content is not TIFF ({err})") from err
    with tif:
        notes = _check_structure(path, tif)
        series, page = tif.series[0], tif.series[0].keyframe
        _check_page(path, page)
        pixels, names, kind = _pixels(path, series, page)
        kept, lost = _metadata(tif, described=axes in (None, names))
    alpha = kind is not None
    if axes is not None and axes != names:
        check_axes(path, axes, pixels.shape)
        alpha, names = "S" in axes and pixels.shape[axes.index("S")] in (2, 4), axes
    check_axes(path, names, pixels.shape)
    if alpha and not page.extrasamples:
        notes.append(ALPHA_GUESSED)
    kept = dataclasses.replace(kept, premultiplied=kind == "assocalpha")
    return ImageFile(path, pixels, names, alpha, kept, (*notes, *lost))


def fit(path: Path, image: ImageFile) -> ImageFile:
    """The same image with its axes in an order that pages can hold."""
    if image.pixels.dtype.kind not in "uif" or image.pixels.dtype.itemsize > 8:
        raise image_error(path, f"TIFF cannot hold {image.pixels.dtype}; use .npy")
    if not image.axes.endswith(("YX", "YXS", "SYX")):
        stack = "".join(axis for axis in image.axes if axis not in "YXS")
        image = image.transposed(stack + "YX" + ("S" if "S" in image.axes else ""))
    return image.noting(EXIF_LOST) if image.metadata.exif else image


def create(aside: Path, image: ImageFile) -> np.memmap | None:
    """A new file's array, to be filled; None where the file is to be compressed."""
    if image.metadata.tiff.get("compression"):
        return None
    shape, dtype = image.pixels.shape, image.pixels.dtype.newbyteorder("=")
    return tifffile.memmap(aside, shape=shape, dtype=dtype, **_options(image))


def write(aside: Path, image: ImageFile, pixels: np.ndarray) -> None:
    """Compress the array of a file."""
    tifffile.imwrite(aside, pixels, **_options(image))


def _check_structure(path: Path, tif: tifffile.TiffFile) -> list[str]:
    """Refuse what one array cannot stand for, and say what is left aside."""
    if len(tif.pages) == 0 or not tif.series:
        raise image_error(path, "holds no image")
    if not _ends(tif):
        raise image_error(path, "is cut off: its last pages are missing")
    others = [s for s in tif.series[1:] if not s.keyframe.is_reduced]
    if others:
        shapes = " and ".join(str(s.shape) for s in (tif.series[0], *others[:2]))
        raise image_error(path, f"holds images of several kinds, {shapes}; split it first")
    if getattr(tif.series[0], "is_multifile", False):
        raise image_error(path, "is one of a set of OME files; join them first")
    notes = []
    if len(tif.series) > 1 or len(tif.series[0].levels) > 1:
        notes.append("its smaller copies (thumbnail, pyramid) are not kept")
    if _EXIF in tif.pages[0].aspage().tags:
        notes.append(EXIF_LOST)
    return notes


def _ends(tif: tifffile.TiffFile) -> bool:
    """Whether the chain of pages ends by its own word, and not by the end of the file."""
    offset, form = tif.pages.next_page_offset, tif.tiff.offsetformat
    if offset is None:
        return False
    tif.filehandle.seek(offset)
    raw = tif.filehandle.read(tif.tiff.offsetsize)
    return len(raw) == tif.tiff.offsetsize and struct.unpack(form, raw)[0] == 0


def _check_page(path: Path, page: Any) -> None:
    if page.imagelength * page.imagewidth == 0:
        check_size(path, page.imagelength, page.imagewidth)
    if page.dtype is None or page.dtype.kind not in "buif":
        raise image_error(path, f"holds pixels of dtype {page.dtype}; expected real numbers")
    if page.photometric == _MINISWHITE and page.dtype.kind not in "bu":
        raise image_error(path, f"holds {page.dtype} where the smallest is white; save it anew")


def _pixels(
    path: Path, series: tifffile.TiffPageSeries, page: Any
) -> tuple[np.ndarray, str, str | None]:
    """The array, its axes, and of which kind its last sample is, if that is alpha."""
    whole = page.dtype.kind != "b" and page.bitspersample == 8 * page.dtype.itemsize
    if page.photometric not in (_MINISWHITE, _MINISBLACK, _RGB) or not whole:
        return _by_pillow(path, series, page)
    if series.dataoffset is not None and page.photometric != _MINISWHITE:
        end = series.dataoffset + series.nbytes
        if end > (size := path.stat().st_size):
            raise image_error(path, f"is cut off: it holds {size} bytes and claims {end}")
        pixels: np.ndarray = tifffile.memmap(path, mode="r")
    else:
        check_size(path, page.imagelength, page.imagewidth)
        _check_claim(path, series)
        try:
            pixels = series.asarray()
        except ValueError as err:
            if "imagecodecs" not in str(err):
                raise
            return _by_pillow(path, series, page)
    axes, kind = series.axes, None
    if "S" in axes:
        kinds = page.extrasamples
        if len(kinds) == 1 and (page.photometric == _RGB or kinds[0] in (1, 2)):
            kind = "assocalpha" if kinds[0] == 1 else "unassalpha"
    elif len(axes) == 3 and "Q" in axes and pixels.shape[-1] in (3, 4):
        axes, kind = "YXS", "unassalpha" if pixels.shape[-1] == 4 else None
    if page.photometric == _MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels.reshape(series.shape), _unique(axes), kind


def _unique(axes: str) -> str:
    """Stack axes without a name are all Q to tifffile: other letters for all but the first."""
    free = iter("ABDEFGHIJKLMNOPRUVW")
    return "".join(
        next(a for a in free if a not in axes) if axis in axes[:i] else axis
        for i, axis in enumerate(axes)
    )


def _check_claim(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse what no compression could have put into the file: deflate reaches 1032."""
    size = path.stat().st_size
    if series.nbytes > 10_000 * size:
        raise image_error(path, f"claims {series.nbytes} bytes of pixels in a file of {size}")


def _by_pillow(
    path: Path, series: tifffile.TiffPageSeries, page: Any
) -> tuple[np.ndarray, str, str | None]:
    """Palettes, CMYK, YCbCr, single bits, and the compressions that tifffile leaves to imagecodecs."""
    if page.dtype not in (np.bool_, np.uint8) and not (
        page.dtype == np.uint16 and page.samplesperpixel == 1
    ):
        raise image_error(
            path,
            f"{page.dtype} in {page.photometric.name} by {page.compression.name} needs imagecodecs "
            "(pip install imagecodecs); or save it uncompressed",
        )
    _check_claim(path, series)
    # Pillow turns images upright, and metadata is about stored ones; quarter turns undo each other.
    turn = page.tags.valueof(ORIENTATION, 1)
    back = UPRIGHT.get({6: 8, 8: 6}.get(turn, turn), lambda a: a)
    with open_pillow(path, ("TIFF",)) as image:
        number = getattr(image, "n_frames", 1)
        frames = []
        for index in range(number):
            image.seek(index)
            colours, alpha = decode(image)
            frames.append((back(colours), alpha))
    shapes = {(frame.shape, frame.dtype, alpha) for frame, alpha in frames}
    if len(shapes) > 1 or number != series.size // page.size:
        raise image_error(path, f"holds {number} images of several kinds; split it first")
    pixels = np.stack([frame for frame, _ in frames])
    kind = "unassalpha" if alpha else None  # Pillow divides by alpha
    axes = "YXS"[: pixels.ndim - 1]
    return (pixels[0], axes, kind) if number == 1 else (pixels, "I" + axes, kind)


def _metadata(tif: tifffile.TiffFile, *, described: bool) -> tuple[Metadata, list[str]]:
    """What can be written again, with or without the file's description, and notes on what cannot."""
    page = tif.pages[0].aspage()
    valueof = page.tags.valueof
    unit, resolution = valueof(_UNIT, 2), [valueof(tag) for tag in _RESOLUTION]
    options: dict[str, Any] = {"metadata": None}
    lost = []
    if not described:
        options = {}  # its axes would be wrong
        if page.description and not tif.is_shaped:
            lost.append("its description is not kept: other axes are given")
    elif tif.is_imagej:
        counts = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack"}
        said = {k: v for k, v in (tif.imagej_metadata or {}).items() if k not in counts}
        # A plain stack has axis I, by which it cannot be written.
        said["axes"] = tif.series[0].axes.replace("I", "Z")
        options |= {"imagej": True, "metadata": said}
    elif tif.is_ome:
        said = _ome(tif.ome_metadata or "")
        options |= {"ome": True, "metadata": said | {"axes": tif.series[0].axes}}
        lost.append("of its OME description the axes, pixel sizes and names are kept")
    elif tif.is_shaped:
        said = (tif.shaped_metadata or ({},))[0]
        options["metadata"] = {k: v for k, v in said.items() if k not in ("shape", "truncated")}
    elif page.description:
        options["description"] = page.description.encode()  # not ASCII alone
    dpi = None
    if all(isinstance(r, tuple) and min(r) > 0 for r in resolution):
        options |= {"resolution": tuple(resolution), "resolutionunit": unit}
        if unit in _PER_INCH:
            dpi = tuple(_PER_INCH[unit] * over / under for over, under in resolution)
    if page.compression != 1:
        options["compression"] = "zlib"  # lossless, and every reader knows it
    if page.photometric == _CMYK:
        lost.append(CMYK_LOST)
    profile = None if page.photometric == _CMYK else valueof(34675)
    options["extratags"] = [
        _repeated(page.tags[code]) for code in _DESCRIPTIVE if code in page.tags
    ]
    metadata = Metadata(
        orientation=int(valueof(ORIENTATION, 1)), dpi=dpi, icc=profile, xmp=valueof(_XMP), tiff=options
    )  # fmt: skip
    return metadata, lost


def _repeated(tag: tifffile.TiffTag) -> tuple[int, int, int, Any, bool]:
    """A tag of the first page, as `tifffile` takes it."""
    value = tag.value.encode() if isinstance(tag.value, str) else tag.value  # not ASCII alone
    return tag.code, int(tag.dtype), tag.count, value, True


def _ome(description: str) -> dict[str, Any]:
    """Pixel sizes and names, as `tifffile` takes them."""
    image = ElementTree.fromstring(description).find("{*}Image")
    pixels = None if image is None else image.find("{*}Pixels")
    if image is None or pixels is None:
        return {}
    said: dict[str, Any] = {}
    for key in _OME_SIZES:
        if key in pixels.attrib:
            said[key] = float(pixels.attrib[key])
            said |= {k: v for k, v in pixels.attrib.items() if k == f"{key}Unit"}
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    if names and all(names):
        said["Channel"] = {"Name": names}
    return said | ({"Name": image.get("Name")} if image.get("Name") else {})


def _options(image: ImageFile) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite`, for a file of any origin."""
    metadata, axes = image.metadata, image.axes
    colours = image.samples - image.alpha
    options: dict[str, Any] = {
        "photometric": "rgb" if colours == 3 else "minisblack",
        "byteorder": ">" if image.pixels.dtype.byteorder == ">" else "<",
        "iccprofile": metadata.icc,
        "metadata": {"axes": axes} if image.pixels.ndim > 2 + ("S" in axes) else None,
    }
    if image.samples > 1:
        options["planarconfig"] = "separate" if axes.endswith("SYX") else "contig"
        kind = "assocalpha" if metadata.premultiplied else "unassalpha"
        kinds = [kind] if image.alpha else ["unspecified"] * (colours - 1)
        options["extrasamples"] = kinds if image.alpha or colours != 3 else None
    if metadata.dpi:
        options |= {"resolution": metadata.dpi, "resolutionunit": "INCH"}
    tags: list[Any] = []
    if metadata.orientation != 1:
        tags.append((ORIENTATION, "H", 1, metadata.orientation, True))
    if metadata.xmp:
        tags.append((_XMP, "B", len(metadata.xmp), metadata.xmp, True))
    tags += metadata.tiff.get("extratags", [])
    return options | dict(metadata.tiff) | {"extratags": tags}
