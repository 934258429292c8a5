r"""What a training example is made of: three ways from a clean crop to input and target.

Each is a pure function `(key, clean, *, noise, level, task) -> Batch` of one example: `clean` is f32[H, W, C]
in unit range, `noise` one of `wne_jax.images.degradations.NOISES`, `level` a number in unit range or the two
ends of a range, `task` the degradation before the noise. All draw the noise of the input from the same key:
runs of different objectives see the same noise. Multi-noise training is no objective of its own: it is a
range of levels.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from wne_jax.data.corpus import Batch
from wne_jax.images.degradations import Noise, draw_level
from wne_jax.training.config import Objective
from wne_jax.training.tasks import DENOISE, Task

Level = float | Sequence[float]


def supervised(
    key: Array, clean: Array, *, noise: Noise, level: Level, task: Task = DENOISE
) -> Batch:
    """A degraded crop, and the clean one."""
    key_level, key_noise = jax.random.split(key)
    sigma = draw_level(key_level, level)
    y, where = task.observe(key_noise, clean, noise, sigma)
    return Batch(y, clean, sigma, where)


def soft_ne(key: Array, clean: Array, *, noise: Noise, level: Level, task: Task = DENOISE) -> Batch:
    r"""The same at another contrast and brightness: $(\alpha y + m, \alpha x + m)$, both of U(0, 1).

    Equivariance by augmentation, the control of Saied & Fleuret (2026): a network may learn it from such
    examples, approximately and where it has seen them.
    """
    # 0 and 1 are what `supervised` splits the key into.
    noisy, target, sigma, where = supervised(key, clean, noise=noise, level=level, task=task)
    contrast, brightness = jax.random.uniform(jax.random.fold_in(key, 2), (2,))
    moved = contrast * noisy + brightness
    if where is not None:  # missing pixels stay 0
        moved = jnp.where(where, moved, 0)
    return Batch(moved, contrast * target + brightness, contrast * sigma, where)


def noise2noise(
    key: Array, clean: Array, *, noise: Noise, level: Level, task: Task = DENOISE
) -> Batch:
    """A noisy crop, and another of the same scene and level: no network sees the clean one.

    It is for the task "denoise", which `TrainConfig` checks.

    References:
        Lehtinen et al., "Noise2Noise: Learning Image Restoration without Clean Data", 2018.
    """
    noisy, _, sigma, _ = supervised(key, clean, noise=noise, level=level, task=task)
    return Batch(noisy, noise(jax.random.fold_in(key, 2), clean, sigma), sigma)


OBJECTIVES: dict[Objective, Callable[..., Batch]] = {
    "supervised": supervised,
    "soft-ne": soft_ne,
    "noise2noise": noise2noise,
}
"""The objectives, by their names in configurations."""
