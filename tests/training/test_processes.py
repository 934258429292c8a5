"""Several processes on one machine, as on a cluster: killed, and resumed by others."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from wne_jax.training import ModelConfig, OptimizerConfig, TrainConfig, fit, joined, save_config
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.weights import load_model

pytestmark = pytest.mark.usefixtures("standard_promotion")

CONFIG = TrainConfig(
    model=ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne"),
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, schedule="constant", ema=0.9),
    patch=12,
    batch=8,
    steps=40,
    log_every=1,
    save_every=7,
)


def start(number, workdir, *, configs=None, parallel="auto", corpus="auto", devices=4):
    """Start processes that hold some devices together."""
    paths = [workdir.parent / f"config-{i}.json" for i in range(number)]
    for config, path in zip(configs or [CONFIG] * number, paths, strict=True):
        save_config(config, path)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices // number}"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
    }
    script = Path(__file__).with_name("one_process.py")
    return [
        subprocess.Popen(
            [sys.executable, *map(str, (script, f"localhost:{port}", number, i, paths[i])), workdir,
             parallel, corpus],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for i in range(number)
    ]  # fmt: skip


def finish(children):
    for child in children:
        _, errors = child.communicate(timeout=300)
        assert child.returncode == 0, errors


def steps_logged(workdir):
    log = workdir / "metrics.jsonl"
    return [json.loads(line)["step"] for line in log.open()] if log.exists() else []


def bytes_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process, uninterrupted."""
    with jax.numpy_dtype_promotion("standard"):
        workdir = tmp_path_factory.mktemp("alone") / "run"
        return fit(CONFIG, workdir, progress=False), workdir


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of two processes, of which one was killed, and the other ended for that."""
    workdir = tmp_path_factory.mktemp("killed") / "run"
    children = start(2, workdir)
    while len(steps_logged(workdir)) < 16 and all(child.poll() is None for child in children):
        time.sleep(0.005)
    children[1].kill()
    assert children[1].wait(60) == -signal.SIGKILL
    left, (_, said) = time.monotonic(), children[0].communicate(timeout=60)
    assert time.monotonic() - left < 40  # 12 seconds on an idle machine
    assert children[0].returncode != 0, said
    return workdir


@pytest.mark.parametrize(
    "processes, options", [(1, {}), (2, {"parallel": "pmap", "corpus": "host"}), (4, {})]
)
def test_a_killed_run_goes_on_with_any_number_of_processes(
    tmp_path, killed, alone, processes, options
):
    expected, whole = alone
    workdir = tmp_path / "run"
    shutil.copytree(killed, workdir)
    with Checkpoints(workdir, keep=2, create=False) as checkpoints:
        assert 7 <= checkpoints.latest <= steps_logged(workdir)[-1]
    if processes == 1:
        fit(CONFIG, workdir, resume=True, progress=False)
    else:
        finish(start(processes, workdir, **options))
    assert steps_logged(workdir) == list(range(1, CONFIG.steps + 1))
    with Checkpoints(workdir, keep=2, create=False) as checkpoints:
        state = checkpoints.restore(CONFIG)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    left = load_model(workdir / "denoiser.safetensors")[1]
    chex.assert_trees_all_equal(left, jax.tree.map(np.asarray, state.variables()))
    # Written once, not by every process.
    sizes = [bytes_of(folder / "checkpoints" / str(CONFIG.steps)) for folder in (workdir, whole)]
    assert sizes[0] < 2 * sizes[1]
    assert not list(workdir.glob("checkpoints/*tmp*"))


def test_processes_that_disagree_end_in_time_and_say_why(tmp_path):
    other = dataclasses.replace(CONFIG, seed=1)
    children = start(2, tmp_path / "run", configs=[CONFIG, other], devices=2)
    for child in children:
        _, errors = child.communicate(timeout=100)
        assert child.returncode == 2 and "the processes have different options" in errors
    assert not (tmp_path / "run").exists()


def test_a_mistake_of_one_ends_the_other_with_its_line(tmp_path):
    mistaken = dataclasses.replace(CONFIG, data="folder:nowhere")
    children = start(2, tmp_path / "run", configs=[CONFIG, mistaken], devices=2)
    _, own = children[1].communicate(timeout=100)
    left, (_, told) = time.monotonic(), children[0].communicate(timeout=100)
    assert time.monotonic() - left < 40  # 3 seconds on an idle machine
    assert [child.returncode for child in children] == [2, 2]
    assert "stack trace" not in own and "nowhere: no such folder" in own.splitlines()[-1]
    (line,) = told.split("\n")[1:-1]
    assert line.startswith("error: process 1: ") and "nowhere: no such folder" in line


@pytest.mark.parametrize(
    "numbers, message",
    [
        ((None, 2, 0), "need a coordinator"),
        (("localhost:1", None, None), "needs processes and process-id"),
        (("auto", None, None), "cannot join at coordinator = 'auto'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers, message):
    coordinator, processes, process_id = numbers
    with (
        pytest.raises(ValueError, match=message),
        joined(coordinator, processes=processes, process_id=process_id),
    ):
        pass
