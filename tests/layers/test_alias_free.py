import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage

from wne_jax.layers import (
    PolynomialActivation,
    band_limited_polynomial,
    blur_pool,
    filtered_relu,
    ideal_downsample,
    ideal_upsample,
    leaky_relu_fit,
)
from wne_jax.layers.spectra import low_pass, without_nyquist
from wne_jax.symmetry.actions import Shift, Translation
from wne_jax.symmetry.equivariance import defect, relative_l2

SIZES = [(9, 7), (8, 6), (11, 4), (1, 1)]
D = np.array([0.37, -2.61]), np.array([1.83, 4.5])
T = Translation(*D)


def maps(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def moved(f, factor):
    """The error f(T x) - T f(x), where output pixels are `factor` times as large as input pixels."""
    return lambda x: relative_l2(f(T(x)), Translation(*(d / factor for d in D))(f(x))).max()


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_the_fit_is_the_least_squares_quadratic_under_a_standard_normal(slope):
    def moment(i):
        f = lambda z, a: a * z ** (i + 1) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        positive = scipy.integrate.quad(f, 0, np.inf, args=(1.0,))[0]
        return positive + scipy.integrate.quad(f, -np.inf, 0, args=(slope,))[0]

    normal_equations = [[1, 0, 1], [0, 1, 0], [1, 0, 3]]  # E z^(i + j)
    expected = np.linalg.solve(normal_equations, [moment(i) for i in range(3)])
    np.testing.assert_allclose(leaky_relu_fit(slope), expected, atol=1e-8)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_polynomial_commutes_with_translations_where_relu_does_not(size):
    x = 3 * maps((2, *size, 3))
    a = maps((3, 3), seed=1)
    assert defect(lambda x: band_limited_polynomial(x, a), T, x).max() < 1e-5
    if size != (1, 1):
        assert defect(jax.nn.relu, T, without_nyquist(x)).min() > 1e-2


def test_exact_functions_are_exact_to_float64_rounding():
    with jax.enable_x64(True):
        x, a = maps((2, 8, 7, 3), dtype=jnp.float64), maps((4, 3), seed=1, dtype=jnp.float64)
        cubic = lambda x: band_limited_polynomial(x, a)  # noqa: E731
        assert cubic(x).dtype == jnp.float64
        assert defect(cubic, T, x, metric=relative_l2).max() < 1e-12
        assert moved(lambda x: ideal_upsample(x, factor=3), 1 / 3)(x) < 1e-12
        x = maps((2, 8, 12, 3), dtype=jnp.float64)
        assert moved(ideal_downsample, 2)(x) < 1e-12


@pytest.mark.parametrize("k", [2, 3])
def test_powers_of_a_wave_keep_the_frequencies_of_the_grid(k):
    angle = 2 * np.pi * k * np.arange(9) / 9 + 0.4  # |k| <= 4
    wave = jnp.asarray(np.cos(angle), jnp.float32).reshape(1, 1, 9, 1)
    square, cube = jnp.array([[0.0], [0.0], [1.0]]), jnp.array([[0.0], [0.0], [0.0], [1.0]])
    second = 0.5 + (0.5 * np.cos(2 * angle) if 2 * k <= 4 else 0)
    third = 0.75 * np.cos(angle)  # and cos(3 angle) / 4, beyond the grid
    for coefficients, expected in ((square, second), (cube, third)):
        out = band_limited_polynomial(wave, coefficients)
        np.testing.assert_allclose(out.ravel(), np.broadcast_to(expected, 9), atol=1e-6)


def test_the_nyquist_frequency_of_even_sizes_is_removed_first():
    x, a = maps((2, 8, 6, 3)), maps((3, 3), seed=1)
    out = band_limited_polynomial(x, a)
    without = band_limited_polynomial(without_nyquist(x), a)
    np.testing.assert_allclose(out, without, atol=1e-5)
    np.testing.assert_allclose(out, without_nyquist(out), atol=1e-5)


@pytest.mark.parametrize("size", [(9, 7), (8, 12)], ids=str)
def test_ideal_resampling_commutes_with_translations(size):
    x = maps((2, *size, 3))
    assert moved(ideal_upsample, 1 / 2)(x) < 1e-5
    small = ideal_downsample(x)
    assert small.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3)
    ratios = (n / m for n, m in zip(size, small.shape[1:3]))  # 2, or a little less on odd sizes
    T_small = Translation(*(d / ratio for d, ratio in zip(D, ratios)))
    assert relative_l2(ideal_downsample(T(x)), T_small(small)).max() < 1e-5


