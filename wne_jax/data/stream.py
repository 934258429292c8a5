"""Crops of a corpus that stays on the host: Grain's threads cut them some steps ahead."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax._internal.extras import extra
from wne_jax.data.corpus import Corpus, cut_on_host, draw_windows


def stream_crops(
    key: Array,
    corpus: Corpus,
    indices: np.ndarray,
    *,
    size: int,
    start: int,
    stop: int,
    factor: int = 1,
    threads: int = 4,
    ahead: int = 8,
) -> Iterator[np.ndarray]:
    """The crops of consecutive steps, bit for bit equal to those of `draw_examples`.

    JAX draws the windows of a step on the CPU from the key of the step. So a run needs only the step number
    to resume.

    Args:
        key: Key of the data; the key of step t is `fold_in(key, t)`.
        corpus: Images on the host.
        indices: i32[B], global indices of the examples; each process passes those of its own share.
        size: Side of the crops, in pixels.
        start: The first step.
        stop: The step after the last step.
        factor: Windows start at multiples of this number.
        threads: How many steps are cut concurrently.
        ahead: How many finished steps are buffered.

    Yields:
        `[B, S, size, size, C]`, in the dtype of the corpus.
    """
    with extra("data", "images that stream from the host"):
        import grain

    host = _host_device()
    nothing = np.zeros(0, np.int32)  # drawing needs only shapes
    shapes = jax.device_put(dataclasses.replace(corpus, pixels=nothing, offsets=nothing), host)
    key, wanted = jax.device_put((key, jnp.asarray(indices)), host)

    @jax.jit
    def draw(corpus: Corpus, step: Array):
        key_of_step = jax.random.fold_in(key, step)
        return draw_windows(key_of_step, corpus, wanted, size=size, factor=factor)

    def crops_of(step: int) -> np.ndarray:
        windows = jax.device_get(draw(shapes, jax.device_put(np.int32(step), host)))
        return cut_on_host(corpus, windows, size=size)

    crops_of(start)  # compiles once, before the threads start
    steps = grain.MapDataset.range(start, stop).map(crops_of)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    yield from steps.to_iter_dataset(options)


def _host_device() -> jax.Device:
    """The CPU, or another device if the CPU is not among JAX's platforms."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
