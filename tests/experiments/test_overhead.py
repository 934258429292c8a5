"""The report of the overhead from committed records."""

import shutil
from pathlib import Path

import pytest

from experiments.overhead import (
    PRESETS,
    VIEWS,
    Options,
    Sizes,
    main,
    published_ratios,
    sizes_of,
    table,
)
from wne_jax.evaluation.records import read_records
from wne_jax.evaluation.tables import Cell
from wne_jax.training import ModelConfig

COMMITTED = Path(__file__).parents[2] / "experiments/results/overhead"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "overhead"
    workdir.mkdir()
    for name in ("records.csv", "config.json"):
        shutil.copy(COMMITTED / name, workdir)
    main(Options(stage="report", workdir=workdir))
    return workdir


def test_the_committed_report_is_rendered_from_the_committed_records(again):
    for name in ("table.md", "records.csv"):
        assert (again / name).read_text() == (COMMITTED / name).read_text()
    assert (again / "overhead.png").stat().st_size > 10_000


def test_ratios_have_the_published_ones_of_the_same_device(again):
    records = read_records(again / "records.csv")
    (found,) = VIEWS[0].pivot(records).values()
    (measured,) = (
        r.value
        for r in records
        if (r.arm, r["task"], r["quantile"]) == ("NE-arch", "inference", 0.5) and r.value
    )
    cells = found.cells
    assert cells[("fdncnn", "NE-arch"), ("CPU", "inference")] == Cell(measured, 1.90)
    assert cells[("fdncnn", "NE-arch"), ("GPU", "inference")] == Cell(None, 1.69)
    assert cells[("fdncnn", "WNE (haar_mad)"), ("CPU", "training")].published is None
    text = (again / "table.md").read_text()
    assert f"| NE-arch | inference | {measured:.3f} |" in text and "| 1.90 | 1.69 |" in text


def test_a_backbone_that_was_not_timed_is_marked():
    rows = [line for line in table(list(published_ratios())).splitlines() if "SwinIR" in line]
    assert len(rows) == 2 and all("not run" in row and "| 1.00 |" in row for row in rows)


def test_the_preset_has_the_papers_sizes():
    sizes = PRESETS["paper"]
    assert sizes["fdncnn"].settings == {"depth": 20, "features": 64, "batch": 16, "size": 128}
    light = ModelConfig("swinir", {}).build()
    assert ModelConfig("swinir", dict(sizes["swinir"].options)).build() == light
    assert (sizes["swinir"].batch, sizes["swinir"].size) == (32, 64)


def test_layers_and_features_only_change_fdncnn():
    options = Options(depth=3, features=4, batch=2)
    assert sizes_of(options, "fdncnn") == Sizes({"depth": 3, "features": 4}, 2, 64)
    assert sizes_of(options, "swinir").options == PRESETS["tiny"]["swinir"].options
