import json

import numpy as np
import pytest
from PIL import Image

from experiments import translation
from experiments._translation_report import PUBLISHED
from experiments.translation import Maps, Options, main
from wne_jax.evaluation import records as results
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser


@pytest.fixture
def small_maps(monkeypatch):
    """In place of a ResNet's: one map of even and one of odd size, of two images."""
    rng = np.random.default_rng(0)

    def maps(*_, **__):
        for name, shape in (("norm1", (2, 20, 22, 6)), ("layer1_0/norm1", (2, 5, 7, 6))):
            x = rng.normal(0.3, 1, shape).astype(np.float32)
            yield Maps(name, x, x.mean((0, 1, 2)), x.var((0, 1, 2)))

    monkeypatch.setattr(translation, "feature_maps", maps)
    monkeypatch.setattr(translation, "load_network", lambda _: (translation.ResNet(), {}))


def test_the_experiment_finds_what_the_theorem_says(tmp_path, small_maps, capsys):
    main(Options(images=2, workdir=tmp_path / "run"))
    assert "Theorem and measurement agree on all of them" in capsys.readouterr().out
    records = results.read_csv(tmp_path / "run/errors.csv")
    columns = ["image", "feature_map", "layer", "init", "mode", "transformation", "error"]
    assert list(records[0]) == columns
    # images, maps, layers (BatchNorm in two modes), initializations, transformations
    assert len(records) == 2 * 2 * 6 * 2 * 2
    assert {r["image"] for r in records} == {"astronaut", "camera"}

    def largest(name, **wanted):
        rows = results.read_csv(tmp_path / "run" / f"{name}.csv")
        return max(r["error"] for r in rows if all(r[k] == v for k, v in wanted.items()))

    moved = {"layer": "InstanceNorm", "transformation": "translation"}
    assert largest("nyquist_free", **moved) < 1e-12
    assert largest("errors", **moved, feature_map="layer1_0/norm1") < 1e-12  # of odd size
    assert largest("errors", **moved, feature_map="norm1") > 1e-10  # of even size
    spectrum = results.read_csv(tmp_path / "run/spectrum.csv")
    beyond = dict.fromkeys(("input", *PUBLISHED), 0.0)
    for row in spectrum:
        if row["frequency"] > translation.CUTOFF:
            beyond[row["layer"]] = max(beyond[row["layer"]], row["power"])
    assert min(beyond["LayerNorm-C"], beyond["LayerNorm-CHW"]) > 1e-4
    assert all(
        p < 1e-11 for name, p in beyond.items() if name not in ("LayerNorm-C", "LayerNorm-CHW")
    )
    by_accident = {"layer": "LayerNorm-CHW", "transformation": "shift"}
    assert largest("errors", **by_accident, init="default") < 1e-12
    assert largest("errors", **by_accident, init="gaussian") > 0.1


def test_its_outputs_say_that_the_weights_are_random(tmp_path, small_maps, capsys):
    main(Options(images=2, workdir=tmp_path / "run"))
    tables = (tmp_path / "run/tables.md").read_text()
    assert "RANDOM weights" in tables and "RANDOM weights" in capsys.readouterr().out
    assert all(f"{figure:.2e}" in tables for pair in PUBLISHED.values() for figure in pair)
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["weights"] is None
    with Image.open(tmp_path / "run/spectrum.png") as figure:
        assert min(figure.size) > 300


def test_images_are_resized_as_pillow_does_it():
    pixels = np.random.default_rng(0).uniform(size=(300, 411, 1)).astype(np.float32)
    ours = translation._resize_and_crop(pixels)
    theirs = Image.fromarray(pixels[..., 0]).resize((351, 256), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[..., 0], np.asarray(theirs)[16:240, 63:287], atol=1e-4)


def test_a_small_folder_of_gray_images_is_enough(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", np.full((70, 90, 1), 60 * i, np.uint8))
    images = translation.network_images(Options(data=f"folder:{tmp_path}", images=2))
    assert [image.name for image in images] == ["0", "1"]
    for image, level in zip(images, (0, 60 / 255)):
        expected = (level - np.array(translation.IMAGENET_MEAN)) / translation.IMAGENET_STD
        np.testing.assert_allclose(
            image.pixels, np.broadcast_to(expected, (224, 224, 3)), atol=1e-5
        )


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 images or more"):
        main(Options(images=1, workdir=tmp_path / "run"))
    with pytest.raises(ValueError, match="holds pairs"):
        main(Options(data="pairs:noisy:clean", workdir=tmp_path / "run"))
    Denoiser.default().save(tmp_path / "denoiser.safetensors")
    with pytest.raises(ValueError, match="must be of a ResNet"):
        main(Options(images=2, weights=tmp_path / "denoiser.safetensors", workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
