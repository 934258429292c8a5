import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import AffineDownsample, Downsample, affine_kernel, strided_conv


def test_it_agrees_with_torch(key):
    torch = pytest.importorskip("torch")
    x, kernel = jax.random.normal(key, (2, 4, 6, 3)), jax.random.normal(key, (2, 2, 3, 5))
    nchw = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    weight = torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1)
    expected = torch.nn.functional.conv2d(nchw, weight, stride=2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(strided_conv(x, kernel), expected, atol=1e-5)


def test_layers_equal_the_pure_function(key):
    x = jax.random.normal(key, (1, 4, 6, 3))
    out, variables = Downsample(5, bias_init=jax.nn.initializers.ones).init_with_output(key, x)
    np.testing.assert_allclose(out, strided_conv(x, variables["params"]["kernel"]) + 1, atol=1e-6)
    out, variables = AffineDownsample(5).init_with_output(key, x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (2, 2, 3, 5)}
    kernel = affine_kernel(variables["params"]["kernel"])
    np.testing.assert_allclose(out, strided_conv(x, kernel), atol=1e-6)


def test_affine_downsampling_commutes_with_affine_maps(key):
    x = jax.random.normal(key, (2, 4, 6, 3))
    layer = AffineDownsample(4)
    variables = layer.init(key, x)
    moved = layer.apply(variables, 0.2 * x + 3)
    np.testing.assert_allclose(moved, 0.2 * layer.apply(variables, x) + 3, atol=1e-5)


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match=r"H and W even; its shape is \(1, 3, 4, 1\)"):
        strided_conv(jnp.zeros((1, 3, 4, 1)), jnp.zeros((2, 2, 1, 1)))
    with pytest.raises(ValueError, match=r"kernel must be \[2, 2, 3, O\]"):
        strided_conv(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 1)))
