"""Tables of records: our means beside the published figures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from wne_jax.evaluation.records import NOT_RUN, Record, split_by


class Cell(NamedTuple):
    """A cell of a table: our mean and the published one."""

    value: float | None
    published: float | None = None
    unit: str | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus published; None if one is missing."""
        if self.value is None or self.published is None:
            return None
        return self.value - self.published


@dataclass(frozen=True)
class Table:
    """Means over records beside the published figures.

    Attributes:
        rows: The rows in order of appearance, each as a tuple of record values.
        columns: The columns, likewise; numbers ascend.
        cells: The cells by row and column; some may be missing.
        row_parts: The names of the values of a row: columns of the records, or settings.
        column_parts: The names of the values of a column.
    """

    rows: tuple[tuple[Any, ...], ...]
    columns: tuple[tuple[Any, ...], ...]
    cells: Mapping[tuple[tuple[Any, ...], tuple[Any, ...]], Cell]
    row_parts: tuple[str, ...] = ()
    column_parts: tuple[str, ...] = ()

    def row_heading(self, row: tuple[Any, ...]) -> str:
        """The heading of a row."""
        return heading(row, self.row_parts)

    def column_heading(self, column: tuple[Any, ...]) -> str:
        """The heading of a column."""
        return heading(column, self.column_parts)

    @cached_property
    def forms(self) -> dict[tuple[Any, ...], str]:
        """The number format of each column."""
        return {
            c: number_format([self.cells[p] for p in self.cells if p[1] == c]) for c in self.columns
        }


def pivot(records: Iterable[Record], *, rows: Sequence[str], columns: Sequence[str]) -> Table:
    """A table of means, with rows and columns by the values of the records.

    Args:
        records: Records; those that differ only in other columns are averaged.
        rows: Columns of the schema, or settings, for the rows.
        columns: Columns of the schema, or settings, for the columns.

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
    """Sort keys of numbers, or of tuples of numbers (training levels); leave other keys in their order."""
    numbers = all(isinstance(part, int | float | tuple) for key in keys for part in key)
    return tuple(sorted(keys)) if numbers else keys


class View(NamedTuple):
    """How an experiment shows its records: its tables, and their rows and columns.

    Names are those of columns or settings.
    """

    rows: tuple[str, ...] = ("model", "arm")
    """The names for the rows."""
    columns: tuple[str, ...] = ("level",)
    """The names for the columns."""
    tables: tuple[str, ...] = ("metric", "unit", "dataset", "degradation", "trained")
    """The names whose every value has a separate table."""
    only: Mapping[str, Sequence[Any]] = MappingProxyType({})
    """The values to show, by name; all values of a name that is missing here."""

    def pivot(self, records: Iterable[Record]) -> dict[str, Table]:
        """The tables by title.

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
"""Words in the names of metrics that tables and figures replace."""


def _cell(records: Sequence[Record]) -> Cell:
    def mean(name: str) -> float | None:
        values = [record[name] for record in records if record[name] is not None]
        return float(np.mean(values)) if values else None

    return Cell(mean("value"), mean("published"), records[0].unit)


def number_format(cells: Iterable[Cell]) -> str:
    """The number format of some cells: two digits for dB, and as many as needed for others.

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
    """The label in a table for a value of one column of a record.

    Example:
        >>> label(25.0), label((0.0, 55.0)), label("wne"), label(None)
        ('25', '0 to 55', 'wne', '')
    """
    if isinstance(value, tuple):
        return " to ".join(map(label, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def heading(place: Sequence[Any], parts: Sequence[str] = ()) -> str:
    """The heading of a row or a column for several values of the records.

    Args:
        place: The values.
        parts: Their names; metrics and units are formatted differently from the rest.

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
    """A table as Markdown: our value, then the published one and the difference in brackets.

    Our values are bold if anything is published.

    Args:
        table: A table from `pivot`.
        corner: The text above the headings of the rows.
        form: Format specification of numbers; by default that of `number_format` for each column.
    """
    published = any(cell.published is not None for cell in table.cells.values())

    def text(row: tuple[Any, ...], column: tuple[Any, ...]) -> str:
        cell = table.cells.get((row, column))
        return "" if cell is None else _text(cell, form or table.forms[column], bold=published)

    body = [
        [escaped(table.row_heading(row)), *(text(row, column) for column in table.columns)]
        for row in table.rows
    ]
    header = [escaped(table.column_heading(column)) for column in table.columns]
    return markdown_table([corner, *header], body)


def escaped(text: str) -> str:
    r"""Escape a text so that Markdown shows it unchanged in one line, without markup, HTML or links.

    Example:
        >>> print(escaped("<b>mean_std</b> [x](y) *3*"))
        \<b\>mean_std\</b\> \[x\](y) \*3\*
    """
    return " ".join(re.sub(r"([\\`*\[\]<>]|(?<!\w)_|_(?!\w))", r"\\\1", text).split())


def _text(cell: Cell, form: str, *, bold: bool) -> str:
    mark = "**" if bold else ""
    ours = NOT_RUN if cell.value is None else f"{mark}{cell.value:{form}}{mark}"
    if cell.published is None:
        return ours
    gap = "" if cell.difference is None else f", {cell.difference:+{form}}"
    return f"{ours} ({cell.published:{form}}{gap})"


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    r"""A Markdown table from texts.

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
