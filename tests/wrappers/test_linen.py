import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax.statistics import haar_mad
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    defect,
)

WRAPPERS = [wne.WNE, wne.ScaleEquivariant, wne.InputNormalized]


class Small(nn.Module):
    """Convolutions, BatchNorm, dropout, a second method, and an intermediate."""

    def setup(self):
        self.first = nn.Conv(4, (3, 3))
        self.norm = nn.BatchNorm(momentum=0.5)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Conv(1, (3, 3))

    def __call__(self, y, train=False):
        h = self.norm(self.first(y), use_running_average=not train)
        h = self.drop(nn.relu(h), deterministic=not train)
        self.sow("intermediates", "hidden", h)
        return self.last(h)

    def halve(self, y):
        return y / 2 + 0.1


def image(shape=(2, 8, 8, 1), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def keys():
    return {"params": jax.random.key(1), "dropout": jax.random.key(2)}


@functools.cache
def initial_variables():
    return jax.jit(Small().init)(keys(), image())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_variables_and_initial_values_are_those_of_the_bare_backbone(wrapper):
    initial = jax.jit(wrapper(Small()).init)(keys(), image())
    chex.assert_trees_all_equal(initial, initial_variables())


def test_checkpoints_are_interchangeable_and_the_wrapper_agrees_with_the_function():
    variables = initial_variables()
    by_hand = wne.wrap(lambda z: Small().apply(variables, z))(image())
    chex.assert_trees_all_equal(wne.WNE(Small()).apply(variables, image()), by_hand)


def test_each_wrapper_has_its_symmetry(key):
    variables = jax.tree.map(lambda leaf: leaf + 0.1, initial_variables())  # biases too
    apply = lambda model: lambda y: model.apply(variables, y)  # noqa: E731
    full = apply(wne.WNE(Small(), statistics=haar_mad))
    assert_normalization_equivariant(full, image(), key, gain=4.0)
    assert_exact_under_powers_of_two(full, image())

    scale = apply(wne.ScaleEquivariant(Small()))
    assert_exact_under_powers_of_two(scale, image())
    assert defect(scale, wne.symmetry.actions.Scale(3.7), image()).max() < 1e-5
    assert defect(scale, wne.symmetry.actions.Offset(1.0), image()).min() > 1e-3

    blind = apply(wne.InputNormalized(Small()))
    chex.assert_trees_all_close(blind(3 * image() + 2), blind(image()), atol=1e-5)

    bare = apply(Small())
    for action in (wne.symmetry.actions.Scale(3.7), wne.symmetry.actions.Offset(1.0)):
        assert defect(bare, action, image()).min() > 1e-3


def test_batch_statistics_dropout_and_intermediates_work():
    model, variables = wne.WNE(Small()), initial_variables()
    apply = lambda rng: model.apply(  # noqa: E731
        variables,
        image(),
        train=True,
        rngs={"dropout": rng},
        mutable=["batch_stats", "intermediates"],
    )
    first, state = apply(jax.random.key(3))
    second, _ = apply(jax.random.key(4))
    assert jnp.abs(first - second).max() > 1e-3
    z, _ = wne.normalize(image())
    _, bare_state = Small().apply(
        variables,
        z,
        train=True,
        rngs={"dropout": jax.random.key(3)},
        mutable=["batch_stats", "intermediates"],
    )
    chex.assert_trees_all_close(state, bare_state, atol=1e-6)


def test_other_methods_of_the_backbone():
    model = wne.WNE(Small(), method="halve")
    variables = initial_variables()
    expected = wne.wrap(lambda z: z / 2 + 0.1)(image())
    chex.assert_trees_all_close(model.apply(variables, image()), expected, atol=1e-6)
    direct = wne.WNE(Small()).apply(variables, image(), method=lambda m, y: m.backbone.halve(y))
    chex.assert_trees_all_close(direct, image() / 2 + 0.1, atol=1e-6)


def test_rematerialization_and_vmap_work():
    variables = initial_variables()
    loss = lambda model: lambda v: jnp.sum(jnp.square(model.apply(v, image())))  # noqa: E731
    gradient = lambda model: jax.jit(jax.grad(loss(model)))(variables)  # noqa: E731
    plain = gradient(wne.WNE(Small()))
    for model in (wne.WNE(nn.remat(Small)()), nn.remat(wne.WNE)(Small())):
        chex.assert_trees_all_close(gradient(model), plain, rtol=1e-4, atol=1e-5)

    ensemble = nn.vmap(
        wne.WNE, in_axes=None, out_axes=0, axis_size=3, variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
    )(Small())  # fmt: skip
    members = jax.jit(ensemble.init)(keys(), image())
    results = ensemble.apply(members, image())
    assert results.shape == (3, 2, 8, 8, 1)
    member = jax.tree.map(lambda leaf: leaf[1], members)
    chex.assert_trees_all_close(results[1], wne.WNE(Small()).apply(member, image()), atol=1e-5)


@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", WRAPPERS)
def test_wrapping_twice_raises(outer, inner):
    with pytest.raises(ValueError, match="wrapper already"):
        outer(inner(Small()))
    with pytest.raises(ValueError, match="wrapper already"):
        wne.NNXWNE(wne.NNXWNE(jnp.tanh))


def test_the_multiple_of_the_backbone_is_used():
    class Halving(nn.Module):
        multiple: int = 2

        def __call__(self, y):
            assert y.shape[1] % 2 == y.shape[2] % 2 == 0
            return y

    y = image((1, 5, 7, 1))
    chex.assert_trees_all_close(wne.WNE(Halving()).apply({}, y), y, atol=1e-6)


def test_the_symmetry_follows_the_statistics():
    root_mean_square = wne.statistics.root_mean_square
    assert wne.WNE(Small(), statistics=root_mean_square).symmetry == "scale"
    assert wne.ScaleEquivariant(Small()).symmetry == "scale"
    assert wne.WNE(Small(), statistics=haar_mad).symmetry == "normalization"
    assert wne.InputNormalized(Small()).symmetry == "none"


def test_a_backbone_for_vectors_accepts_any_rank(key):
    model = wne.WNE(nn.Dense(5))
    y = image((3, 5))
    variables = model.init(key, y)
    assert_normalization_equivariant(lambda y: model.apply(variables, y), y, key, gain=4.0)


def test_nnx_modules_and_functions_agree_with_linen(key):
    backbone = nnx.Conv(1, 1, (3, 3), rngs=nnx.Rngs(0))
    model = wne.NNXWNE(backbone, statistics=haar_mad)
    kernel, bias = backbone.kernel[...], backbone.bias[...]

    def plain(z):
        dimensions = ("NHWC", "HWIO", "NHWC")
        convolved = jax.lax.conv_general_dilated(
            z, kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )
        return convolved + bias.reshape(1, 1, 1, 1)

    linen = wne.WNE(nn.Conv(1, (3, 3)), statistics=haar_mad)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    results = [
        model(image()),
        wne.wrap(plain, statistics=haar_mad)(image()),
        linen.apply(variables, image()),
    ]
    chex.assert_trees_all_close(*results[:2], atol=1e-5)
    chex.assert_trees_all_close(*results[1:], atol=1e-5)
    assert_normalization_equivariant(nnx.jit(model), image(), key, gain=4.0)


def test_an_nnx_wrapper_trains_and_has_no_state_of_its_own():
    model = wne.NNXWNE(nnx.Conv(1, 1, (3, 3), rngs=nnx.Rngs(0)))
    bare = nnx.state(nnx.Conv(1, 1, (3, 3), rngs=nnx.Rngs(0)))
    chex.assert_trees_all_equal(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(bare))
    optimizer = nnx.Optimizer(model, optax.sgd(0.2), wrt=nnx.Param)
    y = image()
    target = y / 2 + jnp.mean(y, (1, 2, 3), keepdims=True) / 2

    @nnx.jit
    def step(model, optimizer):
        loss, gradients = nnx.value_and_grad(lambda m: jnp.mean(jnp.square(m(y) - target)))(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(200)]
    assert losses[-1] < 0.05 * losses[0]
