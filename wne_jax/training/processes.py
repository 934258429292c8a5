"""Several processes that train together, through `jax.distributed`."""

import hashlib

import jax
import numpy as np
from jax.experimental import multihost_utils


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


def is_of_a_connection(error: BaseException | None) -> bool:
    """Whether an error says that another process does not answer."""
    if not isinstance(error, jax.errors.JaxRuntimeError) or jax.process_count() == 1:
        return False
    words = ("gloo", "connection", "unavailable", "heartbeat", "socket", "nccl")
    return any(word in str(error).lower() for word in words)
