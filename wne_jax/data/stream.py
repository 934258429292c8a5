"""Crops of a corpus that no device holds: cut on the host by threads, some steps ahead, through Grain."""

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
    threads: int = 4,
    ahead: int = 8,
) -> Iterator[np.ndarray]:
    """The crops of one step after another: those that `draw_examples` cuts, bit for bit.

    The windows of a step are drawn from its key, by JAX on the CPU; a run resumes from the number of the
    step alone.

    Args:
        key: Key of the data; the key of step t is `fold_in(key, t)`.
        corpus: Images on the host.
        indices: i32[B], global indices of the examples: a process asks for its own share.
        size: Side of the crops, in pixels.
        start: The first step.
        stop: The step after the last.
        threads: How many steps are cut at a time.
        ahead: How many steps wait ready.

    Yields:
        `[B, S, size, size, C]`, in the dtype of the corpus.
    """
    with extra("data", "images that stream from the host"):
        import grain

    host = _host_device()
    nothing = np.zeros(0, np.int32)  # drawing looks at shapes alone
    shapes = jax.device_put(dataclasses.replace(corpus, pixels=nothing, offsets=nothing), host)
    key, wanted = jax.device_put((key, jnp.asarray(indices)), host)

    @jax.jit
    def draw(corpus: Corpus, step: Array):
        return draw_windows(jax.random.fold_in(key, step), corpus, wanted, size=size)

    def crops_of(step: int) -> np.ndarray:
        windows = jax.device_get(draw(shapes, jax.device_put(np.int32(step), host)))
        return cut_on_host(corpus, windows, size=size)

    crops_of(start)  # compiles once, before the threads meet
    steps = grain.MapDataset.range(start, stop).map(crops_of)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    yield from steps.to_iter_dataset(options)


def _host_device() -> jax.Device:
    """The CPU, or a device where the CPU is not among JAX's platforms."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
