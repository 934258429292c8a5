"""Files that are no images, lie about their size, or cost more than they should."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wne_jax.images.files import ImageError, open_image

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
GRAY16 = RNG.integers(0, 65536, (12, 17), dtype=np.uint16)
STACK16 = RNG.integers(0, 65536, (2, 5, 12, 17), dtype=np.uint16)


def refusal(path) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_what_is_no_image_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.npy")
    for name in ("x.png", "x.tif", "x.npy", "x.bmp"):
        (tmp_path / name).touch()
        assert "zero bytes" in refusal(tmp_path / name)
        (tmp_path / name).write_text("no image\n" * 99)
        assert "x." in refusal(tmp_path / name)
    (tmp_path / "x.webp").touch()
    assert "unknown suffix '.webp'" in refusal(tmp_path / "x.webp")
    frames = [Image.fromarray(GRAY8), Image.fromarray(GRAY8[::-1])]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    assert "animation of 2" in refusal(tmp_path / "x.png")
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(GRAY8), tif.write(GRAY16[:5])
    assert "images of several kinds, (12, 17) and (5, 17)" in refusal(tmp_path / "x.tif")


def test_arrays_that_lie_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, GRAY16)
    raw = path.read_bytes()
    for claimed in (b"(13, 17)", b"(11, 17)", b"(0, 17) ", b"(-1, 17)"):
        path.write_bytes(raw.replace(b"(12, 17)", claimed))
        refusal(path)
    path.write_bytes(raw.replace(b"(12, 17), }          ", b"(10**6, 10**6), }    "))
    refusal(path)
    path.write_bytes(raw.replace(b"(12, 17), }            ", b"(1000000, 1000000), }  "))
    refusal(path)
    path.write_bytes(raw[:-1])
    refusal(path)
    for wrong in (np.ones((3, 3), bool), np.ones((3, 3), complex), np.array([["a"]])):
        np.save(path, wrong)
        assert "expected real numbers" in refusal(path)
    np.save(path, np.array([[None]]), allow_pickle=True)
    assert "Python objects" in refusal(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_that_claims_a_million_by_a_million_is_refused(tmp_path, compression):
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, np.zeros((70_000, 1), np.uint8), compression=compression, rowsperstrip=70_000
    )
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        places = [page.tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
        kinds = [page.tags[name].dtype for name in ("ImageWidth", "ImageLength")]
    raw = bytearray(path.read_bytes())
    for place, kind in zip(places, kinds):
        width, number = (4, 10**6) if kind == 4 else (2, 65_535)
        raw[place : place + width] = number.to_bytes(width, "little")
    path.write_bytes(raw)
    message = refusal(path)
    assert "claims" in message or "more than" in message


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.fromarray(GRAY8).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GRAY8.size // 3)
    monkeypatch.setattr(Image.Image, "load", None)
    assert "decompression bomb" in refusal(tmp_path / "x.png")


MEMORY = """
import re, sys
from pathlib import Path
from wne_jax.images.files import open_image

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

open_image(sys.argv[1])
before = peak()
image = open_image(sys.argv[2])
print((peak() - before) / image.pixels.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_large_image_of_few_bytes_costs_three_times_its_pixels(tmp_path, mode):
    Image.new(mode, (9, 9)).save(tmp_path / "small.png")
    Image.new(mode, (5000, 5000)).save(tmp_path / "large.png")
    child = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "small.png", tmp_path / "large.png"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert (tmp_path / "large.png").stat().st_size < 200_000
    assert 0.9 < float(child.stdout) < 3
