"""Sets written as TFDS are read back bit for bit; a failed write leaves no set."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from wne_jax.data.image_folder import check_name, common_dtype, prepare_images
from wne_jax.data.listing import NamedImage
from wne_jax.data.sources import load_images
from wne_jax.images.reading import ImageError
from wne_jax.images.units import to_unit


def _random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.standard_normal(shape, np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def _tree(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_read_back_bit_exact(tmp_path, dtype, channels):
    images = [
        NamedImage(name, _random((6 + i, 9, channels), dtype, i))
        for i, name in enumerate(("z", "ä ö", "a"))
    ]
    folder = prepare_images(iter(images), "some_set", dtype=dtype, data_dir=tmp_path)
    assert folder == tmp_path / "some_set" / "1.0.0"
    found = load_images("tfds:some_set", channels=None, data_dir=tmp_path)
    assert [image.name for image in found] == ["z", "ä ö", "a"]
    for image, other in zip(images, found, strict=True):
        assert other.pixels.dtype == dtype
        np.testing.assert_array_equal(image.pixels, other.pixels)
    assert "some_set" not in tfds.core.registered.list_imported_builders()


def test_a_mixture_of_depths_and_channels_becomes_float(tmp_path):
    images = [
        NamedImage("a", _random((5, 4, 1), "uint16")),
        NamedImage("b", _random((5, 4, 3), "uint8")),
    ]
    assert common_dtype(images) == (np.float32, 2)
    assert common_dtype(images[:1]) == (np.uint16, 1)
    prepare_images(images, "mixed", dtype="float32", data_dir=tmp_path)
    for image, other in zip(images, load_images("tfds:mixed", channels=None, data_dir=tmp_path)):
        np.testing.assert_array_equal(to_unit(image.pixels), other.pixels)


def test_many_images_are_written_to_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("wne_jax.data.image_folder._IMAGES_A_FILE", 3)
    images = [NamedImage(str(i), np.full((2, 2, 1), i, np.uint8)) for i in range(7)]
    folder = prepare_images(images, "many", dtype="uint8", data_dir=tmp_path)
    assert len(list(folder.glob("*array_record*"))) == 3
    found = load_images("tfds:many", data_dir=tmp_path)
    assert [int(image.pixels.max()) for image in found] == list(range(7))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ImageError])
def test_a_failure_leaves_the_old_set(tmp_path, error):
    def images(shade):
        yield NamedImage("a", np.full((3, 3, 1), shade, np.uint8))
        raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        prepare_images(images(1), "broken", dtype="uint8", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())

    good = [NamedImage("a", np.full((3, 3, 1), 2, np.uint8))]
    prepare_images(good, "broken", dtype="uint8", data_dir=tmp_path)
    before = _tree(tmp_path)
    with pytest.raises(error, match="in the middle"):
        prepare_images(images(3), "broken", dtype="uint8", data_dir=tmp_path, overwrite=True)
    assert _tree(tmp_path) == before


def test_overwrite_replaces_the_whole_set(tmp_path):
    for shades in ([1, 2, 3], [4]):
        images = [NamedImage(str(i), np.full((3, 3, 1), i, np.uint8)) for i in shades]
        prepare_images(images, "again", dtype="uint8", data_dir=tmp_path, overwrite=True)
    assert [image.name for image in load_images("tfds:again", data_dir=tmp_path)] == ["4"]
    assert [p.name for p in (tmp_path / "again").iterdir()] == ["1.0.0"]
    with pytest.raises(
        ImageError, match=r"again exists; choose another name, or replace it by --overwrite"
    ):
        prepare_images([], "again", dtype="uint8", data_dir=tmp_path)


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    image = NamedImage("x", np.zeros((3, 3, 1), np.uint8))
    (tmp_path / "downloads" / "extracted").mkdir(parents=True)
    before = _tree(tmp_path)
    for name in ("Set", "a-b", "1st", "a__b", "", "a/b", "../a"):
        with pytest.raises(ValueError, match="expected snake case"):
            prepare_images([image], name, dtype="uint8", data_dir=tmp_path)
    with pytest.raises(ValueError, match="which is the name of a TFDS set"):
        check_name("div2k", data_dir=tmp_path)
    with pytest.raises(
        ImageError, match="downloads exists and is not such a set; choose another name"
    ):
        check_name("downloads", data_dir=tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="dtype is int64; expected uint8, uint16 or float32"):
        prepare_images([image], "x", dtype="int64", data_dir=tmp_path)
    with pytest.raises(ValueError, match="x: dtype is uint8, but the set's is uint16"):
        prepare_images([image], "x", dtype="uint16", data_dir=tmp_path)
    with pytest.raises(ImageError, match="x: there are no images to write"):
        prepare_images([], "x", dtype="uint8", data_dir=tmp_path)
    assert _tree(tmp_path) == before
