import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import AffineConv, affine_kernel, affine_weights, conv


@pytest.mark.parametrize("exempt", [0, 1, 2])
def test_kernel_sums_to_one_over_the_constrained_channels(key, exempt):
    w = 10 * jax.random.normal(key, (3, 3, 4, 5))
    kernel = affine_kernel(w, exempt=exempt)
    assert kernel.shape == w.shape
    np.testing.assert_allclose(kernel[:, :, : 4 - exempt].sum((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_array_equal(kernel[:, :, 4 - exempt :], w[:, :, 4 - exempt :])


def test_kernel_is_the_formula(key):
    w = jax.random.normal(key, (1, 3, 2, 1))
    row = np.asarray(w).ravel()
    expected = [row[i] - row[i - 1] + 1 / 6 for i in range(6)]
    np.testing.assert_allclose(affine_kernel(w).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("exempt", [0, 1])
def test_every_kernel_that_sums_to_one_has_free_weights(key, exempt):
    kernel = affine_kernel(jax.random.normal(key, (3, 3, 3, 4)), exempt=exempt)
    again = affine_kernel(affine_weights(kernel, exempt=exempt), exempt=exempt)
    np.testing.assert_allclose(again, kernel, atol=1e-5)


def test_free_weights_of_a_numpy_kernel_keep_its_dtype():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4))
    kernel += (1 - kernel.sum((0, 1, 2))) / 18
    weights = affine_weights(kernel)
    assert isinstance(weights, np.ndarray) and weights.dtype == np.float64
    rows = weights.reshape(18, 4)
    again = rows - np.roll(rows, 1, axis=0) + 1 / 18
    np.testing.assert_allclose(again.reshape(kernel.shape), kernel, atol=1e-14)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_layer_commutes_with_affine_maps(key, padding, kernel_size):
    y = jax.random.normal(key, (2, 6, 7, 3))
    layer = AffineConv(4, kernel_size=kernel_size, padding=padding)
    variables = layer.init(key, y)
    f = jax.jit(lambda y: layer.apply(variables, y))
    for a, b in ((3.0, -2.0), (-0.5, 1.0), (0.0, 4.0)):
        np.testing.assert_allclose(f(a * y + b), a * f(y) + b, atol=2e-5)


def test_zero_padding_does_not_commute_with_offsets(key):
    ones = jnp.ones((1, 5, 5, 1))
    out, _ = AffineConv(2, padding="zeros").init_with_output(key, ones)
    assert float(jnp.abs(out[:, 1:-1, 1:-1] - 1).max()) < 1e-5
    assert float(jnp.abs(out - 1).max()) > 1e-2


def test_an_exempt_channel_is_not_constrained(key):
    y, plane = jax.random.normal(key, (1, 5, 5, 2)), jnp.full((1, 5, 5, 1), 0.3)
    layer = AffineConv(4, exempt=1)
    variables = layer.init(key, jnp.concatenate([y, plane], -1))
    f = lambda y, plane: layer.apply(variables, jnp.concatenate([y, plane], -1))  # noqa: E731
    np.testing.assert_allclose(f(3 * y + 2, 3 * plane), 3 * f(y, plane) + 2, atol=2e-5)


def test_layer_equals_the_pure_functions_and_has_the_shapes_of_conv(key):
    y = jax.random.normal(key, (1, 5, 5, 2))
    out, variables = AffineConv(4).init_with_output(key, y)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (3, 3, 2, 4)}
    kernel = affine_kernel(variables["params"]["kernel"])
    np.testing.assert_allclose(out, conv(y, kernel, padding="reflect"), atol=1e-6)


def test_default_initializer_keeps_the_variance_through_sorting(key):
    variables = AffineConv(256).init(key, jnp.zeros((1, 3, 3, 64)))
    kernel = affine_kernel(variables["params"]["kernel"])
    assert float(kernel.var() * 9 * 64) == pytest.approx(1 / (1 - 1 / np.pi), rel=0.02)
    pairs = jnp.sort(jax.random.normal(key, (100_000, 2)))
    np.testing.assert_allclose(pairs.var(0), 1 - 1 / np.pi, rtol=0.02)


def test_agrees_with_torch(key):
    torch = pytest.importorskip("torch")
    y = jax.random.normal(key, (2, 6, 7, 3))
    out, variables = AffineConv(4).init_with_output(key, y)
    kernel = affine_kernel(variables["params"]["kernel"])
    padded = torch.nn.functional.pad(
        torch.tensor(np.asarray(y)).permute(0, 3, 1, 2), (1, 1, 1, 1), mode="reflect"
    )
    weight = torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1)
    expected = torch.nn.functional.conv2d(padded, weight).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="rank 4"):
        affine_kernel(jnp.zeros((3, 3, 1)))
    with pytest.raises(ValueError, match="exempt must leave at least one of the 2 input channels"):
        affine_kernel(jnp.zeros((3, 3, 2, 1)), exempt=2)
