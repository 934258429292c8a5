"""Times side by side: functions run in turns, so that a busy machine slows them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

_PAUSE = 0.02  # seconds


def interleaved(
    functions: Mapping[str, Callable[[], Any]], *, rounds: int
) -> dict[str, np.ndarray]:
    """Seconds of every call, each function once a round, after one call to warm up.

    The order is reversed every other round, since who comes first may find a colder cache. A pause goes
    before every call: threads of another library may keep a CPU busy for a while after their work.
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
    """Median and quartiles of the ratio, taken round by round, by the quantile's level.

    Example:
        >>> ratio_quantiles(np.array([1.0, 2.0, 3.0]), np.ones(3))
        {0.25: 1.5, 0.5: 2.0, 0.75: 2.5}
    """
    levels = (0.25, 0.5, 0.75)
    return dict(zip(levels, np.quantile(seconds / reference, levels).tolist()))
