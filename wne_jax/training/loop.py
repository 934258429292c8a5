"""The loop around the step: start or resume, log, save, and stop well."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from jax import Array
from tqdm import tqdm

from wne_jax.data import load_images
from wne_jax.data.corpus import Corpus, build_corpus
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.training.config import TrainConfig, differences, load_config, save_config
from wne_jax.training.log import Log
from wne_jax.training.step import TrainState, create_state, make_train_step


class Diverged(RuntimeError):
    """The loss or its gradient stopped being finite."""


class Interrupted(SystemExit):
    """The run was asked to stop and has saved its state; exit code 143, as for SIGTERM."""


def load_corpus(config: TrainConfig) -> Corpus:
    """The training images of a configuration, on the device.

    Raises:
        ValueError: No usable image (those too small for the patch are named).
    """
    images = load_images(
        config.data, split="train", channels=config.channels, min_size=config.patch
    )
    return jax.device_put(build_corpus([image.pixels for image in images]))


def fit(
    config: TrainConfig,
    workdir: str | Path,
    *,
    resume: bool = False,
    corpus: Corpus | None = None,
    progress: bool = True,
) -> TrainState:
    """Train to the last step, leaving configuration, log and checkpoints in a folder.

    A resumed run equals an uninterrupted one bit for bit on one device, since the batch of a step is a
    function of (corpus, seed, step).

    Args:
        config: The run.
        workdir: Its folder; made if absent.
        resume: Go on from the last checkpoint in it, or start if there is none.
        corpus: Images; read as `config.data` says if not given.
        progress: Show a bar with loss, speed and time left.

    Returns:
        The last state.

    Raises:
        FileExistsError: The folder holds a run and `resume` is not set.
        ValueError: The folder holds a run of another configuration (its keys are named), or the images
            do not fit the configuration.
        Diverged: The loss stopped being finite; the last checkpoint is from before.
        Interrupted: SIGTERM came; the state is saved.
    """
    workdir = Path(workdir)
    train_step = jax.jit(make_train_step(config), donate_argnums=0)  # refuses unknown names
    corpus = load_corpus(config) if corpus is None else corpus
    _check_corpus(config, corpus)
    _claim(workdir, config, resume=resume)
    with Checkpoints(workdir, keep=config.keep) as checkpoints:
        start = checkpoints.latest or 0
        state = checkpoints.restore(config) if start else create_state(config)
        if start >= config.steps:
            return state
        bar = tqdm(
            total=config.steps, initial=start, desc=workdir.name, unit="step", disable=not progress
        )
        with Log(workdir, start=start) as log, bar, _sigterm() as asked_to_stop:
            return _run(config, state, corpus, train_step, checkpoints, log, bar, asked_to_stop)


def _run(
    config: TrainConfig,
    state: TrainState,
    corpus: Corpus,
    train_step: Callable,
    checkpoints: Checkpoints,
    log: Log,
    bar: tqdm,
    asked_to_stop: threading.Event,
) -> TrainState:
    """Step until the end. Metrics stay on the device until a line is logged or a state saved."""
    pending: list[dict[str, Array]] = []
    first, began = int(state.step) + 1, time.perf_counter()
    for step in range(first, config.steps + 1):
        state, metrics = train_step(state, corpus)
        pending.append(metrics)
        stopping = asked_to_stop.is_set()
        saving = step % config.save_every == 0 or step == config.steps or stopping
        if not (saving or step % config.log_every == 0):
            continue
        loss = _mean_loss(pending, last=step)
        rate = len(pending) / (time.perf_counter() - began)
        bar.update(len(pending))
        bar.set_postfix(loss=f"{loss:.3g}")
        log.write(step, loss=loss, steps_per_second=rate)
        pending, began = [], time.perf_counter()
        if saving:
            checkpoints.save(state)
        if stopping:
            bar.write(f"stopped at step {step} with its state saved; --resume goes on from there")
            raise Interrupted(143)
    return state


def _mean_loss(pending: list[dict[str, Array]], *, last: int) -> float:
    """The mean loss of the steps since the last look.

    Raises:
        Diverged: One of them was not finite.
    """
    fetched = jax.device_get(pending)
    finite = [bool(metrics["finite"]) for metrics in fetched]
    if not all(finite):
        step = last - len(pending) + 1 + finite.index(False)
        loss = float(fetched[finite.index(False)]["loss"])
        raise Diverged(
            f"loss, gradient or update is not finite at step {step} (loss {loss}); the last checkpoint is "
            "from before. A smaller learning rate, or clipping, may help"
        )
    return float(np.mean([metrics["loss"] for metrics in fetched]))


def finished(workdir: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the last checkpoint of this very run."""
    path = Path(workdir) / "config.json"
    if not path.is_file() or differences(load_config(path), config):
        return False
    with Checkpoints(Path(workdir), keep=config.keep, create=False) as checkpoints:
        return checkpoints.latest == config.steps


def _check_corpus(config: TrainConfig, corpus: Corpus) -> None:
    """Refuse images that the gather of a crop would read across."""
    smallest = int(min(np.min(corpus.heights), np.min(corpus.widths)))
    if smallest < config.patch:
        raise ValueError(
            f"patch = {config.patch} is larger than the smallest image, of {smallest} pixels"
        )
    if corpus.channels != config.channels:
        raise ValueError(
            f"the images have {corpus.channels} channels, not channels = {config.channels}"
        )


def _claim(workdir: Path, config: TrainConfig, *, resume: bool) -> None:
    """Write the configuration into the folder, or check the one that is there."""
    path = workdir / "config.json"
    if path.exists():
        if not resume:
            raise FileExistsError(
                f"{workdir} holds a run already: resume it, or choose another folder"
            )
        if changed := differences(load_config(path), config):
            raise ValueError(f"{workdir} was started with other values of {', '.join(changed)}")
    workdir.mkdir(parents=True, exist_ok=True)
    save_config(config, path)


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, in place of ending the process (in the main thread only)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)
