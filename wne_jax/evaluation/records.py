"""Results on disk: one schema of records.

A record is one number of one experiment and its description. All experiments write the same columns, so that
results can be read, joined and averaged without knowing the experiment.

- `arm` is what an experiment compares: "baseline", "wne", a layer, a statistic. The degraded image is the arm
  `INPUT`, so its PSNR is a record like any other.
- `value` is the measured number for one image, repeat and seed; `published` is the number in a paper. Most
  published figures are means over a dataset: they are in a separate record without image and value. A cell of
  a table is the mean over all its records, so it combines the two.
- A cell whose records have no value was not run: `NOT_RUN`.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.files import write_atomically

INPUT = "input"
"""The arm of the degraded image."""

NOT_RUN = "not run"
"""The text of a cell without a value."""

_TEXTS = (
    "experiment", "metric", "unit", "dataset", "image", "degradation", "model", "arm",
)  # fmt: skip
_WHOLE = ("seed", "repeat")
_REAL = ("level", "value", "published")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One number and its description. `record["name"]` reads a column, or else a setting.

    Attributes:
        experiment: The module in `experiments` that measured it.
        metric: What was measured: "psnr", "ssim", "defect", "seconds".
        unit: Its unit, "dB" or "s"; None for a plain number.
        dataset: The images: "Set12".
        image: One of the images; None for all.
        degradation: The kind of degradation: "gaussian", "jpeg".
        level: Its level: sigma in 8-bit units, or the quality of JPEG.
        trained: Training levels in 8-bit units: none, one, or the ends of a range.
        model: The network: "dncnn".
        arm: What the experiment compares.
        seed: Seed of the training, if there are several.
        repeat: Index of the noise draw.
        value: The measured number; None if it was not run.
        published: The published number; None if there is none.
        settings: Further settings, as JSON: layer, device, precision, displacement.

    Raises:
        TypeError: A field has another type.
        ValueError: A text is empty, or a setting has the name of a column.

    Example:
        >>> record = Record(experiment="matched", metric="psnr", unit="dB", level=25, trained=25, value=30.1,
        ...                 settings={"precision": "bfloat16"})
        >>> record["level"], record["trained"], record["precision"], record["layer"]
        (25.0, (25.0,), 'bfloat16', None)
    """

    experiment: str
    metric: str
    unit: str | None = None
    dataset: str | None = None
    image: str | None = None
    degradation: str | None = None
    level: float | None = None
    trained: tuple[float, ...] = ()
    model: str | None = None
    arm: str | None = None
    seed: int | None = None
    repeat: int | None = None
    value: float | None = None
    published: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in _TEXTS:
            text = getattr(self, name)
            if not (isinstance(text, str) or (text is None and name not in _TEXTS[:2])):
                raise TypeError(f"{name} must be text, not {text!r}")
            if text == "":
                raise ValueError(f"{name} is empty: omit it, or pass a name")
        for names, kind, made in ((_WHOLE, Integral, int), (_REAL, Real, float)):
            for name in names:
                number = getattr(self, name)
                if number is not None and not isinstance(number, kind):
                    raise TypeError(f"{name} must be a number ({made.__name__}), not {number!r}")
                object.__setattr__(self, name, None if number is None else made(number))
        levels = (self.trained,) if isinstance(self.trained, Real) else tuple(self.trained)
        object.__setattr__(self, "trained", tuple(map(float, levels)))
        if taken := self.settings.keys() & set(COLUMNS):
            raise ValueError(f"{min(taken)!r} is a column: pass it as a column, not in settings")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in COLUMNS else self.settings.get(name)


COLUMNS = tuple(column.name for column in fields(Record))
"""The columns of the schema, in the order of the file."""


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as CSV, in one step. None is an empty field; floats have all digits.

    Raises:
        ValueError: No records, or settings that JSON does not preserve.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    written = 0
    for written, record in enumerate(records, 1):  # noqa: B007
        writer.writerow(_to_text(name, record[name]) for name in COLUMNS)
    if not written:
        raise ValueError(f"there are no records to write to {path}")
    write_atomically(path, text.getvalue())


def read_records(path: Path) -> list[Record]:
    """Read records from `write_records`, exactly.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has other columns, or a field is invalid for its column.
    """
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)}; it has {header}")
    records = []
    for number, row in enumerate(rows, 2):
        try:
            values = {name: _from_text(name, text) for name, text in zip(COLUMNS, row, strict=True)}
            records.append(Record(**values))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return records


def _to_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "trained":
        return " ".join(map(repr, value))
    if name == "settings":
        text = json.dumps(value, allow_nan=False) if value else ""
        if text and json.loads(text) != value:
            raise ValueError(f"settings must be plain JSON, not {value!r}")
        return text
    return value if name in _TEXTS else repr(value)


def _from_text(name: str, text: str) -> Any:
    if name == "trained":
        return tuple(map(float, text.split()))
    if name == "settings":
        return json.loads(text) if text else {}
    if text == "":
        return None
    return text if name in _TEXTS else int(text) if name in _WHOLE else float(text)


def mean_over(
    records: Iterable[Any], value: str = "value", *, by: Sequence[str]
) -> dict[tuple[Any, ...], float]:
    """Means of a column for every combination of other columns, ignoring records without a value.

    Example:
        >>> found = [("a", 1), ("a", 3), ("b", 5)]
        >>> rows = [Record(experiment="e", metric="psnr", arm=arm, value=x) for arm, x in found]
        >>> mean_over(rows, by=["arm"])
        {('a',): 2.0, ('b',): 5.0}
    """
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for record in records:
        if record[value] is not None:
            groups[tuple(record[column] for column in by)].append(record[value])
    return {place: float(np.mean(values)) for place, values in groups.items()}


def split_by(
    records: Iterable[Record], columns: Sequence[str]
) -> dict[tuple[Any, ...], list[Record]]:
    """Group records by their values in some columns or settings, in order of appearance.

    Example:
        >>> rows = [Record(experiment="e", metric=m, value=1) for m in ("psnr", "ssim", "psnr")]
        >>> {key: len(of) for key, of in split_by(rows, ["metric"]).items()}
        {('psnr',): 2, ('ssim',): 1}
    """
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[tuple(_hashable(record[column]) for column in columns)].append(record)
    return dict(groups)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
