"""The loop around the step: start or resume, log, save, and stop well."""

import dataclasses
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from wne_jax import protocol
from wne_jax._internal.extras import extra
from wne_jax.config import config_of
from wne_jax.data import iterate_images, kind_of, parse_mixture
from wne_jax.data.corpus import Corpus, build_corpus, extremes
from wne_jax.images.units import doubt
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.training.claim import CONFIG, Identity, locked
from wne_jax.training.compute import Compute, Progress, Runner
from wne_jax.training.config import TrainConfig
from wne_jax.training.log import Log
from wne_jax.training.packaging import leave_denoiser, trained_variables
from wne_jax.training.processes import assert_same, hash_of, is_lead, largest, wait_for_all
from wne_jax.training.step import TrainState, create_state, make_train_step
from wne_jax.training.stopping import Interrupted, Stop, stopped_by_signals
from wne_jax.weights import DENOISER_FILE
from wne_jax.weights.conversion import check_variables
from wne_jax.wrappers.bridge import as_linen

with extra("train", "training runs"):
    from tqdm import tqdm


class Diverged(RuntimeError):
    """The loss or its gradient stopped being finite."""


def load_corpus(config: TrainConfig, *, data_dir: str | Path | None = None) -> Corpus:
    """The training images of a configuration, on the host.

    Args:
        config: The run.
        data_dir: Where TFDS datasets are prepared (default: TFDS's own folder).

    Raises:
        ValueError: No usable image (those too small for the patch are named), or sources of several kinds.
    """
    parts = parse_mixture(config.data)
    kinds = {kind_of(part.spec) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"data mixes {' and '.join(sorted(kinds))}: one kind at a time")
    sources = [
        iterate_images(
            part.spec,
            split="train",
            channels=config.channels,
            min_size=config.patch,
            white=config.white,
            data_dir=data_dir,
            factor=config.factor if kind_of(part.spec) == "pairs" else 1,
        )
        for part in parts
    ]
    weights = [part.weight for part in parts if part.weight is not None]
    return build_corpus(
        *((image.pixels for image in source) for source in sources),
        kind=kinds.pop(),
        weights=weights or None,
    )


def fit(
    config: TrainConfig,
    workdir: str | Path,
    *,
    resume: bool = False,
    corpus: Corpus | None = None,
    variables: Any = None,
    data_dir: str | Path | None = None,
    compute: Compute = Compute(),  # noqa: B008 (immutable)
    model: Any = None,
    progress: bool = True,
) -> TrainState:
    """Train to the last step, leaving configuration, log and checkpoints in a folder.

    A finished run also leaves `denoiser.safetensors`: the model and its variables, averaged where the
    optimizer has an `ema`, whose log has the `average_loss` of those beside the loss that is trained.
    `Denoiser.load` reads it.

    A resumed run equals an uninterrupted one bit for bit on one device, since the batch of a step is a
    function of (corpus, seed, step). It may go on with other devices, or another number of processes, on a
    file system that they share; with the same images from elsewhere, another rhythm of log and checkpoints,
    and more steps where the learning rate does not depend on their number.

    Args:
        config: The run.
        workdir: Its folder; made if absent.
        resume: Go on from the last checkpoint in it that can be read, or start if there is none.
        corpus: Images; read as `config.data` says if not given.
        variables: What the model starts from; read as `config.init` says if not given.
        data_dir: Where TFDS datasets are prepared.
        compute: On which devices, and where the images lie.
        model: The model as a Linen or an NNX module, in place of `config.model`; see
            `wne_jax.config.config_of`. Training starts from the variables that an NNX module has, and leaves
            them; `wne_jax.wrappers.fill(model, state.variables())` brings the trained ones into it.
        progress: Say how it is computed, and show a bar with loss, speed and time left.

    Returns:
        The last state.

    Raises:
        FileExistsError: The folder holds a run and `resume` is not set, or another process trains into it.
        ValueError: The folder holds a run of another configuration (its keys are named) or of other images,
            or checkpoints of which nothing says whose they are; or the images or devices do not fit the
            configuration.
        OSError: A checkpoint cannot be written; the one before is intact.
        Diverged: The loss stopped being finite; the last checkpoint is from before.
        Interrupted: Ctrl-C or SIGTERM came; the step is finished and its state saved. Another Ctrl-C ends
            the process at once, with the checkpoints that there are.
    """
    workdir, lead = Path(workdir), is_lead()
    if model is not None:
        config = dataclasses.replace(config, model=config_of(model))
        if variables is None and config.init is None and not isinstance(model, nn.Module):
            variables = as_linen(model)[1]
    corpus = load_corpus(config, data_dir=data_dir) if corpus is None else corpus
    _check_corpus(config, corpus)
    runner = Runner(config, corpus, compute)  # refuses unknown names
    if variables is None and not _has_checkpoints(workdir):
        variables = _initial_variables(config)  # refused here, before the folder is claimed
    if config.model.imports:  # anything may go wrong in a network of one's own: before, too
        state = jax.eval_shape(lambda: create_state(config, variables))
        jax.eval_shape(make_train_step(config), state, corpus)
    identity = Identity.of(config, corpus)
    assert_same(identity.images["fingerprint"], "images")
    assert_same(f"{config} {compute}", "options")
    assert_same(_initial_hash(variables), "weights")
    with locked(workdir), stopped_by_signals() as stop:
        left = [workdir / CONFIG, workdir / DENOISER_FILE]
        if not resume and (any(path.exists() for path in left) or _has_checkpoints(workdir)):
            raise FileExistsError(
                f"{workdir} holds a run already: resume it, or choose another folder"
            )
        state = _train(identity, workdir, runner, variables, stop, progress=progress and lead)
        if lead:
            leave_denoiser(workdir, config, state.variables(), step=config.steps)
        if code := largest(stop.code):  # the run is whole; what would come after it is not wanted
            raise Interrupted(code)
    return state


