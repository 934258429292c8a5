"""Surrogates of the heat equation and of Burgers' equation, in any units and at any speed.

A small Fourier neural operator predicts the field u(x, t) from u(x, 0) on a circle. The heat equation keeps
constants and is linear, so its solution is normalization-equivariant: the surrogate is bare, augmented by
random scales and offsets, or behind WNE. Burgers' equation u_t + u u_x = nu u_xx is not: it has no scale
symmetry at fixed time and viscosity, but adding a speed c to u(x, 0) gives u(x - c t, t) + c. Its surrogate
is bare, augmented by random speeds, behind WNE, whose symmetry is wrong here, or in the frame in which the
mean speed is 0 (galilean).

All are trained on fields of mean 0 (but for the augmented ones), and tested on others: multiplied, or with an
offset, which is a speed for Burgers' equation. The true fields are computed by finite differences for each
of them. Errors are relative to the deviation of the true field from its mean. Before anything is written, the
symmetry of each surrogate is checked, and that of the solver.

    python -m experiments.fields
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.harness import Measured, Seed, results_folder, run, write_table
from experiments.parts.equations import (
    EQUATIONS,
    FourierOperator,
    Galilean,
    boost,
    boosted,
    initial_fields,
    random_fields,
    solved,
)
from experiments.parts.pairs import (
    SEEDS,
    Draw,
    augmented,
    draw_curves,
    relative_error,
    table_with_spread,
    train,
)
from wne_jax import WNE
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, read_records, split_by
from wne_jax.symmetry import (
    Affine,
    Offset,
    assert_equivariant,
    assert_normalization_equivariant,
)
from wne_jax.symmetry.equivariance import Map

SCALES = {"heat": tuple(10.0**power for power in range(-3, 4)), "Burgers": (0.25, 0.5, 1, 2, 4)}
OFFSETS = {"heat": (0.0, 1.0, 10.0, 100.0), "Burgers": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)}

GAIN = 100.0
"""By how much a surrogate may amplify rounding errors."""

SOLVER_ERROR = 0.01
"""The largest relative error of the solver's own symmetry."""


@dataclass(frozen=True, kw_only=True)
class Options(Measured, Seed):
    """Options of the command line."""

    NAME = "fields"

    steps: int = 800
    """Training steps of a network."""
    number: int = 256
    """Number of fields for training; an eighth of it is the number for testing."""


def surrogates(name: str, draw: Draw) -> dict[str, tuple[nn.Module, Draw]]:
    """The arms of an equation, each a module and its batches."""
    network = FourierOperator()
    arms = {"bare": (network, draw)}
    if name == "heat":
        return arms | {
            "augmented": (network, partial(augmented, draw)),
            "wne": (WNE(network), draw),
        }
    return arms | {
        "augmented": (network, partial(boosted, draw)),
        "wne": (WNE(network), draw),
        "galilean": (Galilean(network), draw),
    }


def require_symmetry(arm: str, f: Map, u: Array) -> None:
    """Check the symmetry that an arm has by construction.

    Raises:
        AssertionError: It does not hold.
    """
    if arm == "wne":
        assert_normalization_equivariant(f, u, jax.random.key(0), gain=GAIN)
    if arm == "galilean":
        for speed in (0.7, -3.0, 20.0):
            assert_equivariant(f, Offset(speed), u, output_action=boost(speed), gain=GAIN)


def require_symmetry_of_the_solver(name: str, y: Array, offset: float, moved: Array) -> None:
    """Check the solver: an offset moves its solution as the equation says.

    Args:
        name: The equation.
        y: The solution.
        offset: What is added to the initial field.
        moved: The solution for that initial field.

    Raises:
        AssertionError: The error is larger than `SOLVER_ERROR`.
    """
    action = Offset(offset) if name == "heat" else boost(offset)
    error = relative_error(action(y), moved, jnp.mean(moved, axis=2, keepdims=True))
    if not error < SOLVER_ERROR:
        raise AssertionError(
            f"the solver of {name} is off by {error:.2g} at an offset of {offset:g}"
        )


def measure(options: Options, name: str) -> Iterator[Record]:
    """The errors of all arms on one equation."""
    equation = EQUATIONS[name]
    key_train, key_test = jax.random.split(jax.random.key(options.seed))
    draw = random_fields(solved(equation, initial_fields(key_train, options.number)))
    u = initial_fields(key_test, max(options.number // 8, 1))
    tests = {("scale", a): solved(equation, Affine(a, 0.0)(u)) for a in SCALES[name]}
    tests |= {("offset", b): solved(equation, Affine(1.0, b)(u)) for b in OFFSETS[name]}
    x, y, _ = tests["offset", 0.0]
    for b in OFFSETS[name]:
        require_symmetry_of_the_solver(name, y, b, tests["offset", b].y)
    seeds = range(options.seed, options.seed + SEEDS)
    for arm, (model, batches) in surrogates(name, draw).items():
        for seed, f in zip(seeds, train(model, batches, seeds=seeds, steps=options.steps)):
            require_symmetry(arm, f, x)
            for (change, level), pairs in tests.items():
                mean = jnp.mean(pairs.y, axis=2, keepdims=True)
                yield Record(
                    experiment=options.NAME, metric="relative_error", dataset=name, degradation=change,
                    level=level, arm=arm, seed=seed, value=relative_error(f(pairs.x), pairs.y, mean),
                )  # fmt: skip


def draw_figure(records: Sequence[Record]) -> Figure:
    """The error over the change, with a panel for each equation and change."""
    panels = split_by(records, ["dataset", "degradation"])
    figure = Figure(figsize=(3.6 * len(panels), 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, ((name, change), of) in zip(grid, panels.items()):
        draw_curves(axes, of, str(name))
        axes.set(
            xscale="log" if change == "scale" else "symlog", xlabel=f"{change} of the test fields"
        )
        tested = sorted({r.level for r in of})
        axes.set_xticks(tested, [f"{value:g}" for value in tested])
        axes.set_xticks([], minor=True)
    grid[0].set_ylabel("relative error")
    grid[-1].legend(frameon=False)
    return figure


def sections(records: Sequence[Record]) -> dict[str, str]:
    """The tables by title."""
    return {
        f"Relative error, {name}, over the {change} of the test fields": table_with_spread(of)
        for (name, change), of in split_by(records, ["dataset", "degradation"]).items()
    }


def main(options: Options) -> None:
    """Train and measure, or read earlier records; report."""
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            records = [
                r for name in tqdm(EQUATIONS, unit="equation") for r in measure(options, name)
            ]
            out.write(records)
        plotting.save(draw_figure(records), out.path / "errors.png", out.source)
        tables = sections(records)
        title = f"Surrogates of two equations (mean and standard deviation of {SEEDS} seeds)"
        write_table(out, title, tables, {})
    print("\n\n".join(f"{title}\n\n{table}" for title, table in tables.items()))
    print(f"\nTable, figure and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
