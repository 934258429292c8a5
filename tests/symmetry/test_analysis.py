import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from wne_jax import wrap
from wne_jax.images.metrics import psnr
from wne_jax.statistics import STATISTICS, haar_mad, mean_std
from wne_jax.symmetry import analysis
from wne_jax.symmetry.equivariance import row_sums

ONE_SCALE = [name for name in STATISTICS if name != "local_noise"]
"""Statistics with one scale for each image."""

SIDE, D = 32, 32 * 32


difficulty = jax.jit(analysis.difficulty, static_argnames="statistics")


def blur(y):
    return (y + jnp.roll(y, 1, axis=1) + jnp.roll(y, 1, axis=2)) / 3


@jax.jit
def network(y):
    """A smooth map, neither linear nor equivariant."""
    return jnp.tanh(3 * blur(y)) + 0.2 * y


@pytest.fixture(scope="module")
def pairs():
    """Noisy and clean random fields with eight contrasts."""
    key_clean, key_noise = jax.random.split(jax.random.key(0))
    clean = blur(blur(jax.random.normal(key_clean, (8, SIDE, SIDE, 1))))
    clean = 0.5 + clean * jnp.linspace(0.02, 0.4, 8).reshape(8, 1, 1, 1)
    return clean + 0.1 * jax.random.normal(key_noise, clean.shape), clean


def test_the_difficulty_of_noise_only_is_the_square_root_of_d(key):
    noise = jax.random.normal(key, (4, SIDE, SIDE, 1))
    noise -= jnp.mean(noise, axis=(1, 2, 3), keepdims=True)
    clean = jnp.full_like(noise, 0.3)
    for sigma in (0.01, 3.0):
        delta = difficulty(clean + sigma * noise, clean)
        np.testing.assert_allclose(delta, np.sqrt(D), rtol=1e-5)


def test_the_difficulty_is_the_noise_over_the_scale_for_every_pair(pairs):
    noisy, clean = (np.asarray(x, np.float64) for x in pairs)
    for name in ONE_SCALE:
        pair = STATISTICS[name]
        scale = np.ravel(pair(pairs[0]).scale)
        expected = np.linalg.norm((noisy - clean).reshape(8, -1), axis=1) / scale
        actual = analysis.difficulty(*pairs, statistics=pair)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_the_mean_squared_difficulty_is_d_over_one_plus_snr(key):
    clean = 0.2 * jax.random.normal(key, (1, SIDE, SIDE, 1))
    noise = jax.random.normal(jax.random.key(1), (400, SIDE, SIDE, 1))
    clean = jnp.broadcast_to(clean, noise.shape)
    for sigma in (0.05, 0.2, 0.8):
        snr = np.var(clean[0]) / sigma**2
        delta = np.asarray(difficulty(clean + sigma * noise, clean))
        np.testing.assert_allclose(np.mean(delta**2), D / (1 + snr), rtol=0.01)
        expected = analysis.expected_difficulty(snr, D)
        np.testing.assert_allclose(analysis.snr_at(expected, D), snr, rtol=1e-5)


@pytest.mark.parametrize("snr", [0.0, 0.05, 4.0])
def test_drawn_difficulties_have_the_law_of_drawn_images(key, snr):
    image = jax.random.normal(key, (1, 6, 6, 1))
    image = np.sqrt(snr) * (image - image.mean()) / image.std()
    noise = jax.random.normal(jax.random.key(1), (4000, 6, 6, 1))
    clean = jnp.broadcast_to(image, noise.shape)
    draw = jax.jit(analysis.draw_difficulty, static_argnums=2)
    drawn = draw(jax.random.key(2), jnp.full(4000, snr), 36)
    assert stats.ks_2samp(difficulty(clean + noise, clean), drawn).pvalue > 0.01


def test_coverage_equals_the_share_for_one_level_and_normal_tails_for_two():
    quantiles = stats.norm.ppf((np.arange(10**4) + 0.5) / 10**4)
    assert analysis.coverage(quantiles, quantiles) == pytest.approx(0.95, abs=1e-3)
    expected = stats.norm.cdf(0.96) - stats.norm.cdf(-2.96)
    assert analysis.coverage(quantiles + 1, quantiles) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(analysis.central_interval(quantiles), (-1.96, 1.96), atol=1e-2)


@pytest.mark.parametrize("name", ONE_SCALE)
def test_psnr_follows_from_the_normalized_error_and_the_scale(pairs, name):
    noisy, clean = pairs
    problem = analysis.normalized_problem(noisy, clean, statistics=STATISTICS[name])
    error = analysis.normalized_error(network, noisy, clean, statistics=STATISTICS[name])
    actual = analysis.psnr_from_error(error, problem.stats.scale.ravel(), D)
    np.testing.assert_allclose(actual, psnr(network(noisy), clean), atol=2e-3)


def test_the_normalized_error_of_a_wrapped_network_equals_that_of_its_backbone(pairs):
    z, target, _ = analysis.normalized_problem(*pairs)
    expected = -10 * np.log10(np.sum(np.square(network(z) - target), axis=(1, 2, 3)))
    actual = analysis.normalized_error(wrap(network), *pairs)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def everything(noisy, clean, f, pair):
    z, target, _ = analysis.normalized_problem(noisy, clean, statistics=pair)
    delta = analysis.difficulty(noisy, clean, statistics=pair)
    return z, target, delta, analysis.normalized_error(f, noisy, clean, statistics=pair)


