"""Every experiment at its smallest size, by its command."""

import contextlib
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

from experiments import mismatch, overhead
from experiments.harness import PRESETS, folders, published
from experiments.harness import command as harness_command
from experiments.mismatch import Options, wanted
from wne_jax.cli.main import main as command
from wne_jax.evaluation.records import INPUT, mean_over, read_records
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import differences

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


def run(module, *arguments):
    """Run a command in this process, which saves the start-up and compiles faster."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        jax.numpy_dtype_promotion("standard"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        patch.setattr(harness_command, "keep_compiled", lambda: None)  # fast compilation
        try:
            harness_command.run(module.main, module.Options, module.__doc__)
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())


def configs(**options):
    return {arm: config for arm, (_, config) in wanted(Options(**options)).items()}


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_arms_differ_only_in_the_wrapper(preset):
    arms = configs(preset=preset, arms=("baseline", "wne", "wne-noise", "scale"))
    for config in arms.values():
        changed = differences(arms["baseline"], config)
        assert set(changed) <= {"model.wrapper"}
    assert len({config.model.wrapper for config in arms.values()}) == len(arms)


def test_the_papers_settings_are_in_its_preset():
    arms = configs(preset="paper", arms=("baseline", "wne"))
    assert (arms["baseline"].loss, arms["wne"].loss) == ("l1", "mse")
    assert arms["wne"].optimizer.schedule == "halved" and arms["wne"].steps == 500_000
    levels = {round(r.level, 6) for r in published.sweep("dncnn_sigma25")}
    assert {*PRESETS["paper"].test_sigmas_255, 25.0} == levels


ARMS = ("--arms", "baseline", "wne", "--steps", 3, "--test-sigmas-255", 5, 90)


def write_images(folder, *shapes):
    """A source of noise images of several sizes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        write_image(folder / f"{folder.name}-{i}.png", rng.integers(0, 256, (*shape, 1), np.uint8))
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the run, its arguments and its result."""
    root = tmp_path_factory.mktemp("runs")
    test = write_images(root / "photos", (140, 132), (72, 80), (96, 72))
    places = ("--networks", root / "networks", "--workdir", root / "mismatch")
    arguments = (*ARMS, "--test", test, *places)
    done = run(mismatch, *arguments)
    assert done.returncode == 0, done.stderr
    return root / "mismatch", arguments, done


def records_of(workdir, metric="psnr"):
    records = read_records(workdir / folders.RECORDS)
    return [r for r in records if r.metric == metric and r.value is not None]


def test_mismatch_writes_records_table_and_figures(trained):
    workdir, _, done = trained
    records = records_of(workdir)
    assert {r.level for r in records} == {5, 25, 90}
    assert {r.arm for r in records} == {INPUT, "baseline", "wne"}
    assert {(r.dataset, r.degradation, r.trained) for r in records} == {
        ("photos", "gaussian", (25.0,))
    }
    defects = {r.arm: r.value for r in records_of(workdir, "defect")}
    assert defects["wne"] < 1e-5 < defects["baseline"]
    table = (workdir / "table.md").read_text()
    assert "| wne |" in table and "| input |" in table and "revision" in table and "seed 0" in table
    source = json.loads((workdir / "config.json").read_text())
    assert source["config"]["steps"] == 3
    assert source["files"] == ["panel.png", "psnr.png", "records.csv", "table.md"]
    for name in ("psnr.png", "panel.png"):
        with Image.open(workdir / name) as figure:
            assert min(figure.size) > 300
    assert "holds to rounding" in done.stdout and "Mean PSNR" in done.stdout


OWN = """
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class InLinen(nn.Module):
    @nn.compact
    def __call__(self, y):
        return y - 0.1 * nn.Conv(1, (3, 3))(jnp.tanh(nn.Conv(4, (3, 3))(y)))


class InNNX(nnx.Module):
    def __init__(self, *, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.last = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, y):
        return y - 0.1 * self.last(jnp.tanh(self.first(y)))
