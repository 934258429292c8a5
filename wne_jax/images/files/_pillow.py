"""PNG, JPEG and BMP: one image of 8 bits, or of 16 gray ones, with what they say beside it."""

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax.images import jpeg_data, png
from wne_jax.images._errors import image_error
from wne_jax.images.files._image import CMYK_LOST, EXIF_LOST, ImageFile, Metadata
from wne_jax.images.reading import JPEG, ORIENTATION, open_pillow, to_array

with extra("images", "image files"):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo, iTXt

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
SUFFIXES = frozenset(FORMATS)

_LONGEST_JPEG = 65_500  # a limit of libjpeg
_LARGEST_DPI = {"JPEG": 65_535, "PNG": 1e8, "BMP": 5e7}  # of 16 and 32 bits, the latter for a metre


def read(path: Path, axes: str | None) -> ImageFile:
    """Decode an image; its axes are known, whatever `axes` are given for other files."""
    beside = png.is_for_imagecodecs(path)
    with open_pillow(path, ("PNG", "JPEG", "BMP")) as image:
        notes = []
        if (frames := getattr(image, "n_frames", 1)) > 1:
            if image.format == "PNG":
                raise image_error(path, f"is an animation of {frames} images; expected one")
            notes.append(f"only the first of its {frames} images is kept")
        if image.mode == "CMYK":
            notes.append(CMYK_LOST)
        if left := _left_out(path, image):
            notes.append(f"not kept: {left}")
        metadata = _metadata(image)
        pixels, alpha = (np.empty(0), False) if beside else decode(image)
    if beside:
        pixels = png.decode(path.read_bytes())
        alpha = pixels.shape[-1] in (2, 4)
    return ImageFile(path, pixels, "YXS"[: pixels.ndim], alpha, metadata, tuple(notes))


def decode(image: Image.Image) -> tuple[np.ndarray, bool]:
    """The pixels of any mode that `open_pillow` lets pass, and whether their last sample is alpha.

    Palettes become RGB, or gray where they are gray and no profile speaks of RGB.
    """
    if image.mode == "I;16":
        return to_array(image, "I;16"), False
    gray = image.mode in ("1", "L", "LA") or _has_gray_palette(image)
    alpha = image.has_transparency_data
    return to_array(image, ("L" if gray else "RGB") + ("A" if alpha else "")), alpha


def _has_gray_palette(image: Image.Image) -> bool:
    if image.mode not in ("P", "PA") or "icc_profile" in image.info:
        return False
    used = np.flatnonzero(image.histogram()[:256])
    palette = np.zeros((256, 3), np.uint8)
    entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    return bool((palette[used, :1] == palette[used, 1:]).all())


def fit(path: Path, image: ImageFile) -> ImageFile:
    """Check that the format can hold the image, and say what it cannot; the result has axes YX or YXS."""
    kind, dtype = FORMATS[path.suffix.lower()], image.pixels.dtype.newbyteorder("=")
    if image.number != 1:
        raise image_error(path, f"{kind} cannot hold a stack of {image.number}; use .tif or .npy")
    if image.samples == 1 and len(image.plane_shape) == 3:
        image = dataclasses.replace(image, axes=image.axes.replace("C", "S"))
    if image.alpha and kind != "PNG":
        image = image.without_alpha(f"{kind} cannot hold its alpha, which is dropped")
    image = _squeezed(image)
    deep = kind == "PNG" and dtype == np.uint16
    if deep and image.axes == "YXS":
        try:
            png.imagecodecs()
        except ImportError as err:
            raise image_error(path, err) from err
    if dtype != np.uint8 and not deep:
        size = f"{dtype} of {image.samples} samples a pixel"
        raise image_error(path, f"{kind} cannot hold {size}; use .tif or .npy")
    if kind == "JPEG" and max(image.pixels.shape) > _LONGEST_JPEG:
        raise image_error(path, f"JPEG ends at {_LONGEST_JPEG} pixels a side; use .png or .tif")
    dpi = image.metadata.dpi
    if dpi and not all(0 <= value <= _LARGEST_DPI[kind] for value in dpi):
        image = image.noting(f"{kind} cannot hold its resolution, {max(dpi):g} pixels an inch")
        image = dataclasses.replace(image, metadata=dataclasses.replace(image.metadata, dpi=None))
    if image.alpha and image.metadata.premultiplied:
        image = image.noting(f"{kind} cannot say that the colours are premultiplied by alpha")
    if kind == "BMP":
        return (image.noting(EXIF_LOST) if image.metadata.exif else image).upright()
    return image


