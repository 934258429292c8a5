"""Counts XLA compilations and distinct input shapes, which should be equal."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax import Array

from wne_jax import protocol
from wne_jax.evaluation.sweeps import Denoise


class Watched:
    """A denoising function that records the shapes it was called with."""

    def __init__(self, function: Denoise):
        self.shapes: set[tuple[int, ...]] = set()
        self.takes_sigma = protocol.takes_sigma(function)
        self._function = function

    def __call__(self, y: Array, *arguments: Any, **options: Any) -> Array:
        """Denoise."""
        self.shapes.add(y.shape)
        return self._function(y, *arguments, **options)


_EVENT = "/jax/core/compile/backend_compile_duration"


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count compilations by the name of the compiled function, including hits in the cache on disk.

    Example:
        >>> def double(x):
        ...     return 2 * x
        >>> with counted() as compilations:
        ...     f = jax.jit(double)
        ...     _ = f(1.0), f(2.0), f(jax.numpy.ones(3))
        >>> compilations["double"]
        2
    """
    compilations: Counter[str] = Counter()

    def listen(event: str, duration: float, **details: str | int) -> None:
        if event == _EVENT:
            name = str(details.get("fun_name", ""))
            compilations[name.removeprefix("jit(").removesuffix(")")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
