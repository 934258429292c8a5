"""On a torus, a network of convolutions and pooling by m commutes with shifts by multiples of m."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import models, protocol
from wne_jax.config import ModelConfig, from_values
from wne_jax.symmetry.actions import Shift
from wne_jax.symmetry.equivariance import defect
from wne_jax.testing import random_variables, tiny

NE = "normalization-equivariant"
MODES = {
    "dncnn": ("ordinary", "scale-equivariant"),
    "fdncnn": ("ordinary", "scale-equivariant", NE),
    "drunet": ("ordinary", "scale-equivariant", NE),
}
EACH = [(name, mode) for name in models.MODELS for mode in MODES.get(name, (None,))]
IMAGE = np.random.default_rng(3).normal(0.4, 0.2, (1, 12, 16, 1))


def build(name, mode, padding):
    return tiny(name, padding=padding, **({"mode": mode} if mode else {}))


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(IMAGE.shape))


def shift_defects(name, mode, padding):
    """The defects of a random network for shifts by (m, -m), (2 m, m), (1, 0) and (0, m + 1)."""
    model = build(name, mode, padding)
    variables = random_variables(model, jnp.zeros(IMAGE.shape))
    m = protocol.multiple(model)
    shift = Shift(jnp.array([m, 2 * m, 1, 0]), jnp.array([-m, m, 0, m + 1]))
    y = jnp.asarray(np.repeat(IMAGE, 4, axis=0), jnp.float32)
    return np.asarray(defect(jax.jit(lambda y: model.apply(variables, y)), shift, y))


@pytest.mark.parametrize(("name", "mode"), EACH)
def test_a_circular_network_commutes_only_with_shifts_by_its_multiple(name, mode):
    defects = shift_defects(name, mode, "circular")
    if hasattr(build(name, mode, "circular"), "multiple"):
        assert defects[:2].max() <= 1e-5 and defects[2:].min() > 1e-4
    else:  # m is 1
        assert defects.max() <= 1e-5


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("name", models.MODELS)
def test_borders_break_the_symmetry(name, padding):
    assert shift_defects(name, None, padding).min() > 1e-4


@pytest.mark.parametrize("name", ["fdncnn", "drunet"])
def test_borders_break_the_symmetry_in_the_normalization_equivariant_mode(name):
    assert shift_defects(name, NE, None).min() > 1e-4


@pytest.mark.parametrize(("name", "mode"), EACH)
def test_circular_padding_keeps_parameters_and_has_no_receptive_radius(name, mode):
    circular, default = (build(name, mode, padding) for padding in ("circular", "reflect"))
    assert shapes_of(circular) == shapes_of(default)
    assert circular.receptive_radius is None
    assert (default.receptive_radius is None) == (name == "restormer")  # global attention


@pytest.mark.parametrize("name", models.MODELS)
def test_a_configuration_from_json_has_the_padding(name):
    values = {"backbone": name, "options": {"padding": "circular"}}
    assert from_values(ModelConfig, json.loads(json.dumps(values))).build().padding == "circular"
