"""TensorFlow Datasets read without TensorFlow, from files written here and from TFDS's mock."""

import json
import logging
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from wne_jax.data import tfds_sets
from wne_jax.data.image_folder import prepare_images
from wne_jax.data.listing import NamedImage
from wne_jax.data.sources import iterate_images, load_images
from wne_jax.images.reading import ImageError, write_image

IMAGE = tfds.features.Tensor(shape=(None, None, None), dtype=np.uint8, encoding="zlib")


def _write(data_dir, name, features, splits):
    """Write a set like a builder of TFDS; `splits` has the examples of each split."""
    folder = data_dir / name / "1.0.0"
    folder.mkdir(parents=True)
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="elsewhere"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, 2, file_format="array_record")
    writer.initialize_splits(list(splits))
    writer.add_examples(splits)
    writer.close_all()


def _shade(value, shape=(4, 5, 1)):
    return np.full(shape, value, np.uint8)


def _shades(images):
    return [int(image.pixels.max()) for image in images]


def test_div2k_from_the_mock_of_tfds(tmp_path):
    with tfds.testing.mock_data(num_examples=3):
        expected = [r["hr"] for r in tfds.data_source("div2k", split="train", data_dir=tmp_path)]
        found = load_images("tfds:div2k", channels=3, data_dir=tmp_path)
        test = load_images(
            "tfds:div2k/bicubic_x4:2.0.0", split="test", channels=3, data_dir=tmp_path
        )
    assert [image.name for image in found] == ["0", "1", "2"]
    assert len(test) == 3
    for image, pixels in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image.pixels, pixels)


def test_the_image_feature_is_found(tmp_path):
    label = tfds.features.ClassLabel(num_classes=3)
    for name, features in {
        "named": {"image": IMAGE, "hr": IMAGE},
        "high": {"lr": IMAGE, "hr": IMAGE},
        "only": {"picture": IMAGE, "label": label},
    }.items():
        shades = {"image": 1, "hr": 2, "lr": 3, "picture": 4}
        example = {key: 0 if key == "label" else _shade(shades[key]) for key in features}
        _write(tmp_path, name, features, {"train": [example]})
    loaded = [
        load_images(f"tfds:{name}", data_dir=tmp_path)[0] for name in ("named", "high", "only")
    ]
    assert _shades(loaded) == [1, 2, 4]
    _write(tmp_path, "stereo", {"left": IMAGE, "right": IMAGE}, {"train": []})
    with pytest.raises(
        ValueError, match=r"tfds:stereo: which feature is the image.*has left, right"
    ):
        iterate_images("tfds:stereo", data_dir=tmp_path)
    _write(tmp_path, "video", {"image": tfds.features.Text()}, {"train": []})
    with pytest.raises(ValueError, match="tfds:video: which feature is the image"):
        iterate_images("tfds:video", data_dir=tmp_path)


def test_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))  # read at every call
    shades = {"train": 1, "validation": 2, "test": 3}
    for names in (["train", "validation"], ["train", "validation", "test"], ["validation"]):
        splits = {split: [{"image": _shade(shades[split])}] for split in names}
        _write(tmp_path, "_".join(["s", *names]), {"image": IMAGE}, splits)
    found = {
        (name, split): _shades(load_images(f"tfds:{name}", split=split))
        for name in ("s_train_validation", "s_train_validation_test", "s_validation")
        for split in ("train", "test")
    }
    assert found == {
        ("s_train_validation", "train"): [1],
        ("s_train_validation", "test"): [2],
        ("s_train_validation_test", "train"): [1],
        ("s_train_validation_test", "test"): [3],
        ("s_validation", "train"): [2],
        ("s_validation", "test"): [2],
    }
    _write(tmp_path, "odd", {"image": IMAGE}, {"left": [], "right": []})
    with pytest.raises(
        ValueError, match="split is 'test'; expected test or validation among left, r"
    ):
        iterate_images("tfds:odd", split="test")


