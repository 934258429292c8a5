import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import config, models
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.statistics import haar_mad, haar_sigma, mean_std
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.transforms import normalize
from wne_jax.wrappers.rescaled import Rescaled, blend, multi_scale
from wne_jax.wrappers.smooth_base import SmoothBase


def noisy_image(key, sigma=0.05):
    ramp = jnp.sin(jnp.linspace(0, 6, 96)).reshape(1, 1, 96, 1) + jnp.zeros((1, 96, 96, 1))
    return 0.3 * ramp + sigma * jax.random.normal(key, ramp.shape)


def test_the_blend_is_the_geometric_mean_of_noise_and_contrast(key):
    y = noisy_image(key)
    z, stats = normalize(y)
    expected = jnp.sqrt(haar_sigma(y) * mean_std(y).scale[:, 0, 0, 0])
    np.testing.assert_allclose((stats.scale * blend(z))[:, 0, 0, 0], expected, rtol=1e-5)


def test_white_noise_has_the_same_strength_in_all_octaves(key):
    z, _ = normalize(jax.random.normal(key, (1, 256, 256, 1)))
    np.testing.assert_allclose(multi_scale(z), 1, atol=0.02)
    assert multi_scale(jnp.zeros((1, 16, 16, 1))) == 1 == blend(jnp.zeros((1, 16, 16, 1)))


@pytest.mark.parametrize("rescale", ["blend", "multi_scale", "learned"])
def test_a_wrapped_rescaled_backbone_is_normalization_equivariant(rescale, key):
    options = {"depth": 3, "features": 8}
    made = ModelConfig(options=options, wrapper="wne", inside=config.Rescaled(rescale))
    model, y = made.build(), noisy_image(key)[:, :24, :24]
    variables = model.init(jax.random.key(1), y)
    moved = jax.tree.map(lambda v: v + 0.1, variables)  # the learned factor is initially one
    f = jax.jit(lambda y: model.apply(moved, y))
    assert_normalization_equivariant(f, y, key, gain=16.0)
    assert_exact_under_powers_of_two(f, y)
    assert ("rescaled" in variables["params"]) == (rescale == "learned")


def test_an_almost_zero_octave_counts_as_zero(key):
    # Averaging 2 x 2 pixels removes a checkerboard; of one with faint noise, only little remains.
    board = jnp.asarray((-1.0) ** np.add.outer(range(64), range(64)), jnp.float32)[None, ..., None]
    noise = jax.random.normal(key, board.shape)
    factors = [multi_scale(normalize(board + eps * noise)[0]).item() for eps in (0.0, 1e-5)]
    np.testing.assert_allclose(factors[0], factors[1], rtol=1e-3)
    assert factors[0] > 0.02


def test_unsuitable_wrappers_are_rejected_by_module_and_configuration():
    net = Rescaled(models.DnCNN(depth=3, features=8), "blend")
    with pytest.raises(ValueError, match="images of contrast 1"):
        wne.WNE(net, statistics=haar_mad)
    with pytest.raises(ValueError, match="images of contrast 1"):
        wne.ScaleEquivariant(net)
    with pytest.raises(ValueError, match="its own scale"):
        wne.WNE(net, anchor=wne.Anchor(0.5, 0.2))
    for wrapper in (None, WrapperConfig("wne", "haar_mad"), "scale"):
        with pytest.raises(ValueError, match="images of contrast 1"):
            ModelConfig(wrapper=wrapper, inside=config.Rescaled("blend"))
    with pytest.raises(ValueError, match="its own scale"):
        ModelConfig(wrapper=WrapperConfig(anchor=(0.5, 0.2)), inside=config.Rescaled("blend"))
    with pytest.raises(ValueError, match="must be blind"):
        Rescaled(models.DnCNN(conditioned=True), "blend")
    with pytest.raises(ValueError, match="by must be one of blend"):
        ModelConfig(wrapper="wne", inside=config.Rescaled("cubic"))
    with pytest.raises(ValueError, match="directly around the backbone"):
        Rescaled(SmoothBase(models.DnCNN()), "blend")
