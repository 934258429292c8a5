"""Figures of `experiments.difficulty`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from experiments.parts import normalized_error
from experiments.parts.coverage import Drawn
from wne_jax.evaluation.plotting import COLOURS
from wne_jax.evaluation.tables import label
from wne_jax.symmetry import analysis

Rows = Sequence[normalized_error.Row]


def histograms(drawn: Mapping[str, Drawn], d: int, *, title: str) -> Figure:
    """Histograms of difficulty with the central 95 % interval: a row per level, a column per statistic."""
    levels = list(next(iter(drawn.values())))
    size = (3.4 * len(drawn) + 0.4, 0.95 * len(levels) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(levels), len(drawn), squeeze=False, sharex="col")
    for axes, level in zip(grid[:, 0], levels):
        axes.set_ylabel(f"{level:g}", rotation=0, ha="right", va="center")
    for column, (name, of_levels) in zip(grid.T, drawn.items()):
        top = 1.02 * max(np.quantile(values, 0.999) for values in of_levels.values())
        for axes, values in zip(column, of_levels.values()):
            low, high = analysis.central_interval(values)
            axes.axvspan(low, high, color="0.92", zorder=0)
            density, *_ = axes.hist(values, bins=72, range=(0, top), color=COLOURS[1], density=True)
            axes.annotate(f"{low:.3g} to {high:.3g}", (0.02, 0.82), xycoords="axes fraction",
                          fontsize=8, color="0.25")  # fmt: skip
            axes.set(yticks=[], xlim=(0, top), ylim=(0, 1.35 * density.max()))
            axes.spines[["top", "right", "left"]].set_visible(False)
        column[0].set_title(name, fontsize=10)
        column[-1].set_xlabel(f"difficulty (sqrt(d) = {np.sqrt(d):.3g})")
    figure.supylabel("noise level (8-bit units)", fontsize=10)
    figure.suptitle(title, fontsize=10)
    return figure


def flat_patches(
    stds_255: np.ndarray,
    mixed_255: np.ndarray,
    corners: Mapping[str, tuple[Sequence[float], float | None]],
    shares: Sequence[float],
    published: Sequence[tuple[float, float]],
    *,
    title: str,
) -> Figure:
    """Contrast distribution of the corpus, and two corners of the table over the share of flat patches.

    Args:
        stds_255: Standard deviations of patches of the corpus, in 8-bit units.
        mixed_255: The same for the corpus with flat patches.
        corners: By name of the corner, its coverage (percent) at every share, and the published one.
        shares: The shares of flat patches.
        published: Standard deviations and shares of patches below them, for the published corpus.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.geomspace(1, 100, 200)
    for stds, name, style in (
        (stds_255, "this corpus", "-"),
        (mixed_255, "with flat patches", "--"),
    ):
        share = np.searchsorted(np.sort(stds), grid) / len(stds)
        left.plot(grid, 100 * share, style, color=COLOURS[1], label=name)
    if published:
        x, y = np.transpose(published)
        left.plot(x, 100 * y, "o", color=COLOURS[2], ms=5, label="read from the published table")
    left.set(xscale="log", xlabel="standard deviation of a patch (8-bit units)",
             ylabel="patches below (percent)", ylim=(0, 102))  # fmt: skip
    ticks = (1, 2, 5, 10, 20, 50, 100)
    left.set_xticks(ticks, [f"{tick}" for tick in ticks])
    left.set_xticks([], minor=True)
    for colour, (name, (values, level)) in zip(COLOURS[1:], corners.items()):
        right.plot(100 * np.array(shares), values, "o-", ms=4, color=colour, label=name)
        if level is not None:
            right.axhline(level, color=colour, lw=1, ls=":")
            right.annotate(f"published: {level:.0f}", (0, level), xytext=(2, 3), fontsize=8,
                           textcoords="offset points", color=colour)  # fmt: skip
    right.set(xlabel="share of flat patches (percent)", ylabel="coverage (percent)", ylim=(0, 102))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def errors(rows: Rows, d: int, *, at: tuple[float, ...], title: str) -> Figure:
    """Normalized error over difficulty, a row per arm: left all training levels, right one by test level.

    Args:
        rows: The rows of `normalized_error.measure`.
        d: Entries of a patch.
        at: The training level of the right column, in 8-bit units.
        title: Title of the figure.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = Figure(figsize=(9.4, 2.9 * len(arms) + 0.9), layout="constrained")
    grid = figure.subplots(len(arms), 2, squeeze=False, sharex=True, sharey=True)
    trained = sorted({row["trained"] for row in rows})
    tested = sorted({row["level"] for row in rows})
    shades = _shades(len(tested))
    for (left, right), arm in zip(grid, arms):
        for colour, level in zip(COLOURS[1:], trained):
            chosen = [r for r in rows if (r["arm"], r["trained"]) == (arm, level)]
            if chosen:
                left.plot(*_medians(chosen, d), "o-", ms=4, color=colour, label=label(level))
        for shade, level in zip(shades, tested):
            place = (arm, at, level)
            points = [
                (r["difficulty"], r["error"])
                for r in rows
                if (r["arm"], r["trained"], r["level"]) == place
            ]
            if points:
                right.plot(*zip(*points), ".", ms=4, alpha=0.7, color=shade, label=f"{level:g}")
        left.set_ylabel(f"{arm}\nnormalized error Q (dB)")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    for axes, text in zip(grid[0], ("medians, trained at", f"trained at {label(at)}, tested at")):
        axes.legend(title=text, loc="lower left", frameon=False, fontsize=8, ncols=2)
    for axes in grid[-1]:
        axes.set_xlabel("difficulty")
    figure.suptitle(title, fontsize=10)
    return figure


def _medians(rows: Rows, d: int) -> tuple[list[float], list[float]]:
    """Median difficulty and error of intervals with enough patches."""
    found = [(x, y) for x, y, number in normalized_error.medians(rows, d) if number >= 10]
    return [x for x, _ in found], [y for _, y in found]


def _shades(number: int) -> list[Any]:
    """Colours from dark to light."""
    return [colormaps["viridis"](x) for x in np.linspace(0, 0.92, number)]
