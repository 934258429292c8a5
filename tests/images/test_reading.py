"""Files against the arrays they were made from, and units against arithmetic."""

import io
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
import skimage.io
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from wne_jax.images import _errors, units
from wne_jax.images import reading as images
from wne_jax.images.reading import ImageError, read_image, write_image

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (12, 17, 1), dtype=np.uint8)
RGB8 = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
GRAY16 = RNG.integers(0, 65536, (12, 17, 1), dtype=np.uint16)
RGB16 = RNG.integers(0, 65536, (12, 17, 3), dtype=np.uint16)
GRAYF = RNG.normal(size=(12, 17, 1)).astype(np.float32)
RGBF = RNG.normal(size=(12, 17, 3)).astype(np.float32)


def png16(samples: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG by the specification: Pillow cannot write it in colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(path) -> str:
    """The message with which reading fails: one line that starts with the path."""
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("suffix", "image"),
    [(".png", x) for x in (GRAY8, RGB8, GRAY16)]
    + [(".TIF", x) for x in (GRAY8, RGB8, GRAY16, RGB16, GRAYF, RGBF)],
)
def test_written_images_read_back_exactly(tmp_path, suffix, image):
    path = tmp_path / f"x{suffix}"
    write_image(path, image)
    back = read_image(path)
    assert back.dtype == image.dtype and back.flags.c_contiguous
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(skimage.io.imread(path).reshape(image.shape), image)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".jpeg", ".JPG"])
@pytest.mark.parametrize("image", [GRAY8, RGB8])
def test_pillow_formats_equal_pillow(tmp_path, suffix, image):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
    with Image.open(path) as direct:
        np.testing.assert_array_equal(read_image(path), np.asarray(direct).reshape(image.shape))


def test_colour_spaces_become_gray_or_rgb(tmp_path):
    colour = Image.fromarray(RGB8)
    alpha = Image.fromarray(GRAY8[..., 0])
    rgba, la = colour.copy(), Image.fromarray(GRAY8[..., 0])
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    palette = colour.quantize(7)
    bits = Image.fromarray(GRAY8[..., 0] > 127)
    for name, image, expected in [
        ("rgba.png", rgba, RGB8),
        ("la.png", la, GRAY8),
        ("palette.png", palette, np.asarray(palette.convert("RGB"))),
        ("bits.png", bits, np.where(GRAY8 > 127, 255, 0)),
        ("rgba.tif", rgba, RGB8),
        ("palette.tif", palette, np.asarray(palette.convert("RGB"))),
        ("bits.tif", bits, np.where(GRAY8 > 127, 255, 0)),
        ("cmyk.tif", colour.convert("CMYK"), RGB8),
    ]:
        image.save(tmp_path / name)
        back = read_image(tmp_path / name)
        assert back.dtype == np.uint8, name
        np.testing.assert_array_equal(back, expected, err_msg=name)
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 32, 3))
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "cmyk.jpg").astype(int), smooth, atol=4)


def test_alpha_never_mixes_into_colour(tmp_path):
    transparent = Image.fromarray(np.full((4, 4, 4), (10, 20, 30, 0), np.uint8))
    transparent.save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == [10, 20, 30]).all()


def test_deep_gray_png_is_kept(tmp_path):
    (tmp_path / "x.png").write_bytes(png16(GRAY16, 0))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), GRAY16)


DEEP = [(RGB16, 2, 3), (RGB16[..., :2], 4, 1), (np.dstack([RGB16, GRAY16]), 6, 3)]


@pytest.mark.parametrize(("samples", "colour_type", "kept"), DEEP)
def test_deep_colour_png_is_read_by_imagecodecs(tmp_path, samples, colour_type, kept):
    pytest.importorskip("imagecodecs")
    (tmp_path / "x.png").write_bytes(png16(samples, colour_type))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), samples[..., :kept])


