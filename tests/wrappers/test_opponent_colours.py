import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from skimage.restoration import denoise_nl_means

import wne_jax as wne
from wne_jax import config
from wne_jax.config import ModelConfig, WrapperConfig, in_opponent_colours
from wne_jax.images.metrics import psnr
from wne_jax.inference.denoiser import Denoiser
from wne_jax.statistics import mean_std, noise_level
from wne_jax.symmetry import Affine
from wne_jax.symmetry.equivariance import (
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.wrappers.opponent_colours import OpponentColours, opponent_colours


class Told(nn.Module):
    """A network that takes the noise level."""

    def __call__(self, y, sigma):
        return y - sigma


TINY = {"depth": 3, "features": 8}


@pytest.fixture(scope="module")
def colour():
    return Denoiser.pretrained("color")


@pytest.fixture(scope="module")
def photographs():
    from skimage import data

    corners = [(data.astronaut(), 60, 120), (data.coffee(), 100, 150), (data.rocket(), 150, 200)]
    return np.stack([x[i : i + 96, j : j + 96] for x, i, j in corners]).astype(np.float32) / 255


def test_the_change_of_colours_is_orthonormal(key):
    """The energy of white noise in each opponent colour is that in each channel."""
    seen = []
    z = jax.random.normal(key, (2, 64, 64, 3))
    opponent_colours(lambda o: seen.append(o) or o, z)
    planes, halves = seen
    assert planes.shape == (6, 64, 64, 1) and halves.shape == (6, 32, 32, 1)
    np.testing.assert_allclose(jnp.sum(planes**2), jnp.sum(z**2), rtol=1e-5)
    np.testing.assert_allclose(np.std(planes.reshape(3, -1), axis=1), 1, atol=0.03)
    np.testing.assert_allclose(np.std(halves), 1, atol=0.03)


def test_a_gray_image_has_no_chroma(key):
    gray = jnp.repeat(jax.random.normal(key, (1, 8, 8, 1)), 3, axis=-1)
    seen = []
    opponent_colours(lambda o: seen.append(o) or o, gray)
    np.testing.assert_allclose(seen[0][0], 3**0.5 * gray[0, ..., :1], rtol=1e-6)
    np.testing.assert_allclose(seen[0][1:], 0, atol=1e-6)


def test_each_channel_has_its_own_contrast_and_brightness(colour, photographs, key):
    y = photographs[:2, :32, :32] + 0.1 * jax.random.normal(key, (2, 32, 32, 3))
    f = colour.function
    assert_normalization_equivariant(f, y, key, axes=(1, 2), gain=4.0)
    assert_exact_under_powers_of_two(f, y)
    balance = Affine(jnp.array([0.5, 2.0, 4.0]).reshape(1, 1, 1, 3), 0.0)  # white balance
    assert_equivariant(f, balance, y, axes=(1, 2))


def test_colours_together_beat_channels_one_by_one(colour, photographs, key):
    """By more than 0.7 dB, and non-local means of scikit-image on the three channels together, too."""
    one_by_one = Denoiser.pretrained("gray")
    for level in (15, 50):
        sigma = level / 255
        noisy = np.asarray(photographs + sigma * jax.random.normal(key, photographs.shape))
        together, alone = (np.mean(psnr(photographs, d(noisy))) for d in (colour, one_by_one))
        means = [
            denoise_nl_means(y, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1)
            for y in noisy
        ]
        assert together > alone + 0.7
        assert together > np.mean(psnr(photographs, np.stack(means)))


@pytest.mark.parametrize("noise", ["white", "auto"])
def test_tiles_and_masks_give_the_whole(colour, photographs, noise, key):
    y = np.asarray(photographs[0, :90, :83] + 0.1 * jax.random.normal(key, (90, 83, 3)))
    denoise = colour.with_noise(noise)
    whole = denoise(y)
    np.testing.assert_allclose(denoise(y, tile=64), whole, atol=1e-6)
    valid = np.ones((90, 83, 1), bool)
    valid[20:30, 40:60] = False
    broken = np.where(valid, y, np.nan)
    masked = denoise(broken, where=valid)
    np.testing.assert_allclose(denoise(broken, where=valid, tile=64), masked, atol=1e-6)
    assert np.isnan(masked[~valid[..., 0]]).all() and np.isfinite(masked[valid[..., 0]]).all()


def test_it_is_saved_and_loaded(tmp_path, colour, photographs):
    colour.save(tmp_path / "colour.safetensors")
    again = Denoiser.load(tmp_path / "colour.safetensors")
    assert again.channels == 3 and again.config == colour.config
    np.testing.assert_array_equal(again(photographs[0]), colour(photographs[0]))


def test_the_network_sees_the_mean_of_its_anchor(key):
    """The location of an anchor is the mean of what the network sees."""
    seen = []
    anchor = wne.Anchor(0.4, 0.1)
    z = anchor.location + 0.1 * jax.random.normal(key, (1, 32, 32, 3))
    z += anchor.location - z.mean((1, 2), keepdims=True)
    x = opponent_colours(lambda o: seen.append(o) or o, z, anchor=anchor)
    np.testing.assert_allclose(x, z, atol=1e-6)
    for planes in seen:
        np.testing.assert_allclose(planes.mean((1, 2)), 0.4, atol=1e-5)


def test_what_does_not_fit_is_refused():
    gray = wne.models.DnCNN(**TINY)
    with pytest.raises(ValueError, match="even sides, not \\(1, 8, 8, 1\\)"):
        opponent_colours(lambda o: o, jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match="noise of known strength"):
        wne.WNE(OpponentColours(gray), mean_std, axes=(1, 2))
    with pytest.raises(ValueError, match="noise of known strength"):
        ModelConfig("dncnn", TINY, inside=config.OpponentColours())
    with pytest.raises(ValueError, match="takes the noise level"):
        OpponentColours(Told())
    assert wne.WNE(OpponentColours(gray), noise_level, axes=(1, 2)).axes == (1, 2)


def test_a_configuration_rebuilds_it():
    made = ModelConfig("dncnn", TINY, **in_opponent_colours("photon"))
    assert config.config_of(made.build()) == made
    alone = ModelConfig("dncnn", TINY, WrapperConfig(per_channel=True))
    assert config.config_of(alone.build()) == alone and alone.build().axes == (1, 2)
    volumes = ModelConfig("dncnn", TINY | {"ndim": 3}, WrapperConfig(per_channel=True))
    assert volumes.build().axes == (1, 2, 3)
