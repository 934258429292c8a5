"""The identity does not depend on settings of JAX or on transformations of Flax."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax.statistics import STATISTICS, has_gain, symmetry_of
from wne_jax.symmetry import assert_exact_under_powers_of_two, assert_normalization_equivariant
from wne_jax.testing import random_variables, tiny

EQUIVARIANT = sorted(name for name, s in STATISTICS.items() if symmetry_of(s) == "normalization")

SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "x64": lambda: jax.enable_x64(True),
    "no jit": jax.disable_jit,
    "rbg": lambda: jax.default_prng_impl("rbg"),
    "leaks": jax.checking_leaks,
    "nan": lambda: jax.debug_nans(True),
    "highest": lambda: jax.default_matmul_precision("highest"),
}


def image(dtype=jnp.float32, seed=0, shape=(2, 14, 13, 1)):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), dtype)


def check(f, y, *, samples=2, exponents=(-9, 1, 10), statistic="mean_std"):
    # Of the network with random variables; behind a gain, its inverse multiplies by up to 8.
    gain = 24.0 if has_gain(STATISTICS[statistic]) else 3.0
    key = jax.random.key(1)
    assert_normalization_equivariant(f, y, key, samples=samples, gain=gain, compute_dtype=y.dtype)
    assert_exact_under_powers_of_two(f, y, exponents=exponents)


@pytest.mark.parametrize(
    ("setting", "statistic"),
    [(setting, statistic) for setting in ("x64", "no jit") for statistic in EQUIVARIANT]
    + [(setting, "noise_level") for setting in ("leaks", "rbg", "nan", "highest")],
)
def test_the_identity_holds_for_every_setting(setting, statistic):
    with SETTINGS[setting]():
        y = image()
        model = wne.WNE(tiny("dncnn", depth=3, features=4), STATISTICS[statistic])
        variables = random_variables(model, y)
        f = jax.jit(lambda y: model.apply(variables, y))
        few = {"samples": 1, "exponents": (3,)} if setting == "no jit" else {}  # seconds a call
        check(f, y, statistic=statistic, **few)
        flat = jnp.full_like(y, 0.7)
        np.testing.assert_array_equal(f(flat), flat)


@pytest.mark.parametrize("statistic", EQUIVARIANT)
def test_nothing_leaks_from_a_trace(statistic):
    y, model = image(), wne.WNE(tiny("dncnn", depth=3, features=4), STATISTICS[statistic])
    with jax.checking_leaks():
        variables = jax.eval_shape(model.init, jax.random.key(0), y)
        loss = lambda variables, y: jnp.sum(model.apply(variables, y))  # noqa: E731
        jax.eval_shape(jax.grad(loss, argnums=(0, 1)), variables, y)


@pytest.mark.parametrize("statistic", EQUIVARIANT)
def test_double_precision_is_kept(statistic):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        y = image(jnp.float64)
        model = wne.WNE(tiny("dncnn", depth=3, features=4), STATISTICS[statistic])
        variables = jax.tree.map(lambda v: v.astype(jnp.float64), random_variables(model, y))
        f = jax.jit(lambda y: model.apply(variables, y))
        assert f(y).dtype == jnp.float64
        check(f, y)


def test_every_random_number_implementation_can_initialize():
    y = image()
    model = wne.WNE(tiny("dncnn", depth=3, features=4))
    found = {}
    for name in ("threefry2x32", "rbg", "unsafe_rbg"):
        variables = jax.jit(model.init)(jax.random.key(0, impl=name), y)
        check(jax.jit(lambda y, v=variables: model.apply(v, y)), y)
        found[name] = np.asarray(variables["params"]["conv_0"]["kernel"])
    assert not np.array_equal(found["rbg"], found["threefry2x32"])


class Step(nn.Module):
    """A wrapped network as the body of a scan."""

    @nn.compact
    def __call__(self, y, _):
        return wne.WNE(tiny("dncnn", depth=2, features=4), name="wne")(y), None


def test_a_scan_over_wrapped_networks_is_equivariant():
    scanned = nn.scan(Step, variable_axes={True: 0}, split_rngs={"params": True}, length=3)()
    y = image()
    variables = random_variables(scanned, y, None)
    apply = jax.jit(lambda y: scanned.apply(variables, y, None)[0])
    check(apply, y)
    expected = y
    for i in range(3):
        own = jax.tree.map(lambda v, i=i: v[i], variables)
        expected = Step().apply(own, expected, None)[0]
    np.testing.assert_allclose(apply(y), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(scanned.apply(v, y, None)[0] ** 2)))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


class Repeated(nn.Module):
    """A scan over a function that is given the wrapped network."""

    name_of_wrapper: str | None

    @nn.compact
    def __call__(self, y):
        model = wne.WNE(tiny("dncnn", depth=2, features=4), name=self.name_of_wrapper)
        scanned = nn.scan(
            lambda model, y, _: (model(y), None),
            variable_broadcast="params", split_rngs={"params": False}, length=3,
        )  # fmt: skip
        return scanned(model, y, None)[0]


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_scan_over_a_function_repeats_the_wrapped_network(name):
    y, repeated = image(), Repeated(name)
    variables = repeated.init(jax.random.key(0), y)
    (own,) = variables["params"].values()
    assert name in (None, *variables["params"])
    expected = y
    for _ in range(3):
        expected = wne.WNE(tiny("dncnn", depth=2, features=4)).apply({"params": own}, expected)
    np.testing.assert_allclose(repeated.apply(variables, y), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_vmap_of_the_wrapper_agrees_with_single_calls(shared):
    """Over the networks of an ensemble, on one image or on one image each."""
    backbone = tiny("dncnn", depth=3, features=4)
    mapped = nn.vmap(
        wne.WNE, variable_axes={True: 0}, split_rngs={"params": True},
        in_axes=None if shared else 0, axis_size=3,
    )(backbone)  # fmt: skip
    images = jnp.stack([image(seed=i) for i in range(3)])
    y = images[0] if shared else images
    variables = random_variables(mapped, y)
    result = jax.jit(mapped.apply)(variables, y)
    for i in range(3):
        own = jax.tree.map(lambda v, i=i: v[i], variables)
        alone = wne.WNE(backbone).apply(own, y if shared else images[i])
        np.testing.assert_allclose(result[i], alone, rtol=1e-5, atol=1e-6)
    moved = jax.jit(mapped.apply)(variables, 8 * y)
    np.testing.assert_array_equal(moved, 8 * result)


class Net(nnx.Module):
    """Two convolutions."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.last = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, y):
        return self.last(nnx.relu(self.first(y)))


def test_a_wrapped_nnx_network_is_split_and_merged():
    model, y = wne.NNXWNE(Net(nnx.Rngs(0))), image()
    expected = model(y)
    graph, state = nnx.split(model)
    merged = nnx.merge(graph, state)
    np.testing.assert_array_equal(merged(y), expected)
    assert merged.symmetry == model.symmetry == "normalization"

    @jax.jit
    def apply(state, y):
        return nnx.merge(graph, state)(y)

    np.testing.assert_allclose(apply(state, y), expected, rtol=1e-5, atol=1e-6)
    check(lambda y: apply(state, y), y)
    check(nnx.jit(lambda y: model(y)), y)
    doubled = jax.tree.map(lambda v: 2 * v, state)
    nnx.update(model, doubled)
    assert not np.array_equal(model(y), expected)
    gradient = nnx.grad(lambda m: jnp.sum(m(y) ** 2))(model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
