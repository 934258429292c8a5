import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.parts.pairs import pairs_of, table_with_spread, train
from wne_jax.evaluation.records import Record

X = jax.random.normal(jax.random.key(5), (3, 2))


def draw(key):
    """The targets are 2 x + 1."""
    x = jax.random.normal(key, (16, 2))
    return pairs_of(x, 2 * x + 1)


@pytest.mark.usefixtures("standard_promotion")
def test_networks_of_several_seeds_learn_as_each_by_itself():
    both = train(nn.Dense(2), draw, seeds=(0, 7), steps=200, rate=0.1)
    (alone,) = train(nn.Dense(2), draw, seeds=(7,), steps=200, rate=0.1)
    for f in both:
        np.testing.assert_allclose(f(X), 2 * X + 1, atol=0.02)
    np.testing.assert_allclose(both[1](X), alone(X), atol=1e-5)
    assert not jnp.array_equal(both[0](X), both[1](X))


def test_a_cell_without_spread_shows_the_value_alone():
    place = {"experiment": "e", "metric": "error", "level": 1.0}
    table = table_with_spread([Record(arm="wne", value=0.0, seed=s, **place) for s in range(3)])
    assert table.splitlines()[-1] == "| wne | 0 |"
