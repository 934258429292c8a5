import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import wne_jax as wne
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers import gaussian_blur
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.training import ModelConfig
from wne_jax.wrappers.smooth_base import SmoothBase, smooth_base

CONFIG = ModelConfig(
    "dncnn",
    {"depth": 3, "features": 8},
    wrapper="wne",
    statistics="haar_mad",
    detail=1.5,
    cap=1.3,
)


@pytest.fixture(scope="module")
def denoiser():
    model = CONFIG.build()
    variables = model.init(jax.random.key(1), jnp.zeros((1, 24, 24, 1)))
    return Denoiser(model, variables, CONFIG)


@pytest.mark.parametrize("sigma", [0.7, 4.0])
def test_the_blur_is_that_of_scipy(sigma, key):
    x = np.asarray(jax.random.normal(key, (1, 30, 21, 1)))
    expected = ndimage.gaussian_filter(x[0, ..., 0], sigma, mode="mirror", truncate=4)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(x), sigma)[0, ..., 0], expected, atol=1e-6)


def test_the_wrapped_detail_is_normalization_equivariant(denoiser, key):
    y = 0.5 + 0.2 * jax.random.normal(key, (2, 24, 24, 1))
    assert_normalization_equivariant(denoiser.function, y, key, gain=4.0)
    assert_exact_under_powers_of_two(denoiser.function, y)
    assert denoiser.symmetry == "normalization" and denoiser.takes_sigma
    constant = np.full((9, 9), 0.3, np.float32)
    np.testing.assert_array_equal(denoiser(constant), constant)


def test_a_slow_change_of_brightness_does_not_reach_the_backbone(key):
    detail = 0.1 * jax.random.normal(key, (1, 80, 80, 1))
    ramp = jnp.linspace(0, 3, 80).reshape(1, 1, 80, 1) + jnp.zeros_like(detail)
    inner = np.s_[:, :, 8:-8]  # the blur of a ramp is the ramp, but where it is reflected
    seen = []
    for x in (detail, detail + ramp):
        smooth_base(lambda d: seen.append(d) or d, x, sigma_px=2.0)
    np.testing.assert_allclose(seen[0][inner], seen[1][inner], atol=1e-5)


def test_a_backbone_that_finds_nothing_leaves_the_blurred_image(key):
    z = jax.random.normal(key, (1, 20, 20, 1))
    np.testing.assert_array_equal(
        smooth_base(lambda d: 0 * d, z, sigma_px=2.0), gaussian_blur(z, 2.0)
    )


def test_what_is_removed_beyond_the_energy_of_noise_is_shrunk_by_wieners_factor(key):
    texture = 3 * jnp.sin(jnp.arange(64.0)).reshape(1, 1, 64, 1) + jnp.zeros((1, 64, 64, 1))
    energy = 3**2 / 2
    nothing = lambda d: 0 * d  # noqa: E731
    removed = texture - smooth_base(nothing, texture, sigma_px=4.0, wiener_cap=1.3)
    inner = jnp.mean(jnp.square(removed[:, :, 16:-16]))
    np.testing.assert_allclose(inner, energy * (1.3 / energy) ** 2, rtol=0.05)
    noise = jax.random.normal(key, texture.shape)
    free = smooth_base(nothing, noise, sigma_px=4.0)
    capped = smooth_base(nothing, noise, sigma_px=4.0, wiener_cap=1.6)
    assert jnp.mean(jnp.square(capped - free)) < 2e-3  # hardly ever does noise exceed it


def test_it_adds_no_parameters_and_widens_the_view_by_the_blur(denoiser, key):
    bare = wne.models.DnCNN(depth=3, features=8)
    variables = bare.init(jax.random.key(1), jnp.zeros((1, 24, 24, 1)))
    assert jax.tree.structure(variables) == jax.tree.structure(denoiser.variables)
    assert denoiser.receptive_radius == bare.receptive_radius + 6 + 10
    image = np.asarray(jax.random.uniform(key, (64, 50)))
    np.testing.assert_allclose(denoiser(image, tile=48), denoiser(image), atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="need a wrapper"):
        ModelConfig(detail=4.0)
    with pytest.raises(ValueError, match="cap needs detail, the statistics haar_mad"):
        ModelConfig(wrapper="wne", detail=4.0, cap=1.3)
    with pytest.raises(ValueError, match="cap needs detail"):
        ModelConfig(wrapper="scale", statistics="haar_mad", detail=4.0, cap=1.3)
    with pytest.raises(ValueError, match="detail must be positive"):
        ModelConfig(wrapper="wne", detail=-1.0)
    with pytest.raises(ValueError, match="exclude each other"):
        ModelConfig(wrapper="wne", detail=4.0, trained_sigma_255=25.0)
    with pytest.raises(ValueError, match="sigma_px must be positive"):
        SmoothBase(wne.models.DnCNN(), sigma_px=0.0)
