import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import camera

from wne_jax import statistics as S
from wne_jax.statistics import Moments, Statistics

STATISTICS = sorted(S.STATISTICS)


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(
    "shape", [(2, 17, 12, 3), (1, 2, 2, 1), (3, 9, 1), (2, 3, 8, 9, 1), (2, 1, 7, 1)]
)
def test_every_pair_meets_the_contract(name, shape):
    S.check_contract(S.STATISTICS[name], image(shape))


@pytest.mark.parametrize("name", STATISTICS)
def test_pooled_over_space_every_channel_has_its_own_symmetry(name):
    S.check_contract(S.STATISTICS[name], image(), axes=(1, 2))
    location, scale = S.STATISTICS[name](image(), axes=(1, 2))
    assert location.shape == scale.shape == (2, 1, 1, 3)


@pytest.mark.parametrize(
    "pair, clause",
    [
        (S.root_mean_square, r"location\(a y \+ b\)"),
        (
            lambda y, *, axes, where: Statistics(*(s + 1e-3 for s in S.mean_std(y, axes=axes))),
            "location",
        ),
        (
            lambda y, *, axes, where: S.mean_std(y, axes=axes)._replace(
                scale=jnp.ones((2, 1, 1, 1))
            ),
            "scale",
        ),
        (
            lambda y, *, axes, where: S.mean_std(y)._replace(scale=jnp.zeros((2, 1, 1, 1))),
            "non-constant",
        ),
        (lambda y, *, axes, where: Statistics(y.mean((1, 2, 3)), y.std((1, 2, 3))), "shape"),
        (
            lambda y, *, axes, where: S.mean_std(y, where=where)._replace(
                scale=S.mean_std(y, where=where).scale.mean(0, keepdims=True)
            ),
            "another neighbour",
        ),
        (lambda y, *, axes, where: S.mean_std(y), "masked entry"),
        (
            lambda y, *, axes, where: Statistics(
                S.mean_std(y, where=where).location, jnp.sqrt(S.moments(y, where=where).m2)
            ),
            "gradient",
        ),
        (
            lambda y, *, axes, where: Statistics(
                y.mean(axes, keepdims=True),
                1e-20 * y.mean(axes, keepdims=True) + y.std(axes, keepdims=True),
            ),
            r"location\(c\)|scale\(c\)",  # no pivot: a constant is off by rounding
        ),
    ],
)
def test_the_contract_names_the_clause_that_fails(pair, clause):
    with pytest.raises(AssertionError, match=clause):
        S.check_contract(pair, image((2, 33, 31, 1)))


def test_mean_std_equals_numpy():
    y = image()
    location, scale = S.mean_std(y)
    np.testing.assert_allclose(location[:, 0, 0, 0], y.mean((1, 2, 3), np.float64), rtol=1e-6)
    np.testing.assert_allclose(scale[:, 0, 0, 0], y.std((1, 2, 3), np.float64), rtol=1e-6)


def test_a_small_contrast_on_a_large_offset_keeps_its_digits():
    y = image((1, 64, 64, 1)).astype(np.float64) * 0.01 + 10
    y32 = y.astype(np.float32)
    np.testing.assert_allclose(
        S.mean_std(y32).scale.item(), y32.astype(np.float64).std(), rtol=1e-5
    )


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("c", [0.1, 1 / 3, -12345.678, 1e-12])
def test_constants_have_their_own_value_and_no_scale(name, c):
    location, scale = S.STATISTICS[name](np.full((2, 37, 41, 1), c, np.float32))
    assert np.all(np.asarray(location) == np.float32(c))
    assert np.all(np.asarray(scale) == 0)


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_gradients_are_finite_even_on_constants(name):
    pair = getattr(S, name)
    for y in (jnp.asarray(image()), jnp.full((2, 5, 5, 1), 0.3), jnp.zeros((2, 5, 5, 1))):
        gradient = jax.grad(lambda y: sum(part.sum() for part in pair(y)))(y)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_masked_entries_influence_nothing(name):
    pair = getattr(S, name)
    y = image()
    where = np.random.default_rng(3).random(y.shape) < 0.7
    poisoned = jnp.asarray(np.where(where, y, np.nan))
    chex.assert_trees_all_equal(
        jax.jit(pair)(poisoned, where=where), jax.jit(pair)(np.where(where, y, 1e6), where=where)
    )
    gradient = jax.grad(lambda y: sum(part.sum() for part in pair(y, where=where)))(poisoned)
    assert np.isfinite(gradient).all() and np.all(np.asarray(gradient)[~where] == 0)


@pytest.mark.parametrize("name", ["mean_std", "median_mad", "min_max", "haar_mad"])
def test_a_padded_image_has_the_statistics_of_the_image(name):
    y = image((1, 9, 8, 2))
    padded = np.pad(y, ((0, 0), (0, 5), (0, 3), (0, 0)), constant_values=7.0)
    where = np.pad(np.ones_like(y, bool), ((0, 0), (0, 5), (0, 3), (0, 0)))
    chex.assert_trees_all_close(
        S.STATISTICS[name](padded, where=where), S.STATISTICS[name](y), rtol=1e-6
    )


@pytest.mark.parametrize("name", STATISTICS)
def test_an_empty_mask_gives_zeros(name):
    y = image()
    location, scale = S.STATISTICS[name](y, where=np.zeros((2, 1, 1, 1), bool))
    assert np.all(np.asarray(location) == 0) and np.all(np.asarray(scale) == 0)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(-100, 100), st.integers(0, 100))
