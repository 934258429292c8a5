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
from wne_jax.training.config import OptimizerConfig, Precision, SigmaDistribution, TrainConfig

if TYPE_CHECKING:
    from wne_jax.training import Compute


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class Network(ForeignWeights):
    """The network."""

    backbone: Annotated[
        str | None,
        conf.arg(help=f"Backbone: {_one_of(BACKBONES)}; or package.module:Name (default: dncnn)."),
    ] = None
    option: Annotated[
        tuple[tuple[str, ...], ...], conf.UseAppendAction, conf.arg(metavar="NAME=VALUE...")
    ] = ()
    """Options of the backbone with JSON values: depth=8 features=48 (default: depth=6 features=32 for dncnn
    and fdncnn, the published sizes for the others)."""
    wrapper: Literal["auto", "none"] | WrapperKind = "auto"
    """Wrapper: wne, scale (scale equivariance only), input (no denormalization) or none; auto takes that of
    the weights, or wne without weights."""
    statistics: Annotated[
        str | None,
        conf.arg(
            help=f"Statistic of the wrapper: {_one_of(STATISTICS)} (default: mean_std, or that of --init)."
        ),
    ] = None
    smooth_base: Annotated[float | None, conf.arg(metavar="PIXELS")] = None
    """Standard deviation, in pixels, of a blur whose result bypasses the backbone (see
    wne_jax.wrappers.smooth_base). With --statistics haar_mad and about the receptive radius, a network of one
    training level also works below it."""
    wiener_cap: float | None = None
    """Largest energy of the removed part, in units of the noise, before it is shrunk: 1.3; with
    --smooth-base."""
    anchor: tuple[float, float] | None = None
    """Location and scale of the backbone's input (default: 0 1; measured if the network of --init gets a new
    wrapper)."""
    init: Annotated[Path | None, conf.arg(metavar="WEIGHTS")] = None
    """Start from a weight file or another run, with its backbone."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The training data."""

    task: str = TrainConfig.task
    """What the network undoes besides noise: denoise, deblur[:PIXELS], superres[:FACTOR], demosaic or
    inpaint[:SHARE]. It sets the options upscale, out_channels and masked of the backbone."""
    channels: Literal[1, 3] | None = None
    """Channels: 1 for gray, 3 for colour (default: 1, or those of --init)."""
    noise: Annotated[
        str | None,
        conf.arg(
            help=f"Noise: {_one_of(NOISES)}; or a mixture, drawn per example: gaussian@3,poisson@1 (default: "
            f"{TrainConfig.noise})."
        ),
    ] = None
    train_sigmas_255: Level | None = None
    """Training noise levels in 8-bit units: a level such as 25, or a range such as 2:55 (default: 25)."""
    sigma_distribution: SigmaDistribution = TrainConfig.sigma_distribution
    """Distribution of the levels in a range; log-uniform draws more low ones."""
    white: float | None = None
    """Value of white, if not the type's 255, 65535 or 1: 4095 for 12 bits."""
    batch: int = TrainConfig.batch
    """Images or crops in a batch."""
    patch: int = TrainConfig.patch
    """Side of the square patches, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """The training steps."""

    steps: int = 2000
    """Training steps of a network."""
    loss: Literal["l1", "mse"] = TrainConfig.loss
    """Loss: mean absolute or mean squared error."""
    optimizer: Literal["adam", "adamw", "sgd"] = OptimizerConfig.name
    """Optimizer."""
    learning_rate: float = OptimizerConfig.learning_rate
    """Maximum learning rate."""
    schedule: Literal["constant", "halved", "cosine"] = OptimizerConfig.schedule
    """Schedule of the learning rate: halved every 100,000 steps, or a cosine that ends at 0."""
    ema: float | None = None
    """Decay of a moving average of the parameters; the average is then used to denoise."""
    clip: float | None = None
    """Maximum norm of the gradient."""
    accumulate: int = TrainConfig.accumulate
    """Number of parts of a batch that are computed one after another, to save memory."""
    precision: Precision = TrainConfig.precision
    """Precision of convolutions; parameters stay float32."""
    seed: int = TrainConfig.seed
    """Random seed of initial parameters, crops and noise."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The devices. Results do not depend on them, except for rounding."""

    parallel: Parallel = "auto"
    """One device, all with jit over a mesh, or all with pmap (auto: a mesh if there are several)."""
    corpus: Placement = "auto"
    """Where the images are stored: on the devices, or on the host (auto: on the devices if they fit)."""
    coordinator: Annotated[str | None, conf.arg(metavar="HOST:PORT|auto")] = None
    """Address of process 0, if several processes train together; auto on a cluster that JAX recognizes."""
    processes: int | None = None
    """Number of processes."""
    process_id: int | None = None
    """Index of this process, from 0."""

    @property
    def compute(self) -> "Compute":
        """The settings of `fit`."""
        from wne_jax.training import Compute

        return Compute(self.parallel, self.corpus)

    def joined(self) -> AbstractContextManager[None]:
        """A context in which this process is one of several."""
        from wne_jax.training import joined

        return joined(self.coordinator, processes=self.processes, process_id=self.process_id)


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options of `train`."""

    data: Annotated[str, conf.arg(metavar="SOURCE[,SOURCE...]")]
    """Training images: folder:PATH, tfds:NAME, embedded; noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more). Commas mix several."""
    out: Annotated[Path, conf.arg(aliases=("-o",), metavar="RUN")]
    """Folder of the run (created if missing)."""
    resume: bool = False
    """Keep the results in the folder, and add the missing ones."""
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
