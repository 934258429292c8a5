import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import testing
from wne_jax.config import WrapperConfig
from wne_jax.models.restormer import Restormer
from wne_jax.weights.layouts.restormer import restormer

SMALL = {"dim": 4, "blocks": (0, 1), "heads": (1, 2), "refinement_blocks": 0}
PUBLISHED = [
    ("wne_restormer", {}, 1, "wne", 26_124_052),
    ("restormer_gray", {"norm_bias": False}, 1, None, 26_109_076),
    ("restormer_color", {"norm_bias": False}, 3, None, 26_111_668),
]


def shapes_of(net, channels=1):
    y = jnp.zeros((1, net.multiple, net.multiple, channels))
    return jax.eval_shape(net.init, jax.random.key(0), y)["params"]


def random_variables(net, channels=1):
    y = jnp.zeros((1, net.multiple, net.multiple, channels))
    return testing.random_variables(net, y)


@pytest.mark.parametrize(("name", "options", "channels", "wrapper", "parameters"), PUBLISHED)
def test_published_tensors_match_the_variables_one_to_one(
    published_shapes, name, options, channels, wrapper, parameters
):
    published = published_shapes(name)
    plan = restormer(published)
    assert plan.config.backbone == "restormer"
    assert plan.config.wrapper == (wrapper and WrapperConfig(wrapper, "mean_std"))
    net = Restormer(**plan.config.options)
    assert net == Restormer(**options)
    sources = [entry.source for entry in plan.entries]
    assert sorted(sources) == sorted(published) and not plan.buffers
    zeros = {source: np.broadcast_to(np.float32(0), published[source]) for source in sources}
    filled = {e.target: e.convert(zeros[e.source]).shape for e in plan.entries}
    assert len(filled) == len(plan.entries)
    expected = jax.tree_util.tree_leaves_with_path({"params": shapes_of(net, channels)})
    assert filled == {tuple(k.key for k in path): leaf.shape for path, leaf in expected}
    assert sum(math.prod(leaf.shape) for _, leaf in expected) == parameters


def test_options_are_inferred_from_a_smaller_checkpoint(published_shapes):
    for options in ({"dim": 4}, {"dim": 4, "expansion": 2.0}, {"dim": 6, "expansion": 1.3}):
        net = Restormer(
            **{**SMALL, "blocks": (1, 1), "refinement_blocks": 1, **options}, norm_bias=False
        )
        shapes = reduced(published_shapes("restormer_gray"), net)
        rebuilt = Restormer(**restormer(shapes).config.options)
        assert shapes_of(rebuilt) == shapes_of(net)


def reduced(published, net):
    """The published names of two levels with the shapes of a small model."""
    shapes = {}
    params = shapes_of(net)
    rename = {"encoder_level1": "encoder_0", "decoder_level1": "decoder_0", "down1_2": "down_0"}
    rename |= {"up2_1": "up_0", "patch_embed": "patch_embed", "output": "output"}
    inner = {"qkv": "qkv", "qkv_dwconv": "qkv_depthwise", "project_out": "out"}
    inner |= {"project_in": "in", "dwconv": "depthwise"}
    outer = {"attn": "attention", "ffn": "feed_forward", "norm1": "norm_0", "norm2": "norm_1"}
    for tensor in published:
        first, *rest = tensor.split(".")
        if first in rename and len(rest) < 4 and not rest[0].isdigit():
            kernel = params[rename[first]]["kernel"].shape
        elif first in (*rename, "latent", "refinement") and rest[0] == "0":
            node = params[f"{rename.get(first, first)}_0"][outer[rest[1]]]
            if rest[2] == "temperature":
                shapes[tensor] = (*node["temperature"].shape, 1, 1)
                continue
            if rest[2] == "body":
                shapes[tensor] = node["scale"].shape
                continue
            kernel = node[inner[rest[2]]]["kernel"].shape
        else:
            continue
        shapes[tensor] = (kernel[3], kernel[2], *kernel[:2])
    return shapes


def test_other_checkpoints_are_not_recognized(published_shapes):
    for name in ("swinir_dn_gray", "kair_dncnn_gray", "kair_drunet_gray", "wne_swinir_light"):
        assert restormer(published_shapes(name)) is None
    official = published_shapes("restormer_color")
    for extra in ({"skip_conv.weight": (96, 48, 1, 1)}, {"patch_embed.proj.weight": (48, 6, 3, 3)}):
        assert restormer({**official, **extra}) is None
    assert restormer({**official, "patch_embed.proj.bias": (48,)}) is None


