import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import AffineUpsample, Upsample, affine_kernel, pixel_shuffle


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_agrees_with_torch(factor):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 2 * factor**2), np.float32)
    nchw = torch.tensor(x).permute(0, 3, 1, 2)
    expected = torch.nn.PixelShuffle(factor)(nchw).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(pixel_shuffle(jnp.asarray(x), factor), expected)


@pytest.mark.parametrize("layer", [Upsample(4), Upsample(4, use_bias=False), AffineUpsample(4)])
def test_upsample_is_a_transposed_convolution(layer, key):
    torch = pytest.importorskip("torch")
    x = jax.random.normal(key, (2, 3, 5, 6))
    variables = jax.tree.map(lambda p: p + 0.1, layer.init(key, x))
    params = variables["params"]
    kernel, bias = params["conv"]["kernel"], params.get("bias")
    kernel = affine_kernel(kernel) if isinstance(layer, AffineUpsample) else kernel
    weight = torch.tensor(np.asarray(kernel)).reshape(6, 4, 2, 2)
    bias = None if bias is None else torch.tensor(np.asarray(bias))
    nchw = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.conv_transpose2d(nchw, weight, bias, stride=2)
    out = layer.apply(variables, x)
    np.testing.assert_allclose(out, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_affine_upsampling_commutes_with_affine_maps(key):
    x = jax.random.normal(key, (2, 3, 5, 6))
    layer = AffineUpsample(4)
    variables = layer.init(key, x)
    moved = layer.apply(variables, 0.2 * x + 3)
    np.testing.assert_allclose(moved, 0.2 * layer.apply(variables, x) + 3, atol=1e-5)


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="rank 4"):
        pixel_shuffle(jnp.zeros((3, 3, 4)), 2)
    with pytest.raises(ValueError, match=r"factor\*\*2 must divide the 6 channels of x"):
        pixel_shuffle(jnp.zeros((1, 3, 3, 6)), 2)
