"""Every experiment at its smallest, as a user runs it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments.mismatch import PRESETS, Options, arm_configs
from wne_jax import results
from wne_jax.training.config import differences

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_arms_differ_in_the_wrapper_and_in_nothing_else(preset):
    arms = arm_configs(Options(preset=preset, arms=("baseline", "wne", "wne-noise", "scale")))
    for config in arms.values():
        changed = differences(arms["baseline"], config)
        assert set(changed) <= {"model.wrapper", "model.statistics"}
    assert len({dataclasses.asdict(c)["model"]["statistics"] for c in arms.values()}) == 2


def test_the_papers_own_settings_live_in_its_preset():
    arms = arm_configs(Options(preset="paper", arms=("baseline", "wne")))
    assert (arms["baseline"].loss, arms["wne"].loss) == ("l1", "mse")
    assert arms["wne"].optimizer.schedule == "halved" and arms["wne"].steps == 500_000
    assert len(PRESETS["paper"].test_sigmas_255) == 21


@pytest.fixture(scope="module")
def mismatch(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "mismatch"
    done = run(
        "experiments.mismatch", "--steps", 3, "--arms", "baseline", "wne", "--workdir", workdir
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_mismatch_leaves_records_table_and_figures(mismatch):
    workdir, done = mismatch
    records = results.read_csv(workdir / "psnr.csv")
    assert list(records[0]) == ["image", "sigma_255", "repeat", "model", "input_psnr", "psnr"]
    assert {r["sigma_255"] for r in records} == {5, 10, 15, 25, 35, 50, 75, 90}
    assert {r["model"] for r in records} == {"baseline", "wne"}
    defects = results.read_csv(workdir / "defect.csv")
    worst = {m: max(r["defect"] for r in defects if r["model"] == m) for m in ("baseline", "wne")}
    assert worst["wne"] < 1e-5
    table = (workdir / "table.md").read_text()
    assert "| wne |" in table and "noisy input" in table and "revision" in table
    assert json.loads((workdir / "config.json").read_text())["config"]["steps"] == 3
    for name in ("psnr.png", "panel.png"):
        with Image.open(workdir / name) as figure:
            assert min(figure.size) > 300
    assert "holds to rounding" in done.stdout and "Mean PSNR" in done.stdout


def test_mismatch_stages_can_be_repeated(mismatch):
    workdir, _ = mismatch
    (workdir / "table.md").unlink()
    arms = ("--arms", "baseline", "wne", "--steps", 3, "--workdir", workdir)
    again = run("experiments.mismatch", "--stage", "report", *arms)
    assert again.returncode == 0 and (workdir / "table.md").exists(), again.stderr
    refused = run("experiments.mismatch", *arms)
    assert refused.returncode == 2 and "holds results already" in refused.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "web:x"), "web"),
        (("--sigma-255", "50", "5"), "low and a high"),
        (("--stage", "report"), "holds no run"),
        (("--arms", "magic"), "magic"),
        (("--preset", "huge"), "huge"),
    ],
)
def test_a_wrong_option_is_one_clear_line(tmp_path, arguments, message):
    done = run("experiments.mismatch", "--workdir", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_overhead_measures_ratios(tmp_path):
    sizes = ("--depth", 3, "--features", 4, "--batch", 1, "--size", 16, "--rounds", 3)
    done = run("experiments.overhead", *sizes, "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = results.read_csv(tmp_path / "run/overhead.csv")
    assert len(records) == 6 and all(r["ratio_q1"] <= r["ratio"] <= r["ratio_q3"] for r in records)
    assert {r["task"] for r in records} == {"training", "inference"}
    with Image.open(tmp_path / "run/overhead.png") as figure:
        assert min(figure.size) > 300
