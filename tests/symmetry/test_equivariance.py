import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.symmetry import equivariance as E
from wne_jax.symmetry.actions import Affine, Scale, Shift, Translation


def image(shape=(2, 9, 7, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def test_the_defect_of_the_square_has_a_closed_form():
    y = image()
    # (2 y)^2 - 2 y^2 = 2 y^2, and T f(y) = 2 y^2
    np.testing.assert_allclose(E.defect(jnp.square, Scale(2.0), y), 1, rtol=1e-4)
    expected = np.abs(2 * np.square(y)).max((1, 2, 3))
    np.testing.assert_allclose(
        E.defect(jnp.square, Scale(2.0), y, metric="max"), expected, rtol=1e-6
    )


def test_metrics_equal_numpy():
    actual, expected = np.asarray(image(seed=1), np.float64), np.asarray(image(seed=2), np.float64)
    distance = np.sqrt(((actual - expected) ** 2).sum((1, 2, 3)))
    norm = np.sqrt((expected**2).sum((1, 2, 3)))
    np.testing.assert_allclose(
        E.relative_l2(*map(jnp.float32, (actual, expected))), distance / norm, rtol=1e-5
    )
    cosine = (actual * expected).sum(-1) / np.sqrt((actual**2).sum(-1) * (expected**2).sum(-1))
    np.testing.assert_allclose(
        E.cosine_error(*map(jnp.float32, (actual, expected))), (1 - cosine).mean((1, 2)), rtol=1e-5
    )


def test_the_cosine_error_is_accurate_where_one_minus_cosine_cancels():
    x = image((1, 8, 8, 16))
    nearly = x + 1e-5 * image((1, 8, 8, 16), seed=3)
    x64, nearly64 = np.asarray(x, np.float64), np.asarray(nearly, np.float64)
    cosine = (x64 * nearly64).sum(-1) / np.sqrt((x64**2).sum(-1) * (nearly64**2).sum(-1))
    np.testing.assert_allclose(E.cosine_error(nearly, x), (1 - cosine).mean(), rtol=1e-2)
    assert E.cosine_error(jnp.zeros_like(x), jnp.zeros_like(x)) == 0
    assert E.cosine_error(jnp.zeros_like(x), x)[0] == pytest.approx(0.5)


def test_the_normalization_defect_is_zero_for_a_mean_but_not_for_a_bias(key):
    y = image()
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    assert E.normalization_defect(blur, y, key).max() < 1e-6
    biased = E.normalization_defect(lambda y: y + 1, y, key)
    # f(a y + b) - a f(y) - b = 1 - a, divided by |a y + a + b|
    assert biased.shape == (2,) and biased.min() > 0.05 and biased.max() < 0.5
    np.testing.assert_array_equal(biased, E.normalization_defect(lambda y: y + 1, y, key))


def test_assertions_work_for_spatial_actions():
    y = image((1, 9, 9, 1))
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    E.assert_equivariant(blur, Shift(3, -2), y)
    E.assert_equivariant(blur, Translation(0.4, 1.3) @ Affine(2.0, 1.0), y)
    with pytest.raises(AssertionError, match="Translation"):
        E.assert_equivariant(jnp.square, Translation(0.4, 0.0), y)


def test_the_message_has_the_action_the_violation_and_its_position():
    y = jnp.zeros((2, 3, 3, 1)).at[1, 2, 0, 0].set(0.5)
    f = lambda y: jnp.where(y > 0.6, y + 5, y)  # noqa: E731
    with pytest.raises(AssertionError) as error:
        E.assert_equivariant(f, Affine(jnp.array([1.0, 2.0]), jnp.zeros(2)), y)
    message = str(error.value)
    assert "Affine(a=2.0, b=0.0)" in message and "at (1, 2, 0, 0)" in message
    assert "f(T y) = 6 but T f(y) = 1" in message and "a difference of 5 " in message


def test_nan_is_a_violation():
    with pytest.raises(AssertionError, match="nan"):
        E.assert_equivariant(lambda y: y * jnp.nan, Scale(2.0), image())


def test_a_defect_of_a_thousandth_is_found():
    y = image()
    with pytest.raises(AssertionError):
        E.assert_normalization_equivariant(lambda y: y + 1e-3 * y**2, y, jax.random.key(1))
    with pytest.raises(AssertionError):
        E.assert_exact_under_powers_of_two(lambda y: y + 1e-6, y)


def test_coarser_arithmetic_has_a_larger_tolerance(key):
    f = lambda y: y.astype(jnp.bfloat16).astype(jnp.float32)  # noqa: E731
    y = image()
    with pytest.raises(AssertionError):
        E.assert_equivariant(f, Affine(1.7, 0.1), y)
    E.assert_equivariant(f, Affine(1.7, 0.1), y, compute_dtype=jnp.bfloat16)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.uint8])
def test_images_of_any_real_dtype_can_be_checked(dtype, key):
    y = (100 * image()).astype(dtype)
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    E.assert_normalization_equivariant(blur, y, key)
    assert E.normalization_defect(blur, y, key).max() < 1e-6
    np.testing.assert_allclose(E.euler_residual(blur, y), 0, atol=1e-4)
    np.testing.assert_allclose(E.row_sums(blur, y), 1, rtol=1e-6)


def test_jacobian_identities_of_a_linear_map_and_of_a_square():
    y = image()
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    np.testing.assert_allclose(E.euler_residual(blur, y), 0, atol=1e-6)
    np.testing.assert_allclose(E.row_sums(blur, y), 1, rtol=1e-6)
    np.testing.assert_allclose(E.euler_residual(jnp.square, y), -np.square(y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(E.row_sums(jnp.square, y), 2 * y, rtol=1e-6)


def test_an_unknown_metric_is_rejected_and_a_function_is_accepted():
    with pytest.raises(ValueError, match="cosine"):
        E.defect(jnp.tanh, Scale(2.0), image(), metric="angle")
    custom = E.defect(jnp.square, Scale(2.0), image(), metric=lambda a, b: jnp.ones(2))
    np.testing.assert_array_equal(custom, 1)
