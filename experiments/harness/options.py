"""The options of experiments, each declared once: one name has one meaning everywhere.

A script's options are a frozen dataclass that extends the bases here. It sets `NAME`, may change defaults
(the help text stays that of the base), and adds its own options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from experiments.harness.arms import Arm, Size, run_config
from experiments.harness.images import load_sets, set_name
from experiments.harness.sizes import PRESETS, Preset
from wne_jax.cli.noise_levels import Level, level_text
from wne_jax.cli.train_options import Machine
from wne_jax.data import NamedImage
from wne_jax.evaluation.tables import label
from wne_jax.training import TrainConfig

Value = TypeVar("Value")

Stage = Literal["all", "train", "eval", "report"]

SHOWN = (5.0, 10.0, 25.0, 50.0, 75.0, 100.0)
"""Test levels shown in tables."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results folder; base class of all options."""

    NAME: ClassVar[str]
    """Name of the experiment and of its module."""

    workdir: Path | None = None
    """Folder for the results (default: runs/NAME, after the experiment)."""
    overwrite: bool = False
    """Replace existing results, once the new ones are complete."""

    @property
    def name(self) -> str:
        """Name of the default folder."""
        return self.NAME

    @property
    def folder(self) -> Path:
        """The folder for the results."""
        return self.workdir or Path("runs", self.name)


@dataclass(frozen=True, kw_only=True)
class Measured(Results):
    """Experiments that train no networks, and hence have nothing to resume."""

    stage: Literal["all", "report"] = "all"
    """Run one part only: train stops after training, eval trains nothing (rows of missing networks stay
    empty), report redraws tables and figures from the records."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The folder of prepared datasets."""

    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME (default: TFDS_DATA_DIR, else
    ~/tensorflow_datasets)."""


@dataclass(frozen=True, kw_only=True)
class Photographs(Data):
    """The test images."""

    test: tuple[str, ...] | None = None
    """Test images: embedded, folder:PATH, tfds:NAME, ...; one set or several (default: the preset's)."""


@dataclass(frozen=True, kw_only=True)
class Images(Photographs):
    """The test images, and the number of noise draws."""

    repeats: int | None = None
    """Noise draws for each image and level (default: the preset's)."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The test noise levels."""

    test_sigmas_255: tuple[float, ...] | None = None
    """Test noise levels in 8-bit units (default: the preset's, and the training levels)."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The random seed."""

    seed: int = 0
    """Random seed of initial parameters, crops and noise."""


@dataclass(frozen=True, kw_only=True)
class Training(Data, Machine, Results, Seed):
    """Experiments that train networks."""

    networks: Path = Path("runs/networks")
    """Folder of trained networks: existing ones are reused, missing ones are trained into it."""
    stage: Stage = "all"
    """Run one part only: train stops after training, eval trains nothing (rows of missing networks stay
    empty), report redraws tables and figures from the records."""
    resume: bool = False
    """Keep the results in the folder, and add the missing ones."""


@dataclass(frozen=True, kw_only=True)
class Networks(Training):
    """Trained networks of one preset."""

    preset: Size = "tiny"
    """Size: tiny (minutes on 2 cores), small (up to two hours), or paper (an accelerator)."""
    data: str | None = None
    """Training images: folder:PATH, tfds:NAME, embedded; noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more). Commas mix several. (default: the preset's)"""
    steps: int | None = None
    """Training steps of a network (default: the preset's)."""

    @property
    def sizes(self) -> Preset:
        """The preset."""
        return PRESETS[self.preset]

    def config(self, arm: Arm, level: Level | float, **changes) -> TrainConfig:
        """The training run of an arm; see `harness.arms.run_config`."""
        common = {"data": self.data, "steps": self.steps, "seed": self.seed}
        return run_config(arm, self.preset, level, **(common | changes))


@dataclass(frozen=True, kw_only=True)
class Tested(Images, Networks):
    """Trained networks, tested on images."""

    @property
    def specs(self) -> tuple[str, ...]:
        """The sources of the test images."""
        return self.test or self.sizes.test[:1]

    def sets(self) -> dict[str, list[NamedImage]]:
        """The test images, by the name of their set; the stage "report" needs only the names."""
        if self.stage == "report":
            return {set_name(spec): [] for spec in self.specs}
        return load_sets(self.specs, data_dir=self.data_dir)

    @property
    def draws(self) -> int:
        """Noise draws for each image and level."""
        return self.sizes.repeats if self.repeats is None else self.repeats


@dataclass(frozen=True, kw_only=True)
class Sweep(Levels, Tested):
    """Trained networks, tested on images over noise levels."""

    def levels(self, trained: Sequence[float]) -> list[float]:
        """The test levels, including the training levels."""
        levels = self.test_sigmas_255 or (*self.sizes.test_sigmas_255, *SHOWN)
        return sorted({*levels, *trained} - {0.0})

    def shown(self, trained: Sequence[float]) -> list[float]:
        """The levels shown in tables: those that were given, else a few."""
        levels = self.levels(trained)
        return levels if self.test_sigmas_255 else [s for s in levels if s in (*SHOWN, *trained)]


@dataclass(frozen=True, kw_only=True)
class OneBackbone:
    """Networks of one backbone."""

    backbone: str = "dncnn"
    """Backbone: dncnn, fdncnn, ffdnet, drunet, swinir or restormer; or package.module:Name."""


@dataclass(frozen=True, kw_only=True)
class OneLevelWeights:
    """A trained network of one noise level."""

    weights: Path
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ..."""
    trained_sigma_255: float = 25.0
    """Noise level that the weights were trained at, in 8-bit units: the wrapped network then works at every
    level and in any units."""
    allow_namespace: bool = False
    """Accept PyTorch checkpoints that contain an argparse.Namespace."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The arms."""

    arms: tuple[Arm, ...] = ("baseline", "wne")
    """Arms that are trained and compared."""


@dataclass(frozen=True, kw_only=True)
class TrainLevels:
    """The training noise levels."""

    train_sigmas_255: tuple[Level, ...] = ((25.0,),)
    """Training noise levels in 8-bit units: a level such as 25, or a range such as 2:55."""


@dataclass(frozen=True, kw_only=True)
class Compared(OneBackbone, Arms, TrainLevels, Sweep):
    """Arms of one backbone, trained at the given levels."""

    @property
    def trained(self) -> Level:
        """The training level of an experiment that takes only one.

        Raises:
            ValueError: Several levels were given.
        """
        return only(self.train_sigmas_255)

    @property
    def at(self) -> str:
        """The training level of an experiment that takes only one, as text."""
        return label(self.trained)


def one_of(values: Sequence[Value] | None, option: str) -> Value:
    """The value of an option, in an experiment that takes only one.

    Raises:
        ValueError: Several values were given, or none.

    Example:
        >>> one_of((25.0,), "--test-sigmas-255")
        25.0
    """
    if values is None or len(values) != 1:
        given = " ".join(map(str, values or ())) or "none"
        raise ValueError(f"{option}: this experiment takes one value, not {given}")
    return values[0]


def only(train_sigmas_255: Sequence[Level]) -> Level:
    """The training level, in an experiment that takes only one.

    Raises:
        ValueError: Several levels were given, or none.
    """
    if len(train_sigmas_255) != 1:
        given = " ".join(map(level_text, train_sigmas_255)) or "none"
        raise ValueError(
            f"--train-sigmas-255: this experiment takes one level or one range LOW:HIGH, not {given}"
        )
    return train_sigmas_255[0]
