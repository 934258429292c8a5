"""The options of experiments, each declared once: one name has one meaning everywhere.

A script's options are a frozen dataclass over the bases here. It gives a `NAME`, changes defaults where it
has others (the help text stays that of the base), and adds what it alone has.
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
"""Test levels of the tables."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where results go; the base of every experiment's options."""

    NAME: ClassVar[str]
    """The experiment's name, and that of its module."""

    workdir: Path | None = None
    """Folder for the results (default: a folder in runs that is called like the experiment)."""
    overwrite: bool = False
    """Replace what is there, once the new is whole."""

    @property
    def name(self) -> str:
        """The name of the default folder."""
        return self.NAME

    @property
    def folder(self) -> Path:
        """The folder for the results."""
        return self.workdir or Path("runs", self.name)


@dataclass(frozen=True, kw_only=True)
class Measured(Results):
    """What is measured without networks of ours, once: there is nothing to train or to go on with."""

    stage: Literal["all", "report"] = "all"
    """Do one part only: report draws tables and figures anew from the records, train trains networks and no
    more, eval trains nothing (rows of missing networks stay empty)."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where prepared datasets lie."""

    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME (default: TFDS_DATA_DIR, else
    ~/tensorflow_datasets)."""


@dataclass(frozen=True, kw_only=True)
class Photographs(Data):
    """What is tested on."""

    test: tuple[str, ...] | None = None
    """Test images: embedded, folder:PATH, tfds:NAME, ...; one set or several (default: the preset's)."""


@dataclass(frozen=True, kw_only=True)
class Images(Photographs):
    """What is tested on, and how often."""

    repeats: int | None = None
    """Noise draws for each image and level (default: the preset's)."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """At which noise levels."""

    test_sigmas_255: tuple[float, ...] | None = None
    """Test noise levels in 8-bit units (default: the preset's, and those of training)."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What is drawn."""

    seed: int = 0
    """Seed of all that is drawn: initial parameters, crops, noise."""


@dataclass(frozen=True, kw_only=True)
class Training(Data, Machine, Results, Seed):
    """Networks that are trained, and results that are computed from them."""

    networks: Path = Path("runs/networks")
    """Folder of trained networks: what is there is taken, what is missing is trained into it."""
    stage: Stage = "all"
    """Do one part only: report draws tables and figures anew from the records, train trains networks and no
    more, eval trains nothing (rows of missing networks stay empty)."""
    resume: bool = False
    """Go on with what the folder holds: keep it, and add what is missing."""


@dataclass(frozen=True, kw_only=True)
class Networks(Training):
    """Trained networks of one size."""

    preset: Size = "tiny"
    """Size: tiny (minutes on 2 cores), small (up to two hours), or paper (an accelerator)."""
    data: str | None = None
    """Training images: folder:PATH, tfds:NAME, embedded; noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more). Commas mix several. (default: the preset's)"""
    steps: int | None = None
    """Training steps of a network (default: the preset's)."""

    @property
    def sizes(self) -> Preset:
        """What the preset says."""
        return PRESETS[self.preset]

    def config(self, arm: Arm, level: Level | float, **changes) -> TrainConfig:
        """The training run of an arm, see `harness.arms.run_config`."""
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
        """The test images, by the names of their sets; the stage "report" needs the names alone."""
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
        """The levels of the test, those of training among them."""
        levels = self.test_sigmas_255 or (*self.sizes.test_sigmas_255, *SHOWN)
        return sorted({*levels, *trained} - {0.0})

    def shown(self, trained: Sequence[float]) -> list[float]:
        """The levels of the tables: all that were asked for, or few."""
        levels = self.levels(trained)
        return levels if self.test_sigmas_255 else [s for s in levels if s in (*SHOWN, *trained)]


@dataclass(frozen=True, kw_only=True)
class OneBackbone:
    """Networks of one backbone."""

    backbone: str = "dncnn"
    """Backbone: dncnn, fdncnn, ffdnet, drunet, swinir or restormer; or package.module:Name."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """What is compared."""

    arms: tuple[Arm, ...] = ("baseline", "wne")
    """Arms that are trained and compared."""


@dataclass(frozen=True, kw_only=True)
class TrainLevels:
    """What networks are trained on."""

    train_sigmas_255: tuple[Level, ...] = ((25.0,),)
    """Noise levels of training in 8-bit units: a level such as 25, or a range such as 2:55."""


@dataclass(frozen=True, kw_only=True)
class Compared(OneBackbone, Arms, TrainLevels, Sweep):
    """Arms of one backbone, trained at some levels."""

    @property
    def trained(self) -> Level:
        """The training level of an experiment that has one.

        Raises:
            ValueError: There are several.
        """
        return only(self.train_sigmas_255)

    @property
    def at(self) -> str:
        """The training level of an experiment that has one, in words."""
        return label(self.trained)


def one_of(values: Sequence[Value] | None, option: str) -> Value:
    """The only value of an option of an experiment that takes one.

    Raises:
        ValueError: There are several, or none.

    Example:
        >>> one_of((25.0,), "--test-sigmas-255")
        25.0
    """
    if values is None or len(values) != 1:
        given = " ".join(map(str, values or ())) or "none"
        raise ValueError(f"{option}: this experiment takes one value, not {given}")
    return values[0]


def only(train_sigmas_255: Sequence[Level]) -> Level:
    """The training level of an experiment that has one.

    Raises:
        ValueError: There are several, or none.
    """
    if len(train_sigmas_255) != 1:
        given = " ".join(map(level_text, train_sigmas_255)) or "none"
        raise ValueError(
            f"--train-sigmas-255: this experiment has one level, or one range LOW:HIGH; not {given}"
        )
    return train_sigmas_255[0]
