from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import fields
from experiments.fields import Options, main, require_symmetry, require_symmetry_of_the_solver
from experiments.parts.equations import (
    EQUATIONS,
    LENGTH,
    POINTS,
    TIME,
    FourierOperator,
    Galilean,
    boost,
    boosted,
    burgers,
    heat,
    initial_fields,
    solve,
)
from experiments.parts.pairs import pairs_of
from wne_jax.evaluation.records import mean_over, read_records
from wne_jax.symmetry import Shift, assert_equivariant

SMALL = partial(FourierOperator, depth=1, features=6, modes=6)


def grid(points):
    return LENGTH * np.arange(points) / points


def rows(values):
    """A field of one row, `[1, 1, N, 1]`."""
    return jnp.asarray(values, jnp.float32)[None, None, :, None]


def waves(x, t):
    """A solution of the heat equation for the viscosity 0.1: each wave decays by itself."""
    parts = ((0, 0.7, 0.0), (1, 1.0, 0.3), (3, 0.5, 1.0))
    return sum(a * np.exp(-0.1 * k**2 * t) * np.cos(k * x + phase) for k, a, phase in parts)


def cole_hopf(x, t, speed=0.0):
    """A solution of Burgers' equation for the viscosity 0.5, by the Cole-Hopf transformation, boosted."""
    at, decay = x - speed * t, np.exp(-0.5 * t)
    return speed + decay * np.sin(at) / (1.2 + decay * np.cos(at))


@pytest.mark.parametrize(
    ("equation", "viscosity", "exact"),
    [
        (heat, 0.1, waves),
        (burgers, 0.5, cole_hopf),
        (burgers, 0.5, partial(cole_hopf, speed=3.0)),
    ],
    ids=["heat", "Burgers", "Burgers with a speed"],
)
def test_the_solver_agrees_with_the_closed_form_and_has_order_four(equation, viscosity, exact):
    errors = {}
    for points in (27, 81):
        u = rows(exact(grid(points), 0.0))
        found = solve(equation, u, viscosity=viscosity, time=1.0, steps=400)
        errors[points] = float(jnp.max(jnp.abs(found - rows(exact(grid(points), 1.0)))))
    assert errors[81] < 2e-4
    assert errors[27] > 20 * errors[81]  # 81 for order 4, less by rounding


def network(wrapper):
    """A small wrapped surrogate with random variables, as a function."""
    model, example = wrapper(SMALL()), jnp.zeros((1, 1, POINTS, 1))
    variables = jax.jit(model.init)(jax.random.key(0), example)
    variables = jax.tree.map(
        lambda v: v + 0.05, variables
    )  # the last layer, too, which starts at 0
    return jax.jit(lambda u: model.apply(variables, u))


FIELDS = initial_fields(jax.random.key(2), 2)[:, :, ::3] + 0.3


def test_a_surrogate_in_the_frame_of_mean_speed_0_commutes_with_boosts_and_a_bare_one_does_not():
    require_symmetry("galilean", network(Galilean), FIELDS)
    bare = network(lambda backbone: backbone)
    assert_equivariant(bare, Shift(dx=7), FIELDS, gain=fields.GAIN)
    for arm in ("galilean", "wne"):
        with pytest.raises(AssertionError, match="is not equivariant"):
            require_symmetry(arm, bare, FIELDS)


def test_boosts_form_a_group():
    one, other = boost(0.7), boost(jnp.array([-2.0, 5.0]))
    both = boost(jnp.array([-1.3, 5.7]))
    np.testing.assert_allclose((one @ other)(FIELDS), both(FIELDS), atol=2e-5)


def test_augmentation_by_boosts_is_a_solution():
    u = cole_hopf(grid(POINTS), 0.0)
    later = rows(cole_hopf(grid(POINTS), TIME))
    x, y, _ = boosted(lambda key: pairs_of(rows(u), later), jax.random.key(0))
    speed = float(jnp.mean(x) - np.mean(u))
    np.testing.assert_allclose(y, rows(cole_hopf(grid(POINTS), TIME, speed)), atol=1e-4)


def test_the_solver_is_checked():
    with pytest.raises(AssertionError, match="the solver of heat is off by"):
        require_symmetry_of_the_solver("heat", FIELDS, 1.0, 2 * FIELDS)


def untrained(model, draw, *, seeds, steps):
    """Networks of random variables in place of trained ones, which saves compiling."""
    variables = jax.jit(model.init)(jax.random.key(0), draw(jax.random.key(0)).x)
    return [jax.jit(partial(model.apply, variables)) for _ in seeds]


def test_only_the_right_symmetry_keeps_the_error_at_other_speeds(
    tmp_path, monkeypatch, standard_promotion
):
    monkeypatch.setattr(fields, "SEEDS", 1)
    monkeypatch.setattr(fields, "train", untrained)
    monkeypatch.setattr(fields, "EQUATIONS", {"Burgers": EQUATIONS["Burgers"]})
    monkeypatch.setattr(fields, "FourierOperator", SMALL)
    main(Options(workdir=tmp_path / "results", number=16))
    records = read_records(tmp_path / "results/records.csv")
    error = mean_over([r for r in records if r.degradation == "offset"], by=["arm", "level"])
    speeds = fields.OFFSETS["Burgers"]
    assert all(abs(error["galilean", c] / error["galilean", 0.0] - 1) < 0.02 for c in speeds)
    for arm in ("bare", "augmented", "wne"):
        assert error[arm, 8.0] > 1.2 * error[arm, 0.0], arm
    assert {p.name for p in (tmp_path / "results").iterdir()} >= {"table.md", "errors.png"}
