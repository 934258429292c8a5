"""Our figures beside published ones: one record a cell, one Markdown table a result.

Every experiment that recomputes something published writes `comparison.csv`; `experiments.report` gathers
them. A cell that was not computed (its network is not trained) is empty, and says so in the table: what a
run before left of it is removed first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wne_jax.evaluation import records as results

NOT_RUN = "not run"

Cell = dict[str, Any]


def cell(
    result: str, row: str, column: str, ours: float | None, published: float | None = None
) -> Cell:
    """One number beside its published one.

    Args:
        result: What it belongs to, and its unit: "Table 1: PSNR (dB), Set12".
        row: Its row there.
        column: Its column.
        ours: The number; None where it was not computed.
        published: The published one; None where there is none.

    Example:
        >>> cell("Table 1: PSNR (dB), Set12", "dncnn wne", "25", 30.1, 30.43)["difference"]
        -0.33
    """
    both = ours is not None and published is not None
    return {
        "result": result,
        "row": row,
        "column": column,
        "ours": "" if ours is None else ours,
        "published": "" if published is None else published,
        "difference": round(ours - published, 4) if both else "",
    }


def clear(workdir: Path, *others: str) -> None:
    """Remove what a run before left: `comparison.csv`, `table.md`, and other files that it may have written.

    Call it when the folder is claimed. Whatever is not made again would contradict the new tables.

    Args:
        workdir: Folder of the experiment.
        others: Further names in it, with `*` for a part that varies.
    """
    for pattern in ("comparison.csv", "table.md", *others):
        for path in workdir.glob(pattern):
            path.unlink()


def write(cells: Sequence[Cell], workdir: Path) -> None:
    """Write `comparison.csv`."""
    results.write_csv(cells, workdir / "comparison.csv")


def read(workdir: Path) -> list[Cell]:
    """Read what `write` wrote; rows and columns are text."""
    cells = results.read_csv(workdir / "comparison.csv")
    named = ("result", "row", "column")
    return [
        c | {name: f"{c[name]:g}" if isinstance(c[name], float) else str(c[name]) for name in named}
        for c in cells
    ]


def tables(cells: Sequence[Cell], *, form: str = ".2f") -> dict[str, str]:
    """A Markdown table for each result: ours, then the published figure and the difference.

    Example:
        >>> print(tables([cell("T", "wne", "25", 30.1, 30.43), cell("T", "wne", "50", None, 27.22)])["T"])
        | | 25 | 50 |
        |---|---|---|
        | wne | **30.10** (30.43, -0.33) | not run (27.22) |
    """
    found: dict[str, list[Cell]] = {}
    for record in cells:
        found.setdefault(record["result"], []).append(record)
    return {result: _table(records, form) for result, records in found.items()}


def _table(cells: Sequence[Cell], form: str) -> str:
    columns = list(dict.fromkeys(c["column"] for c in cells))
    rows = list(dict.fromkeys(c["row"] for c in cells))
    texts = {(c["row"], c["column"]): _text(c, form) for c in cells}
    body = [[row, *(texts.get((row, column), "") for column in columns)] for row in rows]
    table = results.markdown_table(["", *columns], body)
    return table.replace("|  |", "| |", 1)


def _text(c: Cell, form: str) -> str:
    ours, published = c["ours"], c["published"]
    text = NOT_RUN if ours == "" else f"**{ours:{form}}**"
    if published == "":
        return text
    gap = f", {c['difference']:+{form}}" if ours != "" else ""
    return f"{text} ({published:{form}}{gap})"
