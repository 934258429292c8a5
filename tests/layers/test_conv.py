import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import Conv, conv
from wne_jax.layers.conv import _padded_first

MODES = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}
SIZES = [(1, 1), (1, 4), (2, 2), (3, 7), (9, 8)]


def reference(x, kernel, padding):
    """Pad explicitly, then convolve without padding."""
    r = kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (r, r), (r, r), (0, 0)), mode=MODES[padding])
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=numbers)


def draw(size, k):
    """Two images with three channels, a kernel with four outputs, and a cotangent."""
    rng = np.random.default_rng(7)
    x, kernel, cotangent = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((2, *size, 3), (k, k, 3, 4), (2, *size, 4))
    )
    return x, kernel / k, cotangent


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", [3, 5])
def test_values_and_gradients_equal_explicit_padding(size, k, padding):
    compare(size, k, padding)


@pytest.mark.parametrize("padding", MODES)
def test_kernels_of_one_pixel_are_matrix_products(padding):
    compare((3, 7), 1, padding)


def compare(size, k, padding):
    """Values and both gradients of `conv` against the reference."""
    x, kernel, cotangent = draw(size, k)

    def all_three(f):
        out, pullback = jax.vjp(lambda x, w: f(x, w, padding=padding), x, kernel)
        return out, *pullback(cotangent)

    got, expected = jax.jit(lambda: (all_three(conv), all_three(reference)))()
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5)


@pytest.mark.parametrize("padding", MODES)
def test_agrees_with_a_sum_written_out_in_numpy(padding):
    x, kernel, _ = draw((5, 4), 3)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode=MODES[padding])
    expected = sum(
        np.einsum("bhwc,co->bhwo", padded[:, i : i + 5, j : j + 4], np.asarray(kernel)[i, j])
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(conv(x, kernel, padding=padding), expected, atol=1e-5)


def test_an_axis_of_size_one_is_reflected_onto_itself():
    box = jnp.ones((3, 3, 1, 1))
    assert conv(jnp.full((1, 1, 1, 1), 2.0), box, padding="reflect").item() == 18.0


def test_circular_padding_commutes_with_shifts():
    x, kernel, _ = draw((6, 7), 3)
    shifted = conv(jnp.roll(x, (2, -3), (1, 2)), kernel, padding="circular")
    expected = jnp.roll(conv(x, kernel, padding="circular"), (2, -3), (1, 2))
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_jit_vmap_and_grad_agree():
    x, kernel, _ = draw((4, 5), 3)
    f = jax.jit(lambda x: conv(x, kernel, padding="reflect"))
    np.testing.assert_allclose(jax.vmap(f)(jnp.stack([x, 2 * x]))[1], 2 * f(x), atol=1e-5)
    np.testing.assert_allclose(jax.jvp(f, (x,), (x,))[1], f(x), atol=1e-5)


def test_other_platforms_compute_the_same():
    x, kernel, _ = draw((4, 5), 3)
    exported = jax.export.export(
        jax.jit(lambda x, w: conv(x, w, padding="reflect")), platforms=["cpu", "cuda", "tpu"]
    )(x, kernel)
    expected = reference(x, kernel, "reflect")
    assert exported.out_avals[0].shape == expected.shape
    np.testing.assert_allclose(exported.call(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_sizes_may_be_symbolic_on_every_platform(padding, k):
    x, kernel, _ = draw((7, 6), k)
    symbols = jax.export.symbolic_shape("h, w", constraints=("h >= 3", "w >= 3"))
    symbolic = jax.ShapeDtypeStruct((x.shape[0], *symbols, x.shape[3]), x.dtype)
    elsewhere = functools.partial(_padded_first, precision=None)
    for platforms, f in ((["cpu", "cuda", "tpu"], conv), (["cpu"], elsewhere)):
        compiled = jax.jit(functools.partial(f, kernel=kernel, padding=padding))
        exported = jax.export.export(compiled, platforms=platforms)(symbolic)
        np.testing.assert_allclose(exported.call(x), reference(x, kernel, padding), atol=1e-5)


def test_layer_parameters_and_bias():
    x, _, _ = draw((4, 4), 3)
    out, variables = Conv(6, bias_init=jax.nn.initializers.ones).init_with_output(
        jax.random.key(0), x
    )
    params = variables["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 3, 6), "bias": (6,)}
    np.testing.assert_allclose(out, conv(x, params["kernel"]) + 1, atol=1e-6)


def test_default_initializer_equals_that_of_flax():
    kernel = Conv(256).init(jax.random.key(0), jnp.zeros((1, 3, 3, 64)))["params"]["kernel"]
    assert float(kernel.var() * 9 * 64) == pytest.approx(1, rel=0.02)


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    x, _, _ = draw((4, 4), 3)
    for padding in MODES:
        layer = Conv(6, padding=padding, dtype=jnp.bfloat16)
        out, variables = layer.init_with_output(jax.random.key(0), x)
        assert out.dtype == jnp.bfloat16
        assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("x", "kernel", "options", "message"),
    [
        ((4, 4, 1), (3, 3, 1, 1), {}, r"x must be \[B, H, W, C\].*\(4, 4, 1\)"),
        ((1, 4, 4, 1), (2, 2, 1, 1), {}, r"k odd; its shape is \(2, 2, 1, 1\)"),
        ((1, 4, 4, 1), (3, 5, 1, 1), {}, "kernel must be"),
        ((1, 4, 4, 2), (3, 3, 1, 1), {}, "takes 1 channels"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "same"}, "zeros, reflect, circular, not 'same'"),
    ],
)
def test_invalid_arguments_are_rejected(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        conv(jnp.zeros(x), jnp.zeros(kernel), **options)
