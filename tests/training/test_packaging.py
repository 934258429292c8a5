"""What a run leaves behind: a file of weights when it is finished, and one on demand before."""

import dataclasses
import os
import shutil

import chex
import jax
import numpy as np
import pytest

from wne_jax.cli.package import Package
from wne_jax.data import build_corpus
from wne_jax.training import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    create_state,
    finished,
    fit,
    package,
)
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.training.packaging import trained_variables
from wne_jax.weights import DENOISER_FILE, load_model, read_metadata

pytestmark = pytest.mark.usefixtures("standard_promotion")

CONFIG = TrainConfig(
    model=ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne"),
    optimizer=OptimizerConfig(ema=0.9),
    patch=12,
    batch=2,
    steps=4,
    save_every=2,
    log_every=2,
)


def corpus():
    rng = np.random.default_rng(0)
    return build_corpus([rng.integers(0, 256, (20, 24, 1)).astype(np.uint8)])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"):
        workdir = tmp_path_factory.mktemp("packaging") / "run"
        return fit(CONFIG, workdir, corpus=corpus(), progress=False), workdir


@pytest.fixture
def run(done, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(done[1], tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_leaves_its_averaged_weights(done):
    state, workdir = done
    config, variables = load_model(workdir / DENOISER_FILE)
    assert config == CONFIG.model
    chex.assert_trees_all_equal(variables, jax.tree.map(np.asarray, state.variables()))
    assert np.any(variables["params"]["conv_0"]["kernel"] != state.params["conv_0"]["kernel"])
    assert read_metadata(workdir / DENOISER_FILE)["step"] == "4"
    assert not list(workdir.glob(".*"))


def test_a_resumed_run_writes_the_file_that_is_missing(run):
    before = load_model(run / DENOISER_FILE)
    (run / DENOISER_FILE).unlink()
    fit(CONFIG, run, resume=True, corpus=corpus(), progress=False)
    chex.assert_trees_all_equal(load_model(run / DENOISER_FILE)[1], before[1])


def test_an_unfinished_run_is_packaged_from_its_newest_intact_checkpoint(run, tmp_path, capsys):
    with Checkpoints(run, keep=2, create=False) as checkpoints:
        expected = checkpoints.restore(CONFIG, step=2).variables()
    (run / DENOISER_FILE).unlink()
    for file in (run / "checkpoints/4").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    names = sorted(os.listdir(run / "checkpoints"))
    with pytest.warns(UserWarning, match=r"step 4 .* going on from step 2"):
        assert Package(run_folder=run, out=tmp_path / "early.safetensors").run() == 0
    assert "early.safetensors (step 2)" in capsys.readouterr().out
    assert not (run / DENOISER_FILE).exists() and sorted(os.listdir(run / "checkpoints")) == names
    chex.assert_trees_all_equal(load_model(tmp_path / "early.safetensors")[1], expected)
    with pytest.warns(UserWarning, match="going on from step 2"):
        path, step = package(run)
    assert (path, step) == (run / DENOISER_FILE, 2)
    assert not finished(run, CONFIG)


def test_what_holds_no_run_is_not_packaged(tmp_path, run):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        package(tmp_path / "nothing")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        package(run)
    assert not (run / "checkpoints").exists()


def test_finished_means_this_very_run_to_its_last_step(run, tmp_path):
    assert not finished(tmp_path / "elsewhere", CONFIG)
    assert finished(run, CONFIG)
    assert not finished(run, dataclasses.replace(CONFIG, steps=5))
    shutil.rmtree(run / "checkpoints")
    assert finished(run, CONFIG)  # the file says so
    (run / DENOISER_FILE).unlink()
    assert not finished(run, CONFIG)


def test_a_run_without_its_file_is_finished_by_its_last_checkpoint(run):
    (run / DENOISER_FILE).unlink()
    assert finished(run, CONFIG)
    shutil.rmtree(run / "checkpoints/4")
    assert not finished(run, CONFIG)


def test_a_run_can_be_started_from_what_another_left(done, run):
    state, _ = done
    for remove in (lambda: None, lambda: shutil.rmtree(run / "checkpoints")):
        remove()
        chex.assert_trees_all_equal(
            trained_variables(run, CONFIG.model)["params"], jax.tree.map(np.asarray, state.ema)
        )
    assert create_state(CONFIG, trained_variables(run, CONFIG.model)).step == 0
