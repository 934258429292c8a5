"""Layers on volumes, compared with their definitions, SciPy and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from wne_jax.layers.affine_conv import AffineConv, affine_kernel, affine_weights
from wne_jax.layers.conv import conv
from wne_jax.layers.strided_conv import AffineDownsample, strided_conv
from wne_jax.layers.upsample import AffineUpsample, Upsample, pixel_shuffle

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("padding", "mode"), [("zeros", "constant"), ("reflect", "mirror"), ("circular", "wrap")]
)
@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_convolution_is_the_sum_of_correlations(padding, mode, side):
    x, kernel = draw(2, 6, 5, 7, 2), draw(side, side, side, 2, 3)
    expected = np.zeros((2, 6, 5, 7, 3))
    for b, c, o in np.ndindex(2, 2, 3):
        one, k = (np.asarray(a, np.float64) for a in (x[b, ..., c], kernel[..., c, o]))
        expected[b, ..., o] += ndimage.correlate(one, k, mode=mode)
    np.testing.assert_allclose(conv(x, kernel, padding=padding), expected, atol=1e-4)


def test_sides_may_be_symbolic():
    kernel = draw(3, 3, 3, 1, 1)
    d, h, w = jax.export.symbolic_shape("d, h, w", constraints=("d >= 2", "h >= 2", "w >= 2"))
    f = jax.jit(lambda x: conv(x, kernel, padding="reflect"))
    exported = jax.export.export(f)(jax.ShapeDtypeStruct((1, d, h, w, 1), jnp.float32))
    x = draw(1, 4, 5, 6, 1)
    np.testing.assert_allclose(exported.call(x), f(x), atol=1e-5)


def test_a_kernel_for_images_is_rejected():
    with pytest.raises(ValueError, match=r"kernel must be \[k, k, k, C, O\] with k odd"):
        conv(draw(1, 4, 4, 4, 1), draw(3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"kernel must be \[2, 2, 2, 1, O\]"):
        strided_conv(draw(1, 4, 4, 4, 1), draw(2, 2, 1, 1))


def test_a_strided_convolution_is_a_product_over_2x2x2_blocks():
    x, kernel = draw(2, 4, 6, 2, 3), draw(2, 2, 2, 3, 5)
    found = strided_conv(x, kernel)
    assert found.shape == (2, 2, 3, 1, 5)
    for d, h in np.ndindex(2, 3):
        block = x[:, 2 * d : 2 * d + 2, 2 * h : 2 * h + 2, :2]
        expected = np.tensordot(block, kernel, axes=([1, 2, 3, 4], [0, 1, 2, 3]))
        np.testing.assert_allclose(found[:, d, h, 0], expected, atol=1e-5)


def test_a_pixel_shuffle_equals_its_formula():
    x = draw(1, 2, 3, 2, 16)
    found = pixel_shuffle(x, 2)
    assert found.shape == (1, 4, 6, 4, 2)
    for d, h, w, c, i, j, k in np.ndindex(2, 3, 2, 2, 2, 2, 2):
        assert (
            found[0, 2 * d + i, 2 * h + j, 2 * w + k, c]
            == x[0, d, h, w, c * 8 + (i * 2 + j) * 2 + k]
        )
    with pytest.raises(ValueError, match=r"factor\*\*3 must divide the 4"):
        pixel_shuffle(draw(1, 2, 2, 2, 4), 2)


def test_affine_kernels_sum_to_one_and_have_free_weights():
    kernel = affine_kernel(draw(3, 3, 3, 2, 4))
    np.testing.assert_allclose(kernel.sum((0, 1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(affine_kernel(affine_weights(kernel)), kernel, atol=1e-5)
    exempt = affine_kernel(draw(1, 1, 1, 3, 4), exempt=1)
    np.testing.assert_allclose(exempt[..., :2, :].sum((0, 1, 2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("layer", [AffineConv(3), AffineDownsample(3), AffineUpsample(3)])
def test_affine_layers_commute_with_contrast_and_brightness(layer, key):
    y = draw(1, 4, 4, 6, 2)
    f = lambda y: layer.init_with_output(key, y)[0]  # noqa: E731
    np.testing.assert_allclose(f(3 * y - 2), 3 * f(y) - 2, atol=1e-4)


def test_upsampling_is_the_transposed_convolution_of_pytorch(key):
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 2, 4, 2)
    out, variables = Upsample(3, use_bias=False).init_with_output(key, x)
    kernel = np.asarray(variables["params"]["conv"]["kernel"]).reshape(2, 3, 2, 2, 2)
    theirs = torch.nn.functional.conv_transpose3d(
        torch.tensor(np.moveaxis(np.asarray(x), -1, 1)), torch.tensor(kernel), stride=2
    )
    np.testing.assert_allclose(np.moveaxis(np.asarray(out), -1, 1), theirs.numpy(), atol=1e-5)