def test_records_are_read_one_by_one_and_bad_ones_are_skipped(tmp_path, monkeypatch):
    anything = tfds.features.Tensor(shape=(None, None, None), dtype=np.float64, encoding="zlib")
    shapes = [(4, 5, 1), (4, 5, 4), (2, 5, 3), (4, 5, 3)]
    examples = [{"image": np.full(s, 0.1 * i)} for i, s in enumerate(shapes)]
    examples += [{"image": np.full((4, 5, 1), np.nan)}]
    _write(tmp_path, "floats", {"image": anything}, {"train": examples})
    images = iterate_images("tfds:floats", channels=None, min_size=3, data_dir=tmp_path)
    opened = []
    keep = tfds_sets._as_image
    monkeypatch.setattr(tfds_sets, "_as_image", lambda p: opened.append(p.shape) or keep(p))
    first = next(images)
    assert opened == [(4, 5, 1)]
    assert (first.name, first.pixels.dtype, first.pixels.flags.writeable) == ("0", np.float32, True)
    with pytest.warns(UserWarning) as caught:
        (last,) = images
    np.testing.assert_array_equal(last.pixels, np.full((4, 5, 3), 0.3, np.float32))
    (message,) = [str(w.message) for w in caught]
    assert message == (
        "tfds:floats: 3 images skipped: record 1: shape (4, 5, 4); expected gray or RGB pixels; "
        "record 2: 2 x 5 is smaller than min_size 3; record 4: holds NaN or infinite values"
    )


def test_integers_without_a_unit_are_rejected(tmp_path):
    depth = tfds.features.Tensor(shape=(None, None, 1), dtype=np.int32, encoding="bytes")
    _write(
        tmp_path, "depths", {"image": depth}, {"train": [{"image": np.ones((2, 2, 1), np.int32)}]}
    )
    with pytest.raises(
        ImageError, match="record 0: pixels of dtype int32; expected uint8, uint16 or"
    ):
        load_images("tfds:depths", data_dir=tmp_path)


def test_compressed_images_are_decoded_without_messages(tmp_path, caplog):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "x.png", pixels)
    examples = [{"image": str(tmp_path / "x.png")}, {"image": str(tmp_path / "x.png")}]
    _write(tmp_path, "files", {"image": tfds.features.Image()}, {"train": examples})
    with caplog.at_level(logging.WARNING):
        found = load_images("tfds:files", channels=3, data_dir=tmp_path)
    np.testing.assert_array_equal(found[1].pixels, pixels)
    assert not caplog.records


def test_a_damaged_record_is_skipped_and_named(tmp_path, monkeypatch):
    images = [NamedImage(name, _shade(i)) for i, name in enumerate("ab")]
    prepare_images(images, "two", dtype="uint8", data_dir=tmp_path)
    monkeypatch.setattr(tfds.features.Text, "decode_example_np", _fail_on(b"b"))
    with pytest.warns(UserWarning, match="record 1: cannot be decoded: damaged$"):
        (found,) = load_images("tfds:two", data_dir=tmp_path)
    assert found.name == "a"


def _fail_on(value):
    def decode(self, example):
        if example == value:
            raise RuntimeError("damaged\n")
        return example

    return decode


def test_the_message_for_a_set_that_is_not_prepared_has_the_command(tmp_path):
    with pytest.raises(ImageError) as caught:
        iterate_images("tfds:div2k/bicubic_x4", data_dir=tmp_path)
    assert str(caught.value) == (
        f"tfds:div2k/bicubic_x4: not prepared in {tmp_path}; run python -m wne_jax data prepare "
        f"tfds:div2k/bicubic_x4 --download --data-dir {tmp_path}"
    )


def test_the_message_for_tfrecord_has_the_command(tmp_path):
    folder = prepare_images([NamedImage("a", _shade(1))], "old", dtype="uint8", data_dir=tmp_path)
    info = folder / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ImageError) as caught:
        iterate_images("tfds:old", data_dir=tmp_path)
    assert "is stored as tfrecord, which only TensorFlow can read; run python -m " in str(
        caught.value
    )
    assert str(caught.value).endswith(f"--download --data-dir {tmp_path} --overwrite")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nowhere_set", "TFDS has no such set, and .* has none with that name"),
        ("div2k/upside_down", "BuilderConfig upside_down not found"),
        ("div2k:9.9.9", "cannot be loaded at version 9.9.9"),
        ("hugging:face", "write tfds:NAME"),
        ("div2k/a=True", "write tfds:NAME"),
    ],
)
def test_unknown_sets(tmp_path, location, message):
    with pytest.raises(ValueError, match=message) as caught:
        iterate_images(f"tfds:{location}", data_dir=tmp_path)
    assert str(caught.value).startswith(f"spec is 'tfds:{location}'")
    assert "\n" not in str(caught.value)


def test_tfds_is_imported_where_it_is_used(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "wne-jax\[data\]"'):
        iterate_images("tfds:div2k", data_dir=tmp_path)
