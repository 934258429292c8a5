"""What a size says: the data, the networks, and how they are trained and tested."""

from dataclasses import dataclass, field
from typing import Any, Literal

TEST_LEVELS = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 90.0)
"""Test noise levels of the smaller sizes, in 8-bit units."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One size of every experiment.

    Attributes:
        data: Training images.
        test: Test images.
        networks: Options of each backbone, by name; others have their own defaults.
        train: Fields of `TrainConfig`.
        learning_rate: The largest.
        schedule: That of the learning rate.
        test_sigmas_255: Test noise levels in 8-bit units.
        repeats: Noise draws for each image and level.
        smooth_base_px: Standard deviation of the blur of arms with a smooth base, in pixels: what it leaves
            of the noise, a network that sees farther could have removed.
        own_settings: What single backbones, or arms of them, are trained with in place of the rest, by
            backbone and arm, or by backbone and None.
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
"""The transformers of the smaller sizes."""
