import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import affine_kernel, pair_order
from wne_jax.models import FDnCNN

NE = "normalization-equivariant"


def torch_forward(torch, y, kernels, biases, activation, mode):
    """A stack of convolutions in PyTorch, for NHWC images and HWIO kernels."""
    h = torch.tensor(np.asarray(y)).permute(0, 3, 1, 2)
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        h = torch.nn.functional.pad(h, (1, 1, 1, 1), mode=mode)
        bias = None if bias is None else torch.tensor(np.asarray(bias))
        h = torch.nn.functional.conv2d(
            h, torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1), bias
        )
        if i < len(kernels) - 1:
            h = activation(h)
    return h.permute(0, 2, 3, 1).numpy()


def test_ordinary_mode_agrees_with_torch(key):
    torch = pytest.importorskip("torch")
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = FDnCNN(depth=4, features=8)
    params = net.init(key, y)["params"]
    params = jax.tree.map(lambda p: p if p.ndim > 1 else p + 0.3, params)
    assert list(params) == ["conv_0", "conv_1", "conv_2", "conv_3"]
    kernels = [layer["kernel"] for layer in params.values()]
    biases = [layer.get("bias") for layer in params.values()]
    assert biases[-1] is None
    expected = torch_forward(torch, y, kernels, biases, torch.relu, "constant")
    np.testing.assert_allclose(net.apply({"params": params}, y), expected, atol=2e-5)


def test_equivariant_mode_agrees_with_torch_in_the_papers_channel_order(key):
    torch = pytest.importorskip("torch")
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = FDnCNN(depth=4, features=8, mode=NE)
    params = net.init(key, y)["params"]
    kernels = [affine_kernel(layer["kernel"]) for layer in params.values()]
    neighbours = np.argsort(pair_order(8))  # from halves to neighbours
    for i in range(3):
        kernels[i] = kernels[i][..., neighbours]
        kernels[i + 1] = kernels[i + 1][:, :, neighbours]

    def sort_neighbours(h):
        pairs = h.reshape(h.shape[0], -1, 2, *h.shape[2:])
        return torch.sort(pairs, dim=2).values.reshape(h.shape)

    expected = torch_forward(torch, y, kernels, [None] * 4, sort_neighbours, "reflect")
    np.testing.assert_allclose(net.apply({"params": params}, y), expected, atol=2e-5)


def test_only_the_ordinary_mode_has_the_option_last_bias(key):
    def last(**options):
        y = jnp.zeros((1, 8, 8, 1))
        net = FDnCNN(depth=3, features=8, **options)
        return set(jax.eval_shape(net.init, key, y)["params"]["conv_2"])

    assert last() == {"kernel"} and last(last_bias=True) == {"kernel", "bias"}
    assert last(last_bias=True, mode=NE) == last(last_bias=True, mode="scale-equivariant") == last()


def test_scale_equivariant_mode_has_only_kernels(key):
    variables = jax.eval_shape(FDnCNN(mode="scale-equivariant").init, key, jnp.zeros((1, 8, 8, 1)))
    assert {name for layer in variables["params"].values() for name in layer} == {"kernel"}


def test_a_deep_equivariant_stack_preserves_the_scale_at_initialization(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    out, _ = FDnCNN(mode=NE, depth=12).init_with_output(key, y)
    assert 0.4 < float(out.std()) < 2.5


def test_equivariant_mode_preserves_constants_and_jacobian_rows_sum_to_one(key):
    y = jax.random.normal(key, (2, 9, 8, 1))
    net = FDnCNN(depth=4, features=8, mode=NE)
    variables = net.init(key, y)
    f = lambda y: net.apply(variables, y)  # noqa: E731
    np.testing.assert_allclose(f(jnp.full_like(y, 0.7)), 0.7, atol=1e-5)
    value, along_ones = jax.jvp(f, (y,), (jnp.ones_like(y),))
    np.testing.assert_allclose(along_ones, 1, atol=1e-5)
    np.testing.assert_allclose(jax.jvp(f, (y,), (y,))[1], value, atol=1e-5)