def _train(
    identity: Identity,
    workdir: Path,
    runner: Runner,
    variables: Any,
    stop: Stop,
    *,
    progress: bool,
) -> TrainState:
    """From the last checkpoint, or the first state, to the end."""
    config, lead = identity.config, is_lead()
    missing = identity.check_files(workdir)
    with Checkpoints(workdir, keep=config.keep, identity=identity) as checkpoints:
        state = _start(identity, workdir, checkpoints, missing, runner, variables)
        wait_for_all("the folder is checked")
        if lead:
            identity.write(workdir)
        start = int(state.step)
        if start >= config.steps:
            return state
        with ExitStack() as stack:
            bar = stack.enter_context(
                tqdm(
                    total=config.steps,
                    initial=start,
                    desc=workdir.name,
                    unit="step",
                    disable=not progress,
                )
            )
            if not bar.disable:
                bar.write(str(runner))
            log = stack.enter_context(Log(workdir, start=start)) if lead else None
            return _run(config, runner, state, start, checkpoints, log, bar, stop)


def _start(
    identity: Identity,
    workdir: Path,
    checkpoints: Checkpoints,
    missing: list[str],
    runner: Runner,
    variables: Any,
) -> TrainState:
    """The state of the last checkpoint of this run, or the first state.

    Raises:
        ValueError: The checkpoints are another run's, or nothing says whose, or they are further.
    """
    if checkpoints.latest is None and not (
        CONFIG in missing and (workdir / DENOISER_FILE).exists()
    ):
        return create_state(identity.config, variables)
    known = {step: checkpoints.identity(step) for step in checkpoints.steps}
    for step, values in known.items():
        if values is not None:
            identity.check_values(values, workdir, step)
    if missing and not any(known.values()):
        raise ValueError(
            f"{workdir} holds a trained state, but no {' and no '.join(missing)}, so that nothing says "
            "whose it is: put it back, or choose another folder"
        )
    state = checkpoints.restore_intact(identity.config, sharding=runner.sharding)
    if (done := int(state.step)) > identity.config.steps:
        raise ValueError(f"{workdir} is at step {done} already, beyond {identity.config.steps}")
    return state


