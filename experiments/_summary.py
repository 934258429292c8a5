"""What a set of experiments says in numbers: how much was run, and how near it is to what is published."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from experiments import _arms
from experiments._comparison import NOT_RUN, Cell
from experiments._document import Table
from experiments._gather import Run
from experiments._sections import Section

NEAR = 0.005
"""Differences up to this share of the published figure are called near: 0.15 dB at 30."""

Sections = Sequence[tuple[Section, Sequence[Run]]]


@dataclass(frozen=True)
class Counts:
    """What comparisons amount to.

    Attributes:
        compared: Cells with a number of ours and a published one.
        absent: Cells that were not run.
        gaps: Differences of the compared ones in dB.
        ordered: Pairs of rows in one column that are ordered as published.
        pairs: Pairs of rows that the published figures keep apart.
    """

    compared: int
    absent: int
    gaps: tuple[float, ...]
    ordered: int
    pairs: int


def count(cells: Sequence[Cell]) -> Counts:
    """Count comparisons.

    Example:
        >>> from experiments._comparison import cell
        >>> row = lambda name, ours, published: cell("PSNR (dB)", name, "50", ours, published)
        >>> count([row("wne", 25.2, 27.2), row("baseline", 19.4, 17.0), row("ne-arch", None, 27.0)])
        Counts(compared=2, absent=1, gaps=(-2.0, 2.4), ordered=1, pairs=1)
    """
    both = [c for c in cells if c["ours"] != "" and c["published"] != ""]
    columns: dict[tuple[str, str], list[Cell]] = {}
    for c in both:
        columns.setdefault((c["result"], c["column"]), []).append(c)
    pairs = [
        (a["ours"] - b["ours"]) * (a["published"] - b["published"])
        for column in columns.values()
        for a, b in combinations(column, 2)
        if not near(a["published"], b["published"])
    ]
    return Counts(
        compared=len(both),
        absent=sum(c["ours"] == "" for c in cells),
        gaps=tuple(c["difference"] for c in both if in_decibels(c)),
        ordered=sum(product > 0 for product in pairs),
        pairs=len(pairs),
    )


def near(ours: float, published: float) -> bool:
    """Whether a number is within `NEAR` of a published one."""
    return abs(ours - published) <= NEAR * abs(published)


def in_decibels(c: Cell) -> bool:
    """Whether a cell says that it is in dB: in its column, else in its result."""
    column = c["column"].lower()
    other = any(word in column for word in ("ssim", "step", "second", "%"))
    return "db" in column or ("(dB)" in c["result"] and not other)


def sentences(sections: Sections) -> list[str]:
    """The report in a few sentences."""
    runs = [run for _, of in sections for run in of if not run.empty]
    cells = [c for run in runs for c in run.cells]
    counts = count(cells)
    there = sum(any(not run.empty for run in of) for _, of in sections)
    figures = sum(len(run.figures) for run in runs)
    text = [
        f"**{there} of {len(sections)}** experiments have results: {len(runs)} runs with {figures} figures. "
        f"**{counts.compared}** numbers stand beside published ones, and {counts.absent} cells are {NOT_RUN}."
    ]
    if counts.gaps:
        typical, worst = np.median(np.abs(counts.gaps)), max(counts.gaps, key=abs)
        place = next(c for c in cells if c["difference"] == worst and in_decibels(c))
        text.append(
            f"The median absolute difference of the {len(counts.gaps)} in dB is **{typical:.2f} dB**, the "
            f"largest {worst:+.2f} dB ({place['result']}; {place['row']}, {place['column']})."
        )
    if counts.pairs:
        text.append(
            f"Of {counts.pairs} pairs of rows that the paper keeps apart by more than {NEAR:.1%}, "
            f"**{counts.ordered}** are ordered here as there."
        )
    sizes = sorted({str(run.source["config"].get("preset")) for run in runs} & set(_arms.PRESETS))
    if set(sizes) - {"paper"}:
        text.append(
            f"Made with the preset{'s' * (len(sizes) > 1)} {', '.join(sizes)}: smaller networks, fewer steps "
            "and less data than published, as each result says. Compare the order of rows and the shape of "
            "curves first, and values after."
        )
    return text


def overview(sections: Sections) -> Table:
    """A row for each experiment: what it is of the paper, and how far it has got."""
    rows = []
    for section, of in sections:
        runs = [run for run in of if not run.empty]
        counts = count([c for run in runs for c in run.cells])
        presets = dict.fromkeys(run.source["config"].get("preset") or "" for run in runs)
        rows.append((
            f"[{section.title}](#{section.name})",
            section.paper or "beyond the paper",
            (", ".join(filter(None, presets)) or "run") if runs else NOT_RUN,
            str(sum(len(run.figures) for run in runs) or ""),
            str(counts.compared or ""),
            str(counts.absent or ""),
            f"{np.median(np.abs(counts.gaps)):.2f}" if counts.gaps else "",
        ))  # fmt: skip
    header = (
        "experiment", "in the paper", "preset", "figures", "cells compared", "cells not run",
        "median difference, dB",
    )  # fmt: skip
    return Table(header, tuple(rows))
