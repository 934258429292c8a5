"""Series and forecasting networks of `experiments.series`."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike
from matplotlib import cbook

from experiments.parts.pairs import Draw, Pairs, pairs_of
from wne_jax import WNE
from wne_jax.statistics import Statistics, mean_std

TRAINED_SHARE = 0.7
"""The first part of a series, on which networks are trained; they are tested on the rest."""

EPSILON = 1e-5
"""The epsilon of RevIN, which it adds to the variance."""


def synthetic(length: int = 4000) -> np.ndarray:
    """Three mixed oscillations with changing strength, a wandering level, and noise: f64[length, 3]."""
    rng = np.random.default_rng(0)
    t = np.arange(length)[:, None]
    period, slow = np.array([11.0, 17.0, 29.0]), np.array([410.0, 530.0, 710.0])
    phase = 2 * np.pi * t / period + np.cumsum(rng.normal(0, 0.03, (length, 3)), axis=0)
    strength = np.exp(0.8 * np.sin(2 * np.pi * t / slow + rng.uniform(0, 2 * np.pi, 3)))
    level = np.cumsum(rng.normal(0, 0.03, (length, 3)), axis=0)
    mixed = (strength * np.sin(phase)) @ rng.normal(0, 1, (3, 3))
    return mixed + level + rng.normal(0, 0.1, (length, 3))


def electroencephalogram() -> np.ndarray:
    """The EEG that Matplotlib ships as sample data: f64[800, 4]."""
    with cbook.get_sample_data("eeg.dat") as file:
        return np.fromfile(file, dtype=np.float64).reshape(800, 4)


SERIES: dict[str, Callable[[], np.ndarray]] = {"synthetic": synthetic, "EEG": electroencephalogram}
"""The series by name, each `[N, C]`."""


def split(series: np.ndarray) -> tuple[Array, Array]:
    """The parts for training and for testing, standardized per channel by the first."""
    first = series[: int(TRAINED_SHARE * len(series))]
    standardized = (series - first.mean(axis=0)) / first.std(axis=0)
    whole = jnp.asarray(standardized, jnp.float32)
    return whole[: len(first)], whole[len(first) :]


def windows(series: Array, starts: Array, history: int, horizon: int) -> Pairs:
    """Histories `[B, history, C]` that begin at the given places, and what follows, `[B, horizon, C]`."""
    places = starts[:, None] + np.arange(history + horizon, dtype=np.int32)[None]
    found = series[places]
    return pairs_of(found[:, :history], found[:, history:])


def all_windows(series: Array, history: int, horizon: int) -> Pairs:
    """All windows of a series."""
    starts = np.arange(len(series) - history - horizon + 1, dtype=np.int32)
    return windows(series, jnp.asarray(starts), history, horizon)


def random_windows(series: Array, history: int, horizon: int, *, batch: int = 64) -> Draw:
    """Batches of windows at random places."""

    def draw(key: Array) -> Pairs:
        number = len(series) - history - horizon + 1
        starts = (jax.random.uniform(key, (batch,)) * number).astype(jnp.int32)
        return windows(series, starts, history, horizon)

    return draw


class Mixer(nn.Module):
    """A small MLP-mixer that forecasts `[B, horizon, C]` from a history `[B, T, C]`.

    Attributes:
        horizon: Number of forecast values.
        depth: Number of blocks, each of which mixes over time, then over channels.
        features: Width of the hidden layers.

    References:
        Chen et al., "TSMixer: An All-MLP Architecture for Time Series Forecasting", 2023.
    """

    horizon: int
    depth: int = 2
    features: int = 32

    @nn.compact
    def __call__(self, y: Array) -> Array:
        """Forecast."""
        y = jnp.swapaxes(y, 1, 2)  # [B, C, T]
        for _ in range(self.depth):
            y = y + _mlp(self.features, y)
            y = y + jnp.swapaxes(_mlp(self.features, jnp.swapaxes(y, 1, 2)), 1, 2)
        return jnp.swapaxes(nn.Dense(self.horizon)(y), 1, 2)


def _mlp(features: int, y: Array) -> Array:
    return nn.Dense(y.shape[-1])(nn.gelu(nn.Dense(features)(y)))


class LearnedAffine(nn.Module):
    """A learned change of each channel before the backbone, undone after it.

    Attributes:
        backbone: The module inside.
    """

    backbone: nn.Module

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Apply the backbone between the change and its inverse."""
        gain = self.param("gain", nn.initializers.ones, (z.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (z.shape[-1],))
        return (self.backbone(z * gain[None, None] + bias[None, None]) - bias[None, None]) / gain[
            None, None
        ]


def with_epsilon(
    y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
) -> Statistics:
    """The mean, and the square root of the variance plus `EPSILON`: not equivariant."""
    mean, std, _ = mean_std(y, axes=axes, where=where)
    return Statistics(mean, jnp.sqrt(jnp.square(std) + EPSILON))


TIME = (1,)
"""The axis over which RevIN and WNE normalize: each channel by itself."""

wne = partial(WNE, axes=TIME)


def revin(backbone: nn.Module) -> nn.Module:
    """Reversible instance normalization with its epsilon and its affine parameters.

    It is the wrapper with another statistic.

    References:
        Kim et al., "Reversible Instance Normalization for Accurate Time-Series Forecasting against
        Distribution Shift", 2022.
    """
    return WNE(LearnedAffine(backbone), statistics=with_epsilon, axes=TIME)
