import jax
import jax.numpy as jnp
import numpy as np

from wne_jax.layers import AffineResidual, affine_residual


def test_equals_the_weighted_mean_and_is_exact_where_branches_agree(key):
    u, v = jax.random.normal(key, (2, 3, 4, 4, 2))
    np.testing.assert_allclose(affine_residual(u, v, 0.3), 0.3 * u + 0.7 * v, atol=1e-6)
    np.testing.assert_array_equal(affine_residual(u, u, 0.3), u)


def test_layer_starts_at_the_mean_and_trains_one_scalar(key):
    u, v = jax.random.normal(key, (2, 3, 4, 4, 2))
    layer = AffineResidual()
    out, variables = layer.init_with_output(key, u, v)
    np.testing.assert_allclose(out, (u + v) / 2, atol=1e-6)
    grads = jax.grad(lambda w: layer.apply(w, u, v).sum())(variables)
    assert grads["params"]["t"].shape == ()
    np.testing.assert_allclose(grads["params"]["t"], (u - v).sum(), rtol=1e-4)


def test_computes_in_the_requested_dtype(key):
    u = jnp.ones((2, 2))
    out, variables = AffineResidual(dtype=jnp.bfloat16).init_with_output(key, u, u)
    assert out.dtype == jnp.bfloat16 and variables["params"]["t"].dtype == jnp.float32
