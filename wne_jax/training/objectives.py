r"""What a training example is made of: three ways from a clean crop to input and target.

Each is a pure function `(key, clean, *, noise, level) -> Batch` of one example: `clean` is f32[H, W, C] in
unit range, `noise` one of `wne_jax.images.degradations.NOISES`, `level` a number in unit range or the two
ends of a range. All draw the noise of the input from the same key: runs of different objectives see the same
noise. Multi-noise training is no objective of its own: it is a range of levels.
"""

from collections.abc import Callable, Sequence

import jax
from jax import Array

from wne_jax.data.corpus import Batch
from wne_jax.images.degradations import Noise, draw_level
from wne_jax.training.config import Objective

Level = float | Sequence[float]


def supervised(key: Array, clean: Array, *, noise: Noise, level: Level) -> Batch:
    """A noisy crop, and the clean one."""
    key_level, key_noise = jax.random.split(key)
    sigma = draw_level(key_level, level)
    return Batch(noise(key_noise, clean, sigma), clean, sigma)


def soft_ne(key: Array, clean: Array, *, noise: Noise, level: Level) -> Batch:
    r"""The same at another contrast and brightness: $(\alpha y + m, \alpha x + m)$, both of U(0, 1).

    Equivariance by augmentation, the control of Saied & Fleuret (2026): a network may learn it from such
    examples, approximately and where it has seen them.
    """
    # 0 and 1 are what `supervised` splits the key into.
    noisy, target, sigma = supervised(key, clean, noise=noise, level=level)
    contrast, brightness = jax.random.uniform(jax.random.fold_in(key, 2), (2,))
    return Batch(contrast * noisy + brightness, contrast * target + brightness, contrast * sigma)


def noise2noise(key: Array, clean: Array, *, noise: Noise, level: Level) -> Batch:
    """A noisy crop, and another of the same scene and level: no network sees the clean one.

    References:
        Lehtinen et al., "Noise2Noise: Learning Image Restoration without Clean Data", 2018.
    """
    noisy, _, sigma = supervised(key, clean, noise=noise, level=level)
    return Batch(noisy, noise(jax.random.fold_in(key, 2), clean, sigma), sigma)


OBJECTIVES: dict[Objective, Callable[..., Batch]] = {
    "supervised": supervised,
    "soft-ne": soft_ne,
    "noise2noise": noise2noise,
}
"""The objectives, by their names in configurations."""