@pytest.mark.parametrize("name", ["mean_std", "haar_mad"])
def test_the_normalized_problem_depends_on_sigma_only_through_the_snr(pairs, name):
    noisy, clean = pairs
    pair = STATISTICS[name]
    of = jax.jit(lambda y, x: everything(y, x, wrap(network, statistics=pair), pair))
    expected = of(noisy, clean)
    for exponent in (-20, 7):  # sigma 2^k times as large, bit for bit
        a = 2.0**exponent
        assert all(np.array_equal(u, v) for u, v in zip(of(a * noisy, a * clean), expected))
    for a, b in ((7.3, 0.0), (0.01, -0.2), (1.0, 3.0)):
        for actual, wanted in zip(of(a * noisy + b, a * clean + b), expected):
            np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-3)


def test_the_error_of_an_unwrapped_network_depends_on_sigma(pairs):
    noisy, clean = pairs
    apart = analysis.normalized_error(network, 4 * noisy, 4 * clean) - analysis.normalized_error(
        network, noisy, clean
    )
    assert np.max(np.abs(apart)) > 3


def test_rows_of_the_jacobian_of_a_linear_filter_equal_the_filter(key):
    y = jax.random.normal(key, (1, 9, 8, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 2))

    def f(y):
        return jax.lax.conv_general_dilated(
            y, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    first, second = analysis.filters(f, y, [(4, 5), (1, 2)], channel=1)
    np.testing.assert_allclose(first[3:6, 4:7], kernel[..., 1], atol=1e-6)
    np.testing.assert_allclose(second[0:3, 1:4], kernel[..., 1], atol=1e-6)
    assert np.count_nonzero(first) == np.count_nonzero(second) == 18


def test_filters_equal_rows_of_the_full_jacobian_and_sum_to_row_sums(pairs):
    y = pairs[0][:1, :7, :6]
    f = jax.jit(wrap(network))
    rows = analysis.filters(f, y, [(0, 0), (3, 5)])
    whole = jax.jit(jax.jacobian(f))(y)[0, :, :, 0, 0]
    np.testing.assert_allclose(rows, jnp.stack([whole[0, 0], whole[3, 5]]), atol=1e-6)
    sums = row_sums(f, y)[0, (0, 3), (0, 5), 0]
    np.testing.assert_allclose(rows.sum(axis=(1, 2, 3)), sums, atol=1e-5)


@pytest.mark.parametrize("pair", [mean_std, haar_mad])
def test_filters_of_wrapped_networks_give_the_output_and_sum_to_one(pairs, pair):
    y = pairs[0][:1]
    f = jax.jit(wrap(network, statistics=pair))
    assert analysis.euler_ratio(f, y)[0] < 1e-5
    np.testing.assert_allclose(row_sums(f, y), 1, atol=1e-5)
    rows = analysis.filters(f, y, [(9, 20)])
    np.testing.assert_allclose(jnp.sum(rows * y), f(y)[0, 9, 20, 0], rtol=1e-5)


def test_the_euler_ratio_measures_a_bias():
    y = jnp.ones((1, 4, 4, 1))
    np.testing.assert_allclose(analysis.euler_ratio(lambda y: 2 * y + 2, y), 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda y: analysis.difficulty(y, y[:1]), r"same shape, not \(2, 4, 4, 1\) and \(1,"),
        (
            lambda y: analysis.normalized_error(lambda y: y[:1], y, y),
            r"keep the shape.*\(1, 4, 4, 1\)",
        ),
        (lambda y: analysis.filters(blur, y, [(0, 0)]), "one image"),
        (lambda y: analysis.filters(blur, y[:1], [(0, 4)]), r"pixel \(0, 4\)"),
        (lambda y: analysis.filters(blur, y[:1], [(0, 0)], channel=1), "channel 1"),
    ],
)
def test_invalid_arguments_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 4, 4, 1)))


def test_constant_and_nan_images_have_defined_results(key):
    y = jax.random.normal(key, (2, 4, 4, 1))
    np.testing.assert_array_equal(analysis.euler_ratio(lambda y: 0 * y, y), 0)
    assert analysis.filters(blur, y[:1], []).shape == (0, 4, 4, 1)
    spoilt = analysis.normalized_error(lambda y: y.at[0].set(jnp.nan), y, 0 * y)
    assert jnp.isnan(spoilt).tolist() == [True, False]  # for example an estimate that diverged
    bytes_ = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4, 1)
    down = lambda y: y - 10  # noqa: E731
    np.testing.assert_array_equal(
        analysis.normalized_error(down, bytes_, bytes_),
        analysis.normalized_error(down, bytes_.astype(jnp.float32), bytes_),
    )
    as_int, as_float = (
        analysis.psnr_from_error(0.0, 1.0, 2**16, data_range=r) for r in (255, 255.0)
    )
    assert as_int == as_float
    with jax.enable_x64(True):
        assert analysis.draw_difficulty(key, [3.0], 100).dtype == jnp.float32