"""


@pytest.mark.parametrize("name", ["InLinen", "InNNX"])
def test_a_custom_backbone_is_compared_by_its_import_path(tmp_path, monkeypatch, name):
    (tmp_path / "own_backbones.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_backbones", raising=False)
    test = write_images(tmp_path / "photos", (140, 132))
    done = run(
        mismatch, "--backbone", f"own_backbones:{name}", "--arms", "baseline", "wne", "--steps", 2,
        "--test", test, "--test-sigmas-255", 25, "--networks", tmp_path / "networks",
        "--workdir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| wne |" in (tmp_path / "run/table.md").read_text()
    assert {r.model for r in records_of(tmp_path / "run") if r.arm == "wne"} == {
        f"own_backbones:{name}"
    }
    folders_ = {path.name for path in (tmp_path / "networks/tiny").iterdir()}
    assert folders_ == {f"own_backbones.{name}-{arm}-25" for arm in ("baseline", "wne")}


def test_each_shape_is_compiled_once(trained):
    _, _, done = trained
    assert "training step: 2 compilations, 2 arms" in done.stdout
    compiled, shapes = re.search(
        r"denoising: (\d+) compilations, (\d+) shapes", done.stdout
    ).groups()
    # Two arms: images of three sizes, a crop of the largest, and another for the check of identities.
    assert compiled == shapes == str(2 * 4 + 1)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_mismatch_can_be_resumed_and_its_stages_repeated(trained):
    workdir, arguments, _ = trained
    before = contents(workdir)
    for more in (("--stage", "report"), ("--resume",), ("--stage", "eval", "--resume")):
        (workdir / "table.md").unlink()
        again = run(mismatch, *arguments, *more)
        assert again.returncode == 0 and contents(workdir) == before, again.stderr
    for stage in (("--resume",), ("--stage", "report")):
        other = run(mismatch, *arguments, *stage, "--train-sigmas-255", 50)
        assert other.returncode == 2 and "different values of train_sigmas_255" in other.stderr
    refused = run(mismatch, *arguments)
    assert refused.returncode == 2 and "already holds results" in refused.stderr
    both = run(mismatch, *arguments, "--resume", "--overwrite")
    assert both.returncode == 2 and "give only one" in both.stderr
    done = run(mismatch, *arguments, "--stage", "train")
    assert done.returncode == 0 and contents(workdir) == before, done.stderr


def test_the_same_command_gives_the_same_records(trained):
    workdir, arguments, _ = trained
    before = read_records(workdir / folders.RECORDS)
    again = run(mismatch, *arguments, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert read_records(workdir / folders.RECORDS) == before


def test_a_missing_arm_is_an_empty_row(trained, tmp_path):
    workdir, arguments, _ = trained
    shutil.copytree(workdir.parent / "networks/tiny/dncnn-wne-25", tmp_path / "n/tiny/dncnn-wne-25")
    places = ("--networks", tmp_path / "n", "--workdir", tmp_path / "run", "--stage", "eval")
    done = run(mismatch, *arguments, *places)
    assert done.returncode == 0, done.stderr
    assert {r.arm for r in records_of(tmp_path / "run")} == {INPUT, "wne"}
    assert "| baseline | not run |" in (tmp_path / "run/table.md").read_text()


def test_a_violated_identity_stops_the_run_before_any_table(trained, monkeypatch):
    workdir, arguments, _ = trained
    initial = Denoiser.__init__

    def claiming(self, *args, **options):
        initial(self, *args, **options)
        self.symmetry = "normalization"

    monkeypatch.setattr(Denoiser, "__init__", claiming)
    before = contents(workdir)
    done = run(mismatch, *arguments, "--overwrite")
    assert done.returncode == 2 and "not equivariant" in done.stderr
    assert contents(workdir) == before and not [*workdir.parent.glob(".mismatch*")]


def test_a_prepared_dataset_mixed_with_a_folder_at_a_range_of_levels_from_zero(tmp_path):
    first, second = (write_images(tmp_path / name, (64, 72)) for name in "ab")
    prepared = ("--name", "noise", "--data-dir", tmp_path / "tfds")
    assert command(["data", "prepare", first, *map(str, prepared)]) == 0
    workdir = tmp_path / "run"
    data = (
        *("--data", f"tfds:noise@3,{second}@1", "--data-dir", tmp_path / "tfds"),
        *("--test", "tfds:noise", "--corpus", "host"),
    )
    range_ = ("--train-sigmas-255", "0:55", "--arms", "wne", "--steps", 2, "--test-sigmas-255", 25)
    places = ("--networks", tmp_path / "networks", "--workdir", workdir)
    done = run(mismatch, *data, *range_, *places)
    assert done.returncode == 0, done.stderr
    assert {r.level for r in records_of(workdir)} == {25, 55}
    assert {r.image for r in records_of(workdir)} == {"a-0"}
    assert "streams from the host" in done.stdout


def test_the_small_preset_runs_on_the_research_sets(tmp_path, wne_data):
    size = ("--steps", 2, "--arms", "wne-noise", "--test-sigmas-255", 25)
    (tmp_path / "two").mkdir()
    for image in sorted((wne_data / "Set12").iterdir())[:2]:
        shutil.copy(image, tmp_path / "two")
    done = run(mismatch, "--preset", "small", *size,
               "--test", f"folder:{tmp_path / 'two'}", "--networks", tmp_path / "networks",
               "--workdir", tmp_path / "run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(records_of(tmp_path / "run")) == 2 * 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "web:x"), "web"),
        (("--train-sigmas-255", "50:5"), "50:5"),
        (("--train-sigmas-255", "50", "5"), "one range LOW:HIGH, not 50 5"),
        (("--stage", "report"), "holds no results"),
        (("--arms", "magic"), "magic"),
        (("--preset", "huge"), "huge"),
        (("--test", "folder:a/x", "folder:b/x"), "different names"),
    ],
)
def test_an_invalid_option_gives_one_line_and_creates_no_folder(tmp_path, arguments, message):
    places = ("--workdir", tmp_path / "run", "--networks", tmp_path / "networks")
    done = run(mismatch, *places, *arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert not any(tmp_path.iterdir())


def test_a_command_reports_an_error_in_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.mismatch", "--stage", "report"]
    done = subprocess.run(
        [*command, "--workdir", tmp_path / "run"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == f"error: {tmp_path / 'run'} holds no results: compute them with --stage all\n"
    )


def test_overhead_measures_ratios(tmp_path):
    sizes = ("--depth", 3, "--features", 4, "--batch", 1, "--size", 16, "--rounds", 3)
    done = run(overhead, *sizes, "--backbones", "fdncnn", "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = read_records(tmp_path / "run/records.csv")
    measured = [r for r in records if r.metric == "time_ratio" and r.value is not None]
    ratios = mean_over(measured, by=["arm", "task", "quantile"])
    assert len(measured) == len(ratios) == 18
    for arm, task, _ in ratios:
        assert ratios[arm, task, 0.25] <= ratios[arm, task, 0.5] <= ratios[arm, task, 0.75]
    assert {task for _, task, _ in ratios} == {"training", "inference"}
    with Image.open(tmp_path / "run/overhead.png") as figure:
        assert min(figure.size) > 300