def test_upsampling_keeps_the_samples_and_downsampling_inverts_it():
    x = maps((2, 9, 7, 3))
    fine = ideal_upsample(x, factor=3)
    np.testing.assert_allclose(fine[:, ::3, ::3], x, atol=2e-6)
    np.testing.assert_allclose(ideal_downsample(fine, factor=3), x, atol=2e-6)


@pytest.mark.parametrize("taps, weights, origin", [(3, (1, 2, 1), 0), (4, (1, 3, 3, 1), -1)])
def test_blur_pool_equals_scipys_wrapped_filter_and_a_stride(taps, weights, origin):
    x = maps((2, 9, 8, 3))
    expected, weights = np.asarray(x), np.array(weights) / sum(weights)
    for axis in (1, 2):
        expected = scipy.ndimage.correlate1d(expected, weights, axis, mode="wrap", origin=origin)
    for factor in (1, 2, 3):
        out = blur_pool(x, factor=factor, taps=taps)
        np.testing.assert_allclose(out, expected[:, ::factor, ::factor], atol=1e-6)


def test_blur_pool_commutes_with_shifts_by_its_stride_and_nearly_with_translations():
    x = low_pass(maps((2, 24, 32, 3)), 0.35)  # beyond the coarse grid's 0.25
    shifted = blur_pool(Shift(4, -6)(x))
    np.testing.assert_allclose(shifted, Shift(2, -3)(blur_pool(x)), atol=1e-6)
    stride, blurred = moved(lambda x: x[:, ::2, ::2], 2)(x), moved(blur_pool, 2)(x)
    longer = moved(lambda x: blur_pool(x, taps=5), 2)(x)
    assert stride > 0.5 and blurred < stride / 1.8 and longer < blurred / 1.5
    assert moved(ideal_downsample, 2)(x) < 1e-5


def test_the_error_of_filtered_relu_decreases_with_a_finer_grid():
    x = maps((2, 15, 16, 8))
    errors = [
        float(defect(lambda x, n=n: filtered_relu(x, factor=n), T, x).max()) for n in (1, 2, 4)
    ]
    assert errors[0] > 3e-2 and errors[1] < errors[0] / 2 and 1e-4 < errors[2] < errors[1] / 2
    x = x[:, :, :15]
    np.testing.assert_allclose(filtered_relu(x, factor=1), jax.nn.relu(x), atol=2e-6)
    np.testing.assert_allclose(filtered_relu(4 * x), 4 * filtered_relu(x), atol=1e-5)


def test_the_module_is_initialized_by_the_fit_and_keeps_the_dtype(key):
    x = maps((2, 5, 6, 3)).astype(jnp.bfloat16)
    module = PolynomialActivation(negative_slope=0.5, dtype=jnp.bfloat16)
    out, variables = module.init_with_output(key, x)
    a = variables["params"]["coefficients"]
    np.testing.assert_allclose(a, np.tile(np.float32(leaky_relu_fit(0.5))[:, None], (1, 3)))
    assert out.dtype == jnp.bfloat16 and a.dtype == jnp.float32
    np.testing.assert_array_equal(out, band_limited_polynomial(x, a))
    for f in (ideal_upsample, ideal_downsample, blur_pool, filtered_relu):
        assert f(x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: ideal_downsample(x, factor=0), "factor must be 1 or more, not 0"),
        (lambda x: ideal_upsample(x[0]), "rank 4"),
        (lambda x: blur_pool(x, factor=-1), "factor must be 1 or more, not -1"),
        (lambda x: blur_pool(x, taps=0), "taps must be 1 or more, not 0"),
        (lambda x: blur_pool(x[0]), "rank 4"),
        (lambda x: filtered_relu(x, factor=0), "factor must be 1 or more, not 0"),
        (lambda x: band_limited_polynomial(x, jnp.ones((3, 2))), r"\[\.\.\., 1\].*\(3, 2\)"),
        (lambda x: band_limited_polynomial(x, jnp.ones(3)), r"\(3,\)"),
    ],
)
def test_invalid_arguments_are_rejected_with_their_value(call, message):
    with pytest.raises(ValueError, match=message):
        call(maps((1, 4, 5, 1)))
