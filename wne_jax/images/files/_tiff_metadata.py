"""What a TIFF says beside its pixels, and the arguments of `tifffile.imwrite` that say it again."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax.images._errors import image_error
from wne_jax.images.files._image import CMYK_LOST, EXIF_LOST, ImageFile, Metadata
from wne_jax.images.files._tiff_pages import (
    DESCRIPTIVE,
    ORIENTATION,
    OWN,
    PROFILE,
    RESOLUTION,
    UNIT,
    XMP,
    read_pages,
)

with extra("images", "TIFF files"):
    import tifffile

ASSOCIATED, UNASSOCIATED = 1, 2
"""What the value of ExtraSamples calls alpha: colours are multiplied by it, or not."""

_RGB, _CMYK = 2, 5
_EXIF = 34665
_PER_INCH = {2: 1.0, 3: 2.54}  # resolution unit: inches, centimetres
_OME_SIZES = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")
_STRUCTURAL = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 284),
        *(288, 289, 292, 293, 317, 320, 322, 323, 324, 325, 330, 332, 334, 338, 339, 347),
        *(512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
        *(32996, 32997, 32998, 34016, _EXIF),
        *(50838, 50839),  # what ImageJ keeps its descriptions by
        305,  # the software, which is another one now
    }
)
"""Tags that say how pixels are stored, and those that have a note of their own."""


def read_metadata(
    tif: tifffile.TiffFile, pages: list[tifffile.TiffPage], told: str | None
) -> tuple[Metadata, list[str]]:
    """What can be written again, and notes on what cannot.

    Args:
        tif: The file.
        pages: Its pages.
        told: Axes that stand in place of those that the file says.
    """
    page = pages[0]
    valueof = page.tags.valueof
    unit, resolution = valueof(UNIT, 2), [valueof(tag) for tag in RESOLUTION]
    options, lost = _description(tif, page, told)
    dpi = None
    if unit not in (1, *_PER_INCH):
        lost.append(f"its resolution is not kept: there is no unit {unit}")
    elif all(isinstance(r, tuple) and len(r) == 2 and min(r) > 0 for r in resolution):
        options |= {"resolution": tuple(resolution), "resolutionunit": unit}
        if unit in _PER_INCH:
            dpi = tuple(_PER_INCH[unit] * over / under for over, under in resolution)
    if page.compression != 1:
        options["compression"] = "zlib"  # lossless, and every reader knows it
    if page.photometric == _CMYK:
        lost.append(CMYK_LOST)
    if told is None and page.photometric == _RGB and has_bands(page) and page.samplesperpixel > 3:
        known = (ASSOCIATED, UNASSOCIATED)
        kinds = [int(kind) if kind in known else 0 for kind in page.extrasamples]
        options |= {"photometric": "rgb", "extrasamples": kinds[: page.samplesperpixel - 3]}
    if _EXIF in page.tags:
        lost.append(EXIF_LOST)
    if left := sorted({tag.code for p in pages for tag in p.tags} - _STRUCTURAL - OWN):
        lost.append(f"its tags are not kept: {', '.join(map(str, left))}")
    options["extratags"] = [_repeated(page.tags[code]) for code in DESCRIPTIVE if code in page.tags]
    metadata = Metadata(
        orientation=int(valueof(ORIENTATION, 1)),
        dpi=dpi,
        icc=None if page.photometric == _CMYK else valueof(PROFILE),
        xmp=valueof(XMP),
        tiff=options,
        pages=read_pages(pages),
    )
    return metadata, lost


def _description(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, told: str | None
) -> tuple[dict[str, Any], list[str]]:
    """The arguments that write the file's description again, and a note on what they do not."""
    axes = tif.series[0].axes
    if told is not None:  # a description would have the axes wrong
        lost = ["its description is not kept: other axes are given"]
        return {"metadata": {"axes": told}}, lost if page.description and not tif.is_shaped else []
    if tif.is_imagej:
        counts = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack"}
        said = {k: v for k, v in (tif.imagej_metadata or {}).items() if k not in counts}
        # A plain stack has axis I, by which it cannot be written.
        return {"imagej": True, "metadata": said | {"axes": axes.replace("I", "Z")}}, []
    if tif.is_ome:
        lost = ["of its OME description the axes, pixel sizes and names are kept"]
        return {"ome": True, "metadata": _ome(tif.ome_metadata or "") | {"axes": axes}}, lost
    if tif.is_shaped:
        said = (tif.shaped_metadata or ({},))[0]
        return {"metadata": {k: v for k, v in said.items() if k not in ("shape", "truncated")}}, []
    if page.description and not page.is_imagej and not page.is_ome:  # not ASCII alone
        return {"metadata": None, "description": page.description.encode()}, []
    return {"metadata": None}, []


def _repeated(tag: tifffile.TiffTag) -> tuple[int, int, int, Any, bool]:
    """A tag of the first page, as `tifffile` takes it."""
    value = tag.value.encode() if isinstance(tag.value, str) else tag.value  # not ASCII alone
    return tag.code, int(tag.dtype), tag.count, value, True


def has_bands(page: tifffile.TiffPage) -> bool:
    """Whether a pixel has samples beside gray or RGB that are not alpha alone."""
    kinds = tuple(map(int, page.extrasamples))
    return bool(kinds) and kinds not in ((ASSOCIATED,), (UNASSOCIATED,))


def check_ome(path: Path, tif: tifffile.TiffFile) -> str:
    """Refuse a file whose OME description has planes that are not in it.

    Returns:
        A note where the description itself is in another file; else nothing.

    Raises:
        ImageError: They are in other files, or nowhere.
    """
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    own = root.get("UUID")
    for uuid in root.iterfind(".//{*}TiffData/{*}UUID"):
        name = uuid.get("FileName", path.name)
        if (uuid.text != own or own is None) and name.lower() != path.name.lower():
            raise image_error(path, f"is one of a set of OME files, with {name!r}; join them first")
    series = tif.series[0]
    missing = [index for index, page in enumerate(series) if page is None]
    if series.kind == "ome" and missing:
        stack = len(series.shape) - len(series.keyframe.shape)
        names = [_place(index, series.axes[:stack], series.shape[:stack]) for index in missing]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise image_error(
            path,
            f"lacks {len(missing)} of the {len(series)} planes of its OME description: "
            f"{', '.join(names[:4])}{more} (counted from 0)",
        )
    elsewhere = root.find("{*}BinaryOnly")
    if elsewhere is None:
        return ""
    return f"its OME description is in {elsewhere.get('MetadataFile')!r}, and is not read"


def _place(index: int, axes: str, shape: tuple[int, ...]) -> str:
    """Where a plane of a stack is, as `T1 Z3`."""
    return " ".join(f"{axis}{i}" for axis, i in zip(axes, np.unravel_index(index, shape)))


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


def write_options(image: ImageFile) -> dict[str, Any]:
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
        tags.append((XMP, "B", len(metadata.xmp), metadata.xmp, True))
    tags += metadata.tiff.get("extratags", [])
    return options | dict(metadata.tiff) | {"extratags": tags}
