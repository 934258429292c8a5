"""The curve of noise over intensity, and the statistic that flattens it, against known noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.data import camera

import wne_jax as wne
from wne_jax import statistics as S


def photograph(alpha, read, seed=0, size=192):
    """The cameraman with noise of variance alpha x + read^2, in whole photons of alpha."""
    rng = np.random.default_rng(seed)
    x = camera()[128 : 128 + size, 128 : 128 + size].astype(float)
    y = alpha * rng.poisson(x / alpha) if alpha else x
    return np.float32(y + rng.normal(0, read, x.shape))[None, ..., None]


@pytest.mark.parametrize("alpha, read", [(0.7, 2.0), (2.5, 5.0), (10.0, 5.0)])
def test_the_line_is_that_of_the_noise(alpha, read):
    y = photograph(alpha, read)
    curve = S.noise_curve(y)
    at_mean = alpha * camera()[128:320, 128:320].mean() + read**2
    assert abs(curve.slope[0] / alpha - 1) < 0.12
    assert abs(curve.at_mean[0] / at_mean - 1) < 0.1
    assert curve.significance[0] > 20 and curve.trust[0] == 1
    _, scale, gain = S.photon(y)
    np.testing.assert_allclose(gain.ravel(), curve.slope, rtol=1e-5)
    np.testing.assert_allclose(
        scale.ravel() ** 2, curve.at_mean + 0.375 * curve.slope**2, rtol=1e-5
    )
    z = wne.normalize(y, statistics=S.photon)[0]
    flat = S.noise_curve(z)
    spread = np.sqrt(np.asarray(flat.variance)[np.asarray(flat.blocks) > 0])
    np.testing.assert_allclose(np.median(spread), 1, atol=0.05)
    assert np.percentile(spread, 90) / np.percentile(spread, 10) < 1.35
    before = np.sqrt(np.asarray(curve.variance)[np.asarray(curve.blocks) > 0])
    assert np.percentile(before, 90) / np.percentile(before, 10) > 1.5


@pytest.mark.parametrize("sigma", [2.0, 5.0, 25.0])
def test_white_noise_has_no_gain(sigma):
    for seed in range(2):
        y = photograph(0, sigma, seed)
        location, scale, gain = S.photon(y)
        assert gain == 0
        np.testing.assert_allclose(scale, S.noise_level(y).scale, rtol=1e-6)
        np.testing.assert_array_equal(location, S.noise_level(y).location)


def test_the_gain_comes_in_with_its_significance():
    """Between white noise and photons there are images whose slope counts in part."""
    white, photons = photograph(0, 8.0), photograph(0.6, 0.0) - photograph(0, 0.0)
    trust = []
    for share in np.linspace(0, 2, 11, dtype=np.float32):
        mixed = white + share * photons
        curve, gain = S.noise_curve(mixed), S.photon(mixed).gain.ravel()
        np.testing.assert_allclose(gain, curve.trust * curve.slope, rtol=1e-4, atol=1e-6)
        trust.append(curve.trust.item())
    assert trust[0] == 0 and trust[-1] == 1
    assert any(0 < each < 1 for each in trust)


def test_a_mask_leaves_out_what_it_hides():
    y = photograph(2.5, 5.0)
    where = np.ones(y.shape, bool)
    where[:, :, 160:] = False
    expected = S.photon(y[:, :, :160])
    found = S.photon(np.where(where, y, np.nan), where=where)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05)


def test_the_contract_holds():
    waves = 60 + 40 * np.sin(np.arange(48) / 9) + np.zeros((2, 40, 48))
    rng = np.random.default_rng(0)
    noisy = np.float32(rng.poisson(waves) + rng.normal(0, 0.5, waves.shape))[..., None]
    assert (S.photon(noisy).gain > 0).all()
    S.check_contract(S.photon, noisy / 100)


def test_the_curve_has_gradients_and_programs_of_all_sizes():
    y = jnp.asarray(photograph(2.5, 5.0, size=64))
    gradient = jax.jit(jax.grad(lambda y: sum(jnp.sum(part) for part in S.photon(y))))(y)
    assert np.isfinite(gradient).all() and gradient.any()
    shape = jax.export.symbolic_shape("b, h, w, 1", constraints=("h >= 2", "w >= 2"))
    exported = jax.export.export(jax.jit(S.photon))(jax.ShapeDtypeStruct(shape, jnp.float32))
    for found, expected in zip(exported.call(y), S.photon(y), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_images_without_blocks_have_no_curve():
    y = np.ones((1, 8, 40, 1), np.float32)
    with pytest.raises(ValueError, match="no block of 12 x 12"):
        S.noise_curve(y)
    noisy = y + np.random.default_rng(0).normal(0, 0.1, y.shape).astype(np.float32)
    found = S.photon(noisy)
    assert found.gain == 0
    by_blocks = S.photon.over_blocks(S.Blocks(noisy[0], np.asarray))
    np.testing.assert_allclose(by_blocks, [part.item() for part in found], rtol=1e-5)


@pytest.mark.parametrize("statistic", [S.photon, S.adaptive_noise])
def test_counts_whose_blocks_have_equal_means_follow_a_y_plus_b(statistic):
    """An offset and a factor that round do not change the order of equal means."""
    rng = np.random.default_rng(0)
    x = np.linspace(2, 30, 128) + np.zeros((128, 1))
    y = rng.poisson(x).astype(np.float32)[None, ..., None]
    stats = statistic(y)
    assert stats.gain > 0
    for a, b in ((3.0, 0.0), (0.1, 0.7), (1000.0, 300.0)):
        moved = statistic(np.float32(a) * y + np.float32(b))
        np.testing.assert_allclose(moved.scale, a * stats.scale, rtol=1e-5)
        np.testing.assert_allclose(moved.gain, a * stats.gain, rtol=1e-5)
