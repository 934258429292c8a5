"""Every experiment that compares networks accepts a custom backbone by its import path."""

import contextlib
import importlib
import io
import sys
import warnings

import jax
import numpy as np
import pytest

from experiments.harness import command, folders
from experiments.harness.sizes import PRESETS
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import read_records
from wne_jax.images.reading import write_image

NETS = '''
import jax.numpy as jnp
from flax import linen as nn, nnx


class InLinen(nn.Module):
    """A network whose call is in training mode by default."""

    @nn.compact
    def __call__(self, y, train=True):
        h = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(y))
        return y - 0.1 * nn.Conv(1, (3, 3))(jnp.tanh(h))


class InNNX(nnx.Module):
    """A network with modes but no argument for them."""

    def __init__(self, *, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.last = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, y):
        return y - 0.1 * self.last(jnp.tanh(self.norm(self.first(y))))
'''

ARMS = ("--arms", "baseline", "wne")
LEVELS = ("--train-sigmas-255", "25", "--test-sigmas-255", "25")

EXPERIMENTS = {
    "robustness": (*ARMS, *LEVELS),
    "defects": (*ARMS, *LEVELS, "--crop", "16"),
    "matched": ("--tables", "1", "--train-sigmas-255", "25"),
    "regret": ("--arms", "wne", "--specialists", "baseline", "--crop", "64", *LEVELS, "--windows", "32"),
    "filters": ("--size", "32", "--window", "9"),
    "overhead": ("--batch", "1", "--size", "16", "--rounds", "2"),
}  # fmt: skip
"""Arguments that make each experiment small; `mismatch` has its own test."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `own_nets.py` and an image; the commands run in it."""
    root = tmp_path_factory.mktemp("own")
    (root / "own_nets.py").write_text(NETS)
    (root / "photos").mkdir()
    rng = np.random.default_rng(0)
    blocks = rng.uniform(20, 230, (9, 8, 1)).repeat(8, axis=0).repeat(8, axis=1)
    noisy = np.clip(blocks + rng.normal(0, 9, blocks.shape), 0, 255).astype(np.uint8)
    write_image(root / "photos/blocks.png", noisy)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        patch.chdir(root)
        patch.setitem(PRESETS["tiny"].train, "patch", 16)
        patch.setitem(PRESETS["tiny"].train, "batch", 2)
        patch.setattr(command, "keep_compiled", lambda: None)
        patch.setattr(plotting, "save", lambda *_, **__: None)
        yield root
        sys.modules.pop("own_nets", None)


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("robustness", "InLinen"), *((experiment, "InNNX") for experiment in EXPERIMENTS)],
)
def test_a_custom_backbone_appears_in_the_table(folder, experiment, name, monkeypatch):
    module, backbone = importlib.import_module(f"experiments.{experiment}"), f"own_nets:{name}"
    workdir = folder / f"{experiment}-{name}"
    arguments = ["--backbone", backbone, *EXPERIMENTS[experiment], "--workdir", str(workdir)]
    if experiment != "overhead":
        arguments += ["--steps", "1", "--data", "folder:photos", "--test", "folder:photos"]
    monkeypatch.setattr(sys, "argv", [experiment, *arguments])
    errors, code = io.StringIO(), 0
    with (
        warnings.catch_warnings(),
        jax.numpy_dtype_promotion("standard"),
        contextlib.redirect_stderr(errors),
    ):
        try:
            command.run(module.main, module.Options, module.__doc__)
        except SystemExit as end:
            code = end.code or 0
    assert code == 0, errors.getvalue()
    records = read_records(workdir / folders.RECORDS)
    measured = {r.arm for r in records if r.model == backbone and r.value is not None}
    assert len(measured - {"input"}) >= 2
    assert "wne" in (workdir / "table.md").read_text().lower()
