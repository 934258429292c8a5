"""What is trained and compared: arms.

An arm defines how a network differs from the bare one; a size (`sizes`) defines its width and depth, the
number of steps and the data. `run_config` combines both: arms of one size differ only in what their names
say. With the preset "paper" they also differ where the paper's own settings do.
"""

import dataclasses
from typing import Any, Literal

from experiments.harness.sizes import PRESETS
from wne_jax.cli.noise_levels import Level
from wne_jax.config import ModelConfig, Rescaled, SmoothBase, WrapperConfig
from wne_jax.training import OptimizerConfig, TrainConfig
from wne_jax.training.tasks import Task

Size = Literal["tiny", "small", "paper"]
Arm = Literal[
    "baseline",
    "wne",
    "wne-noise",
    "wne-noise-level",
    "wne-smooth-base",
    "wne-wiener-cap",
    "wne-std-smooth-base",
    "wne-blend",
    "wne-multiscale",
    "wne-learned",
    "wne-highpass",
    "wne-median",
    "wne-minmax",
    "scale",
    "input-only",
    "alias-free",
    "se-arch",
    "ne-arch",
    "multi-noise",
    "soft-ne",
    "n2n",
    "n2n-wne",
    "n2n-wne-wiener-cap",
]

_NOISE = {"wrapper": WrapperConfig("wne", "haar_mad")}
_SMOOTH_BASE = {"inside": SmoothBase()}  # the size sets the width of the blur
_WIENER_CAP = _NOISE | {"inside": SmoothBase(wiener_cap=1.3)}

ARMS: dict[Arm, dict[str, Any]] = {
    "baseline": {},
    "wne": {"wrapper": "wne"},
    "wne-noise": _NOISE,
    "wne-noise-level": {"wrapper": WrapperConfig("wne", "noise_level")},
    "wne-smooth-base": _NOISE | _SMOOTH_BASE,
    "wne-wiener-cap": _WIENER_CAP,
    "wne-std-smooth-base": {"wrapper": "wne"} | _SMOOTH_BASE,
    "wne-blend": {"wrapper": "wne", "inside": Rescaled("blend")},
    "wne-multiscale": {"wrapper": "wne", "inside": Rescaled("multi_scale")},
    "wne-learned": {"wrapper": "wne", "inside": Rescaled("learned")},
    "wne-highpass": {"wrapper": WrapperConfig("wne", "high_pass")},
    "wne-median": {"wrapper": WrapperConfig("wne", "median_mad")},
    "wne-minmax": {"wrapper": WrapperConfig("wne", "min_max")},
    "scale": {"wrapper": "scale"},
    "input-only": {"wrapper": "input"},
    "alias-free": {
        "wrapper": "wne",
        "options": {"activation": "polynomial", "padding": "circular"},
    },
    "se-arch": {"backbone": "fdncnn", "options": {"mode": "scale-equivariant"}},
    "ne-arch": {"backbone": "fdncnn", "options": {"mode": "normalization-equivariant"}},
    "multi-noise": {"train": {"sigma_255": (0.0, 55.0)}},
    "soft-ne": {"train": {"objective": "soft-ne"}},
    "n2n": {"train": {"objective": "noise2noise"}},
    "n2n-wne": {"wrapper": "wne", "train": {"objective": "noise2noise"}},
    "n2n-wne-wiener-cap": _WIENER_CAP | {"train": {"objective": "noise2noise"}},
}
"""For each arm, its changes to `ModelConfig` and, under `train`, to `TrainConfig`; `options` are added to
those of the backbone."""


def run_config(
    arm: Arm,
    size: Size,
    level: Level | float,
    *,
    backbone: str = "dncnn",
    data: str | None = None,
    steps: int | None = None,
    **changes: Any,
) -> TrainConfig:
    """The training run of an arm.

    Args:
        arm: What is trained. The arms "se-arch" and "ne-arch" have a backbone of their own, "multi-noise"
            a range of levels of its own.
        size: Name of the preset.
        level: Training level in 8-bit units, or the ends of a range.
        backbone: The network inside the wrapper.
        data: Training images (default: the preset's).
        steps: Training steps (default: the preset's).
        **changes: Further fields of `TrainConfig`, such as `seed`.
    """
    preset, own = PRESETS[size], dict(ARMS[arm])
    backbone = own.pop("backbone", backbone)
    options = preset.networks.get(backbone, {}) | own.pop("options", {})
    if isinstance(own.get("inside"), SmoothBase):
        own["inside"] = dataclasses.replace(own["inside"], sigma_px=preset.smooth_base_px)
    noise = changes.get("noise", TrainConfig.noise)
    settings = {
        "schedule": preset.schedule,
        "data": data or preset.data,
        "sigma_255": level,
        **preset.train,
        **preset.own_settings.get((backbone, None), {}),
        **preset.own_settings.get((backbone, arm), {}),
        # The paper trains all networks for other noise with the L1 loss.
        **({"loss": "l1"} if size == "paper" and noise != TrainConfig.noise else {}),
        **own.pop("train", {}),
        **({} if steps is None else {"steps": steps}),
        **changes,
    }
    task = Task.parse(settings.get("task", TrainConfig.task))
    return TrainConfig(
        model=task.fitted(ModelConfig(backbone=backbone, options=options, **own)),
        optimizer=OptimizerConfig(
            learning_rate=preset.learning_rate, schedule=settings.pop("schedule")
        ),
        **settings,
    )
