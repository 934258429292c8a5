"""A preset: data, networks, and settings of training and testing."""

from dataclasses import dataclass, field
from typing import Any, Literal

TEST_LEVELS = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 90.0)
"""Test noise levels of the smaller sizes, in 8-bit units."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The size of an experiment.

    Attributes:
        data: Training images.
        test: Test images.
        networks: Options of each backbone, by name; other backbones use their own defaults.
        train: Fields of `TrainConfig`.
        learning_rate: The maximum.
        schedule: Schedule of the learning rate.
        test_sigmas_255: Test noise levels in 8-bit units.
        repeats: Noise draws for each image and level.
        smooth_base_px: Standard deviation of the blur of arms with a smooth base, in pixels. The blur passes
            some low-frequency noise, which a network with a larger receptive field could remove.
        own_settings: Training settings that replace the others for one backbone, keyed by (backbone, None),
            or for one arm, keyed by (backbone, arm).
    """

    data: str
    test: tuple[str, ...]
    networks: dict[str, dict[str, Any]]
    train: dict[str, Any]
    learning_rate: float
    schedule: Literal["constant", "halved", "cosine"]
    test_sigmas_255: tuple[float, ...]
    repeats: int
    smooth_base_px: float
    own_settings: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)


SMALL_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "swinir": {"groups": 2, "blocks": 2, "features": 24, "heads": 3},
    "restormer": {"dim": 12, "blocks": (1, 1, 1, 1), "refinement_blocks": 1},
}
"""The transformers of the smaller presets."""
