"""What a training run is: frozen, nested, written beside every result."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from wne_jax._internal.files import read_json, write_atomically
from wne_jax.images.units import check_white

if TYPE_CHECKING:
    from wne_jax.config import ModelConfig

Objective = Literal["supervised", "soft-ne", "noise2noise"]
Precision = Literal["float32", "tf32", "bfloat16"]
SigmaDistribution = Literal["uniform", "log-uniform"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated.

    Attributes:
        name: "adam", "adamw", or "sgd" (plain).
        learning_rate: The largest.
        schedule: "constant", "halved" (every `halve_every` steps) or "cosine" (to 0 at the last step).
        warmup: Steps of linear increase from 0.
        halve_every: Period of the schedule "halved", in steps.
        weight_decay: Read by "adamw".
        clip: Largest global norm of the gradient; None for no clipping.
        ema: Decay of an exponential moving average of the parameters, which is then what is saved and
            evaluated; None for none. It begins smaller: see `wne_jax.training.step.average_decay`.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "halved", "cosine"] = "cosine"
    warmup: int = 0
    halve_every: int = 100_000
    weight_decay: float = 1e-4
    clip: float | None = None
    ema: float | None = None

    def __post_init__(self):
        """Reject invalid values."""
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.warmup < 0 or self.halve_every < 1:
            raise ValueError(
                f"warmup must be 0 or more and halve_every 1 or more, not {self.warmup} and "
                f"{self.halve_every}"
            )
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive or None, not {self.clip}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1) or None, not {self.ema}")


def _default_model() -> "ModelConfig":
    from wne_jax.config import (
        ModelConfig,  # not sooner: a parser shows the defaults below without JAX
    )

    return ModelConfig()


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        model: The model.
        optimizer: The optimizer.
        init: Weights to start from, a file or the folder of another run; None for random ones.
        data: Sources of images; see `wne_jax.data`. Of pairs and repeats, whose noise is the camera's own,
            `noise`, `sigma_255` and `objective` are not read.
        channels: 1 for gray, 3 for colour.
        white: Value of white in the images, where it is not full scale of their dtype (1 for floats).
        noise: Name in `wne_jax.images.degradations.NOISES`, or several, `gaussian@3,poisson@1`, of which
            every example draws one by these shares.
        sigma_255: Noise level in 8-bit units: one number, or the two ends of a range from which every
            example draws its own.
        sigma_distribution: How levels are drawn from a range: "uniform", or "log-uniform", which draws as
            many from 1 to 5 as from 5 to 25.
        task: What the network undoes, "NAME" or "NAME:NUMBER"; see `wne_jax.training.tasks`. Of pairs it is
            read for the sizes alone.
        objective: What an example is made of; see `wne_jax.training.objectives`.
        loss: "l1" or "mse".
        steps: Updates.
        batch: Crops an update.
        patch: Side of a crop, in pixels.
        accumulate: Parts that a batch is cut into, whose gradients are averaged: less memory for the same
            update. Batch normalization then has the statistics of each part, not of the whole.
        precision: What convolutions and matrix products are computed in: "float32", "tf32" (the same where
            the device has none) or "bfloat16". Parameters, statistics and loss are float32 always.
        seed: Of the initial parameters, the crops and the noise.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints.
        keep: How many of the last checkpoints are kept.
    """

    model: "ModelConfig" = field(default_factory=_default_model)
    optimizer: OptimizerConfig = OptimizerConfig()
    init: str | None = None
    data: str = "embedded"
    channels: int = 1
    white: float | None = None
    noise: str = "gaussian"
    sigma_255: tuple[float, ...] = (25.0,)
    sigma_distribution: SigmaDistribution = "uniform"
    task: str = "denoise"
    objective: Objective = "supervised"
    loss: Literal["l1", "mse"] = "mse"
    steps: int = 750
    batch: int = 16
    patch: int = 40
    accumulate: int = 1
    precision: Precision = "float32"
    seed: int = 0
    log_every: int = 50
    save_every: int = 250
    keep: int = 2

    def __post_init__(self):
        """Reject invalid values."""
        from wne_jax.config import ModelConfig
        from wne_jax.models import check_denoiser
        from wne_jax.training.tasks import Task

        if not isinstance(self.model, ModelConfig):
            raise TypeError(
                "TrainConfig.model is a ModelConfig; for a module use fit(config, workdir, model=module)"
            )
        check_denoiser(self.model.backbone)
        levels = np.atleast_1d(np.asarray(self.sigma_255, float))
        object.__setattr__(self, "sigma_255", tuple(levels.tolist()))
        if len(self.sigma_255) not in (1, 2) or list(self.sigma_255) != sorted(self.sigma_255):
            raise ValueError(
                f"sigma_255 must be one number or a low and a high, not {self.sigma_255}"
            )
        if not all(0 <= sigma < math.inf for sigma in self.sigma_255):
            raise ValueError(f"sigma_255 must be finite and not negative: {self.sigma_255}")
        if self.sigma_distribution == "log-uniform" and not self.sigma_255[0]:
            raise ValueError(
                "a log-uniform sigma_distribution must begin above 0, not at sigma_255 = 0"
            )
        check_white(self.white)
        counts = ("steps", "batch", "patch", "accumulate", "log_every", "save_every", "keep")
        for name in counts:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate} does not divide batch = {self.batch}")
        for name, kind in (
            ("objective", Objective),
            ("precision", Precision),
            ("sigma_distribution", SigmaDistribution),
        ):
            if getattr(self, name) not in (known := get_args(kind)):
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}; not {getattr(self, name)!r}"
                )
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (gray) or 3 (colour), not {self.channels}")
        task = Task.parse(self.task)
        object.__setattr__(self, "task", str(task))
        if self.patch % task.factor:
            raise ValueError(
                f"patch must be a multiple of {task.factor} for {task}, not {self.patch}"
            )
        if task.name == "demosaic" and self.channels != 3:
            raise ValueError(f"channels must be 3 for {task}, not {self.channels}")
        if task.name != "denoise" and self.objective == "noise2noise":
            raise ValueError(f"objective noise2noise is for the task denoise, not {task}")

    @property
    def level(self) -> float | tuple[float, float]:
        """The noise level in unit range: a number, or the ends of a range."""
        from wne_jax.images.degradations import LogUniform  # not sooner, as above

        low, high = self.sigma_255[0] / 255, self.sigma_255[-1] / 255
        if low == high:
            return low
        return LogUniform(low, high) if self.sigma_distribution == "log-uniform" else (low, high)

    @property
    def factor(self) -> int:
        """The sides of an image over those of the network's input."""
        from wne_jax.training.tasks import Task

        return Task.parse(self.task).factor


