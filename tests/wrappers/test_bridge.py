"""Models of every kind have a Linen form with the same output and the same variables."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax import protocol
from wne_jax.config import ModelConfig, config_of
from wne_jax.wrappers import FromInitApply, as_linen, fill, variables_of


class Linen(nn.Module):
    @nn.compact
    def __call__(self, y):
        return nn.Conv(2, (3, 3), name="conv")(jnp.tanh(y))


class NNX(nnx.Module):
    """The same network with a normalization whose statistics change in training."""

    multiple = 2

    def __init__(self, features=2, *, rngs):
        self.features = features
        self.conv = nnx.Conv(2, features, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Conv(features, 2, (1, 1), rngs=rngs)

    def __call__(self, y):
        return self.last(self.drop(self.norm(self.conv(jnp.tanh(y)))))


class Constant(nnx.Module):
    """A module with an array that is not a variable."""

    def __init__(self, *, rngs):
        self.gain, self.conv = jnp.arange(2.0), nnx.Conv(2, 2, (1, 1), rngs=rngs)

    def __call__(self, y):
        return self.conv(y) * self.gain.reshape(1, 1, 1, 2)


class Forgetful(nnx.Module):
    """A module that does not store the arguments of its constructor."""

    def __init__(self, width=2, *, rngs):
        self.conv = nnx.Conv(2, width, (3, 3), rngs=rngs)

    def __call__(self, y):
        return self.conv(y)[..., :2]


Y = jnp.asarray(np.random.default_rng(0).normal(0.4, 0.2, (2, 8, 8, 2)), jnp.float32)


@pytest.fixture(scope="module")
def network():
    network = NNX(rngs=nnx.Rngs(0))
    network.eval()
    return network


@pytest.fixture(scope="module")
def bound():
    return Linen().bind(Linen().init(jax.random.key(0), Y))


class TestAsLinen:
    """`as_linen` keeps the output of every kind of model, bare and wrapped."""

    @pytest.mark.parametrize("wrapped", [False, True])
    @pytest.mark.parametrize("kind", ["linen", "nnx", "function"])
    def test_the_linen_form_has_the_same_output(self, kind, wrapped, network, bound):
        model = {"linen": bound, "nnx": network, "function": jnp.tanh}[kind]
        model = wne.wrap(model) if wrapped else model
        module, variables = as_linen(model)
        assert isinstance(module, wne.WNE) == wrapped
        np.testing.assert_allclose(module.apply(variables, Y), model(Y), atol=1e-6)

    def test_the_linen_form_of_an_nnx_module_has_the_given_options(self, network):
        model = wne.NNXWNE(network, anchor=wne.Anchor(0.5, 0.25), output="difference", multiple=4)
        module, variables = as_linen(model)
        assert protocol.multiple(module) == 4
        np.testing.assert_allclose(module.apply(variables, Y), model(Y), atol=1e-6)

    def test_given_variables_replace_those_of_the_module(self, network):
        other = variables_of(NNX(rngs=nnx.Rngs(1)))
        module, variables = as_linen(network, other)
        chex.assert_trees_all_equal(variables, other)
        assert jnp.any(module.apply(variables, Y) != network(Y))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: as_linen(Linen()), "Linen is a Linen module: its variables are missing"),
            (lambda: as_linen(Linen), "not Linen: pass an instance"),
            (lambda: as_linen(3), "must be a module or a function, not int"),
            (lambda: as_linen(jnp.tanh, {"params": {}}), r"close over them, lambda y: tanh\(vari"),
            (
                lambda: as_linen(wne.NNXWNE(NNX(rngs=nnx.Rngs(0)), batch_axes=())),
                "leave out batch_axes",
            ),
            (
                lambda: as_linen(wne.wrap(jnp.tanh, batch_axes=(), channel_axis=0)),
                r"leave out batch_axes and channel_axis, .* such as jax\.vmap\(backbone\), .*moveaxis\(z",
            ),
        ],
    )
    def test_other_objects_give_one_line(self, make, message):
        with pytest.raises(TypeError, match=message) as error:
            make()
        assert "\n" not in str(error.value)


class TestFromNNX:
    """Evaluation uses the module's `eval()`, training its `train()`, whatever the default of its call is."""

    def test_training_changes_running_means_and_draws_dropout(self, network):
        module, variables = as_linen(network)
        assert protocol.mode(wne.WNE(module), train=True) == {"train": True}
        rngs = {"dropout": jax.random.key(0)}
        _, changed = module.apply(variables, Y, train=True, mutable=["batch_stats"], rngs=rngs)
        h = network.conv(jnp.tanh(Y))
        expected = 0.99 * variables["batch_stats"]["norm"]["mean"] + 0.01 * h.mean((0, 1, 2))
        np.testing.assert_allclose(changed["batch_stats"]["norm"]["mean"], expected, rtol=1e-5)

    def test_dropout_follows_the_key_of_the_call(self):
        module = ModelConfig(f"{__name__}:NNX").build()
        variables = module.init(jax.random.key(0), Y)

        def trained(seed):
            rngs = {"dropout": jax.random.key(seed)}
            return module.apply(variables, Y, train=True, mutable=["batch_stats"], rngs=rngs)[0]

        assert jnp.all(trained(0) == trained(0)) and jnp.any(trained(0) != trained(1))
        assert jnp.all(module.apply(variables, Y) == module.apply(variables, Y))

    def test_initial_variables_are_those_of_a_new_module(self):
        module = ModelConfig(f"{__name__}:NNX").build()
        variables = module.init(jax.random.key(0), Y)
        expected = variables_of(NNX(rngs=nnx.Rngs(0)))
        chex.assert_trees_all_equal_shapes_and_dtypes(dict(variables), expected)
        kernel = variables["params"]["conv"]["kernel"]
        assert jnp.any(kernel != module.init(jax.random.key(1), Y)["params"]["conv"]["kernel"])

    def test_arrays_that_are_plain_attributes_are_not_changed(self):
        network = Constant(rngs=nnx.Rngs(0))
        module, variables = as_linen(network)
        assert list(variables) == ["params"] and list(variables["params"]) == ["conv"]
        np.testing.assert_allclose(module.apply(variables, Y), network(Y), atol=1e-6)
        named = config_of(network).build()
        np.testing.assert_allclose(named.apply(variables, Y), network(Y), atol=1e-6)

    def test_variables_are_written_back_into_a_module(self, network):
        other = NNX(rngs=nnx.Rngs(1))
        other.eval()
        fill(wne.NNXWNE(other), variables_of(network))
        np.testing.assert_array_equal(other(Y), network(Y))
        with pytest.raises(
            ValueError, match=r"variable params/conv/(bias|kernel) of .* is missing"
        ):
            fill(other, {"params": {"conv": {}}})
        over = {"params": {"conv": {"gain": jnp.ones(2)}}}
        with pytest.raises(ValueError, match="NNX has no variable params/conv/gain"):
            fill(other, over)
        short = variables_of(NNX(3, rngs=nnx.Rngs(0)))
        with pytest.raises(ValueError, match=r"of NNX must be \(\d.*, not \("):
            fill(other, short)


