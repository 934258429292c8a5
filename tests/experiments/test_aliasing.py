import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import wne_jax as wne
from experiments import aliasing
from experiments.aliasing import MODELS, Options, by_tiles, drawn, kind_table, layer_records
from wne_jax.config import ModelConfig
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over, read_records
from wne_jax.inference.denoiser import Denoiser

TINY = ModelConfig("dncnn", {"depth": 3, "features": 4})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The whole experiment with one network and two statistics."""
    workdir = tmp_path_factory.mktemp("runs") / "aliasing"
    options = Options(images=1, size=16, draws=2, workdir=workdir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aliasing, "MODELS", {"DnCNN": TINY})
        patch.setattr(aliasing, "STATISTICS", {"mean_std": wne.statistics.mean_std})
        aliasing.main(options)
    return options


def records_of(options, metric):
    return [r for r in read_records(options.workdir / "records.csv") if r.metric == metric]


def test_every_step_is_recorded_for_both_paddings_and_both_transformations(run):
    records = records_of(run, "layer_defect")
    assert list(records[0].settings) == ["layer", "kind", "padding", "transformation"]
    steps = ["Conv 3x3", "ReLU", "Conv 3x3", "BatchNorm", "ReLU", "Conv 3x3", "image minus noise"]
    assert [r["kind"] for r in records] == 4 * steps

    def lost(padding, transformation):
        return {r["kind"] for r in records if r["padding"] == padding and r.value > 1e-5
                and r["transformation"].startswith(transformation)}  # fmt: skip

    assert lost("circular", "shift") == set()
    assert lost("circular", "translation") == {"ReLU"}
    assert lost("as published", "shift") == {"Conv 3x3"}
    assert lost("as published", "translation") == {"Conv 3x3", "ReLU"}


def test_tables_and_figure_state_their_origin(run):
    text = (run.workdir / "table.md").read_text()
    assert "| BatchNorm | yes | yes | yes | yes | DnCNN |" in text
    assert "| ReLU | yes | **no** | yes | **no** | DnCNN |" in text
    assert "random, none zero" in text and "below 1e-05" in text
    assert "revision" in text and "seed 0" in text
    aliasing.main(dataclasses.replace(run, stage="report"))  # only from the records
    assert (run.workdir / "table.md").read_text() == text
    with Image.open(run.workdir / "layers.png") as figure:
        assert "seed 0" in figure.info["Description"] and min(figure.size) > 300


def test_only_statistics_of_the_whole_image_commute_with_translations(run):
    records = records_of(run, "wrapper_defect")
    assert list(records[0].settings) == ["pixels", "size"]
    means = mean_over(records, by=["arm", "size"])
    for size in ("99x99", "96x96, no Nyquist bins"):
        assert means["mean_std", size] < 1e-5 < 0.01 < means["mean_std of 3x3 tiles", size]
    assert means["mean_std", "96x96"] > 1e-5


def test_one_tile_gives_the_statistics_of_the_whole_image():
    y = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 6, 9, 1)), jnp.float32)
    np.testing.assert_allclose(by_tiles(jnp.tanh, 1)(y), wne.wrap(jnp.tanh)(y), atol=1e-6)
    tiles = by_tiles(jnp.tanh, 3)(y)
    np.testing.assert_allclose(tiles[:, 2:4, 3:6], wne.wrap(jnp.tanh)(y[:, 2:4, 3:6]), atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_random_weights_are_nonzero(name):
    for leaf in jax.tree.leaves(drawn(MODELS[name].build(), (1, 16, 16, 1), 0)):
        assert np.all(np.asarray(leaf) != 0)


def test_functions_between_layers_are_named_and_coarser_maps_marked():
    config = MODELS["DRUNet"]
    variables = drawn(config.build(), (1, 16, 16, 1), 0)
    y = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 16, 16, 1)), jnp.float32)
    records = layer_records("DRUNet", config, variables, y, Options(size=16))
    kinds = list(dict.fromkeys(r["kind"] for r in records))
    assert kinds == [
        "Conv 3x3", "ReLU", "sum", "Downsample 2x2, at 1/2", "Conv 3x3, at 1/2", "ReLU, at 1/2",
        "sum, at 1/2", "Upsample",
    ]  # fmt: skip


def test_the_table_counts_the_places_where_a_kind_commutes():
    settings = {"kind": "Conv", "transformation": "shift", "padding": "circular"}
    table = kind_table(
        [
            Record(experiment="e", metric="layer_defect", model=m, value=v, settings=settings)
            for m, v in (("a", 1e-7), ("b", 1e-2))
        ]
    )
    assert table.endswith("| Conv | 1 of 2 | a; b |")


def test_bars_are_in_network_order_from_the_top(run):
    records = records_of(run, "layer_defect")
    figure = plotting.layer_bars(records, threshold=1e-5, title="a title")
    shift, translation = figure.axes
    labels = [text.get_text() for text in shift.get_yticklabels()]
    assert labels[:3] == ["Conv 3x3", "ReLU", "Conv 3x3"] and shift.yaxis_inverted()
    lengths = [bar.get_width() for bars in translation.containers for bar in bars]
    defects = [r.value for r in records if r["transformation"].startswith("translation")]
    np.testing.assert_allclose(lengths, defects)


def test_trained_weights_are_measured_if_given(run, tmp_path, monkeypatch):
    Denoiser(TINY.build(), drawn(TINY.build(), (1, 16, 16, 1), 5), TINY).save(
        tmp_path / "own.safetensors"
    )
    monkeypatch.setattr(aliasing, "STATISTICS", {})
    options = dataclasses.replace(
        run, weights=tmp_path / "own.safetensors", workdir=tmp_path / "run"
    )
    aliasing.main(options)
    assert {r.model for r in records_of(options, "layer_defect")} == {"own"}
    assert "weights: own.safetensors" in (tmp_path / "run" / "table.md").read_text()


def test_an_error_creates_no_folder(tmp_path):
    with pytest.raises(ValueError, match="size 8 or more"):
        aliasing.main(Options(size=4, workdir=tmp_path / "run"))
    with pytest.raises(ValueError, match="no such file"):
        aliasing.main(Options(weights=tmp_path / "absent.pth", workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
