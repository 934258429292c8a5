"""The standard deviation of the posterior, beside exact Jacobians and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import wne_jax as wne
from wne_jax import statistics as S
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.uncertainty import probe_signs, smoothed
from wne_jax.models import DnCNN
from wne_jax.symmetry.actions import Affine
from wne_jax.symmetry.equivariance import assert_equivariant
from wne_jax.testing import random_variables
from wne_jax.weights import WeightsError, read_metadata, save


class Share(nn.Module):
    """A multiple of its input, whose Jacobian is known."""

    share: float = 0.25
    receptive_radius = 0

    def __call__(self, z):
        return self.share * z


def image(shape=(13, 16), low=100.0, high=1000.0):
    return np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)


@pytest.fixture(scope="module")
def denoise():
    """It sees 3 pixels far, less than the distance of two points of a lattice of 24 probes."""
    model = wne.WNE(DnCNN(depth=3, features=4, batch_norm=False), S.noise_level)
    return Denoiser(model, random_variables(model, np.ones((1, 8, 8, 1), np.float32)))


def test_it_is_the_diagonal_of_the_jacobian(denoise):
    y = image()
    z, stats = wne.normalize(y[None, ..., None], statistics=S.noise_level)
    backbone = denoise.model.backbone
    f = jax.jit(lambda z: backbone.apply(denoise.variables, z))
    jacobian = jax.jit(jax.jacfwd(f))(z).reshape(y.size, y.size)
    exact = np.diag(np.asarray(jacobian)).reshape(*y.shape, 1)
    expected = stats.scale.item() * np.sqrt(smoothed(exact))[..., 0]
    np.testing.assert_allclose(denoise.uncertainty(y), expected, rtol=1e-4)
    assert len(np.unique(expected)) > 50


def test_fewer_probes_have_the_right_mean(denoise):
    y = image()[None, ..., None]
    exact, *few = (
        np.asarray(
            denoise.function.diagonal(
                y,
                *(part[None] for part in probe_signs(y.shape[1:], probes, seed)),
                stats=S.noise_level(y),
                probes=probes,
            )
        )
        for probes, seed in [(24, 0), *((4, seed) for seed in range(40))]
    )
    deviation = np.std(few, axis=0)
    error = np.mean(few, axis=0) - exact
    assert deviation.mean() > 0.02 * np.abs(exact).mean()
    assert np.sqrt(np.mean(error**2)) < 1.5 * np.sqrt(np.mean(deviation**2) / 40)


def test_the_wiener_filter_has_its_posterior_variance():
    """A Gaussian prior whose variance differs from pixel to pixel, with correlated neighbours."""
    rng, size, sigma = np.random.default_rng(0), 8, 0.5
    at = np.stack(np.mgrid[:size, :size], axis=-1).reshape(-1, 2)
    near = np.exp(-np.sum((at[:, None] - at) ** 2, axis=-1) / 4)
    strength = rng.uniform(0.1, 2, size**2)
    prior = near * np.outer(strength, strength)
    gain = prior @ np.linalg.inv(prior + sigma**2 * np.eye(size**2))
    posterior = np.diag(prior - gain @ prior)
    matrix = jnp.asarray(gain, jnp.float32)
    wiener = Denoiser(
        lambda y: jnp.einsum("ij,bj->bi", matrix, y.reshape(len(y), -1)).reshape(y.shape),
        channels=1,
    )
    y = rng.normal(size=(size, size)).astype(np.float32)
    probes, shape = 256, (size, size, 1)  # no two pixels share a probe
    signs, numbers = probe_signs(shape, probes, 0)
    diagonal = wiener.function.diagonal(
        *(part.reshape(1, *shape) for part in (y, signs, numbers)), probes=probes
    )
    variance = posterior.reshape(shape)
    np.testing.assert_allclose(sigma**2 * diagonal[0], variance, rtol=1e-3)
    assert variance.max() > 3 * variance.min()
    found = wiener.uncertainty(y, sigma, probes=probes)
    np.testing.assert_allclose(found[..., None], np.sqrt(smoothed(variance)), rtol=1e-3)


@pytest.mark.parametrize(("probes", "channels"), [(1, 1), (5, 1), (24, 1), (24, 3)])
def test_entries_of_a_probe_lie_far_apart(probes, channels):
    signs, numbers = probe_signs((24, 24, channels), probes, 0)
    assert set(np.unique(signs)) == {-1, 1}
    places = [np.argwhere(numbers == probe)[:, :2] for probe in range(probes)]
    assert sum(map(len, places)) == signs.size
    apart = {(1, 1): 1, (5, 1): 5, (24, 1): 26, (24, 3): 8}[probes, channels]
    for place in places:
        distance = np.sum((place[:, None] - place) ** 2, axis=-1)
        assert (distance + apart * np.eye(len(place)) >= apart).all()


def test_it_follows_contrast_and_not_brightness(denoise):
    y = np.round(image())
    std = denoise.uncertainty(y)
    for power in (-3, 5):
        np.testing.assert_array_equal(denoise.uncertainty(2.0**power * y), 2.0**power * std)
    np.testing.assert_array_equal(denoise.uncertainty(y + 2048), std)
    np.testing.assert_array_equal(denoise.uncertainty(y.astype(np.uint16) + np.uint16(60000)), std)

    def f(y):
        return jnp.asarray(denoise.uncertainty(np.asarray(y[0])))[None]

    assert_equivariant(f, Affine(3.0, -700.0), y[None, ..., None], output="difference")
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(f, Affine(3.0, -700.0), y[None, ..., None], output="variance")


def test_tiles_agree_with_the_whole(denoise):
    y = image((24, 20))
    np.testing.assert_allclose(denoise.uncertainty(y, tile=16), denoise.uncertainty(y), rtol=1e-4)


def test_what_is_masked_influences_nothing_and_is_nan(denoise):
    y = image((24, 20))
    where = np.ones(y.shape, bool)
    where[:, :5] = where[18:, 12:] = False
    found = [
        denoise.uncertainty(np.where(where, y, np.float32(value)), where=where, tile=tile)
        for value, tile in [(np.nan, None), (-1e30, None), (np.inf, 16)]
    ]
    for std in found:
        assert np.isnan(std[~where]).all() and (std[where] > 0).all()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-4)


def test_shapes_types_and_places_without_noise(denoise):
    y = image((2, 13, 16, 3))
    std = denoise.uncertainty(y.astype(np.uint16))
    assert std.shape == y.shape and std.dtype == np.float32 and (std > 0).all()
    flat = image()
    flat[:9, 4:] = 7
    std = denoise.uncertainty(flat)
    assert (std[:9, 4:] == 0).all() and (std[10:] > 0).all()
    assert (denoise.uncertainty(flat, sigma=0.0) == 0).all()
    assert (denoise.uncertainty(np.full(flat.shape, 7, np.uint8)) == 0).all()


def test_noise_that_grows_with_intensity_has_its_level_at_the_estimate():
    """Where the network's Jacobian in curved coordinates is 1/4, the variance is a quarter of the noise's."""
    alpha, beta = 2.0, 30.0
    denoise = Denoiser(wne.WNE(Share(), S.noise_level), {}, channels=1).with_noise((alpha, beta))
    y = image(low=300, high=900).astype(np.float64)
    expected = 0.5 * np.sqrt(alpha * denoise(y) + beta)
    np.testing.assert_allclose(denoise.uncertainty(y), expected, rtol=0.02)


def test_the_level_is_the_given_one_or_that_of_the_image():
    y = np.random.default_rng(0).normal(5, 0.1, (64, 64)).astype(np.float32)
    blind = Denoiser(wne.WNE(Share()), {}, channels=1)
    assert np.ptp(blind.uncertainty(y, 0.3)) < 1e-6
    assert blind.uncertainty(y, 0.3)[0, 0] == pytest.approx(0.5 * 0.3)
    assert blind.uncertainty(y)[0, 0] == pytest.approx(0.5 * 0.1, rel=0.1)
    told = Denoiser(wne.WNE(Share(), S.noise_level), {}, channels=1)
    assert told.uncertainty(y, 0.3)[0, 0] == pytest.approx(0.5 * 0.3)


def test_calibration_makes_up_for_the_size_of_the_errors():
    """Errors of y / 4 on black images have the level s / 4, and the Jacobian says s / 2."""
    quarter = Denoiser(wne.WNE(Share(), S.noise_level), {}, channels=1)
    fitted = quarter.calibrated([np.zeros((64, 64))], [0.1, 3.0])
    assert fitted.calibration == pytest.approx(0.5, rel=0.02) and quarter.calibration is None
    y = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    expected = np.float32(fitted.calibration) * quarter.uncertainty(y)
    np.testing.assert_allclose(fitted.uncertainty(y), expected, rtol=1e-6)
    for kept in (fitted.with_noise("white"), fitted.sharded()):
        assert kept.calibration == fitted.calibration
    with pytest.raises(ValueError, match="one or more"):
        quarter.calibrated([], [0.1])


def test_the_constant_is_stored_with_the_weights(tmp_path, denoise):
    path = tmp_path / "model.safetensors"
    denoise.save(path)
    assert Denoiser.load(path).calibration is None  # as in files of earlier versions
    fitted = Denoiser(denoise.model, denoise.variables)
    fitted.calibration = 1.25
    fitted.save(path)
    assert Denoiser.load(path).calibration == 1.25
    wrapped = wne.config.WrapperConfig("wne", "haar_mad")
    assert Denoiser.load(path, wrapper=wrapped).calibration is None  # another model
    for text in ("[]", '{"1": -1}', '{"1": "x"}', "{"):
        metadata = read_metadata(path) | {"wne_jax.calibration": text}
        from safetensors.numpy import load_file, save_file

        save_file(load_file(path), path, metadata)
        with pytest.raises(WeightsError, match="calibration"):
            Denoiser.load(path)
    with pytest.raises(WeightsError, match="reserved"):
        save(path, fitted.config, {}, metadata={"wne_jax.calibration": "1"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": 0}, "probes must be a whole number"),
        ({"sigma": -1.0}, "sigma must be finite"),
        ({"image": np.zeros((5, 5, 2))}, "2 channels"),
        ({"image": np.full((13, 13), np.nan)}, "NaN"),
    ],
)
def test_what_cannot_be_served_is_an_error(denoise, options, message):
    with pytest.raises(ValueError, match=message):
        denoise.uncertainty(**{"image": image(), **options})


def test_the_diagonal_is_averaged_and_not_negative():
    x = np.zeros((31, 31, 1))
    x[15, 15] = 121
    found = smoothed(x)
    assert found[15, 15, 0] == pytest.approx(1) and found[15, 15 + 6, 0] == pytest.approx(1 / 3)
    assert (smoothed(-x) == 0).all()
    where = np.ones(x.shape, bool)
    where[:, 20:] = False
    holes = np.where(where, 0.3, np.nan)
    np.testing.assert_allclose(smoothed(holes, where)[where], 0.3)
