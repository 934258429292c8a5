"""PSNR at the noise level that a network was trained for: what equivariance costs where nothing is gained.

Saied & Fleuret (2026), Tables 1, 7, 8 and 9: wrapped networks and equivariant architectures beside ordinary
ones. `wne-capped`, whose statistic is the noise level, is ours and has no published figure. Rows of networks
that were not run are empty and say so.

    python -m experiments.matched                                  # Table 1 without SwinIR, 2 cores
    WNE_DATA=... python -m experiments.matched --preset small --tables 1 7
    WNE_DATA=... python -m experiments.matched --preset paper      # all four: an accelerator
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from experiments import _cli, _comparison, _published, _runs, _sweeps
from experiments._arms import Arm, Backbone
from wne_jax.data import NamedImage
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import psnr_sweep
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig

Table = Literal["1", "7", "8", "9"]

TWICE = (
    "The FDnCNNs se-arch and ne-arch stand in Tables 1 and 7 with different published figures; ours is one "
    "network in both."
)


@dataclass(frozen=True)
class Options(_runs.Runs):
    """Options of the command line."""

    tables: tuple[Table, ...] | None = None
    """Which tables; by default the first, with the preset paper all."""
    backbones: tuple[Backbone, ...] | None = None
    """Networks that may be trained; others are shown if they are there. By default all of the tables but
    SwinIR, which is dear, with the preset paper all."""
    levels_255: tuple[float, ...] = (10.0, 25.0, 50.0)
    """Noise levels of training and test in 8-bit units."""
    test: tuple[str, ...] | None = None
    """Test images; by default the preset's sets."""
    colour_test: tuple[str, ...] | None = None
    """Colour test images, of Table 9; by default the preset's in tiny, else folder:CBSD68."""
    colour_data: str | None = None
    """Colour training images, of Table 9; by default the preset's in tiny, else tfds:div2k (BSD400: gray)."""
    workdir: Path = Path("runs/matched")
    """Folder for everything that is written."""


class Row(NamedTuple):
    """A row of a published table, or ours."""

    table: str
    backbone: Backbone
    arm: Arm

    @property
    def colour(self) -> bool:
        """Whether it is about colour images."""
        return self.table == "Table 9"

    @property
    def model(self) -> str:
        """What the network is called."""
        return f"{self.backbone}{' colour' if self.colour else ''} {self.arm}"


def rows() -> list[Row]:
    """The rows of all tables, ours after its sibling."""
    found = []
    for key in _published.MATCHED:
        found.append(Row(*key))
        if found[-1] == ("Table 1", "dncnn", "wne"):
            found.append(Row("Table 1", "dncnn", "wne-capped"))
    return found


def chosen(options: Options) -> list[Row]:
    """The rows of the chosen tables."""
    tables = options.tables or (("1", "7", "8", "9") if options.preset == "paper" else ("1",))
    return [row for row in rows() if row.table.removeprefix("Table ") in tables]


def config_of(options: Options, row: Row, level: float) -> TrainConfig:
    """The training run behind a row, at one of its levels."""
    changes = {"backbone": row.backbone}
    if row.colour:
        source = None if options.preset == "tiny" else "tfds:div2k"
        changes |= {"channels": 3, "data": options.colour_data or source or options.data}
    return options.config(row.arm, level, **changes)


def networks(options: Options) -> tuple[dict[str, Denoiser], dict[str, Any]]:
    """The networks that there are, by model and level, and the provenance of the folder."""
    dear = () if options.preset == "paper" else ("swinir",)
    trainable = options.backbones or {row.backbone for row in chosen(options)}.difference(dear)
    wanted = {
        _sweeps.at(row.model, level): (row.arm, config_of(options, row, level))
        for row in chosen(options)
        for level in options.levels_255
    }
    may_train = {k: run for k, run in wanted.items() if run[1].model.backbone in trainable}
    others = {k: run for k, run in wanted.items() if k not in may_train}
    found = _runs.networks(dataclasses.replace(options, train=False), others)
    made, source = _sweeps.trained(options, may_train, options.workdir)
    _comparison.clear(options.workdir, "psnr.csv")
    return found | made, source


