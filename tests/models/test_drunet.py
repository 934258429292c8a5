import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models.drunet import DRUNet
from wne_jax.testing import check_backbone, random_variables
from wne_jax.weights.layouts.drunet import herbreteau_drunet, kair_drunet

MODES = ("ordinary", "scale-equivariant", "normalization-equivariant")
NE = MODES[2]
SMALL = {"features": (4, 6, 8), "blocks": 1}
TINY = {"features": (4, 6), "blocks": 1}


def shapes_of(net, channels=1):
    condition = {"sigma": 0.1} if net.conditioned else {}
    y = jnp.zeros((1, 8, 8, channels))
    return jax.eval_shape(lambda key: net.init(key, y, **condition), jax.random.key(0))["params"]


def random_params(net, channels=1):
    condition = {"sigma": 0.1} if net.conditioned else {}
    return random_variables(net, jnp.zeros((1, 8, 8, channels)), **condition)


@functools.cache
def compiled(net, channels=1):
    """The network with random parameters, as a compiled function of the image and of what it takes."""
    params = random_params(net, channels)
    return jax.jit(lambda y, **condition: net.apply(params, y, **condition))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 32_650_753),
        ({"use_bias": False}, 32_638_080),
        ({"mode": "scale-equivariant"}, 32_638_080),
        ({"mode": NE}, 32_638_112),
        ({"mode": "scale-equivariant", "conditioned": True}, 32_638_656),
    ],
    ids=str,
)
def test_parameters_are_as_many_as_published(options, expected):
    assert (
        sum(math.prod(p.shape) for p in jax.tree.leaves(shapes_of(DRUNet(**options)))) == expected
    )


@pytest.mark.parametrize(
    ("name", "layout", "mode", "conditioned"),
    [
        ("kair_drunet_gray", kair_drunet, "scale-equivariant", True),
        ("ne_nets_drunet_ordinary", herbreteau_drunet, "ordinary", False),
        ("ne_nets_drunet_scale-equiv", herbreteau_drunet, "scale-equivariant", False),
        ("ne_nets_drunet_norm-equiv", herbreteau_drunet, NE, False),
    ],
)
def test_published_tensors_fill_the_model_one_for_one(
    published_shapes, name, layout, mode, conditioned
):
    published = published_shapes(name)
    plan = layout(published)
    assert plan.config.backbone == "drunet" and not plan.buffers
    net = DRUNet(**plan.config.options)
    assert net == DRUNet(mode=mode, conditioned=conditioned)
    assert sorted(entry.source for entry in plan.entries) == sorted(published)
    zeros = {source: np.broadcast_to(np.float32(0), shape) for source, shape in published.items()}
    filled = {e.target: e.convert(zeros[e.source]).shape for e in plan.entries}
    assert len(filled) == len(plan.entries)
    expected = jax.tree_util.tree_leaves_with_path({"params": shapes_of(net)})
    assert filled == {tuple(k.key for k in path): leaf.shape for path, leaf in expected}


def test_each_layout_leaves_other_checkpoints_alone(published_shapes):
    others = {kair_drunet: "ne_nets_drunet_ordinary", herbreteau_drunet: "kair_drunet_gray"}
    for layout, other in others.items():
        assert layout(published_shapes(other)) is None
        assert layout(published_shapes("kair_fdncnn_gray")) is None