def test_moments_of_parts_merge_to_those_of_the_whole(m, n, offset, seed):
    y = (np.random.default_rng(seed).normal(size=(2, m + n)) + offset).astype(np.float32)
    merged = S.merge(S.moments(y[:, :m]), S.moments(y[:, m:]))
    whole = y.astype(np.float64)
    np.testing.assert_allclose(merged.number, m + n)
    np.testing.assert_allclose(merged.mean[:, 0], whole.mean(1), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(
        merged.m2[:, 0], ((whole - whole.mean(1, keepdims=True)) ** 2).sum(1), rtol=2e-3, atol=1e-3
    )


def test_merging_is_exact_on_constants_and_with_nothing():
    part = S.moments(np.full((1, 3), 0.1, np.float32))
    merged = S.merge(part, S.moments(np.full((1, 4), 0.1, np.float32)))
    assert merged.mean.item() == np.float32(0.1) and merged.m2.item() == 0
    nothing = Moments(*(jnp.zeros((1, 1)) for _ in range(3)))
    for both in (S.merge(part, nothing), S.merge(nothing, part)):
        chex.assert_trees_all_equal(both, part)


@pytest.mark.parametrize("sigma", [5 / 255, 25 / 255, 90 / 255])
def test_estimate_sigma_finds_white_noise(sigma):
    noise = sigma * np.random.default_rng(0).normal(size=(1, 512, 512, 1))
    ramp = np.linspace(0, 3, 512).reshape(1, 1, 512, 1)
    estimate = S.estimate_sigma((ramp + noise).astype(np.float32))
    assert estimate.shape == (1,)
    np.testing.assert_allclose(estimate, sigma, rtol=0.01)
    photograph = camera()[None, ..., None] / 255  # its texture adds to a small noise
    estimate = S.estimate_sigma((photograph + noise).astype(np.float32))
    assert sigma < estimate < 1.3 * sigma


def test_estimate_sigma_equals_its_formula():
    y = image((1, 8, 9, 2)).astype(np.float64)
    detail = (y[:, :-1, :-1] - y[:, 1:, :-1] - y[:, :-1, 1:] + y[:, 1:, 1:]) / 2
    expected = np.median(np.abs(detail)) / 0.6744897501960817
    np.testing.assert_allclose(S.estimate_sigma(y.astype(np.float32))[0], expected, rtol=1e-6)


def test_high_pass_equals_its_kernel_and_has_unit_noise_gain():
    from scipy.ndimage import convolve

    y = np.random.default_rng(0).normal(size=(256, 256))
    kernel = np.outer([-1, 2, -1], [-1, 2, -1]) / 6
    expected = np.sqrt(np.mean(convolve(y, kernel, mode="wrap") ** 2))
    scale = S.high_pass(y[None, ..., None].astype(np.float32)).scale.item()
    np.testing.assert_allclose(scale, expected, rtol=1e-5)
    np.testing.assert_allclose(scale, 1, rtol=0.02)


def test_robust_scales_never_fall_below_the_floor():
    y = np.zeros((1, 32, 32, 1), np.float32)
    y[:, 8, 8] = 1.0  # the medians are all 0
    std = y.std()
    for pair in (S.haar_mad, S.median_mad):
        np.testing.assert_allclose(pair(y).scale.item(), S.FLOOR * std, rtol=1e-6)
    assert S.estimate_sigma(y)[0] == 0


def test_double_precision_is_kept_and_small_floats_are_raised():
    with jax.enable_x64(True):
        y = 1e6 + image().astype(np.float64) * 1e-3
        assert S.mean_std(y).scale.dtype == jnp.float64
        np.testing.assert_allclose(S.mean_std(y).scale[:, 0, 0, 0], y.std((1, 2, 3)), rtol=1e-9)
    assert S.mean_std(jnp.asarray(image(), jnp.bfloat16)).scale.dtype == jnp.float32
    np.testing.assert_allclose(
        S.mean_std(np.arange(8, dtype=np.uint16).reshape(1, 8)).location, 3.5
    )


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"y": np.zeros(3)}, ValueError, "rank 2"),
        ({"y": np.zeros((0, 3))}, ValueError, "no entries"),
        ({"y": np.zeros((1, 3), complex)}, TypeError, "real"),
        ({"y": np.zeros((2, 3)), "axes": (0, 1)}, ValueError, "batch axis"),
        ({"y": np.zeros((2, 3)), "axes": (2,)}, ValueError, "exist"),
        ({"y": np.zeros((2, 3)), "axes": ()}, ValueError, "at least one"),
        ({"y": np.zeros((2, 3)), "axes": (1, -1)}, ValueError, "once"),
        ({"y": np.zeros((2, 3)), "where": np.ones((2, 3))}, TypeError, "boolean"),
        ({"y": np.zeros((2, 3)), "where": np.ones((2, 2), bool)}, ValueError, "where"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        S.mean_std(**arguments)


def test_integers_that_float32_cannot_hold_are_refused_in_eager_code():
    for wide in (
        np.array([[2**31 + 5, 7]]),
        np.array([[2**30, 1]], np.int32),
        np.array([[-(2**25), 0]]),
    ):
        with pytest.raises(ValueError, match=r"2\^24"):
            S.mean_std(wide)
    assert S.mean_std(np.array([[2**24, 0]])).scale[0, 0] == 2**23


def test_one_axis_may_be_a_number():
    chex.assert_trees_all_equal(S.mean_std(image(), axes=1), S.mean_std(image(), axes=(1,)))


@pytest.mark.parametrize("pair", [S.haar_mad, S.high_pass])
def test_detail_needs_space(pair):
    with pytest.raises(ValueError, match="rank 3"):
        pair(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="spatial axes"):
        pair(np.zeros((2, 3, 3, 1)), axes=(3,))
