"""The options of `python -m wne_jax train`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro import conf

from wne_jax._internal.names import BACKBONES, NOISES, STATISTICS, Parallel, Placement, WrapperKind
from wne_jax.cli.model_options import ForeignWeights
from wne_jax.cli.noise_levels import Level
from wne_jax.training.config import OptimizerConfig, Precision, TrainConfig

if TYPE_CHECKING:
    from wne_jax.training import Compute


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class Network(ForeignWeights):
    """What is trained."""

    backbone: Annotated[
        str | None,
        conf.arg(help=f"Backbone: {_one_of(BACKBONES)}; or package.module:Name (default: dncnn)."),
    ] = None
    option: Annotated[
        tuple[tuple[str, ...], ...], conf.UseAppendAction, conf.arg(metavar="NAME=VALUE...")
    ] = ()
    """Options of the backbone, values as in JSON: depth=8 features=48 (default: depth=6 features=32 for dncnn
    and fdncnn, the published sizes for the others)."""
    wrapper: Literal["auto", "none"] | WrapperKind = "auto"
    """wne, scale (scale equivariance alone), input (no way back) or none; auto is that of the weights that
    are read, or wne without any."""
    statistics: Annotated[
        str | None,
        conf.arg(
            help=f"What the wrapper removes: {_one_of(STATISTICS)} (default: mean_std, or those of --init)."
        ),
    ] = None
    smooth_base: Annotated[float | None, conf.arg(metavar="PIXELS")] = None
    """Standard deviation of a blur, whose result bypasses the backbone (see wne_jax.wrappers.smooth_base):
    about as far as that sees, with --statistics haar_mad, to serve levels below a single one of training."""
    wiener_cap: float | None = None
    """Energy, in units of the noise, beyond which what is removed is shrunk: 1.3, with --smooth-base."""
    anchor: tuple[float, float] | None = None
    """Location and scale that the backbone works in (default: 0 1; measured where the network of --init is
    wrapped anew)."""
    init: Annotated[Path | None, conf.arg(metavar="WEIGHTS")] = None
    """Start from a weight file or another run, with the backbone that it has."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What it is trained on."""

    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for colour (default: 1, or those of --init)."""
    noise: Annotated[
        str | None,
        conf.arg(
            help=f"{_one_of(NOISES)}; or a mixture, drawn for each example: gaussian@3,poisson@1 (default: "
            f"{TrainConfig.noise})."
        ),
    ] = None
    train_sigmas_255: Level | None = None
    """Noise levels of training in 8-bit units: a level such as 25, or a range such as 2:55 (default: 25)."""
    white: float | None = None
    """Value of white, where it is not 255, 65535 or 1 as the type says: 4095 for 12 bits."""
    batch: int = TrainConfig.batch
    """Images or crops in a batch."""
    patch: int = TrainConfig.patch
    """Side of the square patches, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """How it is trained."""

    steps: int = 2000
    """Training steps of a network."""
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
    """Seed of all that is drawn: initial parameters, crops, noise."""


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
    def compute(self) -> "Compute":
        """How `fit` shall run."""
        from wne_jax.training import Compute

        return Compute(self.parallel, self.corpus)

    def joined(self) -> AbstractContextManager[None]:
        """The time in which this process is one of several."""
        from wne_jax.training import joined

        return joined(self.coordinator, processes=self.processes, process_id=self.process_id)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where images come from, where the run goes, and the groups above."""

    data: Annotated[str, conf.arg(metavar="SOURCE[,SOURCE...]")]
    """Training images: folder:PATH, tfds:NAME, embedded; noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more). Commas mix several."""
    out: Annotated[Path, conf.arg(aliases=("-o",), metavar="RUN")]
    """Folder of the run (made if it is not there)."""
    resume: bool = False
    """Go on with what the folder holds: keep it, and add what is missing."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME (default: TFDS_DATA_DIR, else
    ~/tensorflow_datasets)."""
    log_every: int = TrainConfig.log_every
    """Steps between two lines of the log."""
    save_every: int = 500
    """Steps between two checkpoints."""
    network: Network = field(default_factory=Network)
    examples: Examples = field(default_factory=Examples)
    updates: Updates = field(default_factory=Updates)
    machine: Machine = field(default_factory=Machine)
