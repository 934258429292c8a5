"""The command that prepares sets, as a user calls it."""

import importlib.util

import numpy as np
import pytest
import tensorflow_datasets as tfds

from wne_jax.cli.main import main
from wne_jax.data import folders
from wne_jax.data.sources import load_images
from wne_jax.images.reading import write_image


@pytest.fixture
def photos(tmp_path):
    """Two images, gray with 8 and colour with 16 bits, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_image(folder / "a.png", rng.integers(0, 256, (8, 9, 1), dtype=np.uint8))
    write_image(folder / "b.tif", rng.integers(0, 65536, (8, 9, 3), dtype=np.uint16))
    (folder / "cut.png").write_bytes(b"no image")
    return folder


def test_prepare_a_folder_of_twelve_bits(tmp_path):
    (tmp_path / "photos").mkdir()
    deep = np.random.default_rng(0).integers(0, 4096, (8, 9, 1), dtype=np.uint16)
    write_image(tmp_path / "photos/a.png", deep)
    command = [
        "data",
        "prepare",
        f"folder:{tmp_path / 'photos'}",
        "--name",
        "photos",
        "--white",
        "4095",
    ]
    assert main([*command, "--data-dir", str(tmp_path / "sets")]) == 0
    (image,) = load_images("tfds:photos", data_dir=tmp_path / "sets")
    np.testing.assert_array_equal(image.pixels, deep / np.float32(4095))


def test_prepare_a_folder(photos, tmp_path, capsys):
    data_dir = tmp_path / "sets"
    command = [
        "data",
        "prepare",
        f"folder:{photos}",
        "--name",
        "photos",
        "--data-dir",
        str(data_dir),
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "2 images of float32",
        f"written: {data_dir / 'photos' / '1.0.0'}",
        f"use it: --data tfds:photos --data-dir {data_dir}",
    ]
    assert err.count("images skipped: cut.png: ") == 1
    assert err.startswith("note: ")
    found = load_images("tfds:photos", channels=3, data_dir=data_dir)
    assert [(image.name, image.pixels.dtype) for image in found] == [("a", "f4"), ("b", "f4")]

    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {data_dir / 'photos'} exists; ")
    (photos / "b.tif").unlink()
    assert main([*command, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("1 images of uint8\n")
    assert len(load_images("tfds:photos", data_dir=data_dir)) == 1


def test_prepare_embedded(tmp_path, capsys):
    data_dir = tmp_path / "sets"
    arguments = ["embedded", "--split", "test", "--name", "four", "--data-dir", str(data_dir)]
    assert main(["data", "prepare", *arguments]) == 0
    expected = load_images("embedded", split="test", channels=3)
    found = load_images("tfds:four", channels=3, data_dir=data_dir)
    for one, other in zip(expected, found, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_an_interruption_leaves_nothing(photos, tmp_path, monkeypatch, capsys):
    reads = []

    def read_image(path):
        reads.append(path)
        if len(reads) == 5:  # the second file of the second pass
            raise KeyboardInterrupt
        return original(path)

    original = folders.read_image
    monkeypatch.setattr(folders, "read_image", read_image)
    command = [
        "data",
        "prepare",
        f"folder:{photos}",
        "--name",
        "x",
        "--data-dir",
        str(tmp_path / "sets"),
    ]
    assert main(command) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")
    assert not list((tmp_path / "sets").iterdir())


class _Local(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder like those of TFDS, without a download."""

    name = "local"
    VERSION = tfds.core.Version("2.0.0")
    shade = 1

    def _info(self):
        image = tfds.features.Tensor(shape=(None, None, 1), dtype=np.uint8, encoding="zlib")
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": image})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": np.full((4, 4, 1), self.shade, np.uint8)}
        if self.shade == 3:
            raise RuntimeError("the connection broke")


def _shades(data_dir):
    return [int(image.pixels.max()) for image in load_images("tfds:local", data_dir=data_dir)]


def test_prepare_a_set_of_tfds(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "tensorflow" or find_spec(name)
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: _Local(data_dir=data_dir))
    tfds.disable_progress_bar()
    command = ["data", "prepare", "tfds:local", "--download", "--data-dir", str(tmp_path)]
    try:
        assert main(command) == 0
        assert f"use it: --data tfds:local --data-dir {tmp_path}\n" in capsys.readouterr().out
        assert _shades(tmp_path) == [1]

        monkeypatch.setattr(_Local, "shade", 2)
        assert main(command) == 2
        error = f"error: tfds:local: {tmp_path / 'local' / '2.0.0'} exists; --overwrite replaces it"
        assert capsys.readouterr().err.strip() == error
        assert main([*command, "--overwrite"]) == 0
        assert _shades(tmp_path) == [2]

        monkeypatch.setattr(_Local, "shade", 3)
        capsys.readouterr()
        assert main([*command, "--overwrite"]) == 2
        assert "tfds:local: cannot be prepared: the connection broke" in capsys.readouterr().err
        assert _shades(tmp_path) == [2]
        assert [p.name for p in (tmp_path / "local").iterdir()] == ["2.0.0"]
    finally:
        tfds.enable_progress_bar()


def test_the_message_says_that_tensorflow_is_needed(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name)
    )
    assert main(["data", "prepare", "tfds:div2k", "--download", "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: preparing tfds:div2k needs TensorFlow (reading it does not): pip install tensorflow"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pairs:a:b --name x", "pairs cannot be prepared"),
        ("repeats:a --name x", "repeats cannot be prepared"),
        ("folder:/absent --name x", "/absent: no such folder"),
        ("folder:/absent", "needs --name"),
        ("folder:/absent --name Bad-Name", "name is 'Bad-Name'; expected snake case"),
        ("folder:/absent --name x --download", "leave out --download"),
        ("embedded --name mnist", "which is the name of a TFDS set"),
        ("embedded,folder:a --name x", "expected one source, without a comma"),
        ("nothing:x --name x", "known schemes are"),
        ("tfds:div2k", "add --download"),
        ("tfds:div2k --name mine --download", "a dataset of TFDS keeps its name"),
        ("tfds:nowhere_set --download", "TFDS has no such set"),
    ],
)
def test_error_messages_have_one_line(arguments, message, tmp_path, capsys):
    assert main(["data", "prepare", *arguments.split(), "--data-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
