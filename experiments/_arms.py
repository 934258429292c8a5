"""What is trained and compared: arms, and sizes.

An arm says how a network differs from the bare one; a size says how large it is, how long it is trained, and
on what. `run_config` puts both together: arms of one size differ in what their names say and in nothing else,
but for the settings of the paper, which differ where its own do.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wne_jax.training import ModelConfig, OptimizerConfig, TrainConfig

Size = Literal["tiny", "small", "paper"]
Backbone = Literal["dncnn", "fdncnn", "swinir", "restormer"]
Arm = Literal[
    "baseline",
    "wne",
    "wne-noise",
    "wne-detail",
    "wne-capped",
    "wne-std-detail",
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
    "n2n-wne-capped",
]

_NOISE = {"wrapper": "wne", "statistics": "haar_mad"}
_DETAIL = {"detail": None}  # as wide as the size says
_CAPPED = _NOISE | _DETAIL | {"cap": 1.3}

ARMS: dict[Arm, dict[str, Any]] = {
    "baseline": {},
    "wne": {"wrapper": "wne"},
    "wne-noise": _NOISE,
    "wne-detail": _NOISE | _DETAIL,
    "wne-capped": _CAPPED,
    "wne-std-detail": {"wrapper": "wne"} | _DETAIL,
    "wne-blend": {"wrapper": "wne", "rescale": "blend"},
    "wne-multiscale": {"wrapper": "wne", "rescale": "multi_scale"},
    "wne-learned": {"wrapper": "wne", "rescale": "learned"},
    "wne-highpass": {"wrapper": "wne", "statistics": "high_pass"},
    "wne-median": {"wrapper": "wne", "statistics": "median_mad"},
    "wne-minmax": {"wrapper": "wne", "statistics": "min_max"},
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
    "n2n-wne-capped": _CAPPED | {"train": {"objective": "noise2noise"}},
}
"""The arms, by what they change in `ModelConfig`, and under `train` in `TrainConfig`; `options` are added to
those of the backbone."""


@dataclass(frozen=True)
class Preset:
    """A size: the data, the networks, and how they are trained and tested."""

    data: str
    test: tuple[str, ...]
    networks: dict[Backbone, dict[str, Any]]
    train: dict[str, Any]
    learning_rate: float
    schedule: Literal["constant", "halved", "cosine"]
    test_sigmas_255: tuple[float, ...]
    repeats: int
    detail: float
    """Blur of the arms with a base, in pixels: what it leaves of the noise, a network that sees farther could
    have removed."""
    own_settings: dict[tuple[Backbone, Arm | None], dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    """What single backbones, or arms of them, are trained with in place of the rest."""


LEVELS = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 90.0)

_TINY_SWINIR = {"groups": 2, "blocks": 2, "features": 24, "heads": 3}
_TINY_RESTORMER = {"dim": 12, "blocks": (1, 1, 1, 1), "refinement_blocks": 1}

PRESETS: dict[Size, Preset] = {
    "tiny": Preset(
        data="embedded",
        test=("embedded",),
        networks={
            "dncnn": {"depth": 6, "features": 32},
            "fdncnn": {"depth": 6, "features": 32},
            "swinir": _TINY_SWINIR,
            "restormer": _TINY_RESTORMER,
        },
        train={"steps": 750, "batch": 16, "patch": 40},
        learning_rate=1e-3,
        schedule="cosine",
        test_sigmas_255=LEVELS,
        repeats=1,
        detail=4.0,
    ),
    "small": Preset(
        data="folder:BSD400",
        test=("folder:Set12", "folder:BSD68"),
        networks={
            "dncnn": {"depth": 8, "features": 48},
            "fdncnn": {"depth": 8, "features": 48},
            "swinir": _TINY_SWINIR,
            "restormer": _TINY_RESTORMER,
        },
        train={"steps": 2000, "batch": 16, "patch": 40, "save_every": 500},
        learning_rate=1e-3,
        schedule="cosine",
        test_sigmas_255=LEVELS,
        repeats=1,
        detail=8.0,
    ),
    # Protocol of Saied & Fleuret (2026), whose arms differ in loss, schedule and steps. Their corpus is
    # larger: BSD400, Waterloo, DIV2K and Flickr2K.
    "paper": Preset(
        data="folder:BSD400",
        test=("folder:Set12", "folder:BSD68"),
        networks={
            "dncnn": {"depth": 20, "features": 64},
            "fdncnn": {"depth": 20, "features": 64},
            "swinir": {},
            "restormer": {},
        },
        train={
            "steps": 500_000,
            "batch": 128,
            "patch": 70,
            "save_every": 10_000,
            "log_every": 1000,
        },
        learning_rate=1e-4,
        schedule="halved",
        test_sigmas_255=tuple(float(s) for s in np.round(np.geomspace(5, 100, 20), 6)),
        repeats=20,
        detail=16.0,
        own_settings={
            ("dncnn", "baseline"): {"loss": "l1", "schedule": "constant"},
            # Controls of the baseline, with its settings; the paper does not say theirs.
            ("dncnn", "multi-noise"): {"loss": "l1", "schedule": "constant"},
            ("dncnn", "soft-ne"): {"loss": "l1", "schedule": "constant"},
            ("fdncnn", "se-arch"): {"loss": "l1", "schedule": "constant"},
            ("fdncnn", "ne-arch"): {"schedule": "constant", "steps": 900_000},
            ("swinir", None): {"batch": 32, "patch": 64},
            ("swinir", "baseline"): {"schedule": "constant"},
            ("restormer", None): {"batch": 32, "patch": 64},  # as SwinIR: the paper does not say
        },
    ),
}


def run_config(
    arm: Arm,
    size: Size,
    sigma_255: float | tuple[float, ...],
    *,
    backbone: Backbone = "dncnn",
    data: str | None = None,
    steps: int | None = None,
    **changes: Any,
) -> TrainConfig:
    """The training run of an arm.

    Args:
        arm: What is trained. The architectures "se-arch" and "ne-arch" bring their own backbone, and
            "multi-noise" its own range of levels.
        size: How much of it.
        sigma_255: Training level in 8-bit units, or the ends of a range.
        backbone: The network inside.
        data: Training images in place of the preset's.
        steps: Steps in place of the preset's.
        **changes: Further fields of `TrainConfig`, such as `seed`.
    """
    preset, own = PRESETS[size], dict(ARMS[arm])
    backbone = own.pop("backbone", backbone)
    options = preset.networks[backbone] | own.pop("options", {})
    if "detail" in own:
        own["detail"] = preset.detail
    noise = changes.get("noise", TrainConfig.noise)
    settings = {
        "schedule": preset.schedule,
        "data": data or preset.data,
        "sigma_255": sigma_255,
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