@pytest.mark.parametrize(("samples", "colour_type", "kept"), DEEP)
def test_deep_colour_png_is_refused_without_imagecodecs(
    tmp_path, monkeypatch, samples, colour_type, kept
):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    (tmp_path / "x.png").write_bytes(png16(samples, colour_type))
    message = refusal(tmp_path / "x.png")
    assert "16-bit PNG with colour or alpha" in message and "pip install imagecodecs" in message


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("colour_type", "samples", "bits"), [(0, 1, 16), (2, 3, 8), (3, 1, 8), (0, 1, 1), (6, 4, 8)]
)
def test_rows_that_a_png_lacks_are_not_made_up(tmp_path, colour_type, samples, bits, interlaced):
    height, width = 13, 11
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = []
    for x, y, dx, dy in passes if interlaced else [(0, 0, 1, 1)]:
        columns = len(range(x, width, dx))
        rows += (
            [b"\0" + bytes(-(-columns * samples * bits // 8))] * len(range(y, height, dy))
            if columns
            else []
        )

    def png(rows):
        header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
        body = zlib.compress(b"".join(rows))
        chunks = [
            (b"IHDR", header),
            (b"PLTE", bytes(768)),
            (b"IDAT", body[:9]),
            (b"IDAT", body[9:]),
            (b"IEND", b""),
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks if name != b"PLTE" or colour_type == 3
        )  # fmt: skip

    (tmp_path / "x.png").write_bytes(png(rows))
    assert read_image(tmp_path / "x.png").shape[:2] == (height, width)
    for left in (1, len(rows) // 2):
        (tmp_path / "x.png").write_bytes(png(rows[:-left]))
        assert "its last rows are missing" in refusal(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    """What is read is the scene, upright, whatever way the camera held its sensor."""
    scene = np.repeat(np.repeat(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), 16, 0), 16, 1)
    # The sides of the scene on which the stored row 0 and column 0 lie, by the EXIF specification.
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.T,
        6: np.rot90(scene),
        7: scene[::-1, ::-1].T,
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / "x.jpg", exif=exif, quality=100)
    image.save(tmp_path / "x.png", exif=exif)
    image.save(tmp_path / "x.tif", exif=exif)
    deep = np.ascontiguousarray(stored).astype(np.float32)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "deep.tif", deep, extratags=[tag], metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[..., 0], scene)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[..., 0], scene)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif")[..., 0], scene)
    np.testing.assert_allclose(read_image(tmp_path / "x.jpg")[..., 0].astype(int), scene, atol=2)


def test_tiff_layouts(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), RGB16)
    tifffile.imwrite(path, np.moveaxis(RGB8, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), RGB8)
    rgba = np.concatenate([RGB16, GRAY16], -1)
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path), RGB16)
    tifffile.imwrite(path, GRAYF[..., 0].astype(np.float64), compression="zlib")
    np.testing.assert_array_equal(read_image(path), GRAYF)
    assert read_image(path).dtype == np.float32
    tifffile.imwrite(path, GRAY8[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path), 255 - GRAY8)
    Image.fromarray(RGB8).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(path), RGB8)
    for image in (GRAY8, RGB16, GRAYF):
        tifffile.imwrite(path, image.squeeze(), byteorder=">", tile=(16, 16))
        back = read_image(path)
        assert back.dtype == image.dtype and back.dtype.isnative
        np.testing.assert_array_equal(back, image)