def create(aside: Path, image: ImageFile) -> np.ndarray:
    """An array to be filled."""
    return np.empty(image.pixels.shape, image.pixels.dtype)


def finish(aside: Path, path: Path, image: ImageFile, out: np.ndarray) -> None:
    """Encode pixels under the image's metadata; a JPEG of quality 95 keeps its colours at full size."""
    kind, metadata = FORMATS[path.suffix.lower()], image.metadata
    options: dict[str, Any] = {"dpi": metadata.dpi, "icc_profile": metadata.icc}
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0, "xmp": metadata.xmp}
        options["comment"] = metadata.comment
    if kind == "PNG":
        options |= {"pnginfo": _png_chunks(metadata), "transparency": metadata.transparent}
    if kind != "BMP":
        options["exif"] = metadata.exif or _exif_of(metadata.orientation)
    options = {name: value for name, value in options.items() if value is not None}
    if out.dtype.itemsize == 2 and out.ndim == 3:
        aside.write_bytes(png.encode(out, **options))
        return
    encoded = Image.fromarray(np.ascontiguousarray(out, out.dtype.newbyteorder("=")))
    with aside.open("wb") as file:
        encoded.save(file, kind, **options)


def _squeezed(image: ImageFile) -> ImageFile:
    """Axes YX, or YXS, of an image that is one plane."""
    keep = "YXS" if image.samples > 1 else "YX"
    lone = tuple(i for i, axis in enumerate(image.axes) if axis not in keep)
    axes = "".join(axis for axis in image.axes if axis in keep)
    squeezed = dataclasses.replace(image, pixels=image.pixels.squeeze(lone), axes=axes)
    return squeezed.transposed(keep)


def _metadata(image: Image.Image) -> Metadata:
    info = image.info
    dpi = info.get("dpi")
    return Metadata(
        orientation=image.getexif().get(ORIENTATION, 1),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        icc=None if image.mode == "CMYK" else info.get("icc_profile"),
        exif=info.get("exif"),
        xmp=info.get("xmp"),
        comment=info.get("comment"),
        png=_chunks_of(image) if image.format == "PNG" else (),
        transparent=info.get("transparency") if image.mode == "I;16" else None,
    )


def _left_out(path: Path, image: Image.Image) -> str:
    """What of a file is not in `_metadata`, nor has a note of its own."""
    if image.format in JPEG:
        return jpeg_data.left_out(path.read_bytes())
    if image.format != "PNG":
        return ""
    names = [png.left_out(path), "pHYs without a unit" if "aspect" in image.info else ""]
    return ", ".join(filter(None, names))


def _chunks_of(image: Image.Image) -> tuple[tuple[str | bytes, Any], ...]:
    """The texts of a PNG, and the chunks that say how its colours look."""
    info, chunks = image.info, list(image.text.items())  # type: ignore[attr-defined]
    if "gamma" in info:
        chunks.append((b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000))))
    if "chromaticity" in info:
        chunks.append(
            (b"cHRM", struct.pack(">8I", *(round(x * 100_000) for x in info["chromaticity"])))
        )
    if "srgb" in info:
        chunks.append((b"sRGB", bytes([info["srgb"]])))
    return tuple(chunks)


def _png_chunks(metadata: Metadata) -> PngInfo:
    chunks = PngInfo()
    for key, value in metadata.png:
        if isinstance(key, bytes):
            chunks.add(key, value)
        elif isinstance(value, iTXt):
            chunks.add_itxt(key, value, value.lang or "", value.tkey or "")
        else:
            chunks.add_text(key, value, zip=len(value) > 1000)
    if metadata.xmp and all(key != "XML:com.adobe.xmp" for key, _ in metadata.png):
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return chunks


def _exif_of(orientation: int) -> bytes | None:
    if orientation == 1:
        return None
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()
