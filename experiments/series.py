"""Forecasting in any units: WNE over time is instance normalization without an epsilon.

A small MLP-mixer forecasts [B, T, C] -> [B, H, C] from windows of a standardized series. It is trained bare,
with random scales and offsets (augmented), behind RevIN with its epsilon of 1e-5, and behind WNE over time,
which normalizes each channel of each history. All are tested on later windows, multiplied by 1e-6 to 1e6,
or with an offset. Errors are relative to those of the last value as forecast, which no change of units
affects. The series are a synthetic one and an EEG of four channels, which Matplotlib ships.

Before anything is written, each WNE network is checked to be equivariant to a separate change of units of
each channel, and to forecast a constant channel as that constant, which equivariance implies.

    python -m experiments.series
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.harness import Measured, Seed, results_folder, run, write_table
from experiments.parts.forecasting import (
    SERIES,
    TIME,
    Mixer,
    all_windows,
    random_windows,
    revin,
    split,
    wne,
)
from experiments.parts.pairs import (
    SEEDS,
    augmented,
    draw_curves,
    relative_error,
    table_with_spread,
    train,
)
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, read_records, split_by
from wne_jax.symmetry import (
    Affine,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.symmetry.equivariance import Map

SCALES = tuple(10.0**power for power in range(-6, 7))
OFFSETS = (0.0, 1.0, 10.0, 100.0, 1000.0)
CONSTANT = 3.7
"""The value of a constant history, in standard deviations of the training series."""

GAIN = 100.0
"""By how much a mixer may amplify rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Options(Measured, Seed):
    """Options of the command line."""

    NAME = "series"

    steps: int = 800
    """Training steps of a network."""
    history: int = 48
    """Number of values that a forecast is made from."""
    horizon: int = 12
    """Number of forecast values."""


def require_identities(f: Map, history: Array) -> None:
    """Check that a forecast follows the units of each channel, and that a constant stays a constant.

    Raises:
        AssertionError: One of the two does not hold.
    """
    assert_normalization_equivariant(f, history, jax.random.key(0), axes=TIME, gain=GAIN)
    assert_exact_under_powers_of_two(f, history)
    silent = history.at[..., 0].set(CONSTANT)
    if not bool((f(silent)[..., 0] == jnp.float32(CONSTANT)).all()):
        raise AssertionError("the forecast of a constant channel is not that constant")


def measure(options: Options, name: str) -> Iterator[Record]:
    """The errors of all arms on one series."""
    size = options.history, options.horizon
    first, later = split(SERIES[name]())
    if min(len(first), len(later)) < sum(size):
        raise ValueError(
            f"a window of --history {size[0]} and --horizon {size[1]} is longer than the test part of "
            f"{name}, {len(later)} values"
        )
    draw, test = random_windows(first, *size), all_windows(later, *size)
    arms = {
        "bare": (Mixer(options.horizon), draw),
        "augmented": (Mixer(options.horizon), partial(augmented, draw)),
        "revin": (revin(Mixer(options.horizon)), draw),
        "wne": (wne(Mixer(options.horizon)), draw),
    }
    seeds = range(options.seed, options.seed + SEEDS)
    for arm, (model, batches) in arms.items():
        for seed, f in zip(seeds, train(model, batches, seeds=seeds, steps=options.steps)):
            if arm == "wne":
                require_identities(f, test.x[::7])
            place = {"experiment": options.NAME, "dataset": name, "arm": arm, "seed": seed}
            changes = [("scale", a, (a, 0.0)) for a in SCALES]
            changes += [("offset", b, (1.0, b)) for b in OFFSETS]
            for change, level, (a, b) in changes:
                x, y = Affine(a, b)(test.x), Affine(a, b)(test.y)
                error = relative_error(f(x), y, x[:, -1:])
                yield Record(
                    metric="relative_error", degradation=change, level=level, value=error, **place
                )
            constant = jnp.full((1, *test.x.shape[1:]), CONSTANT)
            moved = float(jnp.max(jnp.abs(f(constant) - CONSTANT)))
            yield Record(metric="answer_to_a_constant", value=moved, **place)


def draw_figure(records: Sequence[Record]) -> Figure:
    """The error over the scale, with a panel for each series."""
    scales = [r for r in records if r.degradation == "scale"]
    panels = split_by(scales, ["dataset"])
    figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, ((name,), of) in zip(grid, panels.items()):
        draw_curves(axes, of, str(name))
        axes.axhline(1, color="0.6", lw=1, ls="--")
        axes.set(xscale="log", xlabel="scale of the test series")
    grid[0].set_ylabel("error / error of the last value")
    grid[0].legend(frameon=False)
    return figure


def sections(records: Sequence[Record]) -> dict[str, str]:
    """The tables by title."""
    found = {}
    for (change, name), of in split_by(records, ["degradation", "dataset"]).items():
        if change is not None:
            found[
                f"Error relative to the last value, {name}, over the {change} of the test series"
            ] = table_with_spread(of)
    constant = [r for r in records if r.metric == "answer_to_a_constant"]
    found[f"Largest distance of a forecast from a constant history of {CONSTANT}"] = (
        table_with_spread(constant, "dataset")
    )
    return found


def main(options: Options) -> None:
    """Train and measure, or read earlier records; report."""
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            records = [r for name in tqdm(SERIES, unit="series") for r in measure(options, name)]
            out.write(records)
        plotting.save(draw_figure(records), out.path / "scales.png", out.source)
        tables = sections(records)
        title = f"Forecasts in any units (mean and standard deviation of {SEEDS} seeds)"
        write_table(out, title, tables, {})
    print("\n\n".join(f"{title}\n\n{table}" for title, table in tables.items()))
    print(f"\nTable, figure and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
