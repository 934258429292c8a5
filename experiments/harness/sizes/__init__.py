"""The sizes that every experiment comes in; each file says its command, what to expect, and what it costs."""

from experiments.harness.sizes.paper import PAPER
from experiments.harness.sizes.preset import Preset
from experiments.harness.sizes.small import SMALL
from experiments.harness.sizes.tiny import TINY

PRESETS: dict[str, Preset] = {"tiny": TINY, "small": SMALL, "paper": PAPER}
"""Sizes by the name that `--preset` takes."""

__all__ = ["PRESETS", "Preset"]