@pytest.mark.parametrize("size", [(5, 8), (1, 1)])
def test_other_sizes_are_padded_by_reflection_and_cropped(size, key):
    net = Restormer(**{**SMALL, "blocks": (0, 0, 1), "heads": (1, 1, 2)})
    assert net.multiple == 4
    y = jax.random.normal(key, (2, *size, 1))
    variables = random_variables(net)
    border = ((0, 0), *((0, -side % 4) for side in size), (0, 0))
    padded = jnp.pad(y, border, mode="reflect")
    assert padded.shape[1:3] == ((8, 8) if size == (5, 8) else (4, 4))
    f = jax.jit(net.apply)
    expected = f(variables, padded)[:, : size[0], : size[1]]
    np.testing.assert_array_equal(f(variables, y), expected)


def test_every_pixel_influences_every_other(key):
    net = Restormer(**SMALL)
    assert net.receptive_radius is None
    y = jax.random.normal(key, (1, 32, 4, 1))
    variables = random_variables(net)
    corner = jnp.zeros_like(y).at[0, 0, 0].set(1.0)
    change = jax.jit(lambda y: jax.jvp(lambda y: net.apply(variables, y), (y,), (corner,))[1])(y)
    assert np.all(np.abs(change) > 0)


def test_remat_changes_neither_parameters_nor_output_nor_gradient(key):
    net = Restormer(**SMALL)
    saving = net.clone(remat=True)
    assert shapes_of(net) == shapes_of(saving)
    variables = random_variables(net)
    y = jax.random.normal(key, (1, 8, 12, 1))

    def value_and_gradient(net):
        loss = lambda v: jnp.mean(jnp.square(net.apply(v, y)))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(variables)

    chex.assert_trees_all_close(
        value_and_gradient(saving), value_and_gradient(net), rtol=1e-4, atol=1e-5
    )

    def kept(net):  # number of elements stored for the gradient, besides the image
        pullback = jax.eval_shape(lambda y: jax.vjp(lambda y: net.apply(variables, y), y)[1], y)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    assert kept(saving) < kept(net) / 3


@pytest.mark.parametrize("norm_bias", [True, False])
def test_bfloat16_stays_within_its_precision(norm_bias, key):
    net = Restormer(**SMALL, norm_bias=norm_bias)
    y = jax.random.normal(key, (1, 16, 12, 1))
    variables = random_variables(net)

    def value_and_gradient(net):
        def loss(y):
            value = net.apply(variables, y)
            return jnp.mean(jnp.square(value)), value

        return jax.jit(jax.grad(loss, has_aux=True))(y)

    expected = jax.jit(net.apply)(variables, y)
    gradient, result = value_and_gradient(net.clone(dtype=jnp.bfloat16))
    assert result.dtype == jnp.float32
    assert 0 < np.abs(result - expected).max() < 0.02 * np.abs(expected).max()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("norm_bias", [True, False])
def test_a_constant_image_has_a_finite_gradient_in_the_wrapper(norm_bias):
    model = wne.WNE(Restormer(**SMALL, norm_bias=norm_bias))
    variables = random_variables(model.backbone)
    y = jnp.full((1, 4, 4, 1), 0.3)
    loss = lambda v, y: jnp.sum(model.apply(v, y))  # noqa: E731
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(variables, y)
    np.testing.assert_allclose(value, 0.3 * 16, rtol=1e-6)
    chex.assert_tree_all_finite(gradients)


def test_a_fresh_network_starts_near_the_identity(key):
    y = jax.random.normal(key, (1, 8, 8, 1))
    out, _ = jax.jit(Restormer(**{**SMALL, "dim": 16}).init_with_output)(key, y)
    assert 0 < np.std(out - y) < 0.5 * np.std(y)


def test_height_and_width_may_be_symbolic(key):
    net = Restormer(**SMALL)
    y = jax.random.normal(key, (1, 8, 12, 1))
    variables = random_variables(net)
    h, w = jax.export.symbolic_shape("h, w", constraints=["h >= 1", "w >= 1"])
    symbolic = jax.ShapeDtypeStruct((1, 2 * h, 2 * w, 1), jnp.float32)
    f = jax.jit(lambda y: net.apply(variables, y))
    np.testing.assert_allclose(jax.export.export(f)(symbolic).call(y), f(y), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (4, 6, 6)}, "one entry per level"),
        ({"blocks": (4,), "heads": (1,)}, "two levels or more"),
        ({"heads": (1, 2, 4, 7)}, "7 and 384 at level 3"),
        ({"heads": (0, 2, 4, 8)}, "0 and 48 at level 0"),
        ({"dim": 47}, "must be even, not 47"),
        ({"padding": "wrap"}, "padding must be one of zeros, reflect, circular; not 'wrap'"),
    ],
    ids=str,
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        Restormer(**options)


def test_lists_make_the_same_model_as_tuples_and_sigma_is_rejected(key):
    net = Restormer(**SMALL)
    assert hash(Restormer(**{**SMALL, "blocks": [0, 1], "heads": [1, 2]})) == hash(net)
    with pytest.raises(ValueError, match="blind model"):
        net.init(key, jnp.zeros((1, 8, 8, 1)), sigma=0.1)
