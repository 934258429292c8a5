import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import testing
from wne_jax.config import WrapperConfig
from wne_jax.models.swinir import SwinIR
from wne_jax.weights.layouts.swinir import swinir

SMALL = testing.TINY["swinir"]
CLASSICAL = {"groups": 6, "features": 180}


def shapes_of(net, channels=1):
    y = jnp.zeros((1, net.window, net.window, channels))
    return jax.eval_shape(net.init, jax.random.key(0), y)["params"]


def random_variables(net, channels=1):
    """Variables with kernels so large that attention is far from uniform."""
    y = jnp.zeros((1, net.window, net.window, channels))
    return testing.random_variables(net, y, spread=2)


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 903_121), (CLASSICAL, 11_497_681)], ids=["light", "classical"]
)
def test_the_number_of_parameters_is_as_published(options, expected):
    shapes = shapes_of(SwinIR(**options))
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(shapes)) == expected


@pytest.mark.parametrize(
    ("name", "options", "wrapper"),
    [("swinir_dn_gray", CLASSICAL, None), ("wne_swinir_light", {}, "wne")],
)
def test_published_tensors_match_the_variables_one_to_one(published_shapes, name, options, wrapper):
    published = published_shapes(name)
    plan = swinir(published)
    assert plan.config.backbone == "swinir"
    assert plan.config.wrapper == (wrapper and WrapperConfig(wrapper, "mean_std"))
    net = SwinIR(**plan.config.options)
    assert net == SwinIR(**options)
    sources = [entry.source for entry in plan.entries]
    assert sorted([*sources, *plan.buffers]) == sorted(published)
    assert all(name.endswith(("position_index", "attn_mask")) for name in plan.buffers)
    zeros = {source: np.broadcast_to(np.float32(0), published[source]) for source in sources}
    filled = {e.target: e.convert(zeros[e.source]).shape for e in plan.entries}
    assert len(filled) == len(plan.entries)
    expected = jax.tree_util.tree_leaves_with_path({"params": shapes_of(net)})
    assert filled == {tuple(k.key for k in path): leaf.shape for path, leaf in expected}


def test_other_checkpoints_are_not_recognized(published_shapes):
    for name in ("restormer_gray", "kair_dncnn_gray", "wne_dncnn", "ne_nets_drunet_ordinary"):
        assert swinir(published_shapes(name)) is None
    for_jpeg = {
        tensor: ((13 * 13, shape[1]) if tensor.endswith("bias_table") else shape)
        for tensor, shape in published_shapes("swinir_dn_gray").items()
    }
    assert swinir(for_jpeg) is None


def test_other_sizes_are_padded_by_reflection_and_cropped(key):
    net = SwinIR(**SMALL)
    y = jax.random.normal(key, (2, 7, 10, 1))
    variables = random_variables(net)
    padded = jnp.pad(y, ((0, 0), (0, 1), (0, 2), (0, 0)), mode="reflect")
    f = jax.jit(net.apply)
    np.testing.assert_array_equal(f(variables, y), f(variables, padded)[:, :7, :10])


def test_a_mean_is_subtracted_from_the_image_and_added_back(key):
    mean = [0.5, -0.25, 2.0]
    net, centred = SwinIR(**SMALL), SwinIR(**SMALL, mean=mean)
    y = jax.random.normal(key, (1, 8, 12, 3))
    variables = random_variables(net, channels=3)
    offset = jnp.reshape(jnp.array(mean), (1, 1, 1, 3))
    f = jax.jit(net.apply)
    expected = f(variables, y - offset) + offset
    np.testing.assert_allclose(jax.jit(centred.apply)(variables, y), expected, atol=1e-5)
    assert np.abs(expected - f(variables, y)).max() > 0.1