def measure(
    options: Options,
    denoisers: dict[str, Denoiser],
    sets: dict[str, list[NamedImage]],
    *,
    colour: bool,
) -> list[dict[str, Any]]:
    """PSNR of every gray or colour network at its own level."""
    key, records = jax.random.key(options.seed + 1), []
    models = dict.fromkeys(row.model for row in chosen(options) if row.colour == colour)
    for level in options.levels_255:
        functions = _sweeps.functions_at(denoisers, models, level)
        for name, images in sets.items() if functions else ():
            swept = psnr_sweep(functions, images, [level], key, repeats=options.sizes.repeats)
            records += [{"set": name} | record for record in swept]
    return records


def compare(
    options: Options, records: list[dict[str, Any]], names: dict[bool, list[str]]
) -> list[_comparison.Cell]:
    """Every row of every table, beside what is published.

    Args:
        options: Those of the command line.
        records: What was measured.
        names: Names of the gray (False) and the colour sets (True).
    """
    means = results.mean_over(records, "psnr", by=["set", "model", "sigma_255"])
    cells = []
    for row in rows():
        figures = _published.MATCHED.get(row, {})
        for name in names[row.colour]:
            published = dict(zip(_published.LEVELS, figures.get(name, ())))
            for level in options.levels_255:
                ours = means.get((name, row.model, level))
                result = f"{row.table}: PSNR (dB) at the training level, {name}"
                cells.append(
                    _comparison.cell(result, row.model, f"{level:g}", ours, published.get(level))
                )
    return cells


def main(options: Options) -> None:
    """Train what is missing, test at the training levels, compare."""
    gray = options.test or options.sizes.test
    in_colour = options.colour_test or (gray if options.preset == "tiny" else ("folder:CBSD68",))
    names = {False: [*map(_cli.set_name, gray)], True: [*map(_cli.set_name, in_colour)]}
    sets = {False: _cli.load_sets(gray, data_dir=options.data_dir), True: {}}
    if any(row.colour for row in chosen(options)):
        sets[True] = _cli.load_sets(in_colour, data_dir=options.data_dir, channels=3)
    denoisers, source = networks(options)

    records = [r for c in sets for r in measure(options, denoisers, sets[c], colour=c)]
    if records:
        results.write_csv(records, options.workdir / "psnr.csv")
    cells = compare(options, records, names)
    _comparison.write(cells, options.workdir)
    level = options.levels_255[0]
    configs = {row.model: config_of(options, row, level) for row in chosen(options)}
    _sweeps.write_table(
        options.workdir,
        "PSNR at the training level (columns, in 8-bit units)",
        _comparison.tables(cells) | {"Notes": f"- {TWICE}"},
        configs,
        source,
    )
    print("\n" + _summary(options, cells, len(denoisers)))


def _summary(options: Options, cells: list[_comparison.Cell], number: int) -> str:
    """The result in words: what each arm loses against the ordinary network of its table."""
    lines = [f"{number} networks, each at its own level (baseline in dB, the others against it):"]
    ours = {(c["result"], c["row"], c["column"]): c["ours"] for c in cells if c["ours"] != ""}
    for (result, model, column), value in ours.items():
        if model.endswith("baseline"):
            lines.append(f"  {result}, {column}: {model} {value:.2f}")
            continue
        network = model.rpartition(" ")[0]
        relatives = (
            (network, "dncnn") if network == "fdncnn" else (network,)
        )  # Table 1 has no other
        found = [ours.get((result, f"{name} baseline", column)) for name in relatives]
        for reference in [value for value in found if value is not None][:1]:
            lines.append(f"    {column}: {model} {value - reference:+.2f}")
    lines.append(f"Table and records are in {options.workdir}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
