"""The presets of the experiments; each file states its command, expected figures and cost."""

from experiments.harness.sizes.paper import PAPER
from experiments.harness.sizes.preset import Preset
from experiments.harness.sizes.small import SMALL
from experiments.harness.sizes.tiny import TINY

PRESETS: dict[str, Preset] = {"tiny": TINY, "small": SMALL, "paper": PAPER}
"""Presets by the value of `--preset`."""

__all__ = ["PRESETS", "Preset"]
