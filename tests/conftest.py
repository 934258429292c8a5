"""A strict session: no silent rank or dtype promotion, no network, no surprise data."""

import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two workers share a GPU

import hypothesis
import jax
import pytest

# Thousands of small programs run once here: machine code is made quickly, in place of well. What tests start
# as processes of their own, commands and notebooks, compiles as it does for users.
_before = os.environ.get("XLA_FLAGS", "")
_quick = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 11):  # later ones have no such choice
    _quick += " --xla_cpu_use_fusion_emitters=false"
_flags = f"{_quick} --xla_llvm_disable_expensive_passes=true {_before}"
os.environ["XLA_FLAGS"] = _flags
jax.devices()  # reads them
os.environ["XLA_FLAGS"] = _before

# Commands that tests run compile once a session; the cache of the user stays as it is.
_cache = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("wne", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("wne")


@pytest.fixture
def key():
    """One fixed random key."""
    return jax.random.key(0)


@pytest.fixture
def same_compiler() -> dict[str, str]:
    """The environment of a process whose results are to be those of this one, bit for bit."""
    return {"XLA_FLAGS": _flags}


@pytest.fixture
def wne_data() -> Path:
    """The folder of research image sets, or a skip that says what is missing."""
    root = os.environ.get("WNE_DATA")
    if not root or not Path(root, "Set12").is_dir():
        pytest.skip(
            "WNE_DATA does not name a folder with the research image sets (Set12, BSD68, BSD400)"
        )
    return Path(root)


@pytest.fixture
def wne_weights() -> Path:
    """The folder of other people's trained denoisers, or a skip that says what is missing."""
    root = os.environ.get("WNE_WEIGHTS")
    if not root or not Path(root, "dncnn_gray_sigma25.matconvnet.mat").is_file():
        pytest.skip("WNE_WEIGHTS does not name a folder with published weight files")
    return Path(root)


@pytest.fixture
def published_shapes(wne_weights):
    """The tensors of a published checkpoint, `name -> {tensor: shape}`, or a skip."""
    folder = wne_weights.parent / "reference" / "state_dicts"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not hold the layouts of published checkpoints")

    def read(name: str) -> dict[str, tuple[int, ...]]:
        tensors = json.loads((folder / f"{name}.json").read_text())["tensors"]
        return {tensor: tuple(shape) for tensor, shape in tensors.items()}

    return read


@pytest.fixture
def standard_promotion():
    """JAX's default promotion of dtypes, for what optax computes."""
    with jax.numpy_dtype_promotion("standard"):
        yield
