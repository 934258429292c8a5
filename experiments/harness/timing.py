"""Interleaved timing: functions run in turns, so that other load on the machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

_PAUSE = 0.02  # seconds


def interleaved(
    functions: Mapping[str, Callable[[], Any]], *, rounds: int
) -> dict[str, np.ndarray]:
    """Seconds of every call, with each function called once per round, after one warm-up call.

    The order is reversed every other round, because the first function may run with a colder cache. A pause
    precedes every call: threads of another library may keep a CPU busy for a while after they finish.
    """
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions)[:: 1 if number % 2 else -1]:
            time.sleep(_PAUSE)
            start = time.perf_counter()
            jax.block_until_ready(functions[name]())
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio_quantiles(seconds: np.ndarray, reference: np.ndarray) -> dict[float, float]:
    """Quartiles and median of the round-by-round ratio, keyed by quantile level.

    Example:
        >>> ratio_quantiles(np.array([1.0, 2.0, 3.0]), np.ones(3))
        {0.25: 1.5, 0.5: 2.0, 0.75: 2.5}
    """
    levels = (0.25, 0.5, 0.75)
    return dict(zip(levels, np.quantile(seconds / reference, levels).tolist()))
