import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from experiments import translation
from experiments.parts import translation_tables
from experiments.parts.translation_tables import PUBLISHED
from experiments.translation import Maps, Options, main
from wne_jax.evaluation.records import INPUT, Record, read_records
from wne_jax.images.reading import write_image
from wne_jax.weights.packaged import packaged_file


@pytest.fixture
def small_maps(monkeypatch):
    """Two feature maps of two images, of even and of odd size, in place of those of a ResNet."""
    rng = np.random.default_rng(0)

    def maps(*_, **__):
        for name, shape in (("norm1", (2, 20, 22, 6)), ("layer1_0/norm1", (2, 5, 7, 6))):
            x = rng.normal(0.3, 1, shape).astype(np.float32)
            yield Maps(name, x, x.mean((0, 1, 2)), x.var((0, 1, 2)))

    monkeypatch.setattr(translation, "feature_maps", maps)
    monkeypatch.setattr(translation, "load_network", lambda _: (translation.ResNet(), {}))


def select(records, **wanted):
    return [r for r in records if all(r[k] == v for k, v in wanted.items())]


def test_measurements_agree_with_the_theorem(tmp_path, small_maps, capsys):
    main(Options(images=2, workdir=tmp_path / "run"))
    assert "Theorem and measurement agree on all of them" in capsys.readouterr().out
    records = read_records(tmp_path / "run/records.csv")
    errors = [r for r in select(records, metric="cosine_error") if r.value is not None]
    kept = select(errors, nyquist_bins="kept")
    # images, maps, layers (BatchNorm in two modes), initializations, transformations
    assert len(kept) == len(errors) / 2 == 2 * 2 * 6 * 2 * 2
    assert {r.image for r in errors} == {"astronaut", "camera"}

    def largest(**wanted):
        return max(r.value for r in select(errors, **wanted))

    moved = {"arm": "InstanceNorm", "transformation": "translation"}
    assert largest(**moved, nyquist_bins="zeroed") < 1e-12
    assert largest(**moved, nyquist_bins="kept", feature_map="layer1_0/norm1") < 1e-12  # odd size
    assert largest(**moved, nyquist_bins="kept", feature_map="norm1") > 1e-10  # even size
    beyond = dict.fromkeys((INPUT, *(layer for layer, _ in PUBLISHED)), 0.0)
    for record in select(records, metric="power"):
        if record["frequency"] > translation.CUTOFF:
            beyond[record.arm] = max(beyond[record.arm], record.value)
    assert min(beyond["LayerNorm-C"], beyond["LayerNorm-CHW"]) > 1e-4
    assert all(
        p < 1e-11 for name, p in beyond.items() if name not in ("LayerNorm-C", "LayerNorm-CHW")
    )
    by_accident = {"arm": "LayerNorm-CHW", "transformation": "shift"}
    assert largest(**by_accident, init="default") < 1e-12
    assert largest(**by_accident, init="gaussian") > 0.1


def test_outputs_state_that_weights_are_random(tmp_path, small_maps, capsys):
    options = Options(images=2, workdir=tmp_path / "run")
    main(options)
    tables = (tmp_path / "run/table.md").read_text()
    assert "RANDOM weights" in tables and "RANDOM weights" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["weights"] is None
    with Image.open(tmp_path / "run/spectrum.png") as figure:
        assert min(figure.size) > 300
    # The stage "report" makes the same tables.
    main(dataclasses.replace(options, stage="report"))
    assert (tmp_path / "run/table.md").read_text() == tables


def test_published_figures_are_shown_by_layer_and_mode(tmp_path, small_maps):
    main(Options(images=2, workdir=tmp_path / "run"))
    tables = (tmp_path / "run/table.md").read_text()
    by_layer = {
        "BatchNorm": (9.23e-09, 1.28e-06),  # published: the mean of both modes
        "InstanceNorm": (9.58e-09, 7.13e-06),
        "LayerNorm-CHW": (4.97e-01, 4.97e-01),
        "LayerNorm-C": (4.66e-09, 2.44e-03),
        "LayerNorm-AF": (9.17e-09, 8.08e-07),
        "training": (9.51e-09, 2.55e-06),
        "evaluation": (8.95e-09, 9.69e-09),
    }
    for name, (shift, moved) in by_layer.items():
        (row,) = re.findall(rf"^\| {name} \| .* ± .* \| {shift:.2e} \|.*$", tables, re.M)
        assert f"| {moved:.2e} |" in row


def test_images_are_resized_as_by_pillow():
    pixels = np.random.default_rng(0).uniform(size=(300, 411, 1)).astype(np.float32)
    ours = translation._resize_and_crop(pixels)
    theirs = Image.fromarray(pixels[..., 0]).resize((351, 256), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[..., 0], np.asarray(theirs)[16:240, 63:287], atol=1e-4)


def test_a_small_folder_of_gray_images_is_sufficient(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", np.full((70, 90, 1), 60 * i, np.uint8))
    images = translation.network_images(Options(test=(f"folder:{tmp_path}",), images=2))
    assert [image.name for image in images] == ["0", "1"]
    for image, level in zip(images, (0, 60 / 255)):
        expected = (level - np.array(translation.IMAGENET_MEAN)) / translation.IMAGENET_STD
        np.testing.assert_allclose(
            image.pixels, np.broadcast_to(expected, (224, 224, 3)), atol=1e-5
        )


def test_invalid_inputs_raise(tmp_path):
    with pytest.raises(ValueError, match="2 images or more"):
        main(Options(images=1, workdir=tmp_path / "run"))
    with pytest.raises(ValueError, match="holds pairs"):
        main(Options(test=("pairs:noisy:clean",), workdir=tmp_path / "run"))
    with pytest.raises(ValueError, match="must be a ResNet"):
        main(Options(images=2, weights=packaged_file("gray"), workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_standard_error_is_computed_from_means_of_feature_maps():
    """Repeated measurements on a map do not reduce the standard error."""

    def records(repeats):
        return [
            Record(experiment="translation", metric=translation_tables.METRIC, arm="x", value=value,
                   settings={"feature_map": name})
            for name, value in (("a", 1.0), ("b", 3.0))
            for _ in range(repeats)
        ]  # fmt: skip

    once, often = (translation_tables._mean(records(n), arm="x") for n in (1, 50))
    assert once == often == "2.0e+00 ± 1e+00"
