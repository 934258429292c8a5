import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import ndimage

import wne_jax as wne
from wne_jax import config
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers import gaussian_blur
from wne_jax.statistics import haar_mad, mean_std, root_mean_square
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.wrappers.smooth_base import SmoothBase, smooth_base

CONFIG = ModelConfig(
    "dncnn",
    {"depth": 3, "features": 8},
    wrapper=WrapperConfig("wne", "haar_mad"),
    inside=config.SmoothBase(1.5, wiener_cap=1.3),
)


@pytest.fixture(scope="module")
def denoiser():
    model = CONFIG.build()
    variables = model.init(jax.random.key(1), jnp.zeros((1, 24, 24, 1)))
    return Denoiser(model, variables, CONFIG)


@pytest.mark.parametrize("sigma", [0.7, 4.0])
def test_the_blur_agrees_with_scipy(sigma, key):
    x = np.asarray(jax.random.normal(key, (1, 30, 21, 1)))
    expected = ndimage.gaussian_filter(x[0, ..., 0], sigma, mode="mirror", truncate=4)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(x), sigma)[0, ..., 0], expected, atol=1e-6)


def test_the_wrapped_smooth_base_is_normalization_equivariant(denoiser, key):
    y = 0.5 + 0.2 * jax.random.normal(key, (2, 24, 24, 1))
    assert_normalization_equivariant(denoiser.function, y, key, gain=4.0)
    assert_exact_under_powers_of_two(denoiser.function, y)
    assert denoiser.symmetry == "normalization" and denoiser.takes_sigma
    constant = np.full((9, 9), 0.3, np.float32)
    np.testing.assert_array_equal(denoiser(constant), constant)


def test_a_slow_change_of_brightness_does_not_reach_the_backbone(key):
    detail = 0.1 * jax.random.normal(key, (1, 80, 80, 1))
    ramp = jnp.linspace(0, 3, 80).reshape(1, 1, 80, 1) + jnp.zeros_like(detail)
    inner = np.s_[:, :, 8:-8]  # the blur of a ramp is the ramp, except near reflected borders
    seen = []
    for x in (detail, detail + ramp):
        smooth_base(lambda d: seen.append(d) or d, x, sigma_px=2.0)
    np.testing.assert_allclose(seen[0][inner], seen[1][inner], atol=1e-5)


def test_a_zero_backbone_returns_the_blurred_image(key):
    z = jax.random.normal(key, (1, 20, 20, 1))
    np.testing.assert_array_equal(
        smooth_base(lambda d: 0 * d, z, sigma_px=2.0), gaussian_blur(z, 2.0)
    )


def test_removed_energy_above_the_noise_is_reduced_by_the_wiener_gain(key):
    texture = 3 * jnp.sin(jnp.arange(64.0)).reshape(1, 1, 64, 1) + jnp.zeros((1, 64, 64, 1))
    energy = 3**2 / 2
    nothing = lambda d: 0 * d  # noqa: E731
    removed = texture - smooth_base(nothing, texture, sigma_px=4.0, wiener_cap=1.3)
    inner = jnp.mean(jnp.square(removed[:, :, 16:-16]))
    np.testing.assert_allclose(inner, energy * (1.3 / energy) ** 2, rtol=0.05)
    noise = jax.random.normal(key, texture.shape)
    free = smooth_base(nothing, noise, sigma_px=4.0)
    capped = smooth_base(nothing, noise, sigma_px=4.0, wiener_cap=1.6)
    assert jnp.mean(jnp.square(capped - free)) < 2e-3  # noise rarely exceeds it


def test_it_adds_no_parameters_and_the_receptive_radius_grows_by_the_blur(denoiser, key):
    bare = wne.models.DnCNN(depth=3, features=8)
    variables = bare.init(jax.random.key(1), jnp.zeros((1, 24, 24, 1)))
    assert jax.tree.structure(variables) == jax.tree.structure(denoiser.variables)
    assert denoiser.receptive_radius == bare.receptive_radius + 6 + 10
    image = np.asarray(jax.random.uniform(key, (64, 50)))
    np.testing.assert_allclose(denoiser(image, tile=48), denoiser(image), atol=1e-6)


