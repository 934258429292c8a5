"""Stars and hot pixels: what they may do to the pixels around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from wne_jax.inference.denoiser import Denoiser
from wne_jax.transforms import Anchor
from wne_jax.weights.packaged import packaged_file
from wne_jax.wrappers.limited_contrast import limited_contrast


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def row(*values):
    """An image of three equal rows, so that no pixel exceeds all its neighbours."""
    return jnp.tile(jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1), (1, 3, 1, 1))


def seen(z, **options):
    """What the backbone gets."""
    inputs = []
    limited_contrast(lambda c: inputs.append(c) or c, z, **options)
    return inputs[0]


def test_values_beyond_the_limit_are_clipped_and_bypass_the_backbone():
    z = row(-300.0, -100.0, 0.0, 99.0, 4000.0)
    np.testing.assert_array_equal(seen(z, limit=100.0), jnp.clip(z, -100, 100))
    found = limited_contrast(lambda c: 0.5 * c, z, limit=100.0)
    np.testing.assert_allclose(found[0, 0].ravel(), [-250, -50, 0, 49.5, 3950])


def test_the_limit_is_in_units_of_the_anchor():
    z = row(2.0, 5.0, 50.0)
    found = seen(z, limit=10.0, anchor=Anchor(location=5.0, scale=0.2))
    np.testing.assert_allclose(found[0, 0].ravel(), [3.0, 5.0, 7.0])


@pytest.mark.parametrize("sign", [1, -1])
def test_an_impulse_fades_out_continuously(sign):
    """An excess over all neighbours of up to half the limit stays; from the limit on it is gone."""
    excess = np.linspace(0, 300, 301, dtype=np.float32)
    z = np.full((301, 5, 5, 1), sign * 7, np.float32)
    z[:, 2, 2, 0] += sign * excess
    c = np.asarray(seen(jnp.asarray(z), limit=100.0))
    expected = np.where(excess <= 50, excess, np.maximum(100 - excess, 0))
    np.testing.assert_allclose(sign * c[:, 2, 2, 0], 7 + expected, rtol=1e-6)
    others = np.delete(c.reshape(301, 25), 12, axis=1)
    np.testing.assert_array_equal(others, sign * 7)


def test_below_the_limit_the_network_is_the_bare_one_bit_for_bit(key):
    z = 30 * jax.random.normal(key, (2, 9, 8, 1))
    f = lambda c: jnp.sin(c) + 0.1 * c  # noqa: E731
    np.testing.assert_array_equal(limited_contrast(f, z, limit=200.0), f(z))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2)])
def test_images_may_be_smaller_than_a_neighbourhood(denoise, shape):
    y = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert np.isfinite(denoise(y)).all()


@pytest.fixture(scope="module")
def denoise():
    return Denoiser.pretrained("gray")


def test_bright_stars_leave_the_noise_of_the_sky_removable(denoise):
    """Stars of 200 to 33,000 times the noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :192]
    sky = 1000 + 20 * np.sin(columns / 25) + 15 * np.sin(rows / 40)
    stars = np.zeros_like(sky)
    for _ in range(14):
        i, j = rng.uniform(0, 192, 2)
        shape = np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / (2 * 1.7**2))
        stars += 10 ** rng.uniform(2.5, 4.7) * shape
    y = (sky + stars + rng.normal(0, 1.5, sky.shape)).astype(np.float32)
    dark = stars < 60
    assert rms((denoise(y) - sky - stars)[dark]) < 0.75
    without = Denoiser.load(packaged_file("gray"))
    assert rms((without(y) - sky - stars)[dark]) > 1.5


@pytest.mark.parametrize("channels", [1, 3])
def test_hot_pixels_spoil_only_themselves(denoise, channels):
    rng = np.random.default_rng(0)
    clean = (data.camera()[::4, ::4] if channels == 1 else data.astronaut()[::4, ::4]) * 4.0 + 400
    noisy = (clean + rng.normal(0, 40, clean.shape)).round().clip(0, 65535).astype(np.uint16)
    hot = rng.random(clean.shape[:2]) < 0.005
    spoilt = noisy.copy()
    spoilt[hot] = 65535
    denoiser = denoise if channels == 1 else Denoiser.pretrained("color")
    expected = rms((denoiser(noisy).astype(float) - clean)[~hot])
    assert rms((denoiser(spoilt).astype(float) - clean)[~hot]) < 1.1 * expected
    assert (denoiser(spoilt)[hot] > 60000).all()


def test_tiles_of_shared_sizes_give_the_whole(denoise):
    rng = np.random.default_rng(1)
    y = rng.normal(100, 5, (130, 93)).astype(np.float32)
    y[[0, 10, 63, 64, 129], [0, 92, 31, 63, 50]] = 1e5  # in corners, on borders, across tiles
    whole = denoise(y)
    near_the_corner = (slice(1, 9), slice(1, 9))
    assert rms(whole[near_the_corner] - 100) < 5
    for options in ({}, {"few_shapes": True}):
        np.testing.assert_allclose(denoise(y, tile=64, **options), whole, rtol=1e-6, atol=0.02)
