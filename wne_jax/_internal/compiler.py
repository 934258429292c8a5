"""`jax.jit`, without a slow path of XLA's on CPU."""

from collections.abc import Callable
from typing import Any

import jax

# XLA of JAX 0.10 hands convolutions on CPU to a library that runs them on one thread. The kinds of work that
# it does as well as XLA stay with it. Later versions need no such help.
_FUSIONS = ("REDUCE", "DOT", "INDIVIDUAL_DOT")
_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(f"LIBRARY_FUSION_TYPE_{f}" for f in _FUSIONS)
}


def jit(function: Callable, **options: Any) -> Any:
    """`jax.jit` with its options, for a function that no other jitted one calls.

    A DnCNN trains 1.6 times as fast by it on 2 CPU cores.
    """
    slow = jax.__version_info__[:2] == (0, 10) and jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options=_OPTIONS if slow else None, **options)
