"""Sources of images are compared with their files."""

import warnings

import numpy as np
import pytest
import skimage.data
import tifffile

from wne_jax.data import folders
from wne_jax.data.sources import iterate_images, kind_of, load_images
from wne_jax.images.reading import ImageError, write_image
from wne_jax.images.units import to_gray


@pytest.fixture
def mixed(tmp_path):
    """Three good and three bad image files, and other files."""
    rng = np.random.default_rng(0)
    gray, colour = (rng.integers(0, 256, (20, 24, c), dtype=np.uint8) for c in (1, 3))
    deep = rng.integers(0, 65536, (20, 24), dtype=np.uint16)
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_image(folder / "b.png", gray)
    write_image(folder / "a.png", colour)
    tifffile.imwrite(folder / "c.TIF", deep)
    write_image(folder / "tiny.png", gray[:4])
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:200])
    (folder / "text.png").write_text("no image")
    (folder / "README.txt").write_text("ignored")
    (folder / ".hidden.png").write_text("ignored")
    (folder / "sub").mkdir()
    write_image(folder / "sub" / "d.png", gray)
    return folder, {"a": colour, "b": gray, "c": deep[..., None]}


def test_embedded_split_is_disjoint_and_complete():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = load_images("embedded", split="train")
        test = load_images("embedded", split="test")
    assert len(train) == 15
    assert [image.name for image in test] == ["astronaut", "camera", "chelsea", "coffee"]
    assert not {image.name for image in train} & {image.name for image in test}
    assert len({image.pixels.tobytes() for image in train + test}) == 19
    assert all(image.pixels.ndim == 3 and image.pixels.shape[-1] == 1 for image in train + test)
    np.testing.assert_array_equal(test[1].pixels[..., 0], skimage.data.camera())


def test_embedded_in_colour():
    astronaut, camera, *_ = load_images("embedded", split="test", channels=3)
    np.testing.assert_array_equal(astronaut.pixels, skimage.data.astronaut())
    np.testing.assert_array_equal(camera.pixels, np.stack([skimage.data.camera()] * 3, -1))


def test_folder_is_sorted_and_reports_skipped_files(mixed):
    folder, expected = mixed
    with pytest.warns(UserWarning) as caught:
        found = load_images(f"folder:{folder}", channels=1, min_size=16)
    assert [image.name for image in found] == ["a", "b", "c"]
    for image in found:
        np.testing.assert_array_equal(image.pixels, to_gray(expected[image.name]))
        assert image.pixels.dtype == expected[image.name].dtype
    (message,) = [str(w.message) for w in caught]
    assert message.startswith(f"{folder}: 3 images skipped: cut.png: ")
    assert "text.png: the content is not" in message
    assert "tiny.png: 4 x 24 is smaller than min_size 16" in message
    assert caught[0].filename == __file__


def test_folder_ignores_the_split(mixed):
    folder, _ = mixed
    with pytest.warns(UserWarning, match="2 images skipped"):
        test = load_images(f"folder:{folder}", split="test", channels=3)
    assert [image.name for image in test] == ["a", "b", "c", "tiny"]
    assert all(image.pixels.shape[-1] == 3 for image in test)


def test_equal_stems_keep_their_suffix(tmp_path):
    for name, shade in (("x.png", 1), ("x.tif", 2), ("y.png", 3)):
        write_image(tmp_path / name, np.full((8, 8, 1), shade, np.uint8))
    found = load_images(f"folder:{tmp_path}")
    assert [(image.name, int(image.pixels.max())) for image in found] == [
        ("x.png", 1),
        ("x.tif", 2),
        ("y", 3),
    ]


def test_a_folder_without_usable_images_is_an_error(mixed, tmp_path):
    folder, _ = mixed
    with pytest.raises(ImageError) as caught:
        load_images(f"folder:{folder}", min_size=100)
    assert str(caught.value).startswith(f"{folder}: no usable image: a.png: 20 x 24 is smaller")
    assert "cut.png" in str(caught.value)
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match=r"none: no usable image: no file ends in .*\.png"):
        load_images(f"folder:{tmp_path / 'none'}")


def test_long_reports_are_truncated(tmp_path):
    write_image(tmp_path / "good.png", np.zeros((8, 8, 1), np.uint8))
    for i in range(13):
        (tmp_path / f"bad{i:02}.png").touch()
    with pytest.warns(UserWarning, match=r"13 images skipped: bad00.*bad09.*; and 3 more$"):
        load_images(f"folder:{tmp_path}")