class TestConfig:
    """The configuration of an NNX module is its class with the arguments that it stores."""

    def test_arguments_are_read_from_attributes(self, network):
        path = f"{__name__}:NNX"
        assert config_of(network) == ModelConfig(path)
        wrapped = wne.NNXWNE(NNX(3, rngs=nnx.Rngs(0)), anchor=wne.Anchor(0.5, 0.25))
        config = config_of(wrapped)
        assert (config.backbone, config.options) == (path, {"features": 3})
        assert config.wrapper.anchor == (0.5, 0.25)

    def test_what_wrap_made_of_a_module_has_the_configuration_of_wne(self, network):
        expected = ModelConfig(f"{__name__}:NNX", wrapper="wne")
        assert config_of(wne.NNXWNE(network)) == expected
        assert config_of(wne.wrap(network, multiple=2)) == expected
        assert config_of(wne.wrap(Constant(rngs=nnx.Rngs(0)))).wrapper == expected.wrapper

    def test_unreadable_arguments_are_rejected(self):
        assert config_of(Forgetful(rngs=nnx.Rngs(0))).options == {}
        with pytest.raises(
            ValueError, match=r"arguments of this Forgetful cannot be read .*ModelConfig\("
        ):
            config_of(Forgetful(3, rngs=nnx.Rngs(0)))
        with pytest.raises(ValueError, match=r"functions have no configuration"):
            config_of(jnp.tanh)


class TestFromInitApply:
    """Two functions form a Linen module, whose parameters are named by their paths in the pytree."""

    @staticmethod
    def module():
        def init_fn(key, y):
            kernel = jax.random.normal(key, (y.shape[-1], y.shape[-1]))
            return {"net/~/linear": {"w": kernel}, "stack": [jnp.ones(()), None, jnp.zeros(2)]}

        def apply_fn(p, y, sigma, train=False):
            gain, _, bias = p["stack"]
            return y + sigma * (1 + train) * (
                gain * (y @ p["net/~/linear"]["w"]) + bias.reshape(1, 1, 1, 2)
            )

        apply_fn.multiple = 4
        return apply_fn, FromInitApply(init_fn, apply_fn)

    def test_the_module_calls_both_functions(self, key):
        apply_fn, module = self.module()
        variables = module.init(key, Y, sigma=0.1)
        assert set(variables["params"]) == {"net", "stack"}
        assert set(variables["params"]["stack"]) == {"0", "2"}
        kernel = variables["params"]["net"]["~"]["linear"]["w"]
        given = {"net/~/linear": {"w": kernel}, "stack": [jnp.ones(()), None, jnp.zeros(2)]}
        np.testing.assert_array_equal(
            module.apply(variables, Y, sigma=0.1), apply_fn(given, Y, 0.1)
        )
        gradient = jax.grad(lambda v: module.apply(v, Y, sigma=0.1).sum())(variables)
        expected = jax.grad(lambda p: apply_fn(p, Y, 0.1).sum())(given)
        np.testing.assert_array_equal(gradient["params"]["stack"]["2"], expected["stack"][2])

    def test_declarations_of_the_function_are_used_and_sigma_is_rescaled(self, key):
        _, module = self.module()
        model = wne.WNE(module)
        assert protocol.multiple(model) == 4
        assert protocol.condition(model, 0.1) == {"sigma": 0.1}
        assert protocol.mode(model, train=True) == {"train": True}
        variables = model.init(key, Y, sigma=0.1)
        f = lambda y, sigma: model.apply(variables, y, sigma=sigma)  # noqa: E731
        np.testing.assert_allclose(f(3 * Y - 1, 0.3), 3 * f(Y, 0.1) - 1, atol=2e-5)
        with pytest.raises(TypeError, match="pass sigma by keyword"):
            model.apply(variables, Y, 0.1)