def save_config(config: TrainConfig, path: Path) -> None:
    """Write a configuration as JSON."""
    from wne_jax.weights.upgrade import VERSION

    values = {"version": VERSION, **dataclasses.asdict(config)}
    write_atomically(path, json.dumps(values, indent=2) + "\n")


def load_config(path: Path) -> TrainConfig:
    """Read what `save_config` wrote.

    Raises:
        ValueError: Not JSON, keys that this version does not know, or values out of their range.
    """
    return parse_config(read_json(path), path)


def parse_config(values: Mapping[str, Any], source: object = "this") -> TrainConfig:
    """A configuration from what JSON held.

    Args:
        values: Those of `dataclasses.asdict`.
        source: What is named in messages.

    Raises:
        ValueError: Keys that this version does not know, or values out of their range.
    """
    from wne_jax.config import from_values, model_from_values
    from wne_jax.weights.upgrade import VERSION, upgrade_model

    try:
        values = dict(values)
        if (version := values.pop("version", 1)) not in range(1, VERSION + 1):
            raise ValueError(f"it is of version {version}; this one reads up to {VERSION}")
        model = model_from_values(upgrade_model(values.pop("model", {})))
        optimizer = from_values(OptimizerConfig, dict(values.pop("optimizer", {})))
        return from_values(TrainConfig, values | {"model": model, "optimizer": optimizer})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{source} is not a training configuration: {error}") from error


BOOKKEEPING = frozenset({"log_every", "save_every", "keep"})
"""Keys that change nothing of what is computed."""


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """The dotted keys in which two configurations differ.

    Example:
        >>> from wne_jax.config import ModelConfig
        >>> differences(TrainConfig(), TrainConfig(steps=3, model=ModelConfig(wrapper="wne")))
        ['model.wrapper', 'steps']
    """
    return sorted(_differing(dataclasses.asdict(one), dataclasses.asdict(other)))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in one.keys() | other.keys():
        first, second = one.get(key), other.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differing(first, second, f"{prefix}{key}.")
        elif first != second:
            yield f"{prefix}{key}"


def conflicts(before: TrainConfig, now: TrainConfig) -> list[str]:
    """The dotted keys in which a run differs from its beginning, and must not.

    It may be logged and saved more or less often, read the same images elsewhere (whether they are the same
    is checked by themselves), and go on for another number of steps where the learning rate does not depend
    on it.

    Example:
        >>> constant = TrainConfig(steps=9, optimizer=OptimizerConfig(schedule="constant"))
        >>> conflicts(constant, dataclasses.replace(constant, steps=99, keep=1, data="folder:moved"))
        []
        >>> conflicts(TrainConfig(steps=9), TrainConfig(steps=99, seed=1))
        ['seed', 'steps']
    """
    free = BOOKKEEPING | {"data"}
    if now.optimizer.schedule != "cosine":
        free |= {"steps"}
    return [key for key in differences(before, now) if key not in free]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys.

    Example:
        >>> flatten({"steps": 3, "model": {"depth": 6}})
        {'steps': 3, 'model.depth': 6}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
