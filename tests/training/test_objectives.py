import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.images.degradations import NOISES
from wne_jax.training import TrainConfig
from wne_jax.training.objectives import OBJECTIVES

CLEAN = jnp.full((200, 200, 1), 0.3)


def example(objective, key, noise="gaussian", level=0.1):
    return OBJECTIVES[objective](key, CLEAN, noise=NOISES[noise], level=level)


def test_soft_ne_moves_input_and_target_by_one_affine_map_of_the_supervised_example(key):
    noisy, clean, sigma, _ = example("supervised", key)
    moved, target, its_sigma, _ = example("soft-ne", key)
    contrast = its_sigma / sigma
    brightness = target[0, 0, 0] - contrast * 0.3
    assert 0 < contrast < 1 and 0 < brightness < 1
    np.testing.assert_allclose(moved, contrast * noisy + brightness, atol=1e-6)
    np.testing.assert_allclose(target, contrast * clean + brightness, atol=1e-6)
    assert example("soft-ne", jax.random.key(1)).sigma != its_sigma


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_noise2noise_pairs_independent_copies_of_one_level(key, noise):
    one, two, sigma, _ = example("noise2noise", key, noise)
    np.testing.assert_array_equal(one, example("supervised", key, noise).noisy)
    np.testing.assert_allclose([one.std(), two.std()], sigma, rtol=0.02)
    np.testing.assert_allclose(jnp.mean((one - 0.3) * (two - 0.3)), 0, atol=0.02 * sigma**2)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective must be one of supervised, soft-ne"):
        TrainConfig(objective="noise2void")
