"""Files against the arrays and the metadata that they were made from, with nothing done in between."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wne_jax.images import png
from wne_jax.images.files import ImageError, ImageFile, creating, fitted, open_image
from wne_jax.images.reading import UPRIGHT, read_image

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
RGBA8 = RNG.integers(0, 256, (12, 17, 4), dtype=np.uint8)
GRAY16 = RNG.integers(0, 65536, (12, 17), dtype=np.uint16)
STACK16 = RNG.integers(0, 65536, (2, 5, 12, 17), dtype=np.uint16)


def copy(source, target, **options):
    """Through the package and out again, plane by plane, without a change."""
    image = fitted(target, open_image(source, **options))
    with creating(target, image) as out:
        assert out.shape == image.pixels.shape and out.dtype == image.pixels.dtype
        for plane, result in zip(image.planes(), image.planes(out)):
            result[...] = plane
        image.copy_alpha(out)
    return image


def refusal(path, target=None, **options) -> str:
    with pytest.raises(ImageError) as caught:
        image = open_image(path, **options)
        fitted(target, image)
    message = str(caught.value)
    assert message.startswith(f"{target or path}: ") and "\n" not in message
    return message


def pillow(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [(".bmp", GRAY8), (".bmp", RGB8)]
    + [(suffix, pixels) for suffix in (".png", ".tif") for pixels in (GRAY8, RGB8, RGBA8)],
)
def test_pixels_and_alpha_come_back(tmp_path, suffix, pixels):
    source, target = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    Image.fromarray(pixels).save(source)
    image = copy(source, target)
    assert image.alpha == (pixels.ndim == 3 and pixels.shape[-1] == 4)
    assert image.plane_shape == ((12, 17) if pixels.ndim == 2 else (12, 17, 3))
    np.testing.assert_array_equal(pillow(target), pixels)
    assert sorted(p.name for p in tmp_path.iterdir()) == [source.name, target.name]


def test_modes_of_pillow_become_gray_or_colour_and_keep_their_alpha(tmp_path):
    colour, gray = Image.fromarray(RGB8), Image.fromarray(GRAY8)
    gray_palette = gray.copy()
    gray_palette = gray.convert("P")
    clear = colour.quantize(7)
    clear.info["transparency"] = 3
    clear_gray = gray.convert("P")
    clear_gray.info["transparency"] = 7
    for name, image, expected in [
        ("la", gray.convert("LA"), np.stack([GRAY8, np.full_like(GRAY8, 255)], -1)),
        ("palette", colour.quantize(7), np.asarray(colour.quantize(7).convert("RGB"))),
        ("gray-palette", gray_palette, GRAY8),
        ("clear-palette", clear, np.asarray(clear.convert("RGBA"))),
        ("clear-gray", clear_gray, np.asarray(clear_gray.convert("RGBA"))[..., [0, 3]]),
        ("bits", Image.fromarray(GRAY8 > 127), np.where(GRAY8 > 127, 255, 0)),
    ]:
        image.save(tmp_path / f"{name}.png")
        copy(tmp_path / f"{name}.png", tmp_path / f"{name}.out.png")
        np.testing.assert_array_equal(pillow(tmp_path / f"{name}.out.png"), expected, err_msg=name)


def test_deep_gray_png_is_kept(tmp_path):
    Image.fromarray(GRAY16).save(tmp_path / "x.png")
    assert copy(tmp_path / "x.png", tmp_path / "y.png").pixels.dtype == np.uint16
    np.testing.assert_array_equal(read_image(tmp_path / "y.png")[..., 0], GRAY16)


def test_a_transparent_value_of_deep_gray_stays_with_its_pixels(tmp_path):
    pixels = np.full((5, 6), 700, np.uint16)
    pixels[:2] = 900
    Image.fromarray(pixels).save(tmp_path / "x.png", transparency=900)
    image = open_image(tmp_path / "x.png")
    with creating(tmp_path / "y.png", image) as out:
        out[:] = 900  # what a model may make of any pixel
        image.copy_alpha(out)
    with Image.open(tmp_path / "y.png") as after:
        assert after.info["transparency"] == 900
        np.testing.assert_array_equal(np.asarray(after) == 900, pixels == 900)
    assert any("900" in note for note in fitted(tmp_path / "y.tif", image).notes)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_deep_colour_png_keeps_pixels_alpha_and_what_it_says(tmp_path, samples):
    pytest.importorskip("imagecodecs")
    deep = RNG.integers(0, 65536, (12, 17, samples), dtype=np.uint16)
    said = PngInfo()
    said.add_text("Author", "somebody")
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "x.png").write_bytes(
        png.encode(deep, pnginfo=said, dpi=(300, 150), icc_profile=b"profile", exif=exif.tobytes())
    )
    image = copy(tmp_path / "x.png", tmp_path / "y.png")
    assert image.alpha == (samples != 3) and image.metadata.orientation == 6
    np.testing.assert_array_equal(open_image(tmp_path / "y.png").pixels, deep)
    with Image.open(tmp_path / "y.png") as after:
        after.load()
        assert after.text == {"Author": "somebody"} and after.info["icc_profile"] == b"profile"
        assert after.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
        assert after.getexif()[274] == 6
    copy(tmp_path / "x.png", tmp_path / "y.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), deep)


def test_deep_colour_png_needs_imagecodecs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    tifffile.imwrite(tmp_path / "deep.tif", RGB8.astype(np.uint16), photometric="rgb")
    assert "pip install imagecodecs" in refusal(tmp_path / "deep.tif", tmp_path / "y.png")


def test_png_keeps_what_it_says(tmp_path):
    said = PngInfo()
    said.add_text("Author", "somebody")
    said.add_itxt("Title", "Ψ", "el", "Τίτλος")
    said.add(b"gAMA", struct.pack(">I", 45455))
    exif = Image.Exif()
    exif[274], exif[315] = 6, "an artist"
    Image.fromarray(RGB8).save(
        tmp_path / "x.png", pnginfo=said, dpi=(300, 150), icc_profile=b"profile", exif=exif
    )
    copy(tmp_path / "x.png", tmp_path / "y.png")
    with Image.open(tmp_path / "x.png") as before, Image.open(tmp_path / "y.png") as after:
        after.load(), before.load()
        assert (
            after.text == {"Author": "somebody", "Title": "Ψ"} and after.text["Title"].lang == "el"
        )
        assert after.info["gamma"] == before.info["gamma"] == 0.45455
        assert after.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
        assert after.info["icc_profile"] == b"profile"
        assert dict(after.getexif()) == {274: 6, 315: "an artist"}


def test_jpeg_stays_close_and_keeps_what_it_says(tmp_path):
    smooth = np.linspace(0, 255, 32 * 24 * 3).astype(np.uint8).reshape(32, 24, 3)
    exif = Image.Exif()
    exif[274], exif[271] = 8, "a camera"
    exif.get_ifd(0x8769)[33434] = 0.01
    said = {"dpi": (72, 72), "icc_profile": b"profile", "comment": b"hello", "exif": exif}
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95, **said)
    copy(tmp_path / "x.jpg", tmp_path / "y.jpg")
    assert np.abs(pillow(tmp_path / "x.jpg").astype(int) - pillow(tmp_path / "y.jpg")).max() <= 3
    with Image.open(tmp_path / "x.jpg") as before, Image.open(tmp_path / "y.jpg") as after:
        for key in ("dpi", "icc_profile", "comment", "exif"):
            assert after.info[key] == before.info[key], key
        assert {layer[1:3] for layer in after.layer} == {(1, 1)}  # colours at full size
        assert after.quantization == Image.open(tmp_path / "x.jpg").quantization


def test_cmyk_becomes_rgb_and_says_so(tmp_path):
    gray = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 32, 3))
    cmyk = Image.fromarray(gray).convert("CMYK")
    cmyk.save(tmp_path / "x.jpg", quality=95, icc_profile=b"of four inks")
    image = copy(tmp_path / "x.jpg", tmp_path / "y.jpg")
    assert image.notes == ("CMYK becomes RGB, without its colour profile",)
    np.testing.assert_allclose(pillow(tmp_path / "y.jpg").astype(int), gray, atol=5)
    with Image.open(tmp_path / "y.jpg") as after:
        assert after.mode == "RGB" and "icc_profile" not in after.info


@pytest.mark.parametrize("source", [".jpg", ".png", ".tif", "palette.tif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".bmp", ".npy"])
def test_the_result_displays_as_the_source_whatever_the_orientation(tmp_path, source, target):
    blocks = np.repeat(np.repeat(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), 16, 0), 16, 1)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        path, result = tmp_path / f"x{source}", tmp_path / f"y{target}"
        image = Image.fromarray(blocks)  # as a palette, Pillow decodes it and turns it
        (image.convert("P") if source == "palette.tif" else image).save(path, exif=exif)
        upright = UPRIGHT.get(orientation, lambda a: a)(blocks)
        copy(path, result)
        displayed = np.load(result) if target == ".npy" else read_image(result)[..., 0]
        np.testing.assert_allclose(displayed.astype(int), upright, atol=4)


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8", ">u2", ">f4"]
)
def test_every_real_type_and_every_rank(tmp_path, dtype):
    stack = RNG.uniform(0, 100, (2, 5, 12, 17)).astype(dtype)
    tifffile.imwrite(
        tmp_path / "x.tif",
        stack,
        metadata={"axes": "TZYX"},
        byteorder=dtype[0] if dtype[0] == ">" else "<",
    )
    image = copy(tmp_path / "x.tif", tmp_path / "y.tif")
    assert isinstance(image.pixels, np.memmap)
    assert (image.axes, image.number, image.plane_shape) == ("TZYX", 10, (12, 17))
    np.testing.assert_array_equal(np.stack(list(image.planes())), stack.reshape(10, 12, 17))
    with tifffile.TiffFile(tmp_path / "y.tif") as tif:
        back = tif.series[0]
        assert (back.axes, back.dtype) == ("TZYX", np.dtype(dtype).newbyteorder("="))
        np.testing.assert_array_equal(back.asarray(), stack)
    np.save(tmp_path / "x.npy", stack)
    assert copy(tmp_path / "x.npy", tmp_path / "y.npy", axes="TZYX").number == 10
    assert np.load(tmp_path / "y.npy").dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), stack)


def test_axes_say_what_a_plane_is():
    def planes(shape, axes, alpha=False):
        image = ImageFile(Path("x"), np.arange(np.prod(shape)).reshape(shape), axes, alpha)
        found = list(image.planes())
        assert len(found) == image.number and {p.shape for p in found} == {image.plane_shape}
        return image.pixels, found

    pixels, found = planes((6, 7, 3), "YXC")
    np.testing.assert_array_equal(found, [pixels])
    pixels, found = planes((3, 6, 7), "CYX")
    np.testing.assert_array_equal(found, [np.moveaxis(pixels, 0, -1)])
    pixels, found = planes((6, 7, 5), "YXC")  # five channels of microscopy, each by itself
    np.testing.assert_array_equal(found, np.moveaxis(pixels, -1, 0))
    pixels, found = planes((3, 6, 7), "ZYX")
    np.testing.assert_array_equal(found, pixels)
    pixels, found = planes((2, 6, 7, 4), "ZYXS", alpha=True)
    np.testing.assert_array_equal(found, pixels[..., :3])
    pixels, found = planes((6, 7, 2), "YXS", alpha=True)
    np.testing.assert_array_equal(found, [pixels[..., 0]])
    pixels, found = planes((7, 6), "XY")
    np.testing.assert_array_equal(found, [pixels.T])
    pixels, found = planes((2, 3, 6, 7, 3), "TCYXS")
    np.testing.assert_array_equal(found, pixels.reshape(6, 6, 7, 3))


def test_an_array_that_does_not_say_its_axes_asks_for_them(tmp_path):
    path = tmp_path / "x.npy"
    for shape, axes, alpha in [
        ((6, 7), "YX", False),
        ((6, 7, 1), "YXS", False),
        ((6, 7, 3), "YXS", False),
        ((6, 7, 4), "YXS", True),
    ]:
        np.save(path, np.ones(shape))
        image = open_image(path)
        assert (image.axes, image.alpha) == (axes, alpha) and bool(image.notes) == alpha
    for shape in ((6,), (5, 6, 7), (5, 6, 7, 3)):
        np.save(path, np.ones(shape))
        assert "use --axes" in refusal(path)
    assert "are 3 and the array has 4" in refusal(path, axes="ZYX")
    for wrong in ("ZZYX", "ZCTX", "YX"):
        assert "axes" in refusal(path, axes=wrong)
    assert open_image(path, axes="ZYXS").number == 5


def test_a_channel_axis_is_stored_as_planes_of_a_tiff(tmp_path):
    channels = RNG.normal(size=(12, 17, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", channels)
    copy(tmp_path / "x.npy", tmp_path / "y.tif", axes="YXC")
    with tifffile.TiffFile(tmp_path / "y.tif") as tif:
        assert tif.series[0].axes == "CYX" and len(tif.pages) == 5
        np.testing.assert_array_equal(tif.asarray(), np.moveaxis(channels, -1, 0))


def test_imagej_stacks_keep_axes_scale_and_labels(tmp_path):
    stack = RNG.integers(0, 9, (2, 5, 2, 12, 17), dtype=np.uint16)
    labels = [f"plane {i}" for i in range(20)]
    said = {"unit": "um", "spacing": 2.5, "Labels": labels, "Info": "hello", "finterval": 0.5}
    tifffile.imwrite(
        tmp_path / "x.tif",
        stack,
        imagej=True,
        resolution=((10, 3), (20, 3)),
        metadata=said | {"axes": "TZCYX"},
    )
    source, target = tmp_path / "x.tif", tmp_path / "y.tif"
    assert copy(source, target).number == 20
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert after.imagej_metadata == before.imagej_metadata
        assert after.imagej_metadata["Labels"] == labels and after.series[0].axes == "TZCYX"
        tags = after.pages[0].tags
        assert (tags.valueof(282), tags.valueof(283)) == ((10, 3), (20, 3))
        np.testing.assert_array_equal(after.asarray(), stack)


def test_a_plain_stack_of_imagej_stays_one(tmp_path):
    said = "ImageJ=1.54f\nimages=10\nloop=false\n"
    flat = STACK16.reshape(10, 12, 17)
    tifffile.imwrite(tmp_path / "x.tif", flat, description=said, metadata=None)
    assert copy(tmp_path / "x.tif", tmp_path / "y.tif").number == 10
    with tifffile.TiffFile(tmp_path / "y.tif") as tif:
        assert tif.imagej_metadata["images"] == 10
        np.testing.assert_array_equal(tif.asarray(), flat)


def test_axes_can_be_told_against_what_a_tiff_says(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK16[0, ..., :3], metadata={"axes": "ZYX"})
    assert open_image(tmp_path / "x.tif").number == 5
    image = copy(tmp_path / "x.tif", tmp_path / "y.tif", axes="YXS")
    assert image.number == 1 and image.plane_shape == (5, 12, 3)
    assert tifffile.imread(tmp_path / "y.tif").shape == (5, 12, 3)
    tifffile.imwrite(tmp_path / "z.tif", STACK16[0], metadata={"axes": "ZYX"})
    assert copy(tmp_path / "z.tif", tmp_path / "y.tif", axes="YXC").plane_shape == (5, 12)
    with tifffile.TiffFile(tmp_path / "y.tif") as tif:  # as it lay, and now with names
        assert tif.series[0].axes == "YXC" and len(tif.pages) == 5
        np.testing.assert_array_equal(tif.asarray(), STACK16[0])
    assert "are 2 and the array has 3" in refusal(tmp_path / "x.tif", axes="YX")


def test_ome_keeps_axes_pixel_sizes_and_names(tmp_path):
    said = {
        "axes": "ZCYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["DAPI", "GFP"]},
        "Name": "cells",
    }
    stack = STACK16.swapaxes(0, 1)
    tifffile.imwrite(tmp_path / "x.ome.tif", stack, metadata=said)
    image = copy(tmp_path / "x.ome.tif", tmp_path / "y.ome.tif")
    assert any("OME" in note for note in image.notes)
    with tifffile.TiffFile(tmp_path / "y.ome.tif") as tif:
        assert tif.is_ome and tif.series[0].axes == "ZCYX"
        for part in ('PhysicalSizeX="0.25"', 'XUnit="nm"', 'SizeZ="2.0"', '"GFP"', '"cells"'):
            assert part in tif.ome_metadata
        np.testing.assert_array_equal(tif.asarray(), stack)


def test_tiff_keeps_layout_alpha_description_profile_and_compression(tmp_path):
    source, target = tmp_path / "x.tif", tmp_path / "y.tif"
    separate = np.moveaxis(RGB8, -1, 0).astype(np.uint16)
    tifffile.imwrite(source, separate, photometric="rgb", planarconfig="separate")
    image = copy(source, target)
    assert image.plane_shape == (12, 17, 3)
    assert image.notes == ("its 3 planes are read as colour; for a stack give --axes ZYX",)
    assert open_image(source, axes="ZYX").plane_shape == (12, 17)
    with tifffile.TiffFile(target) as tif:
        assert tif.series[0].axes == "SYX" and tif.pages[0].photometric == 2
        np.testing.assert_array_equal(tif.asarray(), separate)
    deep = RGBA8.astype(np.float32)
    tifffile.imwrite(
        source,
        deep,
        photometric="rgb",
        extrasamples=["unassalpha"],
        description="a note: 2 µm".encode(),
        metadata=None,
        iccprofile=b"profile",
        resolution=(300, 150),
        resolutionunit="INCH",
        compression="zlib",
    )
    image = copy(source, target)
    assert image.alpha and image.metadata.dpi == (300, 150)
    with tifffile.TiffFile(target) as tif:
        page = tif.pages[0]
        assert page.description == "a note: 2 µm" and page.extrasamples == (2,)
        assert page.tags.valueof(34675) == b"profile" and page.compression == 8
        assert page.tags.valueof(282) == (300, 1)
        np.testing.assert_array_equal(tif.asarray(), deep)
    tifffile.imwrite(source, GRAY16, photometric="miniswhite")
    copy(source, target)
    np.testing.assert_array_equal(tifffile.imread(target), 65535 - GRAY16)
    five = np.stack([GRAY16] * 5, -1)
    tifffile.imwrite(source, five, photometric="minisblack", planarconfig="contig")
    assert copy(source, target).number == 5
    np.testing.assert_array_equal(tifffile.imread(target), five)


def test_tiff_keeps_who_made_it_and_where(tmp_path):
    said = {
        315: (2, "an ärtist".encode()),
        33432: (2, b"of nobody"),
        306: (2, b"2020:01:02 03:04:05"),
        271: (2, b"a camera"),
        33550: (12, (0.5, 0.5, 0.0)),
        33922: (12, (0.0, 0.0, 0.0, 7.0, 8.0, 0.0)),
        34735: (3, (1, 1, 0, 0)),
        42113: (2, b"-9999"),
    }
    tags = [(code, kind, len(value), value, True) for code, (kind, value) in said.items()]
    source, target = tmp_path / "x.tif", tmp_path / "y.tif"
    for options in ({"metadata": None}, {"imagej": True}, {"compression": "zlib"}):
        tifffile.imwrite(source, GRAY16, extratags=tags, software="theirs", **options)
        copy(source, target)
        with tifffile.TiffFile(target) as tif:
            for code, (_, value) in said.items():
                kept = tif.pages[0].tags.valueof(code)
                assert (kept.encode() if isinstance(kept, str) else kept) == value, code
            assert tif.pages[0].software != "theirs"  # what wrote the file is now another


def test_premultiplied_alpha_stays_so_and_png_cannot_say_it(tmp_path):
    source, target = tmp_path / "x.tif", tmp_path / "y.tif"
    tifffile.imwrite(source, RGBA8, photometric="rgb", extrasamples=["assocalpha"])
    assert not copy(source, target).notes
    assert tifffile.TiffFile(target).pages[0].extrasamples == (1,)
    np.testing.assert_array_equal(tifffile.imread(target), RGBA8)
    image = copy(source, tmp_path / "y.png")
    assert image.notes == ("PNG cannot say that the colours are premultiplied by alpha",)


def test_a_resolution_beyond_the_format_is_dropped(tmp_path):
    for suffix, largest, beyond in [
        (".jpg", 65_535, 65_536),
        (".png", 1e8, 2e8),
        (".bmp", 5e7, 6e7),
    ]:
        source, target = tmp_path / "x.tif", tmp_path / f"y{suffix}"
        for dpi, kept in ((largest, True), (beyond, False)):
            tifffile.imwrite(source, GRAY8, resolution=(dpi, dpi), resolutionunit="INCH")
            image = copy(source, target)
            with Image.open(target) as after:
                found = after.info.get("dpi", (0, 0))[0]
            assert (found == pytest.approx(dpi, rel=1e-3)) == kept
            assert found < largest * 1.001  # and not what is left of it modulo 2^16 or 2^32
            assert any("resolution" in note for note in image.notes) != kept


def test_chunks_and_segments_that_are_left_out_are_noted(tmp_path):
    said = PngInfo()
    said.add(b"prVt", b"of somebody's own")
    Image.fromarray(RGB8).save(tmp_path / "x.png", pnginfo=said)
    assert open_image(tmp_path / "x.png").notes == ("not kept: prVt",)
    Image.fromarray(RGB8).save(tmp_path / "x.jpg", icc_profile=b"profile", xmp=b"<x/>", comment="x")
    assert open_image(tmp_path / "x.jpg").notes == ()
    raw = (tmp_path / "x.jpg").read_bytes()
    segment = b"\xff\xed\0\x16Photoshop 3.0\0words."
    (tmp_path / "x.jpg").write_bytes(raw[:2] + segment + raw[2:] + b"film")
    assert open_image(tmp_path / "x.jpg").notes == ("not kept: APP13, 4 bytes behind the image",)


def test_what_is_lost_or_guessed_is_noted(tmp_path):
    exif = Image.Exif()
    exif[271] = "a camera"
    for source in (tmp_path / "x.jpg", tmp_path / "x.png"):
        Image.fromarray(GRAY8).save(source, exif=exif)
        for suffix, notes in ((".tif", 1), (".bmp", 1), (source.suffix, 0)):
            lost = copy(source, tmp_path / f"y{suffix}").notes
            assert lost == ("its EXIF block is not kept",) * notes
    Image.fromarray(RGB8).convert("CMYK").save(tmp_path / "x.tif")
    assert open_image(tmp_path / "x.tif").notes == ("CMYK becomes RGB, without its colour profile",)
    for options in ({"imagej": True}, {"ome": True}):
        tifffile.imwrite(tmp_path / "x.tif", STACK16[0], **options)
        assert not any("other axes" in note for note in open_image(tmp_path / "x.tif").notes)
        notes = open_image(tmp_path / "x.tif", axes="YXC").notes
        assert "its description is not kept: other axes are given" in notes
    tifffile.imwrite(tmp_path / "x.tif", RGBA8, photometric="minisblack", planarconfig=None)
    image = copy(tmp_path / "x.tif", tmp_path / "y.png")
    assert image.alpha and image.notes == ("the last of its samples is taken for alpha, and kept",)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_stacks_that_others_wrote_page_by_page(tmp_path, compression):
    frames = [Image.fromarray(np.roll(GRAY8, i)) for i in range(3)]
    path = tmp_path / "x.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:], compression=compression)
    assert copy(path, tmp_path / "y.tif").number == 3
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), np.stack(frames))
    raw = path.read_bytes()
    for part in (0.4, 0.7, 0.9):
        path.write_bytes(raw[: int(part * len(raw))])
        refusal(path)


def test_palettes_and_inks_of_a_tiff(tmp_path):
    colour = Image.fromarray(RGB8)
    for name, image in [("p", colour.quantize(5)), ("c", colour.convert("CMYK"))]:
        image.save(tmp_path / f"{name}.tif")
        copy(tmp_path / f"{name}.tif", tmp_path / "y.tif")
        np.testing.assert_array_equal(pillow(tmp_path / "y.tif"), np.asarray(image.convert("RGB")))


def test_a_target_holds_the_image_or_says_why_not(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", STACK16)
    assert "cannot hold a stack of 10" in refusal(tmp_path / "stack.tif", tmp_path / "y.png")
    tifffile.imwrite(tmp_path / "deep.tif", RGB8.astype(np.int16), photometric="rgb")
    assert "int16 of 3 samples" in refusal(tmp_path / "deep.tif", tmp_path / "y.png")
    np.save(tmp_path / "f.npy", GRAY8.astype(np.float32))
    for suffix in (".png", ".jpg", ".bmp"):
        assert "float32" in refusal(tmp_path / "f.npy", tmp_path / f"y{suffix}")
    np.save(tmp_path / "l.npy", GRAY8.astype(np.longdouble))
    assert "cannot hold float128" in refusal(tmp_path / "l.npy", tmp_path / "y.tif")
    assert "'.gif'" in refusal(tmp_path / "f.npy", tmp_path / "y.gif")
    np.save(tmp_path / "wide.npy", np.zeros((1, 70_000), np.uint8))
    assert "65500" in refusal(tmp_path / "wide.npy", tmp_path / "y.jpg")
    Image.fromarray(RGBA8).save(tmp_path / "a.png")
    image = copy(tmp_path / "a.png", tmp_path / "a.jpg")
    assert image.notes == ("JPEG cannot hold its alpha, which is dropped",)
    copy(tmp_path / "a.png", tmp_path / "a.tif")
    copy(tmp_path / "a.tif", tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), RGBA8)


def test_planes_of_one_become_images(tmp_path):
    np.save(tmp_path / "x.npy", RGB8[None])
    copy(tmp_path / "x.npy", tmp_path / "y.png", axes="ZYXC")
    np.testing.assert_array_equal(pillow(tmp_path / "y.png"), RGB8)
    np.save(tmp_path / "x.npy", GRAY16[..., None])
    copy(tmp_path / "x.npy", tmp_path / "y.png")
    np.testing.assert_array_equal(pillow(tmp_path / "y.png"), GRAY16)