def test_tiffs_without_a_stated_unit_are_refused(tmp_path):
    path = tmp_path / "x.tif"
    for dtype in (np.int8, np.int16, np.uint32, np.complex64):
        tifffile.imwrite(path, np.ones((4, 4), dtype))
        assert f"dtype {np.dtype(dtype)}" in refusal(path)
    tifffile.imwrite(path, np.ones((4, 4), np.uint16), photometric="miniswhite")
    assert "MINISWHITE" in refusal(path)
    tifffile.imwrite(
        path, np.ones((4, 4, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    assert "5 channels" in refusal(path)
    for bad in (np.nan, np.inf, 1e300):
        tifffile.imwrite(path, np.array([[0.0, bad]]))
        assert "NaN or infinite" in refusal(path)
    tifffile.imwrite(path, np.ones((3, 8, 8), np.uint8), photometric="minisblack")
    assert "several pages" in refusal(path)
    tifffile.imwrite(path, np.ones((3, 8, 8), np.uint16), imagej=True)
    assert "a stack" in refusal(path)


def test_what_is_no_image_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png")
    for name in ("empty.png", "empty.tif"):
        (tmp_path / name).touch()
        assert "zero bytes" in refusal(tmp_path / name)
    for name in ("text.png", "text.jpg", "text.tiff"):
        (tmp_path / name).write_text("not an image\nat all\n" * 20)
        assert "the content is not" in refusal(tmp_path / name)
    (tmp_path / "x.webp").touch()
    assert "'.webp'" in refusal(tmp_path / "x.webp")


def test_sizes_are_checked_before_decoding(tmp_path, monkeypatch):
    write_image(tmp_path / "x.png", GRAY8)
    write_image(tmp_path / "x.tif", GRAYF)
    monkeypatch.setattr(_errors, "MAX_PIXELS", GRAY8.size - 1)
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    assert "12 x 17: more than 203 pixels" in refusal(tmp_path / "x.png")
    assert "12 x 17: more than 203 pixels" in refusal(tmp_path / "x.tif")
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert "decompression bomb" in refusal(tmp_path / "x.png")


def test_a_large_image_is_read_without_a_word(tmp_path, monkeypatch):
    write_image(tmp_path / "x.png", GRAY8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GRAY8.size - 1)  # from here on Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), GRAY8)


def test_zero_sized_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(png16(np.zeros((0, 5), np.uint16), 0))
    assert "the content is not PNG" in refusal(tmp_path / "x.png")  # Pillow does not know it
    write_image(tmp_path / "x.tif", GRAYF)
    raw = (tmp_path / "x.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        where = tif.pages[0].tags["ImageWidth"].valueoffset
    (tmp_path / "x.tif").write_bytes(raw[:where] + bytes(2) + raw[where + 2 :])
    assert "12 x 0: it has no pixels" in refusal(tmp_path / "x.tif")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp", "x.tif", "deep.tif", "lzw.tif"])
def test_a_truncated_file_never_reads_as_another_image(tmp_path, name):
    path = tmp_path / name
    if name == "deep.tif":
        write_image(path, RGBF)
    else:
        Image.fromarray(RGB8).save(path, compression="tiff_lzw" if name == "lzw.tif" else None)
    whole, raw = read_image(path), path.read_bytes()
    for length in range(len(raw) - 1, 0, -max(1, len(raw) // 60)):
        path.write_bytes(raw[:length])
        try:
            back = read_image(path)
        except ImageError:
            continue
        assert length > len(raw) - 16, f"{length} of {len(raw)} bytes were read"
        np.testing.assert_array_equal(back, whole)


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("x.jpg", GRAY8, "'.jpg'"),
        ("x.png", RGB16, "colour uint16"),
        ("x.png", GRAYF, "gray float32"),
        ("x.png", GRAY8[..., 0], "shape (12, 17)"),
        ("x.png", GRAY8[:0], "shape (0, 17, 1)"),
        ("x.tif", np.zeros((2, 2, 2), np.uint8), "shape (2, 2, 2)"),
        ("x.tif", GRAYF.astype(np.float64), "float64"),
        ("x.tif", GRAYF * np.nan, "NaN"),
        ("absent/x.png", GRAY8, "cannot be written"),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, name, image, reason):
    with pytest.raises(ImageError) as caught:
        write_image(tmp_path / name, image)
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    write_image(path, GRAY8)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(images.os, "replace", fail)
    with pytest.raises(ImageError, match="disk full"):
        write_image(path, RGB8)
    np.testing.assert_array_equal(read_image(path), GRAY8)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_full_scale():
    assert units.full_scale(np.uint8) == 255.0
    assert units.full_scale("uint16") == units.full_scale(">u2") == 65535.0
    assert units.full_scale(np.float16) == units.full_scale(np.float64) == 1.0
    for dtype in (np.int16, np.uint32, np.bool_):
        with pytest.raises(TypeError, match=np.dtype(dtype).name):
            units.full_scale(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_units_are_inverse_on_every_integer(dtype):
    every = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    unit = units.to_unit(every)
    assert unit.dtype == np.float32 and unit[0] == 0 and unit[-1] == 1
    np.testing.assert_array_equal(units.from_unit(unit, dtype), every)


@given(hnp.arrays(np.float32, (3, 4, 1), elements=st.floats(-4, 4, width=32)))
def test_integers_saturate_and_floats_do_not(x):
    as_bytes = units.from_unit(x, np.uint8).astype(np.float64)
    clipped = np.clip(x.astype(np.float64), 0, 1)
    assert np.abs(as_bytes - 255 * clipped).max() <= 0.5
    np.testing.assert_array_equal(units.from_unit(x, np.float32), x)
    np.testing.assert_array_equal(units.to_unit(x), x)


def test_infinities_saturate_and_nan_is_refused():
    np.testing.assert_array_equal(
        units.from_unit(np.array([-np.inf, np.inf]), np.uint16), [0, 65535]
    )
    with pytest.raises(ValueError, match="NaN"):
        units.from_unit(np.array([np.nan]), np.uint8)
    with pytest.raises(TypeError, match="x has dtype uint8"):
        units.from_unit(GRAY8, np.uint8)


def test_gray_is_luma():
    primaries = np.eye(3, dtype=np.float32)[None]
    np.testing.assert_allclose(units.to_gray(primaries)[0, :, 0], [0.299, 0.587, 0.114], rtol=1e-7)
    pillow = np.asarray(Image.fromarray(RGB8).convert("L")).astype(int)
    gray = units.to_gray(RGB8)
    assert gray.dtype == np.uint8 and np.abs(gray[..., 0] - pillow).max() <= 1
    for image in (GRAY8, GRAY16):
        assert units.to_gray(image) is image
        np.testing.assert_array_equal(units.to_gray(np.repeat(image, 3, -1)), image)
    deep = units.to_gray(RGB16)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep[..., 0], RGB16 @ [0.299, 0.587, 0.114], atol=0.5 + 1e-9)


def test_channels():
    assert units.with_channels(RGB8, 3) is RGB8
    np.testing.assert_array_equal(units.with_channels(RGB8, 1), units.to_gray(RGB8))
    np.testing.assert_array_equal(units.with_channels(GRAY16, 3), np.concatenate([GRAY16] * 3, -1))
    with pytest.raises(ValueError, match="channels is 2"):
        units.with_channels(RGB8, 2)
    with pytest.raises(ValueError, match=r"\(12, 17\)"):
        units.with_channels(GRAY8[..., 0], 1)


def test_a_jpeg_named_png_is_read_for_what_it_is(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(GRAY8[..., 0]).save(buffer, "JPEG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    with Image.open(buffer) as direct:
        np.testing.assert_array_equal(read_image(tmp_path / "x.png")[..., 0], np.asarray(direct))
