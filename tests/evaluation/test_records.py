import json
import subprocess

import jax
import pytest

from wne_jax.evaluation import records as results
from wne_jax.training import TrainConfig

ROWS = [
    {"image": "007", "model": "wne", "sigma_255": 5.0, "psnr": 34.25},
    {"image": "a,b", "model": "wne", "sigma_255": 10.0, "psnr": 31.0},
    {"image": "007", "model": "bare", "sigma_255": 5.0, "psnr": 30.0},
]


def test_records_survive_the_disk(tmp_path):
    path = tmp_path / "psnr.csv"
    results.write_csv(ROWS, path)
    assert results.read_csv(path) == ROWS  # names stay text, numbers become numbers
    assert path.read_text().splitlines()[0] == "image,model,sigma_255,psnr"
    assert [p.name for p in tmp_path.iterdir()] == ["psnr.csv"]
    with pytest.raises(ValueError, match="no records"):
        results.write_csv([], path)
    assert results.read_csv(path) == ROWS


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "psnr.csv"
    results.write_csv(ROWS, path)
    with pytest.raises(ValueError, match="other"):
        results.write_csv([ROWS[0], {"other": 1}], path)
    assert results.read_csv(path) == ROWS
    assert [p.name for p in tmp_path.iterdir()] == ["psnr.csv"]


def test_tables_hold_means_and_leave_gaps_empty():
    table = results.pivot_table(
        [*ROWS, ROWS[0] | {"psnr": 34.75}], "psnr", rows="model", columns="sigma_255"
    )
    assert table.splitlines() == [
        "| model | 5 | 10 |",
        "|---|---|---|",
        "| wne | 34.50 | 31.00 |",
        "| bare | 30.00 |  |",
    ]


def test_provenance_names_everything(tmp_path):
    source = results.provenance(TrainConfig(seed=5))
    assert source["config"]["seed"] == 5
    assert source["device"].startswith(jax.devices()[0].platform)
    assert source["versions"]["jax"] == jax.__version__
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        assert source["revision"] == "unknown"
    else:
        assert source["revision"].startswith(head) or "-g" in source["revision"]
    results.write_json(source, tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(source))
    line = results.footer(source)
    assert "\n" not in line and source["device"] in line and source["revision"] in line
