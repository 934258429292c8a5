"""Declarations are found through every wrapper; missing ones have their defaults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax import protocol
from wne_jax.models import MODELS
from wne_jax.statistics import haar_mad
from wne_jax.symmetry.equivariance import assert_normalization_equivariant
from wne_jax.wrappers.one_level import ANCHOR, OneLevel
from wne_jax.wrappers.rescaled import Rescaled
from wne_jax.wrappers.smooth_base import SmoothBase


class Silent(nn.Module):
    """A backbone that declares nothing."""

    @nn.compact
    def __call__(self, y):
        return nn.Conv(1, (3, 3))(y)


class Outspoken(nn.Module):
    """A backbone that declares everything and checks what it receives."""

    multiple = 4
    receptive_radius = 3
    noise_argument = "noise_std"
    mask_argument = "valid"

    @nn.compact
    def __call__(self, y, *, noise_std, valid=None):
        assert y.shape[1] % 4 == y.shape[2] % 4 == 0
        weight = 1.0 if valid is None else valid.astype(y.dtype)
        return y - noise_std * nn.Conv(1, (1, 1))(jnp.tanh(weight * y))


class OutspokenNNX(nnx.Module):
    """The same in NNX, without parameters."""

    multiple, receptive_radius, noise_argument, mask_argument = 4, 3, "noise_std", "valid"

    def __call__(self, y, *, noise_std, valid=None):
        assert y.shape[1] % 4 == y.shape[2] % 4 == 0
        return y - noise_std * jnp.tanh(y)


def declared(model):
    return (
        protocol.multiple(model),
        protocol.receptive_radius(model),
        protocol.noise_argument(model),
        protocol.mask_argument(model),
    )


@pytest.mark.parametrize("model", [Silent(), wne.WNE(Silent()), SmoothBase(Silent()), jnp.tanh])
def test_defaults_agree_with_the_documentation(model):
    assert declared(model) == (1, None, None, None)
    assert protocol.takes_sigma(model) is None and protocol.condition(model, 0.1) == {}


@pytest.mark.parametrize(
    "model", [Outspoken(), wne.WNE(Outspoken()), OutspokenNNX(), wne.NNXWNE(OutspokenNNX())]
)
def test_a_wrapper_forwards_what_its_backbone_declares(model):
    assert declared(model) == (4, 3, "noise_std", "valid")
    assert protocol.takes_sigma(model) == "required"
    assert protocol.condition(model, 0.1) == {"noise_std": 0.1}


def test_a_wrapper_may_override_declarations():
    model = wne.WNE(Silent(), multiple=2, noise_argument="level", mask_argument="where")
    assert declared(model) == (2, None, "level", "where")
    assert model.takes_sigma == "required"


def test_a_custom_noise_argument_follows_the_image(key):
    model = wne.WNE(Outspoken())
    y = jax.random.normal(key, (2, 7, 9, 1))
    variables = model.init(jax.random.key(1), y, noise_std=0.1)

    def f(y, sigma):
        return model.apply(variables, y, **protocol.condition(model, sigma))

    np.testing.assert_allclose(f(3 * y - 1, 0.3), 3 * f(y, 0.1) - 1, atol=1e-5)
    np.testing.assert_array_equal(model.apply(variables, y, sigma=0.1), f(y, 0.1))
    where = jnp.ones(y.shape, bool)
    np.testing.assert_allclose(
        model.apply(variables, y, sigma=0.1, where=where), f(y, 0.1), atol=1e-6
    )
    nnx_model = wne.NNXWNE(OutspokenNNX())
    np.testing.assert_allclose(
        nnx_model(3 * y - 1, sigma=0.3), 3 * nnx_model(y, sigma=0.1) - 1, atol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_models_are_blind_unless_built_with_a_noise_level(name):
    assert protocol.takes_sigma(MODELS[name]()) is None
    if "conditioned" in MODELS[name].__dataclass_fields__:
        told = MODELS[name](conditioned=True)
        assert protocol.noise_argument(told) == "sigma"
        assert wne.WNE(told, statistics=haar_mad).takes_sigma == "required"


def test_an_estimated_level_is_optional_and_may_replace_the_scale():
    blind = MODELS["dncnn"](depth=3, features=4)
    assert wne.WNE(OneLevel(blind, 0.1), anchor=ANCHOR).takes_sigma == "optional"
    assert wne.WNE(blind, statistics=haar_mad).takes_sigma == "statistic"
    assert wne.WNE(Rescaled(blind, "blend")).takes_sigma is None


def test_train_is_passed_if_there_is_such_a_parameter():
    dncnn = MODELS["dncnn"]()
    assert protocol.mode(wne.WNE(SmoothBase(dncnn)), train=True) == {"train": True}
    assert protocol.mode(wne.WNE(Silent()), train=True) == {}


def test_mode_and_noise_level_are_found_in_the_signature():
    for name, training in (("training", True), ("is_training", True), ("deterministic", False)):
        scope = {}
        exec(f"def call(y, {name}=None): return y", scope)
        assert protocol.mode(scope["call"], train=True) == {name: training}
        assert protocol.mode(scope["call"], train=False) == {name: not training}
    for name in ("sigma", "noise_std", "noise_level"):
        scope = {}
        exec(f"def call(y, {name}): return y", scope)
        assert protocol.condition(scope["call"], 0.1) == {name: 0.1}
        assert protocol.noise_argument(wne.NNXWNE(scope["call"])) == name
    assert protocol.noise_argument(lambda y, noise_level=None: y) is None


@pytest.mark.parametrize("mode", ["scale-equivariant", "normalization-equivariant"])
def test_a_smooth_base_adds_brightness_to_the_symmetry_of_its_backbone(mode, key):
    model = SmoothBase(MODELS["fdncnn"](depth=3, features=8, mode=mode), sigma_px=1.0)
    y = 0.5 + 0.2 * jax.random.normal(key, (1, 12, 12, 1))
    variables = model.init(jax.random.key(1), y)
    assert model.symmetry == "normalization"
    assert_normalization_equivariant(jax.jit(lambda y: model.apply(variables, y)), y, key, gain=8.0)
    assert SmoothBase(MODELS["fdncnn"]()).symmetry == "none"
    assert SmoothBase(MODELS["fdncnn"](mode=mode), wiener_cap=1.3).symmetry == "none"


def test_a_backbone_may_contain_a_backbone(key):
    class Parent(nn.Module):
        backbone: nn.Module

        def __call__(self, y):
            return self.backbone(y)

    y = jax.random.normal(key, (1, 8, 8, 1))
    bare = Parent(Silent()).init(jax.random.key(1), y)
    wrapped = wne.WNE(SmoothBase(Parent(Silent()))).init(jax.random.key(1), y)
    assert jax.tree.structure(bare) == jax.tree.structure(wrapped)
    moved = SmoothBase(Parent(Silent())).apply(bare, y)
    np.testing.assert_array_equal(
        moved, SmoothBase(Silent()).apply({"params": bare["params"]["backbone"]}, y)
    )
