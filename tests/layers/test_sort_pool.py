import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import pair_order, sort_pool


def neighbours(x):
    """The paper's form: channels 2i and 2i + 1, smaller first."""
    return np.sort(np.reshape(x, (*x.shape[:-1], -1, 2)), axis=-1).reshape(x.shape)


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("channels", [2, 6, 8])
def test_equals_the_sort_of_neighbours_up_to_order(channels):
    x = draw(2, 3, 4, channels)
    order = pair_order(channels)
    np.testing.assert_array_equal(sort_pool(jnp.asarray(x[..., order])), neighbours(x)[..., order])


def test_kernels_absorb_the_order():
    first, x, last = draw(3, 6, 6)
    order = pair_order(6)
    expected = neighbours(x @ first) @ last
    np.testing.assert_allclose(
        sort_pool(jnp.asarray(x @ first[:, order])) @ last[order], expected, atol=1e-5
    )


def test_commutes_exactly_with_increasing_maps_and_permutes_values():
    x = jnp.asarray(draw(4, 8))
    np.testing.assert_array_equal(sort_pool(0.3 * x + 7), 0.3 * sort_pool(x) + 7)
    np.testing.assert_array_equal(jnp.sort(sort_pool(x)), jnp.sort(x))
    np.testing.assert_array_equal(sort_pool(sort_pool(x)), sort_pool(x))


def test_gradient_is_a_permutation_even_at_ties():
    for x in ([1.0, 2.0, 3.0, 0.0], [1.0, 2.0, 1.0, 2.0]):
        jacobian = jax.jacobian(sort_pool)(jnp.array(x))
        np.testing.assert_array_equal(jacobian.sum(0), jnp.ones(4))
        np.testing.assert_array_equal(jnp.sort(jacobian), jnp.eye(4)[jnp.full(4, 3)])


def test_odd_channels_are_rejected():
    with pytest.raises(ValueError, match="even in number, not 3"):
        sort_pool(jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="even in number, not 5"):
        pair_order(5)
