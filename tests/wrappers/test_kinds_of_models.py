"""Models of every library: each has its wrapper, errors name the right one, and module names are kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax.symmetry import assert_normalization_equivariant
from wne_jax.wrappers.smooth_base import SmoothBase


class Linen(nn.Module):
    @nn.compact
    def __call__(self, y):
        return nn.Conv(1, (3, 3))(jnp.tanh(y))


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 1, (3, 3), rngs=rngs)

    def __call__(self, y):
        return self.conv(jnp.tanh(y))


class Transformed(NamedTuple):
    """The result of `haiku.transform`."""

    init: Any
    apply: Any


def image(shape=(2, 8, 8, 1), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: wne.WNE(NNX(nnx.Rngs(0))),
            r"WNE wraps a Linen module.*use NNXWNE\(NNX\(\.\.\.\)\)",
        ),
        (lambda: wne.WNE(Linen), r"not Linen: pass an instance, WNE\(Linen\(\.\.\.\)\)"),
        (
            lambda: wne.WNE(jnp.tanh),
            "WNE wraps a Linen module, not tanh: it is a function: use wrap",
        ),
        (lambda: wne.WNE(3), "WNE wraps a Linen module, not int"),
        (lambda: wne.ScaleEquivariant(NNX(nnx.Rngs(0))), "ScaleEquivariant wraps a Linen module"),
        (lambda: wne.NNXWNE(Linen()), r"NNXWNE wraps an NNX module.*use WNE\(Linen\(\.\.\.\)\)"),
        (lambda: wne.NNXWNE(NNX), r"pass an instance, NNXWNE\(NNX\(\.\.\.\)\)"),
        (lambda: wne.NNXWNE(3), "NNXWNE wraps an NNX module, not int"),
        (lambda: wne.WNE(Linen(), statistics="haar_mad"), r"not 'haar_mad': .*STATISTICS\[name\]"),
        (lambda: wne.NNXWNE(NNX(nnx.Rngs(0)), statistics="mean_std"), "not 'mean_std'"),
        (lambda: wne.wrap(Linen()), r"without variables: use WNE\(Linen"),
        (lambda: wne.wrap(NNX), "pass an instance"),
        (lambda: wne.wrap(Linen().apply), r"Linen.apply takes variables before y: use WNE\(Linen"),
        (
            lambda: wne.wrap(Transformed(None, None)),
            r"close over the parameters, lambda y: net\.apply",
        ),
        (lambda: wne.wrap(3), "wrap takes a function or a module, not 'int'"),
        (lambda: wne.wrap(jnp.tanh, statistics="mean_std"), "not 'mean_std'"),
        (lambda: wne.normalize(image(), statistics="mean_std"), "not 'mean_std'"),
    ],
)
def test_a_wrong_kind_gives_one_line_with_the_wrapper_to_use(make, message):
    with pytest.raises(TypeError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


class TestNames:
    """A wrapper in a parent module has the variables of its backbone, under the wrapper's name."""

    @staticmethod
    def parent(call, *fields):
        class Parent(nn.Module):
            net: nn.Module | None = None

            @nn.compact
            def __call__(self, y):
                return call(self, nn.Conv(1, (1, 1), name="first")(y))

        model = Parent(*fields)
        variables = model.init(jax.random.key(0), image())
        assert model.apply(variables, image()).shape == image().shape
        return set(variables["params"])

    def test_a_name_is_kept(self):
        named = lambda self, y: wne.WNE(Linen(), name="denoiser")(y)  # noqa: E731
        assert self.parent(named) == {"first", "denoiser"}
        inside = lambda self, y: wne.WNE(SmoothBase(Linen()), name="denoiser")(y)  # noqa: E731
        assert self.parent(inside) == {"first", "denoiser"}
        field = lambda self, y: wne.WNE(self.net, name="denoiser")(y)  # noqa: E731
        assert self.parent(field, Linen()) == {"first", "denoiser"}

    def test_without_a_name_the_wrapper_has_the_backbones_name(self):
        unnamed = lambda self, y: wne.WNE(Linen())(y)  # noqa: E731
        assert self.parent(unnamed) == {"first", "Linen_0"}
        inner = lambda self, y: wne.WNE(Linen(name="net"))(y)  # noqa: E731
        assert self.parent(inner) == {"first", "net"}

    def test_a_shared_backbone_remains_shared(self):
        def twice(self, y):
            return wne.WNE(self.net, name="a")(y) + wne.WNE(self.net, name="b")(y)

        assert self.parent(twice, Linen()) == {"first", "a"}
        before = lambda self, y: wne.WNE(self.net, name="a")(self.net(y))  # noqa: E731
        assert self.parent(before, Linen()) == {"first", "net"}
        after = lambda self, y: self.net(wne.WNE(self.net, name="a")(y))  # noqa: E731
        assert self.parent(after, Linen()) == {"first", "a"}

    def test_the_variables_are_those_of_the_bare_backbone_under_that_name(self):
        class Named(nn.Module):
            wrapped: bool

            @nn.compact
            def __call__(self, y):
                net = wne.WNE(Linen(), name="net") if self.wrapped else Linen(name="net")
                return net(y)

        bare = Named(False).init(jax.random.key(0), image())
        wrapped = Named(True).init(jax.random.key(0), image())
        jax.tree.map(np.testing.assert_array_equal, wrapped, bare)


class TestBridges:
    """`nnx.bridge` works in both directions, with the wrapper inside or outside."""

    def test_an_nnx_network_in_linen(self, key):
        model = wne.WNE(nnx.bridge.ToLinen(NNX, skip_rng=True, args=(nnx.Rngs(0),)))
        y = image()
        variables = model.init(key, y)
        expected = wne.NNXWNE(NNX(nnx.Rngs(0)))(y)
        np.testing.assert_allclose(model.apply(variables, y), expected, atol=1e-6)

    def test_a_linen_network_in_nnx(self, key):
        y = image()
        network = nnx.bridge.lazy_init(nnx.bridge.ToNNX(Linen(), rngs=nnx.Rngs(0)), y)
        model = wne.NNXWNE(network)
        assert_normalization_equivariant(model, y, key, samples=2, gain=4.0)
        variables = {"params": nnx.to_pure_dict(nnx.state(network, nnx.Param))}
        expected = wne.WNE(Linen()).apply(variables, y)
        np.testing.assert_allclose(model(y), expected, atol=1e-6)

    def test_a_whole_wrapper_in_nnx(self, key):
        y = image()
        wrapped = nnx.bridge.ToNNX(wne.WNE(Linen()), rngs=nnx.Rngs(0)).lazy_init(y)
        assert_normalization_equivariant(wrapped, y, key, samples=2, gain=4.0)