@pytest.mark.parametrize(
    ("mode", "padding"), [("ordinary", None), (NE, None), ("ordinary", "circular")]
)
def test_any_size_is_the_crop_of_the_reflected_multiple(mode, padding, key):
    f = compiled(DRUNet(**SMALL, mode=mode, padding=padding))
    y = jax.random.normal(key, (2, 13, 18, 1))
    padded = jnp.pad(y, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(f(y), f(padded)[:, :13, :18])


def test_a_padded_image_has_its_noise_level_everywhere(key):
    y, sigma = jax.random.normal(key, (2, 5, 7, 3)), jnp.array([0.1, 0.4])
    net = DRUNet(**TINY, conditioned=True)
    plane = jnp.broadcast_to(jnp.reshape(sigma, (2, 1, 1, 1)), (2, 5, 7, 1))
    # A blind network of the same weights, with a fourth output channel.
    params = random_params(net, 3)["params"]
    tail = {name: jnp.concatenate([p, p[..., :1]], -1) for name, p in params["tail"].items()}
    blind = {"params": {**params, "tail": tail}}
    expected = jax.jit(DRUNet(**TINY).apply)(blind, jnp.concatenate([y, plane], -1))
    np.testing.assert_allclose(compiled(net, 3)(y, sigma=sigma), expected[..., :3], atol=1e-6)


@pytest.mark.parametrize("mode", ["ordinary", NE])
def test_remat_changes_neither_parameters_nor_output_nor_gradient(mode, key):
    y = jax.random.normal(key, (1, 4, 6, 1))
    net = DRUNet(**TINY, mode=mode)
    params, saving = random_params(net), net.clone(remat=True)
    assert shapes_of(saving) == shapes_of(net)

    def value_and_gradient(net):
        return jax.jit(jax.value_and_grad(lambda p: jnp.mean(jnp.square(net.apply(p, y)))))(params)

    chex.assert_trees_all_close(
        value_and_gradient(saving), value_and_gradient(net), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("mode", ["ordinary", NE])
def test_bfloat16_stays_within_its_precision(mode, key):
    y = jax.random.uniform(key, (1, 4, 6, 1))
    net = DRUNet(**TINY, mode=mode)
    expected, result = compiled(net)(y), compiled(net.clone(dtype=jnp.bfloat16))(y)
    assert result.dtype == jnp.float32
    assert 0 < jnp.abs(result - expected).max() < 0.03 * jnp.abs(expected).max()


@pytest.mark.parametrize(
    ("conditioned", "padding"), [(False, None), (True, None), (False, "circular")]
)
def test_equivariant_mode_commutes_with_affine_maps_at_any_size(conditioned, padding, key):
    y = jax.random.normal(key, (2, 5, 7, 1))
    f = compiled(DRUNet(**TINY, mode=NE, padding=padding, conditioned=conditioned))
    level = lambda a: {"sigma": jnp.float32(0.3 * a)} if conditioned else {}  # noqa: E731
    moved = f(0.2 * y + 3, **level(0.2))
    np.testing.assert_allclose(moved, 0.2 * f(y, **level(1)) + 3, atol=1e-5)
    if not conditioned:
        np.testing.assert_allclose(f(jnp.full_like(y, 0.7)), 0.7, atol=1e-5)


@pytest.mark.parametrize("mode", ["ordinary", NE])
def test_a_network_neither_fades_nor_explodes_at_the_start(mode, key):
    y = jax.random.normal(key, (1, 16, 16, 1))
    net = DRUNet(features=(32, 32), blocks=2, mode=mode)
    out, _ = jax.jit(net.init_with_output)(key, y)
    assert 0.1 < float(out.std()) < 3


@pytest.mark.parametrize("features", [(1, 1, 1, 1), (1, 1), (1,)])
def test_the_receptive_radius_is_reached_and_not_passed(features):
    """With positive kernels, the response to an impulse is positive exactly where it reaches."""
    net = DRUNet(features=features, blocks=1, mode="scale-equivariant")
    radius, period = net.receptive_radius, net.multiple
    center = -(-radius // period) * period
    positive = {"params": jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.2), shapes_of(net))}
    at = center + np.arange(period)  # every alignment to the grid of the coarsest level
    impulses = np.zeros((period, period, 2 * center + period, 1), np.float32)
    impulses[np.arange(period), 0, at] = 1
    response = jax.jit(net.apply)(positive, impulses)
    reached = [np.flatnonzero(np.any(r > 0, axis=0)) for r in np.asarray(response)[..., 0]]
    ends = [(p - columns.min(), columns.max() - p) for p, columns in zip(at, reached, strict=True)]
    assert np.max(ends) == radius


def test_the_published_network_reaches_185_pixels():
    assert DRUNet().receptive_radius == 185


@pytest.mark.parametrize("mode", ["ordinary", NE])
def test_what_lies_beyond_the_radius_changes_no_bit(mode, key):
    net = DRUNet(**TINY, mode=mode)
    f, radius, at = compiled(net), net.receptive_radius, 20
    y = jax.random.normal(key, (1, 6, 40, 1))
    same = np.all(np.asarray(f(y) == f(y.at[:, 3, at].add(100))), axis=(0, 1, 3))
    assert same[: at - radius].all() and same[at + radius + 1 :].all() and not same[at]


@pytest.mark.parametrize("mode", ["ordinary", NE])
def test_spatial_sizes_may_be_symbolic(mode, key):
    net = DRUNet(**TINY, mode=mode)
    params = random_params(net)
    h, w = jax.export.symbolic_shape("h, w", constraints=("h >= 2", "w >= 2"))
    shape = jax.ShapeDtypeStruct((1, 2 * h, 2 * w, 1), jnp.float32)
    exported = jax.export.export(jax.jit(lambda y: net.apply(params, y)))(shape)
    y = jax.random.normal(key, (1, 6, 4, 1))
    np.testing.assert_allclose(exported.call(y), compiled(net)(y), atol=1e-5)


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_residual_network_subtracts_what_the_other_returns(mode, key):
    y = jax.random.normal(key, (2, 5, 7, 1))
    net = DRUNet(**TINY, mode=mode)
    residual, params = net.clone(residual=True), random_params(net)
    assert shapes_of(residual) == shapes_of(net)
    output = jax.jit(residual.apply)(params, y)
    np.testing.assert_allclose(output, y - compiled(net)(y), atol=1e-5)
    check_backbone(residual)


def test_a_residual_network_starts_at_the_identity_and_learns_from_there(key):
    y = jax.random.normal(key, (1, 6, 4, 1))
    net = DRUNet(**TINY, residual=True)
    params = jax.jit(net.init)(key, y)
    np.testing.assert_array_equal(jax.jit(net.apply)(params, y), y)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, y) ** 2)))(params)
    assert float(jnp.abs(gradient["params"]["tail"]["kernel"]).max()) > 0


