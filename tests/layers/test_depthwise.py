from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers.depthwise import DepthwiseConv, _grouped, depthwise_conv

MODES = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}


def grouped(x, kernel, padding="zeros"):
    """XLA's convolution of the image padded by jnp.pad, with one group per channel."""
    radius = kernel.shape[0] // 2
    border = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    return jax.lax.conv_general_dilated(
        jnp.pad(x, border, mode=MODES[padding]), kernel, (1, 1), "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


def draw(size, k, dtype=jnp.float32):
    """Two images with three channels, a kernel for each channel, and tangents of both."""
    rng = np.random.default_rng(3)
    shapes = ((2, *size, 3), (k, k, 1, 3)) * 2
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize(
    ("size", "k"), [((1, 1), 3), ((1, 4), 3), ((7, 5), 3), ((2, 3), 5), ((3, 2), 1)]
)
def test_values_and_derivatives_of_both_modes_equal_the_grouped_convolution(size, k, padding):
    def everything(f, x, kernel, dx, dkernel):
        f = partial(f, padding=padding)
        out, tangent = jax.jvp(f, (x, kernel), (dx, dkernel))
        _, pullback = jax.vjp(f, x, kernel)
        return out, tangent, *pullback(dx)

    with jax.enable_x64(True):
        drawn = draw(size, k, jnp.float64)
        everything = jax.jit(everything, static_argnums=0)
        ours, reference = (everything(f, *drawn) for f in (depthwise_conv, grouped))
        assert {leaf.dtype for leaf in ours} == {jnp.dtype("float64")}
        chex.assert_trees_all_close(ours, reference, atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("padding", MODES)
def test_other_devices_convolve_the_same_image(padding):
    x, kernel, *_ = draw((2, 5), 5)
    ours = _grouped(x, kernel, padding=padding, precision=None)
    np.testing.assert_allclose(ours, grouped(x, kernel, padding), atol=1e-5)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_second_derivatives_and_batches_of_kernels_equal_the_grouped_convolution(padding):
    x, kernel, dx, dkernel = draw((4, 5), 3)
    depthwise, reference = (partial(f, padding=padding) for f in (depthwise_conv, grouped))

    def curvature(f):
        loss = lambda x, kernel: jnp.sum(jnp.sin(f(x, kernel)))  # noqa: E731
        along = lambda x, k: jnp.vdot(jax.grad(loss, argnums=1)(x, k), dkernel)  # noqa: E731
        return jax.grad(along, argnums=(0, 1))(x, kernel)

    curvature = jax.jit(curvature, static_argnums=0)
    chex.assert_trees_all_close(curvature(depthwise), curvature(reference), atol=1e-4)
    pair = jnp.stack([kernel, dkernel])
    batched = jax.vmap(depthwise, (None, 0))(dx, pair)
    np.testing.assert_allclose(batched[1], reference(dx, dkernel), atol=1e-5)


@pytest.mark.parametrize("padding", MODES)
def test_only_the_image_is_stored_for_the_gradient(padding):
    x, kernel, *_ = draw((16, 16), 3)
    _, pullback = jax.vjp(jax.jit(partial(depthwise_conv, padding=padding)), x, kernel)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback) if leaf.ndim)
    assert x.size <= kept <= x.size + 3 * kernel.size


@pytest.mark.parametrize("padding", MODES)
def test_height_and_width_may_be_symbolic(padding):
    x, kernel, *_ = draw((7, 5), 3)
    h, w = jax.export.symbolic_shape("h, w", constraints=["h >= 2", "w >= 2"])
    symbolic = jax.ShapeDtypeStruct((2, h, w, 3), jnp.float32)
    f = jax.jit(lambda x: depthwise_conv(x, kernel, padding=padding))
    exported = jax.export.export(f)(symbolic)
    np.testing.assert_allclose(exported.call(x), grouped(x, kernel, padding), atol=1e-5)


def test_bfloat16_accumulates_in_float32_and_rounds_once():
    x, kernel, *_ = draw((7, 5), 3, jnp.bfloat16)
    expected = grouped(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(jnp.bfloat16)
    result = jax.jit(depthwise_conv)(x, kernel)
    assert result.dtype == jnp.bfloat16
    # A sum in another order may round to the neighbouring number.
    np.testing.assert_allclose(
        result.astype(jnp.float32), expected.astype(jnp.float32), rtol=2**-7, atol=1e-6
    )


def test_the_layer_has_one_kernel_per_channel(key):
    x, *_ = draw((7, 5), 3)
    out, variables = DepthwiseConv(5, dtype=jnp.bfloat16).init_with_output(key, x)
    chex.assert_shape(variables["params"]["kernel"], (5, 5, 1, 3))
    assert list(variables["params"]) == ["kernel"] and out.dtype == jnp.bfloat16


def test_invalid_arguments_are_rejected():
    x = jnp.zeros((1, 4, 4, 3))
    with pytest.raises(
        ValueError, match="padding must be one of zeros, reflect, circular, not 'wrap'"
    ):
        depthwise_conv(x, jnp.zeros((3, 3, 1, 3)), padding="wrap")
    with pytest.raises(ValueError, match="rank 4"):
        depthwise_conv(x[0], jnp.zeros((3, 3, 1, 3)))
    for shape in ((2, 2, 1, 3), (3, 3, 1, 2), (3, 3, 3, 3), (3, 1, 1, 3), (3, 3, 3)):
        with pytest.raises(ValueError, match=r"kernel must be \[k, k, 1, 3\]"):
            depthwise_conv(x, jnp.zeros(shape))
