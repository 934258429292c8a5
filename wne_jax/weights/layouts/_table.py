"""A layout: which tensor of a checkpoint becomes which variable of a model."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from wne_jax.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every tensor of a checkpoint, by name."""


class Entry(NamedTuple):
    """One row of the table: a tensor, the variable that it fills, and the conversion."""

    source: str
    target: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray]


class Plan(NamedTuple):
    """A recognised checkpoint: the model to build, the table, and the tensors that are not parameters.

    `buffers` are counters, indices and masks, which the model computes itself. `zeros` are biases and means
    that the model does not have; they must be zero. `note` is information for the user that names and shapes
    do not contain.
    """

    config: ModelConfig
    entries: list[Entry]
    buffers: frozenset[str] = frozenset()
    zeros: frozenset[str] = frozenset()
    note: str | None = None


ASSUMED_WRAPPER = (
    "assumed to be trained inside WNE, which the tensors do not show: if it was not, results are wrong by a "
    "quarter of the range or more; then use wrapper=None (--wrapper none)"
)
"""The note on files of Saied & Fleuret, whose names are the same with and without a wrapper."""

Layout = Callable[[Shapes], Plan | None]
"""A function that recognises a checkpoint by names and shapes; it returns None for other layouts."""


def same(tensor: np.ndarray) -> np.ndarray:
    """No conversion: biases, scales, tables."""
    return tensor


def convolution(tensor: np.ndarray) -> np.ndarray:
    """`[out, in, kh, kw]` to `[kh, kw, in, out]`, also for depthwise convolutions."""
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
    """Kernel and, if there is one, bias."""
    kernel = Entry(f"{source}.weight", ("params", *target, "kernel"), convolution)
    return [kernel, Entry(f"{source}.bias", ("params", *target, "bias"), same)][: 1 + bias]
