import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import statistics as S

STATISTICS = sorted(S.STATISTICS)
ALL = S.STATISTICS | {"root_mean_square": S.root_mean_square}


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("c", [0.1, 1 / 3, -12345.678, 1e-12])
def test_constants_have_their_own_value_and_no_scale(name, c):
    location, scale, *_ = S.STATISTICS[name](np.full((2, 37, 41, 1), c, np.float32))
    assert np.all(np.asarray(location) == np.float32(c))
    assert np.all(np.asarray(scale) == 0)


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_gradients_are_finite_even_on_constants(name):
    statistic = ALL[name]
    for y in (jnp.asarray(image()), jnp.full((2, 5, 5, 1), 0.3), jnp.zeros((2, 5, 5, 1))):
        gradient = jax.grad(lambda y: sum(part.sum() for part in jax.tree.leaves(statistic(y))))(y)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", [*STATISTICS, "root_mean_square"])
def test_masked_entries_influence_nothing(name):
    statistic = ALL[name]
    y = image()
    where = np.random.default_rng(3).random(y.shape) < 0.7
    poisoned = jnp.asarray(np.where(where, y, np.nan))
    chex.assert_trees_all_equal(
        jax.jit(statistic)(poisoned, where=where),
        jax.jit(statistic)(np.where(where, y, 1e6), where=where),
    )
    gradient = jax.grad(
        lambda y: sum(part.sum() for part in jax.tree.leaves(statistic(y, where=where)))
    )(poisoned)
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
    location, scale, *_ = S.STATISTICS[name](y, where=np.zeros((2, 1, 1, 1), bool))
    assert np.all(np.asarray(location) == 0) and np.all(np.asarray(scale) == 0)
