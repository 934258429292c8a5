import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models import DnCNN


def test_layers_have_stable_names(key):
    y = jnp.zeros((2, 9, 8, 1))
    variables = jax.eval_shape(DnCNN(depth=4, features=8).init, key, y)
    names = {"conv_0", "conv_1", "norm_1", "conv_2", "norm_2", "conv_3"}
    assert set(variables["params"]) == names
    assert set(variables["params"]["norm_1"]) == {"scale", "bias"}
    assert set(variables["batch_stats"]["norm_1"]) == {"mean", "var"}


def test_scale_equivariant_mode_has_no_biases(key):
    y = jnp.zeros((2, 9, 8, 1))
    variables = jax.eval_shape(DnCNN(depth=4, features=8, mode="scale-equivariant").init, key, y)
    assert {name for layer in variables["params"].values() for name in layer} == {"kernel", "scale"}
    assert set(variables["batch_stats"]["norm_2"]) == {"std"}


def test_convolutions_without_biases(key):
    variables = jax.eval_shape(DnCNN(depth=4, use_bias=False).init, key, jnp.zeros((2, 9, 8, 1)))
    assert set(variables["params"]["conv_0"]) == set(variables["params"]["conv_3"]) == {"kernel"}


def test_without_batch_norm_the_convolutions_keep_their_names(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = DnCNN(depth=4, features=8, batch_norm=False, residual=False)
    variables = net.init(key, y)
    assert list(variables) == ["params"]
    assert list(variables["params"]) == ["conv_0", "conv_1", "conv_2", "conv_3"]


def test_merging_batch_norm_into_convolutions_preserves_the_output(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = DnCNN(depth=3, features=8, residual=False)
    variables = jax.tree.map(lambda v: v + 0.2 if v.ndim == 1 else v, net.init(key, y))
    norm, stats = variables["params"]["norm_1"], variables["batch_stats"]["norm_1"]
    gain = norm["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    merged = {name: dict(variables["params"][name]) for name in ("conv_0", "conv_1", "conv_2")}
    merged["conv_1"]["kernel"] *= gain[None, None, None]
    merged["conv_1"]["bias"] = (merged["conv_1"]["bias"] - stats["mean"]) * gain + norm["bias"]
    bare = net.clone(batch_norm=False)
    np.testing.assert_allclose(
        bare.apply({"params": merged}, y), net.apply(variables, y), atol=1e-5
    )


def test_residual_subtracts_the_stack(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    variables = DnCNN(depth=3, features=8, residual=False).init(key, y)
    noise = DnCNN(depth=3, features=8, residual=False).apply(variables, y)
    assert float(jnp.abs(noise).max()) > 1e-2
    np.testing.assert_array_equal(DnCNN(depth=3, features=8).apply(variables, y), y - noise)


def test_a_residual_model_starts_at_the_identity(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    variables = DnCNN(depth=3, features=8).init(key, y)
    np.testing.assert_array_equal(DnCNN(depth=3, features=8).apply(variables, y), y)
    assert all(np.any(variables["params"][name]["kernel"]) for name in ("conv_0", "conv_1"))


@pytest.mark.parametrize("mode", ["ordinary", "scale-equivariant"])
def test_train_selects_the_statistics(key, mode):
    y = 50 + jax.random.normal(key, (2, 9, 8, 1))
    net = DnCNN(depth=3, features=8, mode=mode, residual=False)
    variables = net.init(key, y)
    trained, updated = net.apply(variables, y, train=True, mutable=["batch_stats"])
    evaluated, kept = net.apply(variables, y, mutable=["batch_stats"])
    assert float(jnp.abs(trained - evaluated).max()) > 1e-2
    for name, before in variables["batch_stats"]["norm_1"].items():
        np.testing.assert_array_equal(kept["batch_stats"]["norm_1"][name], before)
        assert not np.array_equal(updated["batch_stats"]["norm_1"][name], before)


def test_gradients_are_finite_for_small_contrast_on_a_large_offset(key):
    y = 10 + 0.01 * jax.random.normal(key, (2, 9, 8, 1))
    net = DnCNN(depth=4, features=8, residual=False)
    variables = net.init(key, y)

    def loss(params):
        out, _ = net.apply({**variables, "params": params}, y, train=True, mutable=["batch_stats"])
        return jnp.square(out - y).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((value, grads)))


def test_agrees_with_torch(key):
    torch = pytest.importorskip("torch")
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = DnCNN(depth=3, features=8)
    variables = jax.tree.map(lambda v: v + 0.2 if v.ndim == 1 else v, net.init(key, y))
    params, stats = variables["params"], variables["batch_stats"]["norm_1"]

    def to_torch(layer, name):
        array = torch.tensor(np.asarray(layer[name]))
        return array.permute(3, 2, 0, 1) if name == "kernel" else array

    def conv(h, i):
        layer = params[f"conv_{i}"]
        kernel, bias = to_torch(layer, "kernel"), to_torch(layer, "bias")
        return torch.nn.functional.conv2d(h, kernel, bias, padding=1)

    x = torch.tensor(np.asarray(y)).permute(0, 3, 1, 2)
    h = conv(torch.relu(conv(x, 0)), 1)
    h = torch.nn.functional.batch_norm(
        h,
        *(to_torch(stats, name) for name in ("mean", "var")),
        *(to_torch(params["norm_1"], name) for name in ("scale", "bias")),
    )
    h = x - conv(torch.relu(h), 2)
    expected = h.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(net.apply(variables, y), expected, atol=2e-5)
