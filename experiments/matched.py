"""PSNR at the training noise level: the cost of equivariance where it brings no gain.

Saied & Fleuret (2026), Tables 1, 7, 8 and 9: wrapped networks and equivariant architectures compared with
ordinary ones. `wne-wiener-cap`, whose statistic is the noise level, is ours and has no published figure.
Missing networks are shown as "not run".

    python -m experiments.matched                                  # Table 1 without SwinIR, 2 cores
    WNE_DATA=... python -m experiments.matched --preset small --tables 1 7
    WNE_DATA=... python -m experiments.matched --preset paper      # all four: an accelerator
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax

from experiments.harness import (
    Arm,
    Tested,
    TrainLevels,
    Wanted,
    earlier_records,
    find_or_train,
    load_sets,
    published,
    results_folder,
    run,
    set_name,
    tables_of,
    together,
    without,
    write_table,
)
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig

Table = Literal["1", "7", "8", "9"]

TWICE = (
    "The FDnCNNs se-arch and ne-arch have different published figures in Tables 1 and 7; ours is the same "
    "network in both."
)


VIEW = View(rows=("model", "arm"), tables=("table", "metric", "unit", "dataset"))


@dataclass(frozen=True, kw_only=True)
class Options(TrainLevels, Tested):
    """Options of the command line."""

    NAME = "matched"

    train_sigmas_255: tuple[Level, ...] = ((10.0,), (25.0,), (50.0,))
    tables: tuple[Table, ...] | None = None
    """Numbers of the tables; by default 1, with the preset paper all."""
    backbone: str | None = None
    """Backbone: dncnn, fdncnn, ffdnet, drunet, swinir or restormer; or package.module:Name."""
    train_backbones: tuple[str, ...] | None = None
    """Backbones that may be trained; others are shown if their networks exist. By default the given backbone,
    else all but SwinIR, which is expensive; with the preset paper all."""
    colour_test: tuple[str, ...] | None = None
    """Colour test images for Table 9; by default the preset's in tiny, else folder:CBSD68."""
    colour_data: str | None = None
    """Colour training images for Table 9; by default the preset's in tiny, else tfds:div2k."""

    def names(self, colour: bool) -> list[str]:
        """The names of the gray or the colour test sets."""
        return [set_name(spec) for spec in (self.in_colour if colour else self.in_gray)]

    @property
    def in_gray(self) -> tuple[str, ...]:
        """The gray test images."""
        return self.test or self.sizes.test

    @property
    def in_colour(self) -> tuple[str, ...]:
        """The colour test images."""
        default = self.in_gray if self.preset == "tiny" else ("folder:CBSD68",)
        return self.colour_test or default

    def images(self) -> dict[bool, dict[str, list[NamedImage]]]:
        """The gray (False) and the colour (True) test images, by the names of their sets."""
        colour = self.in_colour if any(row.colour for row in chosen(self)) else ()
        if self.stage == "report":
            return {colour: {name: [] for name in self.names(colour)} for colour in (False, True)}
        return {
            False: load_sets(self.in_gray, data_dir=self.data_dir),
            True: load_sets(colour, data_dir=self.data_dir, channels=3),
        }


class Row(NamedTuple):
    """A row of a published table, or one of ours."""

    table: str
    backbone: str
    arm: Arm

    @property
    def number(self) -> int:
        """The number of the table."""
        return int(self.table.removeprefix("Table "))

    @property
    def colour(self) -> bool:
        """Whether its images are in colour."""
        return self.number == 9


class Key(NamedTuple):
    """The key of a network, which may appear in several rows."""

    backbone: str
    arm: Arm
    colour: bool
    level: Level


def rows(options: Options) -> list[Row]:
    """The rows of all tables; ours follows `wne`, and rows of the given backbone come first, in Table 1."""
    found = []
    if options.backbone is not None:
        found = [Row("Table 1", options.backbone, arm) for arm in ("baseline", "wne")]
    for key in published.MATCHED:
        found.append(Row(*key))
        if key == ("Table 1", "dncnn", "wne"):
            found.append(Row("Table 1", "dncnn", "wne-wiener-cap"))
    return list(dict.fromkeys(found))


def chosen(options: Options) -> list[Row]:
    """The rows of the chosen tables."""
    asked = options.tables or (("1", "7", "8", "9") if options.preset == "paper" else ("1",))
    return [row for row in rows(options) if str(row.number) in asked]


def wanted(options: Options) -> Wanted[Key]:
    """The networks of the chosen tables."""
    keys = [
        Key(row.backbone, row.arm, row.colour, level)
        for row in chosen(options)
        for level in options.train_sigmas_255
    ]
    return {key: (key.arm, config_of(options, key)) for key in keys}


