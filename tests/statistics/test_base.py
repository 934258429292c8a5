import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wne_jax import statistics as S
from wne_jax.statistics import Moments


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


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


@pytest.mark.parametrize("statistic", [S.haar_mad, S.high_pass])
def test_detail_needs_space(statistic):
    with pytest.raises(ValueError, match="rank 3"):
        statistic(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="spatial axes"):
        statistic(np.zeros((2, 3, 3, 1)), axes=(3,))
