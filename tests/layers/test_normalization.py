import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import PRESETS, Normalization, dimensions, normalization


def maps(shape=(2, 5, 7, 6), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.5, 2.0, shape), jnp.float32)


def drawn(layer, x, seed=1):
    """Variables that differ from their initial values; variances stay positive."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 2, s.shape), s.dtype), shapes)


FLAX = {
    "BatchNorm": nn.BatchNorm(use_running_average=False, momentum=0.9, use_fast_variance=False),
    "InstanceNorm": nn.InstanceNorm(use_bias=False, use_scale=False, epsilon=1e-5),
    "LayerNorm-CHW": nn.LayerNorm(
        reduction_axes=(1, 2, 3), feature_axes=(1, 2, 3), epsilon=1e-5, use_fast_variance=False
    ),
    "LayerNorm-C": nn.LayerNorm(epsilon=1e-5, use_fast_variance=False),
}


@pytest.mark.parametrize("name", FLAX)
def test_presets_equal_flax_layers_with_the_same_variables(name):
    x, theirs, ours = maps(), FLAX[name], PRESETS[name]()
    variables = drawn(theirs, x)
    expected, moved = theirs.apply(variables, x, mutable=["batch_stats"])
    result, ours_moved = ours.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, atol=2e-6)
    for name in ("mean", "var") if moved else ():
        np.testing.assert_allclose(
            ours_moved["batch_stats"][name], moved["batch_stats"][name], rtol=1e-6
        )


def test_batch_norm_in_evaluation_equals_flax():
    x = maps()
    variables = drawn(PRESETS["BatchNorm"](), x)
    expected = nn.BatchNorm(use_running_average=True, epsilon=1e-5).apply(variables, x)
    for layer, options in (
        (PRESETS["BatchNorm"](use_running_average=True), {}),
        (PRESETS["BatchNorm"](), {"use_running_average": True}),
    ):
        np.testing.assert_allclose(layer.apply(variables, x, **options), expected, atol=2e-6)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (
            nn.GroupNorm(num_groups=3, epsilon=1e-5, use_fast_variance=False),
            Normalization(centring="HWC", scaling="HWC", affine="C", groups=3),
        ),
        (
            nn.RMSNorm(epsilon=1e-5),
            Normalization(centring="", scaling="C", affine="C", rms=True, use_bias=False),
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_options_reproduce_the_other_layers_of_flax(theirs, ours):
    x = maps()
    variables = drawn(theirs, x)
    expected = theirs.apply(variables, x)
    np.testing.assert_allclose(ours.apply(variables, x), expected, atol=2e-6)


def test_every_step_equals_its_formula_in_numpy():
    x = maps((2, 3, 4, 6))
    scale, bias = maps((2, 1, 4, 1), 1), maps((1, 3, 1, 6), 2)
    wide = np.asarray(x, np.float64)
    centred = wide - wide.mean((0, 2), keepdims=True)  # BW
    std = np.sqrt(centred.var((1, 3), keepdims=True) + 0.3)  # HC
    result = normalization(x, scale, bias, centring="WB", scaling="HC", eps=0.3)
    np.testing.assert_allclose(result, scale * (centred / std) + bias, atol=1e-5)

    grouped = wide.reshape(2, 3, 4, 2, 3)
    rms = np.sqrt((grouped**2).mean((1, 4), keepdims=True) + 1e-5)
    result = normalization(x, centring="", scaling="HC", groups=2, rms=True)
    np.testing.assert_allclose(result, (grouped / rms).reshape(x.shape), atol=1e-5)


def test_large_offsets_cost_no_more_than_their_rounding():
    x = maps()
    for preset in ("InstanceNorm", "LayerNorm-C"):
        layer = PRESETS[preset](affine=None)
        np.testing.assert_allclose(layer.apply({}, x + 1000), layer.apply({}, x), atol=1e-3)


def test_bfloat16_is_normalized_in_float32_and_float64_in_float64():
    x = maps()
    layer = PRESETS["LayerNorm-C"]()
    variables = layer.init(jax.random.key(0), x)
    coarse = layer.copy(dtype=jnp.bfloat16).apply(variables, x)
    assert coarse.dtype == jnp.bfloat16
    np.testing.assert_allclose(coarse.astype(jnp.float32), layer.apply(variables, x), atol=0.02)
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(x, np.float64))
        result = PRESETS["InstanceNorm"](eps=0.0).apply({}, wide)
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result.std((1, 2)), 1.0, atol=1e-12)


def test_integers_are_normalized_in_floating_point():
    counts = jnp.arange(8, dtype=jnp.uint8).reshape(1, 2, 4, 1)
    result = PRESETS["InstanceNorm"](eps=0.0).apply({}, counts)
    assert result.dtype == jnp.float32
    expected = (np.arange(8) - 3.5) / np.arange(8).std()
    np.testing.assert_allclose(result.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_gradients_are_finite_where_nothing_varies(name):
    layer, x = PRESETS[name](), jnp.full((2, 3, 3, 2), 0.7)
    variables = layer.init(jax.random.key(0), x)

    @jax.jit
    def gradient(x):
        loss = lambda x: layer.apply(variables, x, mutable=["batch_stats"])[0].sum()  # noqa: E731
        return jax.grad(loss)(x)

    assert np.isfinite(gradient(x)).all()


def test_a_nan_stays_in_its_image_and_one_pixel_maps_are_finite():
    one = PRESETS["InstanceNorm"]().apply({}, maps((2, 1, 1, 3)))
    np.testing.assert_array_equal(one, np.zeros((2, 1, 1, 3)))
    x = maps().at[0, 2, 3, 1].set(jnp.nan)
    by_channel = PRESETS["InstanceNorm"]().apply({}, x)
    assert np.isnan(by_channel[0, :, :, 1]).all()
    assert np.isnan(by_channel).sum() == 5 * 7
    by_place = normalization(x, centring="C", scaling="C")
    assert np.isnan(by_place[0, 2, 3]).all() and np.isnan(by_place).sum() == 6


def test_the_order_of_dimensions_does_not_matter():
    assert dimensions("CWH") == dimensions("HWC") == "HWC"
    x = maps()
    one, other = (Normalization(centring=c, scaling=c, affine="C") for c in ("CHW", "WHC"))
    variables = drawn(one, x)
    np.testing.assert_allclose(one.apply(variables, x), other.apply(variables, x), atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"centring": "BHX"}, "letters of B, H, W, C"),
        ({"scaling": "HH"}, "each at most once"),
        ({"affine": "channels"}, "letters"),
        ({"groups": 0}, "groups must be 1"),
        ({"momentum": 1.5}, "momentum must be between"),
        ({"momentum": 0.9, "centring": "HW"}, "pooled over B"),
        ({"use_running_average": True}, "set momentum"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        Normalization(**({"centring": "BHW", "scaling": "BHW", "affine": "C"} | options))


def test_invalid_maps_and_calls_are_rejected():
    with pytest.raises(ValueError, match="set momentum"):
        PRESETS["InstanceNorm"]().apply({}, maps(), use_running_average=True)
    with pytest.raises(ValueError, match="rank 4"):
        normalization(jnp.ones((2, 3, 4)), centring="C", scaling="C")
    with pytest.raises(ValueError, match="divide the 6 channels"):
        normalization(maps(), centring="C", scaling="C", groups=4)
