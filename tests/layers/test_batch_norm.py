import jax
import jax.numpy as jnp
import numpy as np

from wne_jax.layers import BiasFreeBatchNorm, channel_std


def draw(key):
    return 3 * jax.random.normal(key, (4, 5, 6, 3)) + jnp.array([0.0, 5.0, -2.0]).reshape(
        1, 1, 1, 3
    )


def test_training_divides_by_the_batch_deviation_and_subtracts_nothing(key):
    x = draw(key)
    layer = BiasFreeBatchNorm(use_running_average=False)
    out, updated = layer.apply(layer.init(key, x), x, mutable=["batch_stats"])
    std = np.sqrt(np.var(np.asarray(x, np.float64), axis=(0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(out, x / std.reshape(1, 1, 1, 3).astype(np.float32), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["std"], 0.9 + 0.1 * std, rtol=1e-5)


def test_training_output_is_independent_of_the_scale_of_the_batch(key):
    x = draw(key)
    layer = BiasFreeBatchNorm(use_running_average=False, eps=0.0)
    out, _ = layer.init_with_output(key, x)
    np.testing.assert_allclose(layer.init_with_output(key, 4 * x)[0], out, rtol=1e-6)


def test_evaluation_is_linear(key):
    x, z = draw(key), jax.random.normal(key, (4, 5, 6, 3))
    layer = BiasFreeBatchNorm(use_running_average=True)
    variables = layer.init(key, x)
    np.testing.assert_array_equal(variables["batch_stats"]["std"], jnp.ones(3))
    variables["batch_stats"]["std"] = jnp.array([0.5, 2.0, 3.0])
    variables["params"]["scale"] = jnp.array([1.0, -1.0, 6.0])
    f = lambda x: layer.apply(variables, x)  # noqa: E731
    np.testing.assert_allclose(f(3 * x - z), 3 * f(x) - f(z), atol=1e-4)
    np.testing.assert_allclose(f(x), x * jnp.array([2.0, -0.5, 2.0]).reshape(1, 1, 1, 3), rtol=1e-6)


def test_a_constant_channel_has_finite_values_and_gradients(key):
    x = jnp.full((2, 3, 3, 1), 7.0)
    layer = BiasFreeBatchNorm(use_running_average=False)
    variables = layer.init(key, x)
    loss = lambda x: layer.apply(variables, x, mutable=["batch_stats"])[0].sum()  # noqa: E731
    value, grad = jax.value_and_grad(loss)(x)
    assert bool(jnp.isfinite(value)) and bool(jnp.all(jnp.isfinite(grad)))


def test_bfloat16_keeps_statistics_in_float32(key):
    x = draw(key).astype(jnp.bfloat16)
    assert channel_std(x).dtype == jnp.float32
    layer = BiasFreeBatchNorm(dtype=jnp.bfloat16)
    out, variables = layer.init_with_output(key, x, use_running_average=False)
    assert out.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