def test_relative_folders_are_found_under_wne_data(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for root, shade in ((here, 1), (there, 2)):
        (root / "set").mkdir(parents=True)
        write_image(root / "set" / "x.png", np.full((8, 8, 1), shade, np.uint8))
    (there / "other").mkdir()
    write_image(there / "other" / "x.png", np.full((8, 8, 1), 3, np.uint8))
    monkeypatch.chdir(here)
    monkeypatch.setenv("WNE_DATA", str(there))
    assert load_images("folder:set")[0].pixels.max() == 1
    assert load_images("folder:other")[0].pixels.max() == 3
    with pytest.raises(ImageError) as caught:
        load_images("folder:absent")
    assert f"{here / 'absent'} and {there / 'absent'}" in str(caught.value)
    monkeypatch.delenv("WNE_DATA")
    with pytest.raises(ImageError, match=f"looked at {here / 'other'}; relative paths .*WNE_DATA"):
        load_images("folder:other")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("imagenet", {}, "spec is 'imagenet'; known schemes are embedded, folder, pairs"),
        ("embedded:x", {}, "takes no location"),
        ("folder:", {}, "spec is 'folder:'; write folder:PATH"),
        ("repeats:", {}, "spec is 'repeats:'; write repeats:DIR"),
        ("sidd:", {}, "spec is 'sidd:'; write sidd:DIR"),
        ("pairs:noisy", {}, "spec is 'pairs:noisy'; write pairs:NOISY:CLEAN"),
        ("pairs:a:b:c", {}, "write pairs:NOISY:CLEAN"),
        ("pairs:a:a", {}, "two folders"),
        ("tfds:", {}, "write tfds:NAME"),
        ("folder:/absent", {}, "no such folder; looked at /absent"),
        ("embedded,folder:x", {}, "expected one source, without a comma"),
        ("embedded", {"split": "val"}, "split is 'val'"),
        ("embedded", {"channels": 2}, "channels is 2"),
    ],
)
def test_arguments_are_checked_at_the_call(spec, options, message):
    with pytest.raises(ValueError, match=message):
        iterate_images(spec, **options)


def test_kinds():
    kinds = {"embedded": "clean", "folder:x": "clean", "tfds:x": "clean", "pairs:x:y": "pairs"}
    kinds |= {"sidd:x": "pairs", "repeats:x": "repeats"}
    assert {spec: kind_of(spec) for spec in kinds} == kinds


def test_files_are_read_one_by_one(mixed, monkeypatch):
    folder, expected = mixed
    opened = []

    def read_image(path):
        opened.append(path.name)
        return original(path)

    original = folders.read_image
    monkeypatch.setattr(folders, "read_image", read_image)
    images = iterate_images(f"folder:{folder}", channels=None)
    assert opened == []
    assert next(images).name == "a"
    assert opened == ["a.png"]
    assert next(images).pixels.shape == expected["b"].shape
    assert opened == ["a.png", "b.png"]


def test_the_warning_comes_at_the_end_and_points_to_the_caller(mixed):
    folder, _ = mixed
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = [len(caught) for _ in iterate_images(f"folder:{folder}", channels=None)]
    assert before == [0, 0, 0, 0]
    (warning,) = caught
    assert "2 images skipped: cut.png" in str(warning.message)
    assert warning.filename == __file__


def test_channels_of_the_files_can_be_kept(mixed):
    folder, expected = mixed
    with pytest.warns(UserWarning, match="3 images skipped"):
        found = list(iterate_images(f"folder:{folder}", channels=None, min_size=16))
    for image in found:
        np.testing.assert_array_equal(image.pixels, expected[image.name])


def test_mixtures_load_in_order_with_unique_names(tmp_path):
    for where, name, shade in (("one", "x", 1), ("one", "y", 2), ("two", "x", 3)):
        (tmp_path / where).mkdir(exist_ok=True)
        write_image(tmp_path / where / f"{name}.png", np.full((8, 8, 1), shade, np.uint8))
    one, two = f"folder:{tmp_path / 'one'}", f"folder:{tmp_path / 'two'}"
    found = load_images(f"{one}@1, {two}@0.5")
    assert [(image.name, int(image.pixels.max())) for image in found] == [
        (f"{one}/x", 1),
        ("y", 2),
        (f"{two}/x", 3),
    ]
    assert [image.name for image in load_images(two)] == ["x"]


@pytest.mark.parametrize(
    ("spec", "kind"), [("pairs:a:b", "pairs"), ("sidd:a", "pairs"), ("repeats:a", "repeats")]
)
def test_only_clean_images_are_loaded(spec, kind):
    with pytest.raises(ValueError, match=f"{spec} holds {kind}, not clean images"):
        load_images(f"embedded,{spec}")


def test_set12(wne_data):
    found = load_images("folder:Set12", split="test")
    assert len(found) == 12
    assert {image.pixels.shape for image in found} == {(256, 256, 1), (512, 512, 1)}
    assert all(image.pixels.dtype == np.uint8 for image in found)
