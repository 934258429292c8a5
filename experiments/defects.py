"""The error of f(a y + b) = a f(y) + b over noise levels, and the effect of augmentation.

Saied & Fleuret (2026), Figures 8 and 9. Two controls must learn the equivariance that the wrapper guarantees:
`multi-noise` is trained on sigma from 0 to 55, `soft-ne` on random contrast and brightness. The defect is the
relative L2 error, averaged over images and eight draws of a in (0.5, 1.5) and b in (-0.25, 0.25); for an
equivariant network it is rounding error. PSNR of the same networks on whole images is also shown.

    python -m experiments.defects
    WNE_DATA=... python -m experiments.defects --preset small --networks experiments/results/networks
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    central,
    earlier_records,
    find_or_train,
    notes,
    other_trainings,
    published,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset", "trained"))


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line; `multi-noise` has its own training levels."""

    NAME = "defects"

    arms: tuple[Arm, ...] = (
        *("baseline", "multi-noise", "soft-ne", "ne-arch", "wne", "wne-wiener-cap"),
    )
    crop: int = 128
    """Side of the central crops of the test images, in pixels."""


def wanted(options: Options) -> Wanted[Arm]:
    """The networks, by arm."""
    backbone = options.backbone
    return {
        arm: (arm, options.config(arm, options.trained, backbone=backbone)) for arm in options.arms
    }


def place(options: Options, dataset: str) -> dict[str, Any]:
    """The columns shared by all records of a test set."""
    return {"experiment": options.NAME, "dataset": dataset, "model": options.backbone,
            "trained": options.trained, "degradation": "gaussian"}  # fmt: skip


def curve(options: Options, dataset: str) -> list[Record]:
    """The published PSNR curve."""
    return published.curve(f"{options.backbone}_sigma{options.at}", dataset)


def cells(options: Options, datasets: Sequence[str]) -> list[Record]:
    """The cells of the tables, with the published figures."""
    return [
        cell
        for metric, unit in (("defect", None), ("psnr", "dB"))
        for name in datasets
        for cell in published.cells(
            curve(options, name) if metric == "psnr" else [],
            options.arms,
            options.shown(options.trained),
            metric=metric, unit=unit, **place(options, name),
        )
    ]  # fmt: skip


def measure(
    options: Options, denoisers: Mapping[Arm, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """The defect on crops, and PSNR on whole images, of every network at all test levels."""
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    levels, key = options.levels(options.trained), jax.random.key(options.seed + 1)
    records = []
    for name, images in sets.items() if functions else ():
        crops, columns = [central(image, options.crop) for image in images], place(options, name)
        records += sweep(functions, crops, levels, key, measures=("defect",), **columns)
        records += sweep(functions, images, levels, key, repeats=options.draws, **columns)
    return records


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw the defect and PSNR for each test set."""
    for (name,), rows in split_by(records, ["dataset"]).items():
        title = f"{name}, trained at {options.at}"
        figure = plotting.level_curves(
            rows, "defect", label="relative defect of f(a y + b) = a f(y) + b",
            trained=options.trained, logarithmic=True, title=title,
        )  # fmt: skip
        plotting.save(figure, out.path / f"defect-{name}.png", out.source)
        both = [*rows, *curve(options, name)]
        figure = plotting.quality_curves(both, trained=options.trained, title=title)
        plotting.save(figure, out.path / f"psnr-{name}.png", out.source)


def main(options: Options) -> None:
    """Train missing networks, sweep, compare, draw."""
    earlier, runs, sets = earlier_records(options), wanted(options), options.sets()
    denoisers = find_or_train(options, without(runs, {r.arm for r in earlier}))
    with results_folder(options) as out:
        found = cells(options, list(sets))
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, [r for r in records if r.value is not None], out)
        levels = options.shown(options.trained)
        shown = [r for r in records if r.arm != INPUT and r.level in levels]
        title = (
            "Normalization-equivariance defect and PSNR over test levels (columns, in 8-bit units)"
        )
        sections = tables_of(shown, VIEW) | notes(found, *other_trainings(options.arms))
        write_table(out, title, sections, dict(runs.values()))
    print("\n" + _summary(options, records))


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary of the results."""
    means = mean_over(records, by=["arm", "metric"])
    lines = ["Mean over all images and levels:"]
    lines += [
        f"  {arm}: defect {means[arm, 'defect']:.0e}, PSNR {means[arm, 'psnr']:.2f} dB"
        for arm in options.arms
        if (arm, "defect") in means
    ]
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
