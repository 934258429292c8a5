"""Every experiment at its smallest, by the command that a user types."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import _cli, _published, mismatch, overhead
from experiments.mismatch import PRESETS, Options, arm_configs, evaluate, load_arms
from experiments.mismatch import test_images as held_out_images
from wne_jax.cli.main import main as command
from wne_jax.evaluation import records as results
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import differences

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(module, *arguments):
    """A command in this process, which need not start, and compiles quickly."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        jax.numpy_dtype_promotion("standard"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        patch.setattr(_cli, "_cache_compilations", lambda: None)  # of what is compiled otherwise
        try:
            _cli.run(module.main, module.Options, module.__doc__)
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())


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
    published = {round(r["sigma_255"], 6) for r in _published.sweep("dncnn_sigma25")}
    assert {*PRESETS["paper"].test_sigmas_255, 25.0} == published


ARMS = ("--arms", "baseline", "wne", "--steps", 3, "--test-sigmas-255", 5, 90)


def write_images(folder, *shapes):
    """Noise of several sizes, as a source of images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        write_image(folder / f"{folder.name}-{i}.png", rng.integers(0, 256, (*shape, 1), np.uint8))
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the run, the arguments that made it, and how it ended."""
    root = tmp_path_factory.mktemp("runs")
    test = write_images(root / "photos", (140, 132), (72, 80), (96, 72))
    arguments = (*ARMS, "--test", test, "--workdir", root / "mismatch")
    done = run(mismatch, *arguments)
    assert done.returncode == 0, done.stderr
    return root / "mismatch", arguments, done


def test_mismatch_leaves_records_table_and_figures(trained):
    workdir, _, done = trained
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


def test_every_shape_is_compiled_once(trained):
    _, _, done = trained
    assert "training step: 2 compilations, 2 arms" in done.stdout
    compiled, shapes = re.search(
        r"denoising: (\d+) compilations, (\d+) shapes", done.stdout
    ).groups()
    # Two arms: images of three sizes, a crop of the largest, and one more where identities are checked.
    assert compiled == shapes == str(2 * 4 + 1)


def test_mismatch_resumes_and_repeats_its_stages(trained):
    workdir, arguments, _ = trained
    before = (workdir / "config.json").read_text()
    (workdir / "table.md").unlink()
    again = run(mismatch, *arguments, "--stage", "report")
    assert again.returncode == 0 and (workdir / "table.md").exists(), again.stderr
    for stage in (("--stage", "train", "--resume"), ("--stage", "report")):
        other = run(mismatch, *arguments, *stage, "--sigma-255", 50)
        assert other.returncode == 2 and "other values of sigma_255" in other.stderr
    refused = run(mismatch, *arguments)
    assert refused.returncode == 2 and "holds results already" in refused.stderr
    resumed = run(mismatch, *arguments, "--stage", "train", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (workdir / "config.json").read_text() == before


def test_unfinished_arms_are_not_compared(trained):
    workdir, arguments, _ = trained
    shutil.move(workdir / "wne/checkpoints", workdir / "aside")
    done = run(mismatch, *arguments, "--stage", "eval")
    shutil.move(workdir / "aside", workdir / "wne/checkpoints")
    assert done.returncode == 2 and "not trained to its end" in done.stderr


def test_a_broken_identity_ends_the_run_before_any_table(trained, monkeypatch):
    workdir, _, _ = trained
    options = Options(arms=("baseline", "wne"), steps=3, test_sigmas_255=(5, 90), workdir=workdir)
    options = dataclasses.replace(options, test=(f"folder:{workdir.parent / 'photos'}",))
    broken = lambda self: setattr(self, "symmetry", "normalization")  # noqa: E731
    initial = Denoiser.__init__
    monkeypatch.setattr(Denoiser, "__init__", lambda self, *a: (initial(self, *a), broken(self))[0])
    before = (workdir / "psnr.csv").stat().st_mtime_ns
    with pytest.raises(AssertionError, match="not equivariant"):
        evaluate(options, load_arms(options), held_out_images(options))
    assert (workdir / "psnr.csv").stat().st_mtime_ns == before


def test_a_prepared_dataset_mixed_with_a_folder_at_a_range_of_levels_from_zero(tmp_path):
    first, second = (write_images(tmp_path / name, (64, 72)) for name in "ab")
    prepared = ("--name", "noise", "--data-dir", tmp_path / "tfds")
    assert command(["data", "prepare", first, *map(str, prepared)]) == 0
    workdir = tmp_path / "run"
    data = (
        *("--data", f"tfds:noise@3,{second}@1", "--data-dir", tmp_path / "tfds"),
        *("--test", "tfds:noise", "--corpus", "host"),
    )
    range_ = ("--sigma-255", 0, 55, "--arms", "wne", "--steps", 2, "--test-sigmas-255", 25)
    done = run(mismatch, *data, *range_, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert {r["sigma_255"] for r in results.read_csv(workdir / "psnr.csv")} == {25, 55}
    assert {r["image"] for r in results.read_csv(workdir / "psnr.csv")} == {"a-0"}
    assert "streams from the host" in done.stdout


def test_the_small_preset_runs_on_the_research_sets(tmp_path, wne_data):
    size = ("--steps", 2, "--arms", "wne-noise", "--test-sigmas-255", 25, "--sigma-255", 25)
    (tmp_path / "two").mkdir()
    for image in sorted((wne_data / "Set12").iterdir())[:2]:
        shutil.copy(image, tmp_path / "two")
    done = run(mismatch, "--preset", "small", *size,
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
    done = run(mismatch, "--workdir", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


def test_a_command_ends_a_mistake_in_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.mismatch", "--stage", "report"]
    done = subprocess.run(
        [*command, "--workdir", tmp_path / "run"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'run'} holds no run: --stage train makes one\n"


def test_overhead_measures_ratios(tmp_path):
    sizes = ("--depth", 3, "--features", 4, "--batch", 1, "--size", 16, "--rounds", 3)
    done = run(overhead, *sizes, "--backbones", "fdncnn", "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = results.read_csv(tmp_path / "run/overhead.csv")
    assert len(records) == 6 and all(r["ratio_q1"] <= r["ratio"] <= r["ratio_q3"] for r in records)
    assert {r["task"] for r in records} == {"training", "inference"}
    with Image.open(tmp_path / "run/overhead.png") as figure:
        assert min(figure.size) > 300
