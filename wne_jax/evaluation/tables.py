"""Tables of records: means over them, with the published figures beside ours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from wne_jax.evaluation.records import NOT_RUN, Record, split_by


class Cell(NamedTuple):
    """A place of a table: our mean, and the published one."""

    value: float | None
    published: float | None = None
    unit: str | None = None

    @property
    def difference(self) -> float | None:
        """Ours less published; None where one is missing."""
        if self.value is None or self.published is None:
            return None
        return self.value - self.published


@dataclass(frozen=True)
class Table:
    """Means over records, and the published figures beside them.

    Attributes:
        rows: What the rows are, in order of appearance: a tuple of the values of some columns each.
        columns: What the columns are, likewise; numbers ascend.
        cells: By row and column, those that there are.
        row_parts: The columns or settings that the rows hold.
        column_parts: Those that the columns hold.
    """

    rows: tuple[tuple[Any, ...], ...]
    columns: tuple[tuple[Any, ...], ...]
    cells: Mapping[tuple[tuple[Any, ...], tuple[Any, ...]], Cell]
    row_parts: tuple[str, ...] = ()
    column_parts: tuple[str, ...] = ()

    def row_heading(self, row: tuple[Any, ...]) -> str:
        """What a row is called."""
        return heading(row, self.row_parts)

    def column_heading(self, column: tuple[Any, ...]) -> str:
        """What a column is called."""
        return heading(column, self.column_parts)

    @cached_property
    def forms(self) -> dict[tuple[Any, ...], str]:
        """How the numbers of each column are written."""
        return {
            c: number_format([self.cells[p] for p in self.cells if p[1] == c]) for c in self.columns
        }


def pivot(records: Iterable[Record], *, rows: Sequence[str], columns: Sequence[str]) -> Table:
    """A table of means: what the records have in `rows` goes down, what they have in `columns` across.

    Args:
        records: Records; those that differ in other columns are averaged.
        rows: Columns of the schema, or settings.
        columns: Others.

    Example:
        >>> place = dict(experiment="e", metric="psnr", unit="dB", arm="wne")
        >>> records = [
        ...     Record(level=25, image="01", value=30.1, **place),
        ...     Record(level=25, image="02", value=30.3, **place),
        ...     Record(level=25, published=30.43, **place),
        ...     Record(level=50, published=27.22, **place),
        ... ]
        >>> table = pivot(records, rows=["arm"], columns=["level"])
        >>> print(markdown(table))
        | | 25 | 50 |
        |---|---|---|
        | wne | **30.20** (30.43, -0.23) | not run (27.22) |
    """
    groups = split_by(records, [*rows, *columns])
    places = {key: (key[: len(rows)], key[len(rows) :]) for key in groups}
    cells = {places[key]: _cell(of) for key, of in groups.items()}
    return Table(
        tuple(dict.fromkeys(row for row, _ in places.values())),
        _ascending(tuple(dict.fromkeys(column for _, column in places.values()))),
        cells,
        tuple(rows),
        tuple(columns),
    )


def _ascending(keys: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
    """Keys in the order of their numbers, or as they are if they hold anything else.

    Training levels are tuples of numbers.
    """
    numbers = all(isinstance(part, int | float | tuple) for key in keys for part in key)
    return tuple(sorted(keys)) if numbers else keys


class View(NamedTuple):
    """How an experiment shows its records: which tables, and what goes down and across in each.

    Names are those of columns or of settings.
    """

    rows: tuple[str, ...] = ("model", "arm")
    """What goes down."""
    columns: tuple[str, ...] = ("level",)
    """What goes across."""
    tables: tuple[str, ...] = ("metric", "unit", "dataset", "degradation", "trained")
    """What makes a table of its own."""
    only: Mapping[str, Sequence[Any]] = MappingProxyType({})
    """By name of a column or setting, the values that are shown; all, if it is not named."""

    def pivot(self, records: Iterable[Record]) -> dict[str, Table]:
        """The tables by their titles.

        Example:
            >>> place = dict(experiment="e", metric="psnr", unit="dB", dataset="Set12", trained=25, arm="wne")
            >>> list(View().pivot([Record(level=level, value=30, **place) for level in (5, 10)]))
            ['PSNR (dB), Set12, trained at 25']
        """
        shown = (r for r in records if all(r[name] in kept for name, kept in self.only.items()))
        groups = split_by(shown, self.tables)
        return {
            self._title(key): pivot(of, rows=self.rows, columns=self.columns)
            for key, of in groups.items()
        }

    def _title(self, key: tuple[Any, ...]) -> str:
        found = {name: label(value) for name, value in zip(self.tables, key) if label(value)}
        unit = found.pop("unit", "")
        if "metric" in found:
            found["metric"] = heading((found["metric"], unit), ("metric", "unit"))
        if "experiment" in found:
            found["experiment"] = found["experiment"].replace("_", " ")
        if "trained" in found:
            found["trained"] = f"trained at {found['trained']}"
        known = ("experiment", "metric", "dataset", "degradation", "trained", "model", "arm")
        return ", ".join(
            v if n in known else f"{n} {v}".replace("_", " ") for n, v in found.items()
        )


METRICS = {"psnr": "PSNR", "ssim": "SSIM"}
"""What tables and figures call a word in the name of a metric, where it is not that word."""


def _cell(records: Sequence[Record]) -> Cell:
    def mean(name: str) -> float | None:
        values = [record[name] for record in records if record[name] is not None]
        return float(np.mean(values)) if values else None

    return Cell(mean("value"), mean("published"), records[0].unit)


def number_format(cells: Iterable[Cell]) -> str:
    """How the numbers of some cells are written: dB with two digits, others with as many as they need.

    Example:
        >>> [number_format([cell]) for cell in (Cell(30.123, unit="dB"), Cell(0.91), Cell(2.5e-7))]
        ['.2f', '.4f', '.1e']
    """
    cells = list(cells)
    if cells and all(cell.unit == "dB" for cell in cells):
        return ".2f"
    numbers = [abs(x) for c in cells for x in (c.value, c.published) if x]
    if numbers and min(numbers) < 1e-3:
        return ".1e"
    return ".2f" if not numbers or max(numbers) >= 2 else ".4f" if max(numbers) < 1 else ".3f"


def label(value: Any) -> str:
    """What a table calls the content of one column of a record.

    Example:
        >>> label(25.0), label((0.0, 55.0)), label("wne"), label(None)
        ('25', '0 to 55', 'wne', '')
    """
    if isinstance(value, tuple):
        return " to ".join(map(label, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def heading(place: Sequence[Any], parts: Sequence[str] = ()) -> str:
    """What a table calls a row or a column that stands for several columns of the records.

    Args:
        place: Their values.
        parts: Their names, by which metrics and units are told from the rest.

    Example:
        >>> heading(("dncnn", "wne", None, (25.0,)))
        'dncnn wne 25'
        >>> heading(("peak_memory", "MB"), ("metric", "unit"))
        'peak memory (MB)'
    """
    names = [*parts, *[""] * (len(place) - len(parts))]
    return " ".join(filter(None, map(_named, place, names)))


def _named(value: Any, part: str) -> str:
    if part == "metric":
        return " ".join(METRICS.get(word, word) for word in value.split("_"))
    return f"({value})" if part == "unit" and value else label(value)


def markdown(table: Table, *, corner: str = "", form: str | None = None) -> str:
    """A table as Markdown: ours, then the published figure and the difference in brackets.

    Ours is bold where anything is published.

    Args:
        table: What `pivot` returned.
        corner: What stands above the rows' names.
        form: How numbers are written, a format specification; else as `number_format` has it, by columns.
    """
    published = any(cell.published is not None for cell in table.cells.values())

    def text(row: tuple[Any, ...], column: tuple[Any, ...]) -> str:
        cell = table.cells.get((row, column))
        return "" if cell is None else _text(cell, form or table.forms[column], bold=published)

    body = [
        [table.row_heading(row), *(text(row, column) for column in table.columns)]
        for row in table.rows
    ]
    return markdown_table([corner, *map(table.column_heading, table.columns)], body)


def _text(cell: Cell, form: str, *, bold: bool) -> str:
    mark = "**" if bold else ""
    ours = NOT_RUN if cell.value is None else f"{mark}{cell.value:{form}}{mark}"
    if cell.published is None:
        return ours
    gap = "" if cell.difference is None else f", {cell.difference:+{form}}"
    return f"{ours} ({cell.published:{form}}{gap})"


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    r"""A Markdown table of texts.

    Example:
        >>> print(markdown_table(["", "5"], [["a|b", "34.1"]]))
        | | 5 |
        |---|---|
        | a\|b | 34.1 |
    """

    def line(cells: Sequence[str]) -> str:
        texts = [" ".join(cell.split()).replace("|", r"\|") for cell in cells]
        return "|" + "|".join(f" {text} " if text else " " for text in texts) + "|"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, body)])
