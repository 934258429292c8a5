"""What a layout is: which tensor of a checkpoint becomes which variable of a model."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from wne_jax.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every tensor of a checkpoint, by its name there."""


class Entry(NamedTuple):
    """One row of the table: a tensor, the variable that it fills, and how its axes and values change."""

    source: str
    target: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray]


class Plan(NamedTuple):
    """A recognised checkpoint: the model to build, the table, and the tensors that hold no parameter.

    `buffers` are counters, indices and masks: things that the model computes for itself. `zeros` are biases
    and means that it does not have; they must be zero. `note` is what a reader of the file should know, since
    names and shapes do not tell it.
    """

    config: ModelConfig
    entries: list[Entry]
    buffers: frozenset[str] = frozenset()
    zeros: frozenset[str] = frozenset()
    note: str | None = None


ASSUMED_WRAPPER = (
    "taken for a network that was trained inside WNE, which its tensors do not tell: the result of one that "
    "was not is wrong by a quarter of the range and more; wrapper=None (--wrapper none) bares it"
)
"""The note on files of Saied & Fleuret, whose names are the same with and without a wrapper."""

Layout = Callable[[Shapes], Plan | None]
"""Recognise a checkpoint by the names and shapes of its tensors; None if it is of another layout."""


def same(tensor: np.ndarray) -> np.ndarray:
    """A tensor whose axes agree: biases, scales, tables."""
    return tensor


def convolution(tensor: np.ndarray) -> np.ndarray:
    """`[out, in, kh, kw]` to `[kh, kw, in, out]`; depthwise ones too."""
    return tensor.transpose(2, 3, 1, 0)


def linear(tensor: np.ndarray) -> np.ndarray:
    """`[out, in]` to `[in, out]`."""
    return tensor.T


def batch_norm(source: str, *target: str) -> list[Entry]:
    """The four tensors of an affine batch normalization."""
    return [
        Entry(f"{source}.weight", ("params", *target, "scale"), same),
        Entry(f"{source}.bias", ("params", *target, "bias"), same),
        Entry(f"{source}.running_mean", ("batch_stats", *target, "mean"), same),
        Entry(f"{source}.running_var", ("batch_stats", *target, "var"), same),
    ]


def convolution_entries(source: str, *target: str, bias: bool) -> list[Entry]:
    """Kernel and, where there is one, bias."""
    kernel = Entry(f"{source}.weight", ("params", *target, "kernel"), convolution)
    return [kernel, Entry(f"{source}.bias", ("params", *target, "bias"), same)][: 1 + bias]