@pytest.mark.parametrize(
    "options",
    [{}, {"window": 5, "groups": 2, "blocks": 1}, {"window": 2, "groups": 2, "blocks": 3}],
    ids=str,
)
def test_a_pixel_influences_exactly_the_receptive_radius(options, key):
    net = SwinIR(**{**SMALL, **options})
    window, radius = net.window, net.receptive_radius
    middle = -(-(radius + 1) // window) * window
    y = jax.random.normal(key, (1, middle + window + radius + 2, window, 1))
    variables = random_variables(net)

    def influence(row):  # of the pixel in this row on the first column, by row
        _, change = jax.jvp(
            lambda y: net.apply(variables, y), (y,), (jnp.zeros_like(y).at[0, row, 0].set(1.0),)
        )
        return jnp.abs(change).max(axis=(0, 2, 3)) > 0

    starts = middle + np.arange(window)
    reached = jax.jit(jax.vmap(influence))(starts)
    distances = np.abs(np.arange(y.shape[1]) - starts[:, None])[np.asarray(reached)]
    assert distances.max() == radius


def test_the_receptive_radius_of_the_published_networks():
    assert SwinIR().receptive_radius == 103
    assert SwinIR(**CLASSICAL).receptive_radius == 151


def test_remat_changes_neither_parameters_nor_output_nor_gradient(key):
    net = SwinIR(**SMALL)
    saving = net.clone(remat=True)
    assert shapes_of(net) == shapes_of(saving)
    variables = random_variables(net)
    y = jax.random.normal(key, (1, 8, 12, 1))

    def value_and_gradient(net):
        loss = lambda v: jnp.mean(jnp.square(net.apply(v, y)))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))

    ours, reference = value_and_gradient(saving), value_and_gradient(net)
    chex.assert_trees_all_close(ours(variables), reference(variables), rtol=1e-4, atol=1e-5)
    assert str(ours.trace(variables).jaxpr).count("remat") >= net.groups * net.blocks


def test_bfloat16_stays_within_its_precision(key, standard_promotion):
    net = SwinIR(**SMALL)
    y = jax.random.uniform(key, (1, 8, 12, 1))
    variables = random_variables(net)

    coarse = net.clone(dtype=jnp.bfloat16)
    expected, result = (jax.jit(net.apply)(variables, y) for net in (net, coarse))
    assert result.dtype == jnp.float32
    assert 0 < jnp.abs(result - expected).max() < 0.03 * jnp.abs(expected).max()
    gradient = jax.jit(jax.grad(lambda y: jnp.sum(coarse.apply(variables, y))))(y)
    assert np.isfinite(gradient).all()


def test_the_executable_has_no_constant_that_grows_with_the_image(key):
    net = SwinIR(**SMALL)
    y = jax.random.normal(key, (1, 24, 32, 1))
    text = jax.jit(net.apply).lower(random_variables(net), y).compile().as_text()
    constants = re.findall(r"= (\w+)\[([\d,]*)\]\S* constant\(", text)
    sizes = {(kind, math.prod(int(n) for n in dims.split(",") if n)) for kind, dims in constants}
    assert ("s32", 4**4) in sizes  # the index of relative positions occurs once
    assert max(size for _, size in sizes) == 4**4


def test_height_and_width_may_be_symbolic(key):
    net = SwinIR(**SMALL)
    y = jax.random.normal(key, (1, 8, 12, 1))
    variables = random_variables(net)
    h, w = jax.export.symbolic_shape("h, w", constraints=["h >= 1", "w >= 1"])
    symbolic = jax.ShapeDtypeStruct((1, 4 * h, 4 * w, 1), jnp.float32)
    f = jax.jit(lambda y: net.apply(variables, y))
    np.testing.assert_allclose(jax.export.export(f)(symbolic).call(y), f(y), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups must be 1 or more"),
        ({"window": 0}, "window must be 1 or more"),
        ({"features": 60, "heads": 7}, "features is 60, heads 7"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must leave"),
        ({"padding": "wrap"}, "padding must be one of zeros, reflect, circular; not 'wrap'"),
    ],
    ids=str,
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        SwinIR(**options)


def test_sigma_and_a_mean_of_another_length_are_rejected(key):
    y = jnp.zeros((1, 8, 8, 1))
    with pytest.raises(ValueError, match="blind model"):
        SwinIR(**SMALL).init(key, y, sigma=0.1)
    with pytest.raises(ValueError, match="y has 1, mean is"):
        SwinIR(**SMALL, mean=(0.4488, 0.4371, 0.4040)).init(key, y)