def _run(
    config: TrainConfig,
    runner: Runner,
    state: TrainState,
    start: int,
    checkpoints: Checkpoints,
    log: Log | None,
    bar: tqdm,
    stop: Stop,
) -> TrainState:
    """Step until the end. Metrics stay on the device until a line is logged or a state saved."""
    state, source = runner.place(state), runner.source(start)
    pending: list[Progress] = []
    step, logged, began = start, start, time.perf_counter()
    while step < config.steps:
        drawn = next(source)
        state, done = runner.advance(state, drawn, _until_look(config, step))
        step += done.steps
        pending.append(done)
        looking = step % config.log_every == 0
        saving = step % config.save_every == 0 or step == config.steps
        stopping = stop.code
        if runner.together:  # processes look at the same steps, and stop at the same one
            stopping = largest(stopping) if looking or saving else 0
        if not (saving or looking or stopping):
            continue
        losses = {"loss": _mean_loss(pending, first=logged + 1)}
        if config.optimizer.ema is not None:
            losses["average_loss"] = runner.average_loss(state, drawn)
        rate = (step - logged) / (time.perf_counter() - began)
        bar.update(step - logged)
        bar.set_postfix({name: f"{loss:.3g}" for name, loss in losses.items()})
        if log is not None:
            log.write(step, **losses, steps_per_second=rate)
        if saving or stopping:
            checkpoints.save(runner.canonical(state))
        if stopping:
            if not bar.disable:
                bar.write(f"stopped at step {step}, its state saved; --resume goes on from there")
            raise Interrupted(stopping)
        pending, logged, began = [], step, time.perf_counter()
    return runner.canonical(state)


def _until_look(config: TrainConfig, step: int) -> int:
    """Steps to the next line of the log, checkpoint, or end."""
    to_next = (every - step % every for every in (config.log_every, config.save_every))
    return min(*to_next, config.steps - step)


def _mean_loss(pending: list[Progress], *, first: int) -> float:
    """The mean loss of the steps from `first` on.

    Raises:
        Diverged: One of them was not finite.
    """
    fetched = [progress.fetch() for progress in pending]
    losses, finite = (np.concatenate([m[name] for m in fetched]) for name in ("loss", "finite"))
    if not finite.all():
        bad = int(np.argmin(finite))
        raise Diverged(
            f"loss, gradient or update is not finite at step {first + bad} (loss {losses[bad]}); the last "
            "checkpoint is from before. A smaller learning rate, or clipping, may help"
        )
    return float(np.mean(losses))


def _initial_variables(config: TrainConfig) -> Any:
    """The variables that a configuration names, in place of random ones; None if it names none.

    Raises:
        ValueError: The weights cannot be read, or are not those of the model.
        FileNotFoundError: There are none.
    """
    if config.init is None:
        return None
    variables = trained_variables(Path(config.init), config.model)
    check_variables(config.model, flatten_dict(variables), config.init)
    return variables


def _check_corpus(config: TrainConfig, corpus: Corpus) -> None:
    """Refuse images that the gather of a crop would read across, or that do not fit the model."""
    smallest = int(min(np.min(corpus.heights), np.min(corpus.widths)))
    if smallest < config.patch:
        raise ValueError(
            f"patch = {config.patch} is larger than the smallest image, of {smallest} pixels"
        )
    if corpus.channels != config.channels:
        raise ValueError(
            f"the images have {corpus.channels} channels, not channels = {config.channels}"
        )
    if corpus.kind != "clean" and config.task.partition(":")[0] in ("demosaic", "inpaint"):
        raise ValueError(f"task {config.task} is for clean images, not {corpus.kind}")
    if corpus.kind == "repeats" and config.task != "denoise":
        raise ValueError(f"task {config.task} is for clean images or pairs, not repeats")
    if corpus.kind != "clean" and config.model.takes_sigma:
        raise ValueError(
            f"a conditioned model needs the noise level, which {corpus.kind} of images do not have"
        )
    drawn = corpus.kind == "clean"  # noise of a level relative to white
    matters = drawn or protocol.symmetry(config.model.build()) == "none"
    reason = doubt(*extremes(corpus), corpus.pixels.dtype)
    if reason and matters and config.white is None:
        what = "the noise that is drawn depends" if drawn else "this model depends"
        warnings.warn(f"{reason}; {what} on it: set it with --white", stacklevel=3)


def _has_checkpoints(workdir: Path) -> bool:
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def _initial_hash(variables: Any) -> str:
    """What the weights that a run starts from are known by among its processes."""
    return "".join(hash_of(np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(variables))
