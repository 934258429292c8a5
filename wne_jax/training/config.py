"""What a training run is: frozen, nested, written beside every result."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flax import linen as nn

from wne_jax import models
from wne_jax.modules import WNE, InputNormalized, ScaleEquivariant
from wne_jax.statistics import PAIRS

Wrapper = Literal["none", "wne", "scale", "input"]
_WRAPPERS = {"wne": WNE, "scale": ScaleEquivariant, "input": InputNormalized}


@dataclass(frozen=True)
class ModelConfig:
    """A backbone and the wrapper around it.

    Attributes:
        backbone: Name in `wne_jax.models.MODELS`.
        options: Options of the backbone.
        wrapper: "none", "wne", "scale" (scale equivariance alone) or "input" (no way back).
        statistics: Name in `wne_jax.statistics.PAIRS`; read by the wrappers "wne" and "input".
    """

    backbone: str = "dncnn"
    options: dict[str, Any] = field(default_factory=lambda: {"depth": 6, "features": 32})
    wrapper: Wrapper = "none"
    statistics: str = "mean_std"

    def build(self) -> nn.Module:
        """Return the module, its parameters still to be made or read."""
        backbone = models.build(self.backbone, **self.options)
        if self.wrapper == "none":
            return backbone
        if self.wrapper not in _WRAPPERS:
            raise ValueError(f"wrapper must be none, {', '.join(_WRAPPERS)}; not {self.wrapper!r}")
        if self.wrapper == "scale":
            return ScaleEquivariant(backbone)
        if self.statistics not in PAIRS:
            raise ValueError(f"statistics must be one of {sorted(PAIRS)}, not {self.statistics!r}")
        return _WRAPPERS[self.wrapper](backbone, statistics=PAIRS[self.statistics])

    @property
    def conditioned(self) -> bool:
        """Whether the model is told the noise level."""
        return bool(self.options.get("conditioned", False))


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated.

    Attributes:
        name: "adam" or "adamw".
        learning_rate: The largest.
        schedule: "constant", "halved" (every `halve_every` steps) or "cosine" (to 0 at the last step).
        warmup: Steps of linear increase from 0.
        halve_every: Period of the schedule "halved", in steps.
        weight_decay: Read by "adamw".
        clip: Largest global norm of the gradient; None for no clipping.
        ema: Decay of an exponential moving average of the parameters, which evaluation then uses;
            None for none.
    """

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "halved", "cosine"] = "cosine"
    warmup: int = 0
    halve_every: int = 100_000
    weight_decay: float = 1e-4
    clip: float | None = None
    ema: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        model: The model.
        optimizer: The optimizer.
        data: Source of images; see `wne_jax.data.load_images`.
        channels: 1 for gray, 3 for colour.
        noise: Name in `wne_jax.noise.NOISES`.
        sigma_255: Noise level in 8-bit units: one number, or the two ends of a range from which every
            example draws its own.
        loss: "l1" or "mse".
        steps: Updates.
        batch: Crops an update.
        patch: Side of a crop, in pixels.
        seed: Of the initial parameters, the crops and the noise.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints.
        keep: How many of the last checkpoints are kept.
    """

    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    data: str = "embedded"
    channels: int = 1
    noise: str = "gaussian"
    sigma_255: tuple[float, ...] = (25.0,)
    loss: Literal["l1", "mse"] = "mse"
    steps: int = 750
    batch: int = 16
    patch: int = 40
    seed: int = 0
    log_every: int = 50
    save_every: int = 250
    keep: int = 2

    def __post_init__(self):
        """Refuse values that cannot be meant."""
        object.__setattr__(self, "sigma_255", tuple(float(s) for s in self.sigma_255))
        if len(self.sigma_255) not in (1, 2) or list(self.sigma_255) != sorted(self.sigma_255):
            raise ValueError(
                f"sigma_255 must be one number or a low and a high, not {self.sigma_255}"
            )
        if self.sigma_255[0] < 0:
            raise ValueError(f"sigma_255 must not be negative: {self.sigma_255}")
        for name in ("steps", "batch", "patch", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (gray) or 3 (colour), not {self.channels}")

    @property
    def level(self) -> float | tuple[float, float]:
        """The noise level in unit range: a number, or the ends of a range."""
        low, high = self.sigma_255[0] / 255, self.sigma_255[-1] / 255
        return low if low == high else (low, high)


def save_config(config: TrainConfig, path: Path) -> None:
    """Write a configuration as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load_config(path: Path) -> TrainConfig:
    """Read what `save_config` wrote.

    Raises:
        ValueError: Not JSON, or keys that this version does not know.
    """
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a configuration: {error}") from error
    model = _make(ModelConfig, values.pop("model", {}), path)
    optimizer = _make(OptimizerConfig, values.pop("optimizer", {}), path)
    return _make(TrainConfig, values | {"model": model, "optimizer": optimizer}, path)


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """The dotted keys in which two configurations differ.

    Example:
        >>> differences(TrainConfig(), TrainConfig(steps=3, model=ModelConfig(wrapper="wne")))
        ['model.wrapper', 'steps']
    """
    first, second = (_flatten(dataclasses.asdict(config)) for config in (one, other))
    return sorted(k for k in first | second if first.get(k) != second.get(k))


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _make(cls: type, values: dict, path: Path) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{path} has unknown keys {unknown}; {cls.__name__} knows {sorted(known)}")
    return cls(**values)