def config_of(options: Options, key: Key) -> TrainConfig:
    """The training run of a network."""
    changes = {"backbone": key.backbone}
    if key.colour:
        source = None if options.preset == "tiny" else "tfds:div2k"
        changes |= {"channels": 3, "data": options.colour_data or source or options.data}
    return options.config(key.arm, key.level, **changes)


def networks(options: Options, runs: Wanted[Key]) -> dict[Key, Denoiser]:
    """The networks that exist."""
    expensive = () if options.preset == "paper" else ("swinir",)
    every = {key.backbone for key in runs}.difference(expensive)
    trainable = options.train_backbones or ({options.backbone} if options.backbone else every)
    may_train = {k: run for k, run in runs.items() if run[1].model.backbone in trainable}
    return find_or_train(options, may_train, also=without(runs, may_train))


def measure(
    options: Options,
    denoisers: Mapping[Key, Denoiser],
    sets: Mapping[bool, Mapping[str, list[NamedImage]]],
) -> list[Record]:
    """PSNR of every network at its training level, a record for each table that contains it."""
    records, noise = [], jax.random.key(options.seed + 1)
    for (backbone, colour, level), keys in _together(denoisers).items():
        functions = {key.arm: denoisers[key].function for key in keys}
        for name, images in sets[colour].items():
            records += sweep(
                functions, images, list(level), noise, repeats=options.draws,
                experiment=options.NAME, dataset=name, model=backbone, trained=level,
            )  # fmt: skip
    return [
        dataclasses.replace(record, settings={"table": row.number})
        for record in records
        if record.arm != INPUT
        for row in rows(options)
        if row[1:] == (record.model, record.arm) and record.dataset in sets[row.colour]
    ]


def _together(keys: Sequence[Key]) -> dict[tuple[str, bool, Level], list[Key]]:
    """Group networks that are tested on the same pixels."""
    groups: dict[tuple[str, bool, Level], list[Key]] = {}
    for key in keys:
        groups.setdefault((key.backbone, key.colour, key.level), []).append(key)
    return groups


def cells(options: Options, names: Mapping[bool, Sequence[str]]) -> list[Record]:
    """Every row of every table, with the published figures.

    Args:
        options: Options of the command line.
        names: Names of the gray (False) and the colour sets (True).
    """
    found = []
    for row in rows(options):
        figures = published.MATCHED.get(row, {})
        for name in names[row.colour]:
            theirs = dict(zip(published.LEVELS, figures.get(name, ())))
            found += [
                Record(
                    experiment=options.NAME, metric="psnr", unit="dB", dataset=name,
                    degradation="gaussian", model=row.backbone, arm=row.arm,
                    level=level[-1], trained=level, published=theirs.get(level[-1]),
                    settings={"table": row.number},
                )
                for level in options.train_sigmas_255
            ]  # fmt: skip
    return found


def main(options: Options) -> None:
    """Train missing networks, test at the training levels, compare."""
    if wide := [level for level in options.train_sigmas_255 if len(level) > 1]:
        raise ValueError(f"--train-sigmas-255 must be single levels, not the range {wide[0]}")
    earlier, runs, sets = earlier_records(options), wanted(options), options.images()
    done = {(r.model, r.arm, r["table"] == 9, r.trained) for r in earlier}
    denoisers = networks(options, without(runs, done))
    with results_folder(options) as out:
        found = cells(options, {colour: options.names(colour) for colour in sets})
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        configs = {
            f"{k.backbone}{' colour' * k.colour} {k.arm}": run for k, (_, run) in runs.items()
        }
        title = "PSNR at the training level (columns, in 8-bit units)"
        write_table(out, title, tables_of(records, VIEW) | {"Notes": f"- {TWICE}"}, configs)
    print("\n" + _summary(options, records))


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary: the difference of each arm to the ordinary network of its table."""
    lines = ["Each network at its own level (baseline in dB, the others against it):"]
    for (table, dataset, level), rows_of in split_by(
        records, ["table", "dataset", "level"]
    ).items():
        means = mean_over(rows_of, by=["model", "arm"])
        for (model, arm), value in means.items():
            if arm == "baseline":
                lines.append(f"  Table {table}, {dataset}, {level:g}: {model} {value:.2f}")
                continue
            relatives = (model, "dncnn") if model == "fdncnn" else (model,)  # Table 1 has no other
            baselines = [means[m, "baseline"] for m in relatives if (m, "baseline") in means]
            for reference in baselines[:1]:
                lines.append(f"    {level:g}: {model} {arm} {value - reference:+.2f}")
    lines.append(f"Table and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
