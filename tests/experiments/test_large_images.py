import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.large_images import write_image
from wne_jax.config import ModelConfig
from wne_jax.evaluation.records import read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.large_images", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture
def weights(tmp_path):
    config = ModelConfig("fdncnn", {"depth": 3, "features": 4}, wrapper="wne")
    variables = random_variables(config.build(), jnp.zeros((1, 8, 8, 1)))
    Denoiser(config.build(), variables, config).save(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_a_size_is_measured_and_its_images_are_removed(tmp_path, weights):
    workdir = tmp_path / "large"
    sizes = ("--megapixels", 0.04, "--tiles", 64, "--weights", weights)
    done = run(*sizes, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    records = read_records(workdir / "records.csv")
    assert {(r["megapixels"], r["tile"]) for r in records} == {(0.04, 64)}
    found = {r.metric: r.value for r in records}
    assert found["tiled_against_whole"] < 1e-5
    assert found["peak_memory"] >= found["memory_before"] > 50
    table = (workdir / "table.md").read_text()
    assert "peak memory (MB)" in table and "revision" in table and "seed 0" in table
    assert {f.name for f in workdir.iterdir()} == {"config.json", "records.csv", "table.md"}

    again = run(*sizes, "--workdir", workdir)
    assert again.returncode == 2 and "already holds results" in again.stderr


def test_an_error_is_one_line_and_creates_no_folder(tmp_path):
    done = run("--weights", tmp_path / "absent.safetensors", "--workdir", tmp_path / "large")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "large").exists()


def test_images_depend_only_on_size_and_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_image(tmp_path / f"{name}.npy", 0.09, sigma_255=25, seed=seed)
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.shape == (300, 300) and a.dtype == np.uint16 and np.mean((a > 0) & (a < 65535)) > 0.99
    assert (a == b).all() and (a != c).any()
