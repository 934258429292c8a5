"""Percentiles against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import statistics as S
from wne_jax.statistics.order import quantiles, quantiles_of_parts


def image(shape=(2, 13, 9, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("low, high", [(0, 100), (1, 99.8), (25, 75)])
def test_they_are_those_of_numpy(low, high):
    y = image()
    for axes in ((1, 2, 3), (1, 2)):
        expected = np.percentile(y, [low, high], axis=axes, keepdims=True)
        location, scale, _ = S.percentiles(low, high)(y, axes=axes)
        np.testing.assert_allclose(location, expected[0], rtol=1e-5)
        np.testing.assert_allclose(scale, expected[1] - expected[0], rtol=1e-5)


def test_a_mask_leaves_entries_out():
    y = image((1, 13, 9, 1))
    where = np.random.default_rng(1).random(y.shape) < 0.6
    expected = np.percentile(y[where], [10, 90])
    location, scale, _ = S.percentiles(10, 90)(np.where(where, y, np.nan), where=where)
    np.testing.assert_allclose(
        [location.item(), scale.item()], [expected[0], np.diff(expected)[0]], rtol=1e-5
    )


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_parts_have_the_quantiles_of_the_whole(size):
    x = image((size,))
    shares = (0.0, 0.01, 0.37, 0.998, 1.0)
    found = quantiles_of_parts(lambda: iter([x[: size // 3], x[size // 3 :]]), shares)
    np.testing.assert_allclose(found, np.quantile(x.astype(np.float64), shares), rtol=1e-6)
    in_memory = quantiles(jnp.asarray(x)[None], shares, axes=(1,))
    np.testing.assert_allclose(found, np.ravel(in_memory), rtol=1e-6)


def test_outliers_do_not_count_and_ties_have_a_scale():
    y = np.zeros((1, 40, 40, 1), np.float32)
    y[0, 0, :3] = 1e3  # fewer than 0.2 percent
    location, scale, _ = S.percentiles(1, 99.8)(y)
    assert location == 0 and 0 < scale == pytest.approx(0.001 * y.std())


def test_the_gradient_goes_to_the_entries_between_which_a_percentile_lies():
    y = jnp.asarray([[5.0, 1.0, 2.0, 9.0]])
    gradient = jax.grad(lambda y: quantiles(y, (0.9,), axes=(1,))[0].sum())(y)
    np.testing.assert_allclose(gradient, [[0.3, 0, 0, 0.7]], atol=1e-6)


@pytest.mark.parametrize("low, high", [(50, 50), (-1, 50), (1, 101), (60, 40)])
def test_what_are_no_percentiles_is_refused(low, high):
    with pytest.raises(ValueError, match="from 0 to 100"):
        S.percentiles(low, high)


def test_logarithms_turn_gamma_and_exposure_into_contrast_and_brightness():
    f = wne.wrap(jnp.tanh, statistics=S.percentiles(5, 95))
    g = lambda y: jnp.exp(f(jnp.log(y)))  # noqa: E731
    y = jnp.exp(jnp.asarray(image()))
    np.testing.assert_allclose(g(3 * y**2), 3 * g(y) ** 2, rtol=1e-4)
