"""A strict test session: no implicit rank or dtype promotion, no network, and no unexpected data."""

import contextlib
import ctypes
import gc
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two workers share a GPU

import hypothesis
import jax
import pytest

# Thousands of small programs run once, here and in the processes that tests start, so compilation should be
# fast, and need not optimize. By default XLA divides each into up to 32 parts, which takes twice as long on
# processors that are busy anyway.
_quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__ < (0, 11):  # an option that a version does not have ends the process
    _quick += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if _quick not in os.environ.get("XLA_FLAGS", ""):  # a worker inherits them from its parent process
    os.environ["XLA_FLAGS"] = f"{_quick} {os.environ.get('XLA_FLAGS', '')}"

# Processes that tests start share all compiled programs during the session. This process does not read them,
# and the user's cache is not changed.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
jax.config.update("jax_enable_compilation_cache", False)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Tracing makes millions of small objects, few of which are garbage before a module ends. At Python's
# defaults, looking for cycles among them took a tenth of the time of two large modules.
gc.set_threshold(100_000, 50, 1000)

hypothesis.settings.register_profile("wne", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("wne")


MOST_MEMORY = 2 * 2**30
"""Bytes that a process may hold at the end of a module before it frees its compiled programs."""


def _memory() -> float:
    """The bytes that this process holds; unknown, hence infinite, on systems other than Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("inf")
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_freed():
    """Free compiled programs after a module if they take too much: in a whole session they take gigabytes."""
    yield
    if _memory() < MOST_MEMORY:
        return
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(
        AttributeError
    ):  # only glibc keeps freed memory until asked to release it
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def key():
    """One fixed random key."""
    return jax.random.key(0)


@pytest.fixture
def wne_data() -> Path:
    """The folder of research image sets; skips the test if it is missing."""
    root = os.environ.get("WNE_DATA")
    if not root or not Path(root, "Set12").is_dir():
        pytest.skip(
            "WNE_DATA is not set to a folder with the research image sets (Set12, BSD68, BSD400)"
        )
    return Path(root)


@pytest.fixture
def wne_weights() -> Path:
    """The folder of other people's trained denoisers; skips the test if it is missing."""
    root = os.environ.get("WNE_WEIGHTS")
    if not root or not Path(root, "dncnn_gray_sigma25.matconvnet.mat").is_file():
        pytest.skip("WNE_WEIGHTS is not set to a folder with published weight files")
    return Path(root)


@pytest.fixture
def published_shapes(wne_weights):
    """The tensors of a published checkpoint, `name -> {tensor: shape}`; skips the test if it is missing."""
    folder = wne_weights.parent / "reference" / "state_dicts"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not hold the layouts of published checkpoints")

    def read(name: str) -> dict[str, tuple[int, ...]]:
        tensors = json.loads((folder / f"{name}.json").read_text())["tensors"]
        return {tensor: tuple(shape) for tensor, shape in tensors.items()}

    return read


@pytest.fixture
def standard_promotion():
    """JAX's default dtype promotion, which optax needs."""
    with jax.numpy_dtype_promotion("standard"):
        yield
