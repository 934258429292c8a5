"""A scale that is an image, against noise whose level is known everywhere."""

import jax
import numpy as np
import pytest
from skimage.data import camera

from wne_jax import statistics as S

local = jax.jit(S.local_noise)


def rising(shape, low, high, seed=0):
    """White noise whose deviation rises from left to right, and that deviation."""
    level = np.linspace(low, high, shape[1]) + np.zeros((shape[0], 1))
    return level * np.random.default_rng(seed).normal(0, 1, shape), level


def test_the_level_around_each_pixel_is_found():
    clean = camera()[128:320, 128:320].astype(float)
    noise, level = rising(clean.shape, 5, 25)
    scale = np.asarray(local(np.float32(clean + noise)[None, ..., None]).scale)[0, ..., 0]
    error = np.abs(scale / level - 1)
    assert scale.shape == clean.shape and np.median(error) < 0.12
    assert scale[:, :40].mean() < 0.6 * scale[:, -40:].mean()


def test_white_noise_has_one_level():
    y = np.random.default_rng(0).normal(0, 3, (1, 128, 128, 1)).astype(np.float32)
    np.testing.assert_allclose(local(y).scale, 3, rtol=0.12)


def test_the_contract_holds_at_every_pixel():
    noise, _ = rising((40, 36), 0.05, 0.3)
    y = np.float32(0.4 + np.stack([noise, noise.T[:36, :36].repeat(2, 0)[:40]]))[..., None]
    S.check_contract(S.local_noise, y)


def test_other_arrays_than_images_are_refused():
    with pytest.raises(ValueError, match=r"images \[B, H, W, C\]"):
        S.local_noise(np.ones((2, 30, 40), np.float32))
