"""`python -m wne_jax train`: one denoiser, trained on one's own images."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tyro import conf

from wne_jax.cli.commands import say
from wne_jax.config import ModelConfig, Wrapper
from wne_jax.data import Corpus, kind_of, parse_mixture, stream_crops
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import build, check_denoiser
from wne_jax.training import (
    Compute,
    Diverged,
    OptimizerConfig,
    TrainConfig,
    draw_batch,
    fit,
    is_lead,
    joined,
    load_config,
    load_corpus,
    make_train_step,
)
from wne_jax.training.compute import Parallel, Placement
from wne_jax.training.config import Precision
from wne_jax.training.step import data_key
from wne_jax.transforms import Anchor, normalize


@dataclass(frozen=True, kw_only=True)
class ForeignWeights:
    """How weight files of other people are read; a base of options."""

    allow_namespace: bool = False
    """Accept PyTorch checkpoints that hold an argparse.Namespace beside the tensors."""
    mode: str | None = None
    """Which model is meant where a file fits two: scale-equivariant or normalization-equivariant."""


@dataclass(frozen=True, kw_only=True)
class Network(ForeignWeights):
    """What is trained."""

    backbone: str | None = None
    """dncnn, fdncnn, drunet, swinir or restormer (default: dncnn)."""
    option: Annotated[
        tuple[tuple[str, ...], ...], conf.UseAppendAction, conf.arg(metavar="NAME=VALUE...")
    ] = ()
    """Options of the backbone, values as in JSON: depth=8 features=48 (default: depth=6 features=32 for dncnn
    and fdncnn, the published sizes for the others)."""
    wrapper: Literal["auto"] | Wrapper = "auto"
    """wne, scale (scale equivariance alone), input (no way back) or none; auto is wne, or that of --init."""
    statistics: str | None = None
    """What the wrapper removes: mean_std, haar_mad, high_pass, median_mad or min_max (default: mean_std,
    or those of --init)."""
    detail: Annotated[float | None, conf.arg(metavar="PIXELS")] = None
    """Standard deviation of a blur that goes around the backbone (see wne_jax.wrappers.smooth_base): about
    as far as that sees, with --statistics haar_mad, to serve levels below a single one of training."""
    cap: float | None = None
    """Energy, in units of the noise, beyond which what is removed is shrunk: 1.3, with --detail."""
    anchor: tuple[float, float] | None = None
    """Location and scale that the backbone works in (default: 0 1; measured where the network of --init is
    wrapped anew)."""
    init: Annotated[Path | None, conf.arg(metavar="WEIGHTS")] = None
    """Start from a weight file or another run, with the backbone that it has."""

    def model(self, given: ModelConfig | None) -> ModelConfig:
        """The model, its anchor still to be measured where a network is wrapped anew.

        Args:
            given: What `init` holds, or None.

        Raises:
            ValueError: Options that exclude each other, or a value that the backbone cannot take.
        """
        if given is None and (self.mode or self.allow_namespace):
            raise ValueError(
                "--mode and --allow-namespace say how --init is read, and there is none; "
                "a new backbone has --option mode=..."
            )
        if given is not None and (self.backbone or self.option):
            raise ValueError("--backbone and --option: with --init they are those of its network")
        if given is None:
            backbone = self.backbone or ModelConfig.backbone
            given = ModelConfig(backbone, _parse_options(backbone, sum(self.option, start=())))
        wrapper = self.wrapper
        if wrapper == "auto":
            wrapper = "wne" if given.wrapper == "none" else given.wrapper
        if wrapper in ("none", "scale") and self.statistics:
            raise ValueError(f"--statistics: the wrapper {wrapper!r} takes none; leave it out")
        changes: dict[str, Any] = {"wrapper": wrapper}
        if wrapper == "none":
            inside = ("trained_sigma_255", "detail", "cap", "rescale")
            changes |= {"anchor": Anchor()} | dict.fromkeys(inside)
        for name in ("statistics", "detail", "cap", "anchor"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        return dataclasses.replace(given, **changes)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What it is trained on."""

    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for colour (default: 1, or those of --init)."""
    noise: str | None = None
    """gaussian, uniform, laplace, rayleigh, poisson, speckle, correlated, ... (default: gaussian)."""
    sigma_255: Annotated[tuple[float, ...] | None, conf.arg(metavar="LEVEL [LEVEL]")] = None
    """Noise level where 255 is full scale: one, or the two ends of a range (default: 25)."""
    batch: int = TrainConfig.batch
    """Crops an update."""
    patch: int = TrainConfig.patch
    """Side of the crops, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """How it is trained."""

    steps: int = 2000
    """Updates."""
    loss: Literal["l1", "mse"] = TrainConfig.loss
    """Mean absolute or mean squared difference."""
    optimizer: Literal["adam", "adamw", "sgd"] = OptimizerConfig.name
    """Rule of the updates."""
    learning_rate: float = OptimizerConfig.learning_rate
    """The largest."""
    schedule: Literal["constant", "halved", "cosine"] = OptimizerConfig.schedule
    """Of the learning rate: halved every 100,000 steps, or to 0 by a cosine."""
    ema: float | None = None
    """Decay of a moving average of the parameters, which is then what denoises."""
    clip: float | None = None
    """Largest norm of a gradient."""
    accumulate: int = TrainConfig.accumulate
    """Parts of a batch that are computed one after another, for less memory."""
    precision: Precision = TrainConfig.precision
    """What convolutions are computed in; parameters stay float32."""
    seed: int = TrainConfig.seed
    """Of initial parameters, crops and noise."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What it is computed on. Results do not depend on it, but for rounding."""

    parallel: Parallel = "auto"
    """One device, all by jit over a mesh, or all by pmap (auto: a mesh from two devices on)."""
    corpus: Placement = "auto"
    """Where the images lie: on the devices, or streaming from the host (auto: as they fit)."""
    coordinator: Annotated[str | None, conf.arg(metavar="HOST:PORT|auto")] = None
    """Process 0 of several that train together; auto on a cluster that JAX knows."""
    processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Number of this process, from 0."""

    @property
    def compute(self) -> Compute:
        """How `fit` shall run."""
        return Compute(self.parallel, self.corpus)

    def joined(self) -> AbstractContextManager[None]:
        """The time in which this process is one of several."""
        return joined(self.coordinator, processes=self.processes, process_id=self.process_id)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a denoiser on images, into a folder that `denoise --weights` takes.

    The folder gets the configuration, a log (metrics.jsonl, TensorBoard) and checkpoints.
    """

    data: Annotated[str, conf.arg(metavar="SOURCE[,SOURCE...]")]
    """Clean images: folder:PATH, tfds:NAME, embedded. Noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more)."""
    out: Annotated[Path, conf.arg(aliases=("-o",), metavar="RUN")]
    """Folder of the run (made if it is not there)."""
    resume: bool = False
    """Go on from the last checkpoint in the folder, or start if there is none."""
    data_dir: Path | None = None
    """Where TFDS keeps its sets (default: TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    log_every: int = TrainConfig.log_every
    """Steps between two lines of the log."""
    save_every: int = 500
    """Steps between two checkpoints."""
    network: Network = field(default_factory=Network)
    examples: Examples = field(default_factory=Examples)
    updates: Updates = field(default_factory=Updates)
    machine: Machine = field(default_factory=Machine)

    def run(self) -> int:
        """Train, and say how to use the result."""
        try:
            with self.machine.joined():  # JAX must not be used before
                self._train()
        except Diverged as error:
            say("error", error)
            return 2
        return 0

    def config(self, start: Denoiser | None) -> TrainConfig:
        """The run, its anchor still to be measured.

        Args:
            start: The denoiser of `--init`, or None.

        Raises:
            ValueError: Options that exclude each other, or values out of their range.
        """
        examples, updates = dataclasses.asdict(self.examples), dataclasses.asdict(self.updates)
        kinds = {kind_of(part.spec) for part in parse_mixture(self.data)}
        if kinds != {"clean"} and (examples["noise"] or examples["sigma_255"]):
            raise ValueError(
                f"--noise and --sigma-255 are for clean images; {self.data} has the camera's own "
                "noise: leave them out"
            )
        if start is not None and (examples["channels"] or start.channels) != start.channels:
            raise ValueError(
                f"--channels is {examples['channels']}, but the network of --init takes {start.channels}"
            )
        if start is not None:
            examples["channels"] = start.channels
        optimizer = OptimizerConfig(
            name=updates.pop("optimizer"),
            **{name: updates.pop(name) for name in ("learning_rate", "schedule", "clip", "ema")},
        )
        return TrainConfig(
            model=self.network.model(None if start is None else start.config),
            optimizer=optimizer,
            init=None if start is None else str(self.network.init),
            data=self.data,
            log_every=self.log_every,
            save_every=self.save_every,
            **{name: value for name, value in examples.items() if value is not None},
            **updates,
        )

    def _train(self) -> None:
        """From the options to the last checkpoint."""
        network, start = self.network, None
        if network.init is not None:
            start = Denoiser.load(
                network.init, mode=network.mode, allow_namespace=network.allow_namespace
            )
        config = self.config(start)
        make_train_step(config)  # refuses unknown names before any image is read
        corpus = load_corpus(config, data_dir=self.data_dir)
        read: dict[str, Any] = {}
        if start is not None:
            config = self._anchored(config, corpus, start)
            if network.mode or network.allow_namespace:  # of which `config.init` says nothing
                read["variables"] = start.variables
        compute = self.machine.compute
        fit(config, self.out, resume=self.resume, corpus=corpus, compute=compute, **read)
        if is_lead():
            level = " --sigma-255 LEVEL" if config.model.conditioned else ""
            print(f"trained: {self.out}")
            print(
                f"use it: python -m wne_jax denoise --weights {shlex.quote(str(self.out))}"
                f"{level} IN... -o OUT"
            )

    def _anchored(self, config: TrainConfig, corpus: Corpus, start: Denoiser) -> TrainConfig:
        """The run, its anchor measured where the network comes behind statistics that are new to it."""
        model, given = config.model, start.config or ModelConfig()
        known = getattr(given.build(), "statistics", None)
        if self.network.anchor or getattr(model.build(), "statistics", known) is known:
            return config
        if self.resume and (self.out / "config.json").is_file():
            anchor = load_config(self.out / "config.json").model.anchor
        else:
            anchor = measure_anchor(config, corpus, given)
        return dataclasses.replace(config, model=dataclasses.replace(model, anchor=anchor))


def measure_anchor(config: TrainConfig, corpus: Corpus, given: ModelConfig) -> tuple[float, float]:
    """The location and the scale that a run's statistics have on what its backbone was trained to see.

    A bare network saw images in unit range; a wrapped one saw them normalized.

    Args:
        config: The run, of a wrapped model.
        corpus: Its images, on the host.
        given: The model that the backbone comes from.

    Returns:
        The mean location and the median scale of the first batch of the run, noise included, to three digits.
    """
    before: Any = given.build()
    after: Any = config.model.build()

    @jax.jit
    def measure(crops: Array) -> tuple[Array, Array]:
        seen = draw_batch(config, crops, jnp.int32(0)).noisy
        if given.wrapper != "none":
            z, _ = normalize(seen, statistics=before.statistics)
            seen = before.anchor.scale * z + before.anchor.location
        location, scale = after.statistics(seen)
        return jnp.mean(location), jnp.median(scale)

    everyone = np.arange(config.batch)
    stream = stream_crops(data_key(config), corpus, everyone, size=config.patch, start=0, stop=1)
    location, scale = measure(jnp.asarray(next(stream)))
    return round(float(location), 3), float(f"{scale:.3g}")


def _parse_options(backbone: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a backbone from `name=value`, checked by the type of its default."""
    check_denoiser(backbone)
    module = build(backbone)
    defaults = {f.name: f.default for f in dataclasses.fields(module)}
    options = dict(ModelConfig().options) if "depth" in defaults else {}
    for text in texts:
        name, equals, word = text.partition("=")
        if not equals:
            raise ValueError(f"--option is {text!r}; expected NAME=VALUE, such as depth=8")
        try:
            value = json.loads(word)
        except json.JSONDecodeError:  # a word needs no quotes
            value = word
        default = defaults.get(name)
        kinds = {float: (int, float), tuple: (list,)}.get(type(default), (type(default),))
        if isinstance(default, bool | int | float | str | tuple) and type(value) not in kinds:
            raise ValueError(f"--option {text}: expected a value like {json.dumps(default)}")
        options[name] = value
    build(backbone, **options)  # names what the backbone has
    return options
