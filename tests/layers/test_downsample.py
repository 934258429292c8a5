import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers.downsample import pixel_unshuffle
from wne_jax.layers.upsample import pixel_shuffle


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_unshuffle_is_the_inverse_of_pixel_shuffle(factor):
    x = jnp.arange(2 * 3 * 5 * 2 * factor**4).reshape(2, 3 * factor, 5 * factor, 2 * factor**2)
    np.testing.assert_array_equal(pixel_unshuffle(pixel_shuffle(x, factor), factor), x)
    np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(x, factor), factor), x)


@pytest.mark.torch
def test_pixel_unshuffle_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = np.random.default_rng(0).standard_normal((2, 6, 9, 2), np.float32)
    expected = torch.nn.PixelUnshuffle(3)(torch.tensor(x).permute(0, 3, 1, 2))
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(pixel_unshuffle(jnp.asarray(x), 3), expected)


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="rank 4"):
        pixel_unshuffle(jnp.zeros((4, 4, 1)), 2)
    for shape, factor in (((1, 4, 5, 1), 2), ((1, 4, 4, 1), 3), ((1, 4, 4, 1), 0)):
        with pytest.raises(ValueError, match="factor must divide"):
            pixel_unshuffle(jnp.zeros(shape), factor)
