import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wne_jax.statistics.order import median

floats = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


over_rows = jax.jit(lambda x: median(x, axes=(1,)))


# Few shapes, each compiled once: one entry, an odd and an even number of them.
@given(hnp.arrays(np.float32, st.sampled_from([(1, 1), (2, 7), (3, 40)]), elements=floats))
def test_equals_numpy_to_the_last_bit(x):
    expected = np.median(x, axis=1, keepdims=True)
    np.testing.assert_array_equal(over_rows(x), expected)


@pytest.mark.parametrize(
    "shape, axes", [((2, 7, 5, 3), (1, 2, 3)), ((2, 7, 5, 3), (1, 2)), ((4, 6), (1,))]
)
def test_masked_equals_numpy_on_the_valid_entries(shape, axes):
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=shape), 1).astype(np.float32)  # rounded: many ties
    where = rng.random(shape) < 0.6
    expected = np.nanmedian(np.where(where, x, np.nan), axis=axes, keepdims=True)
    np.testing.assert_array_equal(
        median(jnp.asarray(x), axes=axes, where=jnp.asarray(where)), expected
    )


def test_without_valid_entries_it_is_zero():
    x = jnp.ones((1, 4))
    assert median(x, axes=(1,), where=jnp.zeros((1, 4), bool))[0, 0] == 0


def test_double_precision():
    with jax.enable_x64(True):
        x = np.random.default_rng(1).normal(size=(2, 101))
        result = median(jnp.asarray(x), axes=(1,))
        assert result.dtype == jnp.float64
        np.testing.assert_array_equal(result, np.median(x, axis=1, keepdims=True))


def test_gradient_goes_to_the_middle_entries():
    gradient = jax.jit(jax.grad(lambda x: median(x[None], axes=(1,))[0, 0]))
    np.testing.assert_array_equal(gradient(jnp.array([3.0, 1.0, 2.0])), [0, 0, 1])
    np.testing.assert_array_equal(gradient(jnp.array([4.0, 1.0, 3.0, 2.0])), [0, 0, 0.5, 0.5])
    ties = jnp.array([2.0, 1.0, 2.0, 2.0, 9.0])
    np.testing.assert_array_equal(gradient(ties), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(gradient(jnp.array([1.0, jnp.inf, jnp.inf])), [0, 1, 0])


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_over_several_axes_is_that_of_the_sort(masked):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 3, 5)), jnp.float32)
    where = jnp.asarray(rng.random(x.shape) < 0.6) if masked else None
    valid = jnp.ones(x.shape, bool) if where is None else where
    weights = jnp.arange(1.0, 7).reshape(2, 1, 3, 1)
    ours = jax.grad(lambda x: jnp.sum(weights * median(x, axes=(1, 3), where=where)))(x)
    sort = lambda x: jnp.nanmedian(jnp.where(valid, x, jnp.nan), axis=(1, 3), keepdims=True)  # noqa: E731
    np.testing.assert_array_equal(ours, jax.grad(lambda x: jnp.sum(weights * sort(x)))(x))
    nothing = jax.grad(lambda x: median(x, axes=(0, 1, 2, 3), where=x > 99).sum())(x)
    np.testing.assert_array_equal(nothing, 0)


def test_second_derivatives_see_the_entries():
    x = jnp.array([3.0, 1.0, 2.0])
    square = lambda x: median(x[None], axes=(1,))[0, 0] ** 2  # noqa: E731
    np.testing.assert_array_equal(jax.hessian(square)(x), np.diag([0, 0, 2.0]))


def test_nan_of_either_sign_is_the_largest_and_has_no_gradient():
    for nan in (np.float32(np.nan), -np.float32(np.nan)):
        x = jnp.array([[nan, 1.0, 2.0]])
        assert median(x, axes=(1,)) == 2
        gradient = jax.grad(lambda x: median(x, axes=(1,))[0, 0])(x)
        np.testing.assert_array_equal(gradient, [[0, 0, 1]])
