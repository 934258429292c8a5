"""Results on disk: records as CSV, tables as Markdown, and where each came from."""

import csv
import dataclasses
import io
import json
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wne_jax._internal.files import write_atomically

Record = Mapping[str, Any]


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write records with one set of columns, moved into place when whole.

    Raises:
        ValueError: No records.
    """
    if not records:
        raise ValueError(f"there are no records to write to {path}")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_atomically(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read what `write_csv` wrote; whatever reads as a number becomes one.

    Raises:
        FileNotFoundError: There is no such file.
    """

    def parse(text: str) -> Any:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        return text

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: text if key in ("image", "model") else parse(text) for key, text in row.items()}
        for row in rows
    ]


def mean_over(
    records: Iterable[Record], value: str, *, by: Sequence[str]
) -> dict[tuple[Any, ...], float]:
    """Means of a column, for every combination of other columns.

    Example:
        >>> rows = [{"model": "a", "x": 1.0}, {"model": "a", "x": 3.0}, {"model": "b", "x": 5.0}]
        >>> mean_over(rows, "x", by=["model"])
        {('a',): 2.0, ('b',): 5.0}
    """
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for record in records:
        groups[tuple(record[column] for column in by)].append(record[value])
    return {place: float(np.mean(values)) for place, values in groups.items()}


def pivot_table(
    records: Sequence[Record],
    value: str,
    *,
    rows: str,
    columns: str,
    form: Callable[[float], str] = "{:.2f}".format,
) -> str:
    """A Markdown table of means, rows and columns in order of appearance.

    Example:
        >>> data = [{"model": "wne", "sigma": 5, "psnr": 34.0}, {"model": "wne", "sigma": 9, "psnr": 30.5}]
        >>> print(pivot_table(data, "psnr", rows="model", columns="sigma"))
        | model | 5 | 9 |
        |---|---|---|
        | wne | 34.00 | 30.50 |
    """
    means = mean_over(records, value, by=[rows, columns])
    row_names = list(dict.fromkeys(record[rows] for record in records))
    column_names = list(dict.fromkeys(record[columns] for record in records))
    header = [
        rows,
        *(f"{name:g}" if isinstance(name, float) else str(name) for name in column_names),
    ]
    body = [
        [str(row), *(form(means[row, c]) if (row, c) in means else "" for c in column_names)]
        for row in row_names
    ]
    return markdown_table(header, body)


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(
        "|" + "|".join(cells) + "|" if cells[0] == "---" else "| " + " | ".join(cells) + " |"
        for cells in lines
    )


def provenance(config: Any) -> dict[str, Any]:
    """Where a result comes from: configuration, command, versions, device and revision.

    Args:
        config: A dataclass or a dict, with its seeds.
    """
    device = jax.devices()[0]
    return {
        "config": config if isinstance(config, dict) else dataclasses.asdict(config),
        "command": " ".join([Path(sys.executable).name, "-m", _main_module(), *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("wne-jax", "jax", "flax", "optax", "numpy")},
        },
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "revision": _revision(),
    }


def write_json(value: Any, path: Path) -> None:
    """Write JSON, paths as text."""
    write_atomically(path, json.dumps(value, indent=2, default=str) + "\n")


def footer(source: Mapping[str, Any]) -> str:
    """One line of provenance for the foot of a table or the description of a figure."""
    versions = ", ".join(f"{name} {version}" for name, version in source["versions"].items())
    seed = source["config"].get("seed")
    parts = [source["command"], *([] if seed is None else [f"seed {seed}"]), source["device"]]
    return "; ".join([*parts, versions, f"revision {source['revision']}"])


def _main_module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _revision() -> str:
    """The git revision of this source tree, marked if it has changes; "unknown" outside of git."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return "unknown"  # installed inside somebody else's repository
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
