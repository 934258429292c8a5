"""DnCNN and DRUNet on volumes: volumes of equal slices, and the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models import DnCNN, DRUNet
from wne_jax.testing import check_backbone, random_variables


def lifted(variables):
    """Kernels for volumes that equal the given kernels for images on volumes constant along D."""

    def lift(path, kernel):
        if kernel.ndim != 4:
            return kernel
        side, _, inputs, outputs = kernel.shape
        if any("up_" in str(key) for key in path):  # both slices of a voxel equal the pixel
            pixels = kernel.reshape(inputs, -1, 1, 4)
            return jnp.tile(pixels, (1, 1, 2, 1)).reshape(1, 1, 1, inputs, -1)
        return jnp.broadcast_to(kernel / side, (side, side, side, inputs, outputs))

    return jax.tree_util.tree_map_with_path(lift, variables)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (DnCNN, {"depth": 4, "features": 5}),
        (DnCNN, {"depth": 3, "features": 5, "conditioned": True, "mode": "scale-equivariant"}),
        (DRUNet, {"features": (4, 6), "blocks": 1}),
        (DRUNet, {"features": (4, 6), "blocks": 1, "conditioned": True}),
    ],
)
def test_a_volume_of_equal_slices_is_denoised_like_its_slice(model, options):
    image = jnp.asarray(np.random.default_rng(0).normal(0.4, 0.2, (2, 8, 6, 2)), jnp.float32)
    flat = model(**options, padding="circular")
    told = {"sigma": 0.1} if flat.conditioned else {}
    variables = random_variables(flat, image, **told)
    volume = jnp.repeat(image[:, None], 4, axis=1)
    cubic = model(**options, padding="circular", ndim=3)
    shapes = jax.eval_shape(lambda: cubic.init(jax.random.key(0), volume, **told))
    deep = lifted(variables)
    assert jax.tree.map(jnp.shape, deep) == jax.tree.map(jnp.shape, shapes)
    expected = jnp.repeat(flat.apply(variables, image, **told)[:, None], 4, axis=1)
    np.testing.assert_allclose(cubic.apply(deep, volume, **told), expected, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        DnCNN(depth=3, features=4, ndim=3),
        DRUNet(features=(4, 4), blocks=1, ndim=3, mode="normalization-equivariant"),
    ],
)
def test_the_contract_holds_for_volumes(model):
    check_backbone(model)


def test_invalid_arguments_are_rejected(key):
    with pytest.raises(ValueError, match=r"y must be \[B, D, H, W, C\], of rank 5"):
        DnCNN(ndim=3).init(key, jnp.ones((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="ndim must be 2, for images, or 3, for volumes; not 4"):
        DRUNet(ndim=4)
    with pytest.raises(ValueError, match="'polynomial' is for images"):
        DnCNN(ndim=3, activation="polynomial")