def test_options_from_a_file_are_those_of_a_program():
    from_json, net = DRUNet(features=[4, 6]), DRUNet(features=(4, 6))
    assert from_json == net and hash(from_json) == hash(net) and net.multiple == 2


def test_refusals(key):
    with pytest.raises(ValueError, match="mode must be one of ordinary, "):
        DRUNet(mode="equivariant")
    with pytest.raises(
        ValueError, match="padding must be one of zeros, reflect, circular; not 'wrap'"
    ):
        DRUNet(padding="wrap")
    with pytest.raises(ValueError, match="padding must be one of reflect, circular; not 'zeros'"):
        DRUNet(padding="zeros", mode=NE)
    with pytest.raises(ValueError, match="residual=True does not commute with brightness"):
        DRUNet(residual=True, mode=NE)
    with pytest.raises(ValueError, match=r"blocks must be 1 or more, not \(8,\) and 0"):
        DRUNet(features=(8,), blocks=0)
    with pytest.raises(ValueError, match="features must name a level"):
        DRUNet(features=())
    with pytest.raises(ValueError, match="must be even in number, not 5"):
        shapes_of(DRUNet(features=(5, 8), mode=NE))
    with pytest.raises(ValueError, match="blind model"):
        DRUNet().init(key, jnp.zeros((1, 8, 8, 1)), sigma=0.1)
    with pytest.raises(ValueError, match="needs sigma"):
        DRUNet(conditioned=True).init(key, jnp.zeros((1, 8, 8, 1)))
