"""Counts over experiments: how much was run, and how close the results are to the published ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from experiments.report.gather import Run
from experiments.report.sections import Section
from wne_jax.evaluation.tables import Table

NEAR = 0.005
"""Differences up to this share of the published figure are called near: 0.15 dB at 30 dB."""

Sections = Sequence[tuple[Section, Sequence[Run]]]


class Gap(NamedTuple):
    """A difference to a published figure in dB, and its table cell."""

    difference: float
    place: str


@dataclass(frozen=True)
class Counts:
    """Counts over the tables of some runs.

    Attributes:
        compared: Number of cells with our and a published figure.
        absent: Number of cells that were not run.
        gaps: Differences of the compared cells in dB.
        ordered: Number of these pairs that have the published order.
        pairs: Number of pairs of rows, in one column, whose published figures clearly differ.
    """

    compared: int
    absent: int
    gaps: tuple[Gap, ...]
    ordered: int
    pairs: int

    @property
    def typical(self) -> float:
        """The median absolute difference in dB."""
        return float(np.median([abs(gap.difference) for gap in self.gaps]))

    @property
    def worst(self) -> Gap:
        """The largest difference in dB."""
        return max(self.gaps, key=lambda gap: abs(gap.difference))


@dataclass(frozen=True)
class Overall(Counts):
    """Counts over all runs.

    Attributes:
        there: Number of experiments with results.
        runs: Number of runs with results.
        figures: Number of their figures.
        presets: The presets of the runs.
    """

    there: int
    runs: int
    figures: int
    presets: tuple[str, ...]


def count(tables: Iterable[tuple[str, Table]]) -> Counts:
    """Count comparisons in tables, given with their titles.

    Example:
        >>> from wne_jax.evaluation.records import Record
        >>> from wne_jax.evaluation.tables import pivot
        >>> records = [
        ...     Record(experiment="e", metric="psnr", unit="dB", arm=arm, value=value, published=published)
        ...     for arm, value, published in
        ...     [("wne", 25.5, 27.25), ("baseline", 19.5, 17.0), ("ne-arch", None, 27.0)]
        ... ]
        >>> counts = count([("T", pivot(records, rows=["arm"], columns=["metric"]))])
        >>> counts.compared, counts.absent, counts.ordered, counts.pairs, counts.worst
        (2, 1, 1, 1, Gap(difference=2.5, place='T; baseline, PSNR'))
    """
    compared = absent = ordered = pairs = 0
    gaps = []
    for title, table in tables:
        absent += sum(cell.value is None for cell in table.cells.values())
        for column in table.columns:
            found = {
                row: table.cells[row, column]
                for row in table.rows
                if (row, column) in table.cells and table.cells[row, column].difference is not None
            }
            compared += len(found)
            gaps += [
                Gap(
                    cell.difference,
                    f"{title}; {table.row_heading(row)}, {table.column_heading(column)}",
                )
                for row, cell in found.items()
                if cell.unit == "dB"
            ]
            products = [
                (a.value - b.value) * (a.published - b.published)
                for a, b in combinations(found.values(), 2)
                if not near(a.published, b.published)
            ]
            pairs += len(products)
            ordered += sum(product > 0 for product in products)
    return Counts(compared, absent, tuple(gaps), ordered, pairs)


def near(ours: float, published: float) -> bool:
    """Whether a number differs from a published one by at most the share `NEAR`."""
    return abs(ours - published) <= NEAR * abs(published)


def of_runs(runs: Iterable[Run]) -> Counts:
    """Counts over some runs."""
    return count(item for run in runs for item in run.tables.items())


def overall(sections: Sections) -> Overall:
    """Counts over all runs."""
    found = [(section, run) for section, runs in sections for run in runs if not run.empty]
    runs = [run for _, run in found]
    return Overall(
        **vars(of_runs(runs)),
        there=len({section.name for section, _ in found}),
        runs=len(runs),
        figures=sum(len(run.figures) for run in runs),
        presets=tuple(sorted({run.preset for run in runs} - {""})),
    )