def test_the_cap_is_in_units_of_the_noise_and_the_input_has_the_anchors_location(key):
    """Results in the coordinates of an anchor agree with those in normalized coordinates."""
    anchor = wne.Anchor(0.45, 0.1)
    z = jnp.cumsum(jax.random.normal(key, (1, 40, 40, 1)), axis=1)
    backbone = lambda d: 0.5 * d + 0.1 * jnp.sin(d)  # noqa: E731
    seen = []

    def anchored(x):
        seen.append(x)
        return anchor.location + anchor.scale * backbone((x - anchor.location) / anchor.scale)

    there = smooth_base(
        anchored, anchor.scale * z + anchor.location, sigma_px=2.0, wiener_cap=1.3, anchor=anchor
    )
    here = smooth_base(backbone, z, sigma_px=2.0, wiener_cap=1.3)
    np.testing.assert_allclose((there - anchor.location) / anchor.scale, here, atol=1e-4)
    assert float(jnp.abs(smooth_base(backbone, z, sigma_px=2.0) - here).max()) > 0.1
    np.testing.assert_allclose(jnp.mean(seen[0]), anchor.location, atol=0.01)


def test_the_wrapper_passes_its_anchor(key):
    """With an affine backbone that keeps the anchor's coordinates, the module agrees with the function."""

    class Halving(nn.Module):
        def __call__(self, x):
            return 0.45 + 0.5 * (x - 0.45)

    y = jnp.cumsum(jax.random.normal(key, (1, 40, 40, 1)), axis=1)
    inside = SmoothBase(Halving(), sigma_px=2.0, wiener_cap=1.3)
    found = wne.WNE(inside, statistics=haar_mad, anchor=wne.Anchor(0.45, 0.1)).apply({}, y)
    z, stats = wne.normalize(y, statistics=haar_mad)
    expected = smooth_base(lambda d: 0.5 * d, z, sigma_px=2.0, wiener_cap=1.3)
    np.testing.assert_allclose(found, wne.denormalize(expected, stats), rtol=1e-3, atol=1e-3)


def test_invalid_values_and_unsuitable_wrappers_are_rejected():
    net = wne.models.DnCNN(depth=3, features=8)
    capped = SmoothBase(net, wiener_cap=1.3)
    for statistic in (mean_std, root_mean_square):
        with pytest.raises(ValueError, match="a statistic whose scale is the noise level"):
            wne.WNE(capped, statistics=statistic)
    wne.WNE(capped, statistics=haar_mad, anchor=wne.Anchor(0.45, 0.1))
    for arguments in ({}, {"wrapper": "wne"}, {"wrapper": "scale"}):
        with pytest.raises(ValueError, match="a statistic whose scale is the noise level"):
            ModelConfig(inside=config.SmoothBase(4.0, wiener_cap=1.3), **arguments)
    with pytest.raises(ValueError, match="sigma_px must be positive, not -1"):
        ModelConfig(wrapper="wne", inside=config.SmoothBase(-1.0))
    with pytest.raises(ValueError, match="sigma_px must be positive"):
        SmoothBase(net, sigma_px=0.0)
    for nested in (
        lambda: wne.WNE(SmoothBase(wne.WNE(net))),
        lambda: SmoothBase(wne.ScaleEquivariant(net)),
        lambda: wne.WNE(wne.WNE(SmoothBase(net))),
    ):
        with pytest.raises(ValueError, match="is a wrapper already"):
            nested()
    with pytest.raises(ValueError, match="directly around the backbone, not around SmoothBase"):
        SmoothBase(SmoothBase(net))


def test_a_smooth_base_may_contain_an_equivariant_backbone(key):
    options = {"depth": 3, "features": 8, "mode": "normalization-equivariant"}
    model = ModelConfig("fdncnn", options, inside=config.SmoothBase(1.5)).build()
    assert type(model) is SmoothBase and model.symmetry == "normalization"
