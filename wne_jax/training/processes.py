"""Several processes that train together, through `jax.distributed`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

_PATIENCE = 10
"""Seconds that a process waits at its end for the others: after a mistake of one they come late, or never."""


@contextmanager
def joined(
    coordinator: str | None, *, processes: int | None = None, process_id: int | None = None
) -> Iterator[None]:
    """Be one of several processes, from before JAX is first used until the work is done.

    Args:
        coordinator: `HOST:PORT` of process 0; "auto" where JAX knows the cluster (SLURM, Open MPI, TPU,
            Kubernetes); None for one process by itself.
        processes: How many there are; known to a cluster.
        process_id: Number of this one, from 0; known to a cluster.

    Raises:
        ValueError: A coordinator without numbers, numbers without a coordinator, or no known cluster.
    """
    if coordinator is None:
        if processes is not None or process_id is not None:
            raise ValueError("processes and process-id need a coordinator, HOST:PORT of process 0")
        yield
        return
    if coordinator != "auto" and None in (processes, process_id):
        raise ValueError("a coordinator needs processes and process-id too")
    address = None if coordinator == "auto" else coordinator
    try:
        jax.distributed.initialize(
            address, processes, process_id, shutdown_timeout_seconds=_PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot join at coordinator = {coordinator!r}: {error}") from error
    yield
    wait_for_all("the work is done")
    jax.distributed.shutdown()


def is_lead() -> bool:
    """Whether this process writes logs and results."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Go on when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in one of the processes; all must ask."""
    return bool(largest(int(flag)))


def largest(number: int) -> int:
    """The largest of the numbers that the processes have; all must ask."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.array(number))))


def assert_same(text: str, what: str) -> None:
    """Refuse to train when processes disagree.

    Raises:
        ValueError: The text is another in some process.
    """
    if jax.process_count() > 1:
        codes = np.frombuffer(hash_of(text.encode()).encode(), np.uint8)
        everywhere = multihost_utils.process_allgather(codes)
        if not (everywhere == codes).all():
            raise ValueError(f"the processes have different {what}: give all of them the same")


def hash_of(content: bytes) -> str:
    """A digest, of one length whatever the content."""
    return hashlib.sha256(content).hexdigest()
