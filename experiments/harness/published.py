"""Published figures of Saied & Fleuret (2026), under the names of our arms.

Tables are in this file; the sweeps behind the curves (Set12) and the coverage of the difficulty are in
`experiments/published/`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from wne_jax.evaluation.records import INPUT, Record

_FOLDER = Path(__file__).parents[1] / "published"

_ARMS = {"b": "baseline", "se": "se-arch", "ne": "ne-arch", "wne": "wne", "wnei": "input-only"}

Sweep = Literal[
    "dncnn_sigma10",
    "dncnn_sigma25",
    "dncnn_sigma50",
    "dncnn_sigma10_in",
    "swinir_sigma10",
    "swinir_sigma25",
    "swinir_sigma50",
    "uniform_sigma14",
    "laplace_sigma20",
    "rayleigh_sigma17",
    "jpeg_qf_from_uniform",
]


def sweep(name: Sweep) -> list[Record]:
    """A published curve on Set12: a record for each level and arm, including the noisy input.

    Args:
        name: The sweep: network or noise, and training level.

    Returns:
        PSNR records with `arm`, `level` (for `jpeg_...` the quality) and `published`.

    Example:
        >>> [(r.arm, r.level, r.published) for r in sweep("swinir_sigma25")[:2]]
        [('input', 5.0, 34.142846), ('baseline', 5.0, 30.970221)]
    """
    records = []
    with (_FOLDER / f"{name}_psnr.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            level = float(row["sigma_8bit"])
            records.append(_record(INPUT, level, float(row["input_psnr_db"])))
            for column, value in row.items():
                for part in column.split("_")[:2]:  # an arm, or a noise and an arm
                    if part in _ARMS:
                        records.append(_record(_ARMS[part], level, float(value)))
    return records


def _record(arm: str, level: float, psnr: float) -> Record:
    return Record(experiment="published", metric="psnr", unit="dB", dataset="Set12",
                  arm=arm, level=level, published=psnr)  # fmt: skip


def curve(name: str, dataset: str) -> list[Record]:
    """A published sweep for comparison: empty unless the dataset is Set12 and a sweep of this name exists.

    Example:
        >>> len(curve("dncnn_sigma25", "Set12")), curve("dncnn_sigma25", "embedded")
        (105, [])
    """
    known = dataset == "Set12" and name in get_args(Sweep)
    return sweep(name) if known else []


def at_level(records: Sequence[Record], arm: str, level: float) -> float | None:
    """The PSNR of a published curve at one of its levels; None at other levels.

    Example:
        >>> at_level(sweep("dncnn_sigma25"), "wne", 5)
        35.762589
    """
    for record in records:
        if record.arm == arm and abs(record.level - level) < 1e-3:
            return record.published
    return None


def between_levels(records: Sequence[Record], arm: str, level: float) -> float | None:
    """The PSNR of a published curve at any level within its range.

    Between two of its 21 levels it is interpolated linearly in log(sigma), in which the curves are nearly
    straight.

    Returns:
        The PSNR; None outside the curve, or if the arm has no curve.

    Example:
        >>> round(between_levels(sweep("dncnn_sigma25"), "wne", 10), 2)
        34.15
    """
    points = sorted((np.log(r.level), r.published) for r in records if r.arm == arm)
    if not points or not points[0][0] - 1e-9 <= np.log(level) <= points[-1][0] + 1e-9:
        return None
    return float(np.interp(np.log(level), *zip(*points)))


def cells(
    records: Sequence[Record], arms: Sequence[str], levels: Sequence[float], **columns: Any
) -> list[Record]:
    """The cells of a table with their published figures; cells that are not measured are shown as "not run".

    Args:
        records: A published curve; empty if there is none.
        arms: Rows.
        levels: Columns.
        **columns: Columns of the records: `experiment`, `metric`, `unit`, `dataset`, `trained`, ...
    """
    return [
        Record(arm=arm, level=level, published=between_levels(records, arm, level), **columns)
        for arm in arms
        for level in levels
    ]


def coverage() -> dict[tuple[int, int], float]:
    """Table 3: percent of the difficulty covered, by training and test level."""
    header, rows = _difficulty()
    levels = [int(name) for name in header if name.isdigit()]
    return {
        (int(row[0]), test): 100 * float(value)
        for row in rows
        for test, value in zip(levels, row[1:])
    }


def difficulty_intervals() -> dict[int, tuple[float, float]]:
    """Ends of the central 95 % intervals behind Table 3, by training level.

    Example:
        >>> difficulty_intervals()[50]
        (37.5982, 69.9526)
    """
    header, rows = _difficulty()
    ends = [header.index(name) for name in ("q0.025", "q0.975")]
    return {int(row[0]): (float(row[ends[0]]), float(row[ends[1]])) for row in rows}


def _difficulty() -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the file behind Table 3."""
    with (_FOLDER / "delta_coverage.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


LEVELS = (10, 25, 50)

MATCHED: dict[tuple[str, str, str], dict[str, tuple[float, float, float]]] = {
    ("Table 1", "dncnn", "baseline"): {"Set12": (34.92, 30.50, 27.17), "BSD68": (33.92, 29.19, 26.18)},
    ("Table 1", "fdncnn", "se-arch"): {"Set12": (34.41, 30.42, 27.19), "BSD68": (33.51, 29.12, 26.12)},
    ("Table 1", "fdncnn", "ne-arch"): {"Set12": (34.65, 30.37, 27.20), "BSD68": (33.72, 29.11, 26.18)},
    ("Table 1", "dncnn", "wne"): {"Set12": (34.77, 30.43, 27.22), "BSD68": (33.80, 29.15, 26.20)},
    ("Table 1", "swinir", "baseline"): {"Set12": (35.08, 30.79, 27.61), "BSD68": (34.01, 29.38, 26.46)},
    ("Table 1", "swinir", "wne"): {"Set12": (34.95, 30.65, 27.47), "BSD68": (33.94, 29.30, 26.37)},
    ("Table 7", "fdncnn", "baseline"): {"Set12": (34.82, 30.51, 27.29), "BSD68": (33.87, 29.21, 26.25)},
    ("Table 7", "fdncnn", "se-arch"): {"Set12": (34.41, 30.42, 27.20), "BSD68": (33.51, 29.12, 26.12)},
    ("Table 7", "fdncnn", "ne-arch"): {"Set12": (34.69, 30.42, 27.26), "BSD68": (33.77, 29.13, 26.21)},
    ("Table 7", "fdncnn", "wne"): {"Set12": (34.62, 30.38, 27.23), "BSD68": (33.72, 29.11, 26.19)},
    ("Table 8", "restormer", "baseline"): {"Set12": (34.79, 30.76, 27.65), "BSD68": (33.71, 29.29, 26.42)},
    ("Table 8", "restormer", "wne"): {"Set12": (35.05, 30.79, 27.69), "BSD68": (34.00, 29.38, 26.45)},
    ("Table 9", "restormer", "baseline"): {"CBSD68": (36.36, 31.60, 28.33)},
    ("Table 9", "restormer", "wne"): {"CBSD68": (36.51, 31.61, 28.36)},
}  # fmt: skip
"""PSNR (dB) at the training level, for sigma 10, 25 and 50, by (table, network, arm) and test set.

The FDnCNNs of "se-arch" and "ne-arch" have slightly different figures in Tables 1 and 7, so at least two
trainings were published. Our figure comes from one network and is compared with both.
"""

SIDD: dict[str, tuple[float, float]] = {"baseline": (39.27, 0.9150), "wne": (39.26, 0.9156)}
"""Table 10: PSNR (dB) and SSIM of SwinIR on SIDD's validation blocks."""

OVERHEAD: dict[tuple[str, str], dict[str, float]] = {
    ("fdncnn", "wne"): {
        "GPU training": 0.99, "GPU inference": 1.00, "CPU training": 0.99, "CPU inference": 1.01,
    },
    ("fdncnn", "ne-arch"): {
        "GPU training": 1.60, "GPU inference": 1.69, "CPU training": 1.50, "CPU inference": 1.90,
    },
    ("swinir", "wne"): {
        "GPU training": 1.00, "GPU inference": 1.00, "CPU training": 1.12, "CPU inference": 1.08,
    },
}  # fmt: skip
"""Tables 2, 5 and 6: time per batch, relative to the unwrapped network."""

RESIDUAL_STOPPED: dict[str, dict[str, float]] = {
    "baseline": {
        "one pass": 35.07, "best": 34.20, "final": 29.49, "steps to best": 16.7, "steps": 40.1,
    },
    "wne": {
        "one pass": 34.96, "best": 34.89, "final": 34.79, "steps to best": 22.8, "steps": 25.0,
    },
}  # fmt: skip
"""Table 11: residual-stopped denoising on Set12, PSNR (dB) and steps."""

INPAINTING: dict[str, dict[str, float]] = {
    "baseline": {"one pass": 6.87, "final": 6.08, "SSIM": 0.009, "steps": 96.8},
    "wne": {"one pass": 14.21, "final": 23.87, "SSIM": 0.716, "steps": 277.6},
}
"""Table 12: inpainting from 10 % of the pixels on Set12, PSNR (dB), SSIM and steps."""
