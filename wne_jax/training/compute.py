"""How a training step runs: on one device, on many by `jit` over a mesh, or by `pmap`.

The three compute the same step. Parameters are replicated, the examples of a batch divided. Under `jit` the
step is written for the whole batch, and XLA divides it: batch normalization, loss and gradient are those of
the whole by themselves. Under `pmap` the step is written for one device, and asks the others.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wne_jax._internal.compiler import jit
from wne_jax._internal.names import Parallel, Placement
from wne_jax.data.corpus import MAX_ELEMENTS, Corpus
from wne_jax.data.stream import stream_crops
from wne_jax.training.config import TrainConfig
from wne_jax.training.processes import any_process
from wne_jax.training.step import (
    Metrics,
    TrainState,
    data_key,
    make_average_loss,
    make_train_step,
)

_SHARE_OF_MEMORY = 0.25  # of a device, for the corpus
_FOLDED = 50  # steps in one dispatch on an accelerator


@dataclass(frozen=True)
class Compute:
    """How and where a run is computed; no part of what it computes.

    Attributes:
        parallel: "single" device, "mesh" of all by `jit`, all by "pmap", or "auto": a mesh from two on.
        corpus: Whether the images lie on every "device", or stream from the "host"; "auto": on the devices
            where they fit a quarter of the memory, and an index of 32 bits. Batches are the same.
        folded: Steps that go to an accelerator in one dispatch. On CPU it is one always: there a convolution
            inside a loop runs on one thread. So it is under pmap, and where images stream.
    """

    parallel: Parallel = "auto"
    corpus: Placement = "auto"
    folded: int = _FOLDED

    def __post_init__(self):
        """Reject invalid values."""
        for name, known in (("parallel", get_args(Parallel)), ("corpus", get_args(Placement))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}; not {getattr(self, name)!r}"
                )
        if self.folded < 1:
            raise ValueError(f"folded must be 1 or more, not {self.folded}")


class Progress(NamedTuple):
    """What one dispatch has done: a number of steps, and their metrics, still on the devices."""

    steps: int
    metrics: Metrics

    def fetch(self) -> dict[str, np.ndarray]:
        """The metrics on the host, `[steps]` each."""
        return {
            name: np.ravel(leaf.addressable_shards[0].data)[: self.steps]
            for name, leaf in self.metrics.items()
        }


class Runner:
    """The compiled training step on some devices.

    Args:
        config: The run.
        corpus: Images, on the host or on a device.
        compute: How to run.

    Attributes:
        sharding: Of a state in checkpoints: replicated over all devices.
        streams: Whether the images stay on the host.
        together: Whether other processes take part.

    Raises:
        ValueError: A corpus that no device can hold, a batch that cannot be divided as asked, several
            processes and one device.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus, compute: Compute):
        devices = jax.devices()
        if compute.parallel == "single":
            if jax.process_count() > 1:
                raise ValueError("parallel = 'single' is for one process; here are several")
            devices = devices[:1]
        self.pmapped = compute.parallel == "pmap"
        self._config, self._compute = config, compute
        self._mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
        self.sharding = self._spread()
        self.streams = _streams(corpus, compute.corpus, self._mesh.local_devices[0])
        self._corpus = corpus if self.streams else self._put(corpus)
        self._bytes = corpus.pixels.nbytes
        self.together = jax.process_count() > 1
        self._check_division()
        self._step = self._compile_step()
        self._average_loss = self._compile(make_average_loss)

    def __str__(self) -> str:
        """One line that says how the run is computed."""
        number, kind = self._mesh.size, self._mesh.devices.flat[0].device_kind
        how = "jit" if number == 1 else "jit over a mesh"
        where = "streams from the host" if self.streams else "on the device"
        return (
            f"{number} x {kind} by {'pmap' if self.pmapped else how}; corpus of "
            f"{self._bytes / 1e6:.1f} MB {where}"
        )

    def place(self, state: TrainState) -> TrainState:
        """A state, the same in every process, onto the devices."""
        return self._put(state)

    def canonical(self, state: TrainState) -> TrainState:
        """A placed state as checkpoints hold it, whatever it was computed by."""
        if not self.pmapped:
            return state

        def replicated(leaf: Array) -> Array:
            copies = [shard.data[0] for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(leaf.shape[1:], self.sharding, copies)

        return jax.tree.map(replicated, state)

    def source(self, start: int) -> Iterator[Corpus | Array]:
        """What `advance` draws from, for every dispatch from a step on: the corpus, or its crops."""
        if not self.streams:
            return itertools.repeat(self._corpus)
        key, indices = data_key(self._config), self._local_indices()
        crops = stream_crops(
            key,
            self._corpus,
            indices,
            size=self._config.patch,
            start=start,
            stop=self._config.steps,
            factor=self._config.factor,
        )
        return map(self._feed, crops)

    def advance(
        self, state: TrainState, source: Corpus | Array, wanted: int
    ) -> tuple[TrainState, Progress]:
        """Run as many steps as one dispatch takes, `wanted` at most; `state` is used up."""
        if not self._folds:
            state, metrics = self._step(state, source)
            return state, Progress(1, metrics)
        count = min(wanted, self._compute.folded)
        state, metrics = self._step(state, source, jnp.int32(count))
        return state, Progress(count, metrics)

    def average_loss(self, state: TrainState, source: Corpus | Array) -> float:
        """The loss of the averaged parameters on the batch of the last step, given what that drew from."""
        loss = self._average_loss(state, source)
        return float(np.ravel(loss.addressable_shards[0].data)[0])

    @property
    def _folds(self) -> bool:
        on_cpu = self._mesh.devices.flat[0].platform == "cpu"
        return not (on_cpu or self.streams or self.pmapped) and self._compute.folded > 1

    def _compile_step(self) -> Callable[..., tuple[TrainState, Metrics]]:
        def make(config: TrainConfig, **options: Any) -> Callable[..., tuple[TrainState, Metrics]]:
            step = make_train_step(config, **options)
            return _fold(step, limit=self._compute.folded) if self._folds else step

        return self._compile(make, donate_argnums=0)

    def _compile(self, make: Callable[..., Callable], **options: Any) -> Callable:
        """Compile what `make(config, axis_name= or constrain=)` returns, for all devices."""
        if self.pmapped:
            devices = list(self._mesh.devices.flat)
            function = make(self._config, axis_name="data")
            return jax.pmap(function, axis_name="data", devices=devices, **options)
        spread = partial(lax.with_sharding_constraint, shardings=self._spread("data"))
        function = make(self._config, constrain=spread if self._mesh.size > 1 else _as_is)
        return jit(function, out_shardings=self.sharding, **options)

    def _spread(self, *axes: str) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def _put(self, tree: Any) -> Any:
        """Give every device a copy; `pmap` wants them stacked."""
        number = self._mesh.size

        def put(leaf: Any) -> Array:
            value = np.asarray(leaf)
            value = value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)
            if not self.pmapped:
                return jax.make_array_from_callback(
                    value.shape, self.sharding, lambda index: value[index]
                )
            shape = (number, *value.shape)
            return jax.make_array_from_callback(
                shape, self._spread("data"), lambda index: value[None]
            )

        return jax.tree.map(put, tree)

    def _local_indices(self) -> np.ndarray:
        """The examples of this process's devices, in the order of the devices."""
        batch = self._config.batch
        slices = self._spread("data").addressable_devices_indices_map((batch,)).values()
        return np.concatenate([np.arange(batch)[part] for part in slices])

    def _feed(self, crops: np.ndarray) -> Array:
        """Crops of this process onto its devices, as shares of the whole batch."""
        shape = (self._config.batch, *crops.shape[1:])
        if self.pmapped:
            local = len(self._mesh.local_devices)
            crops = crops.reshape(local, -1, *crops.shape[1:])
            shape = (self._mesh.size, *crops.shape[1:])
        return jax.make_array_from_process_local_data(self._spread("data"), crops, shape)

    def _check_division(self) -> None:
        """Refuse a batch that does not divide among the devices, where it must."""
        parts = self._mesh.size * self._config.accumulate
        if (
            self.pmapped or self.streams or self._config.accumulate > 1
        ) and self._config.batch % parts:
            raise ValueError(
                f"batch = {self._config.batch} does not divide into {parts} equal parts "
                f"({self._mesh.size} devices, accumulate = {self._config.accumulate})"
            )


