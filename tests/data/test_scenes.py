"""Pairs, repeats and SIDD, on small folders with their layout."""

from pathlib import Path

import numpy as np
import pytest

from wne_jax.data.sources import iterate_images
from wne_jax.images.reading import ImageError, write_image
from wne_jax.images.units import to_gray

COLOUR = (6, 9, 3)


def _write(path, shape=COLOUR, dtype=np.uint8, *, seed=0):
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, pixels)
    return pixels


@pytest.fixture
def pairs(tmp_path):
    """Two good pairs, one with 16 bits, and every kind of bad pair."""
    noisy, clean = tmp_path / "noisy", tmp_path / "clean"
    good = {
        "a": (_write(noisy / "a.png", seed=1), _write(clean / "a.tif", seed=2)),
        "b": tuple(
            _write(f / "b.tif", dtype=np.uint16, seed=i) for i, f in enumerate((noisy, clean))
        ),
    }
    _write(noisy / "shape.png")
    _write(clean / "shape.png", (6, 8, 3))
    _write(noisy / "depth.tif", dtype=np.uint16)
    _write(clean / "depth.png")
    _write(noisy / "alone.png")
    _write(clean / "missing.png")
    _write(noisy / "twice.png")
    _write(noisy / "twice.tif")
    _write(clean / "twice.png")
    (noisy / "cut.png").write_bytes(b"no image")
    _write(clean / "cut.png")
    return good


def test_pairs(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("WNE_DATA", str(tmp_path))
    with pytest.warns(UserWarning) as caught:
        found = list(iterate_images("pairs:noisy:clean", channels=None, min_size=6))
    assert [image.name for image in found] == ["a", "b"]
    for image in found:
        assert image.pixels.dtype == pairs[image.name][0].dtype
        np.testing.assert_array_equal(image.pixels, np.stack(pairs[image.name]))
    (message,) = [str(w.message) for w in caught]
    assert message.startswith(f"{tmp_path / 'noisy'} and {tmp_path / 'clean'}: 6 pairs skipped: ")
    assert "alone: 1 noisy and 0 clean files; expected 1 and 1" in message
    assert "missing: 0 noisy and 1 clean files" in message
    assert "twice: 2 noisy and 1 clean files" in message
    assert "cut: noisy/cut.png: the content is not" in message
    assert "shape: the shots differ: (6, 8, 3) uint8, (6, 9, 3) uint8" in message
    assert "depth: the shots differ: (6, 9, 3) uint16, (6, 9, 3) uint8" in message


def test_pairs_in_gray(pairs, tmp_path):
    images = iterate_images(f"pairs:{tmp_path / 'noisy'}:{tmp_path / 'clean'}", channels=1)
    np.testing.assert_array_equal(next(images).pixels, np.stack([to_gray(x) for x in pairs["a"]]))


def test_too_small_pairs(pairs, tmp_path):
    with pytest.raises(ImageError, match=r"no usable pair: .*a: 6 x 9 is smaller than min_size 7"):
        list(iterate_images(f"pairs:{tmp_path / 'noisy'}:{tmp_path / 'clean'}", min_size=7))


def test_repeats(tmp_path):
    folder = tmp_path / "bursts"
    shots = {
        scene: [_write(folder / scene / f"{i}.png", (5, 5, 1), seed=i) for i in range(number)]
        for scene, number in (("two", 2), ("five", 5), ("one", 1))
    }
    _write(folder / "mixed" / "0.png", (5, 5, 1))
    _write(folder / "mixed" / "1.png", (5, 6, 1))
    (folder / "none").mkdir()
    (folder / ".hidden").mkdir()
    _write(folder / "stray.png")
    with pytest.warns(UserWarning) as caught:
        found = list(iterate_images(f"repeats:{folder}"))
    assert [image.name for image in found] == ["five", "two"]
    for image in found:
        np.testing.assert_array_equal(image.pixels, np.stack(shots[image.name]))
    (message,) = [str(w.message) for w in caught]
    assert message == (
        f"{folder}: 3 scenes skipped: none: 0 shots; expected at least 2; one: 1 shots; expected at "
        "least 2; mixed: the shots differ: (5, 5, 1) uint8, (5, 6, 1) uint8"
    )


@pytest.mark.parametrize(
    ("inside", "numbered", "place"),
    [
        ("SIDD_Medium_Srgb/Data", True, "."),
        ("SIDD_Medium_Srgb/Data", True, "SIDD_Medium_Srgb"),
        ("SIDD_Medium_Srgb/Data", True, "SIDD_Medium_Srgb/Data"),
        ("SIDD_Small_sRGB_Only/Data", False, "SIDD_Small_sRGB_Only"),
    ],
)
def test_sidd_as_published(tmp_path, inside, numbered, place):
    expected = {}
    for scene in ("0002_001_S6_00100_00020_3200_N", "0001_001_S6_00100_00060_3200_L"):
        start = f"{tmp_path / inside / scene}/{scene[:5] if numbered else ''}"
        for number in ("010", "011"):
            expected[f"{scene}_{number}"] = [
                _write(Path(f"{start}{kind}_SRGB_{number}.PNG"), seed=len(expected) + 10 * i)
                for i, kind in enumerate(("NOISY", "GT"))
            ]
    _write(Path(f"{start}NOISY_SRGB_012.PNG"))
    _write(Path(f"{start}preview.png"))
    with pytest.warns(
        UserWarning, match=r"1 pairs skipped: 0001.*_012: there is only a NOISY file$"
    ):
        found = list(iterate_images(f"sidd:{tmp_path / place}", channels=3))
    assert [image.name for image in found] == sorted(expected)
    for image in found:
        np.testing.assert_array_equal(image.pixels, np.stack(expected[image.name]))


def test_a_folder_with_two_sets_of_sidd_is_rejected(tmp_path):
    for name in ("SIDD_Medium_Srgb", "SIDD_Small_sRGB_Only"):
        (tmp_path / name / "Data").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"which has several sets; write one of .*SIDD_Medium_Srgb, "
    ):
        iterate_images(f"sidd:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pairs:{0}/x:{0}/y", "no usable pair: no file ends in"),
        ("repeats:{0}/x", "no usable scene: it has no subfolders of shots"),
        ("sidd:{0}", "no usable pair: no file is named like SCENE/0001_NOISY_SRGB_010.PNG"),
        ("pairs:{0}/x:{0}/z", "z: no such folder"),
        ("repeats:{0}/z", "z: no such folder"),
        ("sidd:{0}/z", "z: no such folder"),
    ],
)
def test_sources_without_scenes_are_rejected(tmp_path, spec, message):
    for name in "xy":
        (tmp_path / name).mkdir()
    with pytest.raises(ImageError, match=message):
        list(iterate_images(spec.format(tmp_path)))
