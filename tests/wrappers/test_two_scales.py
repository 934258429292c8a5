"""A second estimate at half the size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

import wne_jax as wne
from wne_jax import protocol
from wne_jax.config import ModelConfig, OpponentColours, TwoScales, WrapperConfig, config_of
from wne_jax.images import psnr
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers import double_linear
from wne_jax.statistics import noise_level
from wne_jax.symmetry import assert_exact_under_powers_of_two, assert_normalization_equivariant
from wne_jax.testing import random_variables, tiny
from wne_jax.transforms import Anchor
from wne_jax.weights.packaged import packaged_file
from wne_jax.wrappers import two_scales as module
from wne_jax.wrappers.two_scales import CORRECTION, two_scales


def test_the_second_input_has_half_the_size_and_the_noise_of_the_first(key):
    seen = []
    z = jax.random.normal(key, (2, 64, 96, 1))
    two_scales(lambda c: seen.append(c) or c, z)
    assert [c.shape for c in seen] == [(2, 64, 96, 1), (2, 32, 48, 1)]
    assert abs(float(jnp.std(seen[1])) - 1) < 0.05


def test_a_denoiser_that_agrees_with_itself_is_not_changed(key):
    z = jax.random.normal(key, (2, 8, 6, 3))
    np.testing.assert_allclose(two_scales(lambda c: c / 4, z), z / 4, atol=1e-6)


def test_what_the_first_estimate_leaves_is_removed_up_to_a_tenth_of_the_noise(key):
    """A denoiser that removes nothing from an image of full size, and everything from the other."""
    z = 0.1 * jax.random.normal(key, (1, 32, 32, 1))
    found = two_scales(lambda c: c if c.shape[1] == 32 else 0 * c, z)
    means = z.reshape(1, 16, 2, 16, 2, 1).mean((2, 4))
    removed = double_linear(jnp.clip(means, -CORRECTION, CORRECTION))
    np.testing.assert_allclose(found, z - removed, atol=1e-6)


def test_coordinates_may_have_another_origin(key):
    """The network of the anchored coordinates is the other one, moved."""
    z = jax.random.normal(key, (1, 8, 8, 1))
    anchor = Anchor(location=5.0, scale=0.5)
    moved = two_scales(lambda c: 0.5 * jnp.tanh((c - 5) / 0.5) + 5, 0.5 * z + 5, anchor=anchor)
    np.testing.assert_allclose((moved - 5) / 0.5, two_scales(jnp.tanh, z), atol=2e-6)


def test_linear_interpolation_is_that_of_jax_inside():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 3)), jnp.float32)
    expected = jax.image.resize(x, (2, 10, 14, 3), "linear")
    np.testing.assert_allclose(double_linear(x)[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize("limit", [None, 3.0])
def test_the_wrapped_module_is_equivariant_and_has_the_variables_of_its_backbone(key, limit):
    backbone = tiny("dncnn")
    model = wne.WNE(module.TwoScales(backbone, contrast_limit=limit), noise_level)
    y = 0.4 + 0.1 * jax.random.normal(key, (2, 12, 13, 1))
    variables = random_variables(backbone, y)
    f = jax.jit(lambda y: model.apply(variables, y))
    assert_normalization_equivariant(f, y, key, samples=4, gain=20.0)
    assert_exact_under_powers_of_two(f, y)
    assert protocol.receptive_radius(model) == 2 * backbone.receptive_radius + 3 + bool(limit)


def test_no_pixel_sees_farther_than_it_says(key):
    backbone = tiny("dncnn")
    model = module.TwoScales(backbone)
    radius, z = protocol.receptive_radius(model), jax.random.normal(key, (1, 40, 40, 1))
    variables = random_variables(backbone, z)
    f = jax.jit(lambda z: model.apply(variables, z))
    for row in (16, 17):
        change = f(z.at[0, row, 20, 0].add(100.0)) != f(z)
        rows = np.flatnonzero(np.asarray(change)[0, :, :, 0].any(axis=1))
        assert np.abs(rows - row).max() <= radius


def test_configurations_name_it():
    wrapper = WrapperConfig("wne", "noise_level")
    config = ModelConfig("dncnn", {"depth": 3, "features": 8}, wrapper, TwoScales(64.0))
    assert config_of(config.build()) == config
    assert Denoiser.pretrained("gray").config.inside == TwoScales()
    assert Denoiser.pretrained("color").config.inside == OpponentColours()
    with pytest.raises(ValueError, match="contrast_limit must be positive or None, not 0"):
        module.TwoScales(tiny("dncnn"), contrast_limit=0.0)
    with pytest.raises(ValueError, match="two scales need noise of known strength"):
        wne.WNE(module.TwoScales(tiny("dncnn")))
    with pytest.raises(ValueError, match="must be blind"):
        module.TwoScales(tiny("dncnn", conditioned=True))
    with pytest.raises(ValueError, match="even sides"):
        two_scales(lambda c: c, jnp.ones((1, 3, 4, 1)))


def test_strong_noise_leaves_less_of_its_low_frequencies(key):
    """On photographs: more PSNR the stronger the noise is, and no less where it is weak."""
    corners = [(data.camera(), 60, 180), (data.moon(), 100, 150)]
    x = np.stack([p[i : i + 96, j : j + 96] for p, i, j in corners]).astype(np.float32) / 255
    x, gains = x[..., None], []
    fine, both = Denoiser.load(packaged_file("gray")), Denoiser.pretrained("gray")
    for level in (2, 25, 75):
        y = np.asarray(x + level / 255 * jax.random.normal(key, x.shape))
        gains.append(float(np.mean(psnr(both(y), x) - psnr(fine(y), x))))
    assert gains[0] > -0.02 and gains[1] > 0.05 and gains[2] > 0.3