def _as_is(batch: Any) -> Any:
    return batch


def _fold(step: Callable, *, limit: int) -> Callable:
    """Many steps in one program: `(state, corpus, count) -> (state, metrics)`, metrics `[limit]` each."""

    def train_step(state: TrainState, corpus: Corpus, count: Array) -> tuple[TrainState, Metrics]:
        _, shapes = jax.eval_shape(step, state, corpus)
        metrics = jax.tree.map(lambda leaf: jnp.zeros((limit, *leaf.shape), leaf.dtype), shapes)

        def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, new = step(state, corpus)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), metrics, new)

        return lax.fori_loop(0, count, body, (state, metrics))

    return train_step


def _streams(corpus: Corpus, placement: Placement, device: jax.Device) -> bool:
    """Whether the corpus stays on the host.

    Raises:
        ValueError: It has to be on a device, and cannot.
    """
    elements = math.prod(corpus.pixels.shape)
    if placement == "device" and elements > MAX_ELEMENTS:
        raise ValueError(
            f"the corpus has {elements:,} elements, more than an index of 32 bits can reach "
            f"({MAX_ELEMENTS:,}): let it stream from the host"
        )
    if placement != "auto":
        return placement == "host"
    budget = _SHARE_OF_MEMORY * _memory_of(device)
    return any_process(elements > MAX_ELEMENTS or corpus.pixels.nbytes > budget)


def _memory_of(device: jax.Device) -> float:
    """Bytes that a device has, or the machine for a CPU; unbounded where nobody says."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform != "cpu":
        return math.inf
    if not hasattr(os, "sysconf"):
        return math.inf
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory / jax.local_device_count()  # every one gets a copy
