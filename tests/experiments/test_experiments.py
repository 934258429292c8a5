"""Every experiment at its smallest, as a user runs it."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.mismatch import PRESETS, Options, arm_configs, evaluate, load_arms
from experiments.mismatch import test_images as held_out_images
from wne_jax import results
from wne_jax.data.__main__ import main as prepare
from wne_jax.denoiser import Denoiser
from wne_jax.images import write_image
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


ARMS = ("--arms", "baseline", "wne", "--steps", 3, "--test-sigmas-255", 5, 90)


@pytest.fixture(scope="module")
def mismatch(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "mismatch"
    done = run("experiments.mismatch", *ARMS, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_mismatch_leaves_records_table_and_figures(mismatch):
    workdir, done = mismatch
    records = results.read_csv(workdir / "psnr.csv")
    assert list(records[0]) == ["image", "sigma_255", "repeat", "model", "input_psnr", "psnr"]
    assert {r["sigma_255"] for r in records} == {5, 25, 90}
    assert {r["model"] for r in records} == {"baseline", "wne"}
    defects = results.read_csv(workdir / "defect.csv")
    assert max(r["defect"] for r in defects if r["model"] == "wne") < 1e-5
    table = (workdir / "table.md").read_text()
    assert (
        "| wne |" in table and "noisy input" in table and "revision" in table and "seed 0" in table
    )
    assert json.loads((workdir / "config.json").read_text())["config"]["steps"] == 3
    for name in ("psnr.png", "panel.png"):
        with Image.open(workdir / name) as figure:
            assert min(figure.size) > 300
    assert "holds to rounding" in done.stdout and "Mean PSNR" in done.stdout


def test_every_shape_is_compiled_once(mismatch):
    _, done = mismatch
    assert "training step: 2 compilations, 2 arms" in done.stdout
    compiled, shapes = re.search(
        r"denoising: (\d+) compilations, (\d+) shapes", done.stdout
    ).groups()
    # Two arms: images of three sizes, crops for the defect, and those that the identities draw.
    assert compiled == shapes and int(shapes) >= 2 * 4


def test_mismatch_resumes_and_repeats_its_stages(mismatch):
    workdir, _ = mismatch
    before = (workdir / "config.json").read_text()
    (workdir / "table.md").unlink()
    again = run("experiments.mismatch", *ARMS, "--workdir", workdir, "--stage", "report")
    assert again.returncode == 0 and (workdir / "table.md").exists(), again.stderr
    for stage in (("--stage", "train", "--resume"), ("--stage", "report")):
        other = run("experiments.mismatch", *ARMS, "--workdir", workdir, *stage, "--sigma-255", 50)
        assert other.returncode == 2 and "other values of sigma_255" in other.stderr
    refused = run("experiments.mismatch", *ARMS, "--workdir", workdir)
    assert refused.returncode == 2 and "holds results already" in refused.stderr
    resumed = run(
        "experiments.mismatch", *ARMS, "--workdir", workdir, "--stage", "train", "--resume"
    )
    assert resumed.returncode == 0, resumed.stderr
    assert (workdir / "config.json").read_text() == before


def test_unfinished_arms_are_not_compared(mismatch):
    workdir, _ = mismatch
    shutil.move(workdir / "wne/checkpoints", workdir / "aside")
    done = run("experiments.mismatch", *ARMS, "--workdir", workdir, "--stage", "eval")
    shutil.move(workdir / "aside", workdir / "wne/checkpoints")
    assert done.returncode == 2 and "not trained to its end" in done.stderr


def test_a_broken_identity_ends_the_run_before_any_table(mismatch, monkeypatch):
    workdir, _ = mismatch
    options = Options(arms=("baseline", "wne"), steps=3, test_sigmas_255=(5, 90), workdir=workdir)
    broken = lambda self: setattr(self, "symmetry", "normalization")  # noqa: E731
    initial = Denoiser.__init__
    monkeypatch.setattr(Denoiser, "__init__", lambda self, *a: (initial(self, *a), broken(self))[0])
    before = (workdir / "psnr.csv").stat().st_mtime_ns
    with pytest.raises(AssertionError, match="not equivariant"):
        evaluate(options, load_arms(options), held_out_images(options))
    assert (workdir / "psnr.csv").stat().st_mtime_ns == before


def test_a_prepared_dataset_mixed_with_a_folder_at_a_range_of_levels_from_zero(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / f"{name}.png", rng.integers(0, 256, (64, 72, 1), np.uint8))
    prepared = ("--name", "noise", "--data-dir", tmp_path / "tfds")
    assert prepare(["prepare", f"folder:{tmp_path / 'a'}", *map(str, prepared)]) == 0
    workdir = tmp_path / "run"
    data = (
        *("--data", f"tfds:noise@3,folder:{tmp_path / 'b'}@1", "--data-dir", tmp_path / "tfds"),
        *("--test", "tfds:noise", "--corpus", "host"),
    )
    range_ = ("--sigma-255", 0, 55, "--arms", "wne", "--steps", 2, "--test-sigmas-255", 25)
    done = run("experiments.mismatch", *data, *range_, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert {r["sigma_255"] for r in results.read_csv(workdir / "psnr.csv")} == {25, 55}
    assert {r["image"] for r in results.read_csv(workdir / "psnr.csv")} == {"a"}
    assert "streams from the host" in done.stdout


def test_the_small_preset_runs_on_the_research_sets(tmp_path, wne_data):
    size = ("--steps", 2, "--arms", "wne-noise", "--test-sigmas-255", 25, "--sigma-255", 25)
    (tmp_path / "two").mkdir()
    for image in sorted((wne_data / "Set12").iterdir())[:2]:
        shutil.copy(image, tmp_path / "two")
    done = run("experiments.mismatch", "--preset", "small", *size,
               "--test", f"folder:{tmp_path / 'two'}", "--workdir", tmp_path / "run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(results.read_csv(tmp_path / "run/psnr.csv")) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "web:x"), "web"),
        (("--sigma-255", "50", "5"), "low and a high"),
        (("--stage", "report"), "holds no run"),
        (("--arms", "magic"), "magic"),
        (("--preset", "huge"), "huge"),
        (("--test", "folder:a/x", "folder:b/x"), "different names"),
    ],
)
def test_a_wrong_option_is_one_clear_line_and_claims_no_folder(tmp_path, arguments, message):
    done = run("experiments.mismatch", "--workdir", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_overhead_measures_ratios(tmp_path):
    sizes = ("--depth", 3, "--features", 4, "--batch", 1, "--size", 16, "--rounds", 3)
    done = run("experiments.overhead", *sizes, "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = results.read_csv(tmp_path / "run/overhead.csv")
    assert len(records) == 6 and all(r["ratio_q1"] <= r["ratio"] <= r["ratio_q3"] for r in records)
    assert {r["task"] for r in records} == {"training", "inference"}
    with Image.open(tmp_path / "run/overhead.png") as figure:
        assert min(figure.size) > 300
