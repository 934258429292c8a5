"""What is trained and compared: arms.

An arm says how a network differs from the bare one; a size (`sizes`) says how large it is, how long it is
trained, and on what. `run_config` puts both together: arms of one size differ in what their names say and in
nothing else, but for the settings of the paper, which differ where its own do.
"""

import dataclasses
from typing import Any, Literal

from experiments.harness.sizes import PRESETS
from wne_jax.cli.noise_levels import Level
from wne_jax.config import ModelConfig, Rescaled, SmoothBase, WrapperConfig
from wne_jax.training import OptimizerConfig, TrainConfig

Size = Literal["tiny", "small", "paper"]
Arm = Literal[
    "baseline",
    "wne",
    "wne-noise",
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
_SMOOTH_BASE = {"inside": SmoothBase()}  # as wide as the size says
_WIENER_CAP = _NOISE | {"inside": SmoothBase(wiener_cap=1.3)}

ARMS: dict[Arm, dict[str, Any]] = {
    "baseline": {},
    "wne": {"wrapper": "wne"},
    "wne-noise": _NOISE,
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
"""The arms, by what they change in `ModelConfig`, and under `train` in `TrainConfig`; `options` are added to
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
        arm: What is trained. The architectures "se-arch" and "ne-arch" bring their own backbone, and
            "multi-noise" its own range of levels.
        size: How much of it.
        level: Training level in 8-bit units, or the ends of a range.
        backbone: The network inside.
        data: Training images in place of the preset's.
        steps: Steps in place of the preset's.
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
        # The paper's networks for other noise are all trained by L1.
        **({"loss": "l1"} if size == "paper" and noise != TrainConfig.noise else {}),
        **own.pop("train", {}),
        **({} if steps is None else {"steps": steps}),
        **changes,
    }
    return TrainConfig(
        model=ModelConfig(backbone=backbone, options=options, **own),
        optimizer=OptimizerConfig(
            learning_rate=preset.learning_rate, schedule=settings.pop("schedule")
        ),
        **settings,
    )
