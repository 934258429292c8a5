import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import statistics as S


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


def test_what_is_fixed_declares_what_the_statistic_declares_that_found_it():
    found = S.mean_std(image())
    for like in (S.mean_std, S.haar_mad, S.root_mean_square):
        statistic = S.fixed(found, like=like)
        assert statistic(7 * image()) is found
        assert S.has_unit_noise(statistic) == S.has_unit_noise(like)
        assert S.symmetry_of(statistic) == S.symmetry_of(like)


def test_only_an_estimate_of_the_noise_gives_way_to_a_known_level():
    assert S.has_unit_noise(S.haar_mad) and S.takes_noise(S.haar_mad)
    for statistic in (
        S.mean_std,
        S.high_pass,
        S.median_mad,
        S.min_max,
        lambda y, **_: S.mean_std(y),
    ):
        assert not S.has_unit_noise(statistic) and not S.takes_noise(statistic)
    y, sigma = image(), np.float32([0.1, 0.3])
    location, scale, _ = S.haar_mad.with_noise(sigma)(y)
    np.testing.assert_array_equal(scale.ravel(), sigma)
    np.testing.assert_array_equal(location, S.mean_std(y).location)


def test_a_known_level_is_the_same_over_blocks():
    y = image((1, 23, 17, 1))
    for sigma in (0.3, 1e-6):
        expected = S.fixed_noise(sigma)(y)
        found = S.fixed_noise(sigma).over_blocks(S.Blocks(y[0], np.asarray, rows=4))
        np.testing.assert_allclose(found, np.ravel(expected[:2]), rtol=1e-6)
    constant = S.Blocks(np.full((9, 9, 1), 0.3, np.float32), np.asarray)
    assert S.fixed_noise(0.1).over_blocks(constant) == (np.float32(0.3), 0)


def test_levels_of_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match=r"sigma must be a scalar or \[B\] = \[2\], not \(3,\)"):
        S.fixed_noise(np.ones(3))(image())


def test_a_known_level_is_never_overridden_and_zero_returns_the_image():
    y = image()
    for sigma in (0.3, 1e-6):
        np.testing.assert_array_equal(S.fixed_noise(sigma)(y).scale, np.float32(sigma))
    f = wne.wrap(jnp.tanh, statistics=S.fixed_noise(np.float32([0.0, 0.3])))
    np.testing.assert_array_equal(f(y)[0], y[0])
    assert np.abs(f(y)[1] - y[1]).max() > 0.1
    traced = jax.jit(lambda y, sigma: wne.wrap(jnp.tanh, statistics=S.fixed_noise(sigma))(y))
    np.testing.assert_array_equal(traced(y, 0.0), y)
    np.testing.assert_allclose(traced(y, np.float32([0.0, 0.3])), f(y), rtol=1e-6, atol=1e-7)
    where = y > 0.1
    masked = wne.wrap(jnp.tanh, statistics=S.fixed_noise(0.0))(
        np.where(where, y, np.nan), where=where
    )
    np.testing.assert_array_equal(masked, np.where(where, y, 0))


@pytest.mark.parametrize("sigma", [-1e-3, np.nan, np.inf, np.float32([0.1, -0.1])])
def test_levels_that_are_none_are_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be finite and not negative"):
        S.fixed_noise(sigma)
