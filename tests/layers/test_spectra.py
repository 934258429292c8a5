import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from wne_jax.layers import spectra
from wne_jax.layers.spectra import low_pass, radial_power, resample, without_nyquist
from wne_jax.symmetry.actions import Translation

SIZES = [(9, 7), (8, 6), (5, 2), (1, 1)]
D = np.array([0.37, -2.61]), np.array([1.83, 4.5])


def maps(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def coefficients(x):
    return np.fft.fft2(np.asarray(x, np.float64), axes=(-3, -2))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_without_nyquist_changes_only_the_nyquist_bins(size):
    x = maps((2, *size, 3))
    expected, actual = coefficients(x), coefficients(without_nyquist(x))
    if size[0] % 2 == 0:
        expected[:, size[0] // 2] = 0
    if size[1] % 2 == 0:
        expected[:, :, size[1] // 2] = 0
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("cutoff", [0.0, np.sqrt(2) / 4, 0.5])
@pytest.mark.parametrize("size", [(9, 7), (1, 8)], ids=str)
def test_low_pass_keeps_a_disk_of_the_spectrum(size, cutoff):
    x = maps((2, *size, 3))
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij"))
    expected = coefficients(x) * (radius <= cutoff)[..., None]
    np.testing.assert_allclose(coefficients(low_pass(x, cutoff)), expected, atol=1e-5)


@pytest.mark.parametrize("new", [(5, 14), (18, 3), (1, 7)], ids=str)
def test_resampling_equals_scipy_if_the_smaller_size_is_odd(new):
    x = maps((2, 9, 7, 3))
    expected = np.asarray(x, np.float64)
    for axis, size in zip((1, 2), new):
        expected = scipy.signal.resample(expected, size, axis=axis)
    np.testing.assert_allclose(resample(x, *new), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (5, 5)], ids=str)
@pytest.mark.parametrize("new", [(16, 12), (5, 6)], ids=str)
def test_a_band_limited_function_is_sampled_on_the_new_grid(size, new):
    def function(height, width):
        y, x = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
        wave = np.cos(2 * np.pi * (2 * y - x) + 0.3) + np.sin(2 * np.pi * 2 * x) + 0.5
        return jnp.asarray(wave, jnp.float32)[None, :, :, None]

    np.testing.assert_allclose(resample(function(*size), *new), function(*new), atol=2e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resampling_up_and_back_removes_only_the_nyquist_bins(size):
    x = maps((2, *size, 3))
    back = resample(resample(x, 3 * size[0], 2 * size[1] + 1), *size)
    np.testing.assert_allclose(back, without_nyquist(x), atol=2e-6)
    np.testing.assert_allclose(resample(x, *size), without_nyquist(x), atol=2e-6)
    smaller = resample(x, (size[0] + 1) // 2, (size[1] + 1) // 2)
    np.testing.assert_allclose(smaller.mean((1, 2)), x.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_all_commute_with_translations(size):
    x, T = maps((2, *size, 3)), Translation(*D)
    for f in (without_nyquist, lambda x: low_pass(x, 0.3), lambda x: low_pass(x, 1.0)):
        np.testing.assert_allclose(f(T(x)), T(f(x)), atol=5e-6)
    for new in ((11, 4), size):
        moved = Translation(*(d * (m / n) for d, m, n in zip(D, new, size)))
        np.testing.assert_allclose(resample(T(x), *new), moved(resample(x, *new)), atol=5e-6)


@pytest.mark.parametrize("size, new", [((10, 7), (6, 9)), ((7, 10), (14, 10))], ids=str)
def test_resampling_by_matrices_equals_resampling_by_ffts(size, new, monkeypatch):
    x = maps((2, 2, *size, 3))
    by_matrix = resample(x, *new)
    monkeypatch.setattr(spectra, "MATRIX_SIZE", 0)
    np.testing.assert_allclose(resample(x, *new), by_matrix, atol=2e-6)
    T = Translation(0.3, 1.7)
    scaled = Translation(0.3 * new[0] / size[0], 1.7 * new[1] / size[1])
    np.testing.assert_allclose(resample(T(x), *new), scaled(by_matrix), atol=5e-6)


def test_resampling_down_is_the_scaled_adjoint_of_resampling_up():
    x, z = maps((1, 6, 5, 2)), maps((1, 9, 8, 2), seed=1)
    up, down = jnp.vdot(resample(x, 9, 8), z), jnp.vdot(x, resample(z, 6, 5))
    np.testing.assert_allclose(up / (9 * 8), down / (6 * 5), rtol=1e-4)
    pulled = jax.vjp(lambda x: resample(x, 9, 8), x)[1](z)[0]
    np.testing.assert_allclose(pulled, resample(z, 6, 5) * (72 / 30), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (24, 31)], ids=str)
def test_a_plane_wave_has_its_power_at_its_radial_frequency(size):
    y, x = np.meshgrid(*map(np.arange, size), indexing="ij")
    wave = np.cos(2 * np.pi * (3 * y / size[0] + 4 * x / size[1]))
    frequency, power = radial_power(jnp.asarray(wave, jnp.float32)[None, :, :, None], bins=12)
    assert int(np.argmax(power)) == int(np.hypot(3 / size[0], 4 / size[1]) / np.sqrt(0.5) * 12)
    assert np.sort(power)[-2] < 1e-10 * power.max() and frequency.shape == power.shape == (12,)


def test_white_noise_has_a_flat_spectrum():
    _, power = radial_power(3 * maps((8, 48, 40, 8)), bins=8)
    np.testing.assert_allclose(power, 9.0, rtol=0.05)


@pytest.mark.parametrize("size", [(9, 14), (8, 7)], ids=str)
def test_the_mean_density_equals_the_mean_square(size):
    x = maps((2, *size, 3))
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij"))
    for bins in (1, 3):
        ring = np.minimum(np.floor(radius / np.sqrt(0.5) * bins + 1e-9), bins - 1).astype(int)
        number = np.bincount(ring.ravel(), minlength=bins)
        power = np.nan_to_num(radial_power(x, bins=bins)[1])
        mean = np.sum(power * number) / number.sum()
        np.testing.assert_allclose(mean, np.square(x).mean(), rtol=1e-5)


def test_the_power_of_a_ring_without_frequencies_is_nan():
    power = radial_power(maps((1, 3, 3, 1)), bins=20)[1]
    assert np.isnan(power).any() and np.isfinite(power[0])


def test_results_are_in_float64_for_float64_and_otherwise_in_float32():
    with jax.enable_x64(True):
        x, T = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 7, 2))), Translation(*D)
        for f in (without_nyquist, lambda x: low_pass(x, 0.3)):
            assert f(x).dtype == jnp.float64
            np.testing.assert_allclose(f(T(x)), T(f(x)), atol=1e-13)
        big = Translation(D[0] * 2, D[1] * 3)(resample(x, 16, 21))
        np.testing.assert_allclose(resample(T(x), 16, 21), big, atol=1e-13)
        assert radial_power(x)[1].dtype == jnp.float64
    coarse = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    for f in (without_nyquist, lambda x: low_pass(x, 0.3), lambda x: resample(x, 2, 3)):
        chex.assert_type(f(coarse), jnp.float32)


def test_symbolic_sizes_are_rejected():
    shape = jax.export.symbolic_shape("b, h, w, 1")
    with pytest.raises(ValueError, match="symbolic"):
        jax.eval_shape(without_nyquist, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: without_nyquist(x[0]), r"rank 4 or more; its shape is \(4, 5, 1\)"),
        (lambda x: low_pass(x[0], 0.1), "rank 4"),
        (lambda x: low_pass(x, -0.1), "cutoff must be 0 or more"),
        (lambda x: low_pass(x, np.nan), "cutoff must be 0 or more"),
        (lambda x: resample(x, 0, 3), "must be 1 or more, not 0 and 3"),
        (lambda x: resample(x, 3, -1), "must be 1 or more, not 3 and -1"),
        (lambda x: radial_power(x, bins=0), "bins must be 1 or more"),
    ],
)
def test_invalid_arguments_are_rejected_with_their_value(call, message):
    with pytest.raises(ValueError, match=message):
        call(maps((1, 4, 5, 1)))
