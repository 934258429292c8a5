import chex
import jax
import numpy as np
import pytest

from wne_jax import statistics as S

STATISTICS = sorted(S.STATISTICS)
ALL = S.STATISTICS | {"root_mean_square": S.root_mean_square}


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("name", STATISTICS)
def test_constants_have_their_own_value_and_no_scale(name):
    c = np.float32([0.1, 1 / 3, -12345.678, 1e-12]).reshape(-1, 1, 1, 1)
    y = np.broadcast_to(c, (4, 37, 41, 1))
    location, scale, *_ = jax.jit(S.STATISTICS[name])(y)
    np.testing.assert_array_equal(location, c if location.size == c.size else y)
    assert np.all(np.asarray(scale) == 0)


@pytest.mark.parametrize("name", ["mean_std", "median_mad", "min_max", "haar_mad"])
def test_eager_code_gives_constants_their_own_value_and_no_scale(name):
    location, scale, *_ = S.STATISTICS[name](np.full((2, 37, 41, 1), 1 / 3, np.float32))
    assert np.all(np.asarray(location) == np.float32(1 / 3)) and np.all(np.asarray(scale) == 0)


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_gradients_are_finite_even_on_constants(name):
    statistic = ALL[name]
    gradient = jax.jit(
        jax.grad(lambda y: sum(part.sum() for part in jax.tree.leaves(statistic(y))))
    )
    constants = np.float32([0.3, 0.0]).reshape(2, 1, 1, 1)
    large = np.broadcast_to(constants, (2, 17, 12, 3))
    for y in (np.concatenate([image(), large]), np.broadcast_to(constants, (2, 5, 5, 1))):
        assert np.isfinite(gradient(y)).all()


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_masked_entries_influence_nothing_and_an_empty_mask_gives_zeros(name):
    @jax.jit
    def with_gradient(y, where):
        def total(y):
            found = ALL[name](y, where=where)
            return sum(part.sum() for part in jax.tree.leaves(found)), found

        return jax.grad(total, has_aux=True)(y)

    y = image()
    where = np.random.default_rng(3).random(y.shape) < 0.7
    gradient, found = with_gradient(np.where(where, y, np.float32(np.nan)), where)
    assert np.isfinite(gradient).all() and np.all(np.asarray(gradient)[~where] == 0)
    chex.assert_trees_all_equal(found, with_gradient(np.where(where, y, np.float32(1e6)), where)[1])

    _, (location, scale, *_) = with_gradient(y, np.zeros(y.shape, bool))
    assert np.all(np.asarray(location) == 0) and np.all(np.asarray(scale) == 0)


@pytest.mark.parametrize("name", ["mean_std", "median_mad", "min_max", "haar_mad"])
def test_a_padded_image_has_the_statistics_of_the_image(name):
    y = image((1, 9, 8, 2))
    padded = np.pad(y, ((0, 0), (0, 5), (0, 3), (0, 0)), constant_values=7.0)
    where = np.pad(np.ones_like(y, bool), ((0, 0), (0, 5), (0, 3), (0, 0)))
    chex.assert_trees_all_close(
        S.STATISTICS[name](padded, where=where), S.STATISTICS[name](y), rtol=1e-6
    )
    empty = S.STATISTICS[name](y, where=np.zeros((1, 1, 1, 1), bool))  # a mask is broadcast
    assert not any(np.any(part) for part in jax.tree.leaves(empty))
