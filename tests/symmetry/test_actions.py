import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wne_jax.symmetry.actions import Action, Affine, Offset, Scale, Shift, Translation


def maps(shape=(3, 7, 9, 2), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


ACTIONS = [
    Affine(2.5, -0.3),
    Affine(np.float32([0.5, 1, 2]), np.float32([0, 1, -1])),
    Scale(3.0),
    Offset(1.5),
    Shift(2, -3),
    Shift(np.array([0, 1, 20]), np.array([5, -1, 3])),
    Translation(0.5, -1.25),
    Translation(np.float32([0.1, 2.7, 0]), np.float32([0, -0.5, 30.25])),
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: type(a).__name__)
def test_the_inverse_undoes_the_action(action):
    y = maps()
    chex.assert_trees_all_close(action.inverse(y.shape)(action(y)), y, atol=2e-6)
    chex.assert_trees_all_close(action(action.inverse(y.shape)(y)), y, atol=2e-6)


@pytest.mark.parametrize(
    "outer", [ACTIONS[1], ACTIONS[5], ACTIONS[7]], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize(
    "inner", [ACTIONS[0], ACTIONS[4], ACTIONS[6]], ids=lambda a: type(a).__name__
)
def test_composition_applies_one_action_after_the_other(outer, inner):
    y = maps()
    composed = outer @ inner
    chex.assert_trees_all_close(composed(y), outer(inner(y)), atol=1e-5)
    chex.assert_trees_all_close(composed.inverse(y.shape)(composed(y)), y, atol=1e-5)
    a, b = composed.contrast_and_brightness()
    constant = jnp.full((3, 5, 5, 1), 0.5)
    ab = [jnp.broadcast_to(jnp.asarray(p, jnp.float32), (3,)).reshape(3, 1, 1, 1) for p in (a, b)]
    chex.assert_trees_all_close(composed(constant), ab[0] * constant + ab[1], atol=1e-5)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: type(a).__name__)
def test_actions_pass_through_jit_as_arguments(action):
    y = maps()
    result = jax.jit(lambda action, y: action(y))(action, y)
    chex.assert_trees_all_close(result, action(y), atol=1e-6)


def test_each_instance_has_its_own_parameters():
    y = maps()
    a, b = np.float32([1, 2, 3]), np.float32([-1, 0, 1])
    for i, one in enumerate(Affine(a, b)(y)):
        np.testing.assert_allclose(one, a[i] * y[i] + b[i], rtol=1e-6)
    for i, one in enumerate(Shift(np.array([1, 2, 3]), np.array([0, -1, 4]))(y)):
        np.testing.assert_array_equal(one, np.roll(y[i], (i + 1, [0, -1, 4][i]), (0, 1)))


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 8), st.integers(1, 8))
def test_whole_translations_are_shifts(dy, dx, height, width):
    y = maps((2, height, width, 1))
    chex.assert_trees_all_close(Translation(float(dy), float(dx))(y), Shift(dy, dx)(y), atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
def test_a_translated_wave_equals_its_formula(size):
    x = np.arange(size)
    wave = lambda d: np.cos(2 * np.pi * 2 * (x - d) / size + 0.3)  # noqa: E731
    y = jnp.asarray(wave(0), jnp.float32).reshape(1, 1, size, 1)
    moved = Translation(0.0, 1.37)(y)
    np.testing.assert_allclose(moved.ravel(), wave(1.37), atol=1e-6)


def test_on_even_sizes_the_nyquist_bin_is_damped_by_the_cosine():
    y = jnp.asarray((-1.0) ** np.arange(8), jnp.float32).reshape(1, 8, 1, 1)
    for d in (0.25, 0.5, 1.7):
        np.testing.assert_allclose(Translation(d, 0.0)(y), np.cos(np.pi * d) * y, atol=1e-6)


def test_sub_pixel_translations_of_even_maps_have_no_inverse():
    translation = Translation(0.5, 1.0)
    with pytest.raises(ValueError, match="Nyquist"):
        translation.inverse((1, 8, 9, 1))
    with pytest.raises(ValueError, match="shape"):
        translation.inverse()
    assert translation.inverse((1, 9, 8, 1)) == Translation(-0.5, -1.0)
    assert Translation(2.0, 1.0).inverse() == Translation(-2.0, -1.0)


def test_translations_compose_on_odd_maps_only():
    once = lambda y: Translation(0.7, 0.6)(Translation(0.5, 0.2)(y))  # noqa: E731
    odd, even = maps((1, 7, 9, 1)), maps((1, 8, 10, 1))
    chex.assert_trees_all_close(once(odd), Translation(1.2, 0.8)(odd), atol=1e-5)
    assert jnp.abs(once(even) - Translation(1.2, 0.8)(even)).max() > 1e-2


def test_each_frame_of_a_video_moves_and_a_one_pixel_map_does_not():
    video = maps((2, 3, 5, 7, 1))
    for action in (Shift(1, 2), Translation(0.5, 0.5)):
        chex.assert_trees_all_close(action(video)[:, 1], action(video[:, 1]), atol=1e-6)
        np.testing.assert_allclose(action(maps((2, 1, 1, 3))), maps((2, 1, 1, 3)), atol=1e-6)


@pytest.mark.parametrize(
    "act, error, message",
    [
        (lambda y: Affine(-1.0, 0.0)(y), ValueError, "positive"),
        (lambda y: Scale(np.float32([1, 0, 1]))(y), ValueError, "positive"),
        (lambda y: Affine(np.ones(2, np.float32), 0.0)(y), ValueError, r"\[B\]"),
        (lambda y: Shift(0.5, 0)(y), TypeError, "Translation"),
        (lambda y: Shift(1, 1)(y[..., 0]), ValueError, "H and W"),
        (lambda y: Action()(y), TypeError, "base class"),
    ],
)
def test_invalid_arguments_are_rejected(act, error, message):
    with pytest.raises(error, match=message):
        act(maps())
