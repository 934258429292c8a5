"""The report of overhead, from what was measured and committed."""

import shutil
from pathlib import Path

import pytest

from experiments import _comparison
from experiments.overhead import PRESETS, Options, Sizes, main, sizes_of
from wne_jax.evaluation import records as results
from wne_jax.training import ModelConfig

COMMITTED = Path(__file__).parents[2] / "experiments/results/overhead"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("overhead")
    for name in ("overhead.csv", "config.json"):
        shutil.copy(COMMITTED / name, workdir)
    main(Options(stage="report", workdir=workdir))
    return workdir


def test_the_committed_report_is_that_of_the_committed_measurement(again):
    for name in ("overhead.md", "comparison.csv"):
        assert (again / name).read_text() == (COMMITTED / name).read_text()
    assert (again / "overhead.png").stat().st_size > 10_000


def test_ratios_stand_beside_those_published_for_the_same_device(again):
    cells = {(c["result"][-6:], c["row"], c["column"]): c for c in _comparison.read(again)}
    (measured,) = (
        r["ratio"]
        for r in results.read_csv(again / "overhead.csv")
        if (r["variant"], r["task"]) == ("NE-arch", "inference")
    )
    cell = cells["FDnCNN", "NE-arch", "CPU inference"]
    assert cell["ours"] == pytest.approx(measured, abs=1e-4) and cell["published"] == 1.90
    assert cells["FDnCNN", "NE-arch", "GPU inference"]["published"] == 1.69
    assert cells["FDnCNN", "NE-arch", "GPU inference"]["ours"] == ""
    assert cells["FDnCNN", "WNE (haar_mad)", "CPU training"]["published"] == ""
    table = (again / "overhead.md").read_text()
    assert f"| NE-arch | inference | {measured:.3f} |" in table and "| 1.90 | 1.69 |" in table


def test_the_papers_sizes_are_those_of_its_preset():
    sizes = PRESETS["paper"]
    assert sizes["fdncnn"].columns == {"depth": 20, "features": 64, "batch": 16, "size": 128}
    light = ModelConfig("swinir", {}).build()
    assert ModelConfig("swinir", dict(sizes["swinir"].options)).build() == light
    assert (sizes["swinir"].batch, sizes["swinir"].size) == (32, 64)


def test_layers_and_features_are_changed_of_fdncnn_alone():
    options = Options(depth=3, features=4, batch=2)
    assert sizes_of(options, "fdncnn") == Sizes({"depth": 3, "features": 4}, 2, 64)
    assert sizes_of(options, "swinir").options == PRESETS["tiny"]["swinir"].options
