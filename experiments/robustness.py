"""Networks trained at one noise level and tested at all others: PSNR and SSIM, with the published curves.

Saied & Fleuret (2026), Figures 3, 4, 10 and 12 to 16. On Set12, figures and tables show their PSNR with ours;
levels missing from their sweep are interpolated (`published.between_levels`). SSIM is published only as
curves. `wne-wiener-cap` is ours.

    python -m experiments.robustness
    WNE_DATA=... python -m experiments.robustness --preset small --networks experiments/results/networks
    WNE_DATA=... python -m experiments.robustness --preset paper --backbone swinir --arms baseline wne
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    against_first,
    earlier_records,
    file_name,
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
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View, label
from wne_jax.inference.denoiser import Denoiser

Key = tuple[Arm, Level]
"""The key of a network: an arm and a training level."""

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset", "model", "trained"))


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line."""

    NAME = "robustness"

    arms: tuple[Arm, ...] = ("baseline", "se-arch", "ne-arch", "wne", "wne-wiener-cap")
    train_sigmas_255: tuple[Level, ...] = ((10.0,), (25.0,), (50.0,))

    @property
    def name(self) -> str:
        """Name of the default folder, one for each backbone."""
        return self.NAME if self.backbone == "dncnn" else f"{self.NAME}-{file_name(self.backbone)}"


def wanted(options: Options) -> Wanted[Key]:
    """The networks, by arm and training level; the equivariant architectures use an FDnCNN."""
    return {
        (arm, level): (arm, options.config(arm, level, backbone=options.backbone))
        for level in options.train_sigmas_255
        for arm in options.arms
    }


def curve(options: Options, dataset: str, trained: Sequence[float]) -> list[Record]:
    """The published PSNR at a training level."""
    return published.curve(f"{options.backbone}_sigma{label(tuple(trained))}", dataset)


def cells(options: Options, datasets: Sequence[str]) -> list[Record]:
    """The cells of the tables, with the published figures."""
    return [
        cell
        for metric, unit in (("psnr", "dB"), ("ssim", None))
        for dataset in datasets
        for level in options.train_sigmas_255
        for cell in published.cells(
            curve(options, dataset, level) if metric == "psnr" else [],
            options.arms,
            options.shown(level),
            experiment=options.NAME, metric=metric, unit=unit, dataset=dataset,
            degradation="gaussian", model=options.backbone, trained=level,
        )
    ]  # fmt: skip


def measure(
    options: Options, denoisers: Mapping[Key, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """PSNR and SSIM of every network at all test levels."""
    records, key = [], jax.random.key(options.seed + 1)
    for level in options.train_sigmas_255:
        functions = {a: d.function for (a, trained), d in denoisers.items() if trained == level}
        for name, images in sets.items() if functions else ():
            records += sweep(
                functions, images, options.levels(level), key, measures=("psnr", "ssim"),
                repeats=options.draws, experiment=options.NAME, dataset=name,
                model=options.backbone, trained=level,
            )  # fmt: skip
    return records


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw a figure for each metric, test set and training level."""
    measured = [r for r in records if r.value is not None]
    for (metric, name, trained), rows in split_by(
        measured, ["metric", "dataset", "trained"]
    ).items():
        theirs = curve(options, name, trained) if metric == "psnr" else []
        figure = plotting.quality_curves(
            [*rows, *theirs], metric, trained=trained, arms=options.arms,
            title=f"{name}, {options.backbone} trained at {label(trained)}",
        )  # fmt: skip
        path = out.path / f"{metric}-{name}-{file_name(options.backbone)}-{label(trained)}.png"
        plotting.save(figure, path, out.source)


def main(options: Options) -> None:
    """Train missing networks, sweep, compare, draw."""
    earlier, runs = earlier_records(options), wanted(options)
    sets = options.sets()
    denoisers = find_or_train(options, without(runs, {(r.arm, r.trained) for r in earlier}))
    with results_folder(options) as out:
        found = cells(options, list(sets))
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, records, out)
        shown = [r for r in records if r.arm != INPUT and r.level in options.shown(r.trained)]
        sections = tables_of(shown, VIEW) | notes(found, *other_trainings(options.arms))
        title = "Trained at one noise level, tested at all (columns, in 8-bit units)"
        write_table(out, title, sections, dict(runs.values()))
    print("\n" + _summary(options, records))


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary of the results: the lowest and the highest level, compared with the first arm."""
    lines = [f"Mean PSNR ({options.arms[0]} in dB, the others against it):"]
    psnr = [r for r in records if r.metric == "psnr"]
    for (name, trained), rows in split_by(psnr, ["dataset", "trained"]).items():
        means, shown = mean_over(rows, by=["arm", "level"]), options.shown(trained)
        lines.append(f"  {name}, trained at {label(trained)}:")
        for level in (shown[0], shown[-1]):
            values = {arm: means.get((arm, level)) for arm in options.arms}
            lines.append(f"    sigma {level:g}: {against_first(values)}")
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
