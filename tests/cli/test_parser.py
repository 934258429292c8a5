"""Command lines are parsed without JAX; their choices are the names of the library."""

import subprocess
import sys

import pytest

from wne_jax import models, statistics
from wne_jax._internal import names
from wne_jax.images import degradations

HEAVY = ("jax", "flax", "optax", "orbax", "PIL", "tifffile", "skimage", "tensorflow_datasets")


@pytest.mark.parametrize("command", [(), ("denoise",), ("check",), ("train",), ("data",)])
def test_help_needs_neither_jax_nor_flax(command):
    code = f"""
import sys
from wne_jax.cli.main import main
try:
    main({[*command, "--help"]})
except SystemExit as stop:
    assert stop.code == 0
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert "usage: python -m wne_jax" in done.stdout


def test_help_shows_the_names_of_the_library():
    assert tuple(models.MODELS) == names.BACKBONES
    assert tuple(statistics.STATISTICS) == names.STATISTICS
    assert tuple(degradations.NOISES) == names.NOISES
