"""Networks trained at one noise level, tested at all the others: PSNR and SSIM, over the published curves.

Saied & Fleuret (2026), Figures 3, 4, 10 and 12 to 16. On Set12 their PSNR is drawn behind ours, and stands
beside it in the tables; where their sweep lacks a level it is interpolated (`_sweeps.published_at`). SSIM is
published as curves alone. `wne-capped` is ours.

    python -m experiments.robustness
    WNE_DATA=... python -m experiments.robustness --preset small --runs experiments/results/trained
    WNE_DATA=... python -m experiments.robustness --preset paper --backbone swinir
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from experiments import _cli, _comparison, _sweeps
from experiments._arms import Arm
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import quality_sweep

Network = Literal["dncnn", "swinir"]

ARMS: dict[Network, tuple[Arm, ...]] = {
    "dncnn": ("baseline", "se-arch", "ne-arch", "wne", "wne-capped"),
    "swinir": ("baseline", "wne"),
}
"""What is compared if nothing else is asked for; the equivariant architectures bring a FDnCNN."""


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    levels_255: tuple[float, ...] = (10.0, 25.0, 50.0)
    """Training noise levels in 8-bit units."""
    backbone: Network = "dncnn"
    """The network inside."""
    arms: tuple[Arm, ...] | None = None
    """What is trained and compared; by default those of the figures."""
    workdir: Path | None = None
    """Folder for everything that is written; by default runs/robustness, for SwinIR with -swinir added."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.workdir or _sweeps.folder_of("robustness", self.backbone)

    @property
    def compared(self) -> tuple[Arm, ...]:
        """The arms."""
        return self.arms or ARMS[self.backbone]


def compare(options: Options, records: list[dict[str, Any]], name: str) -> list[_comparison.Cell]:
    """The cells of one test set."""
    cells = []
    for level in options.levels_255:
        rows = [r for r in records if (r["set"], r["trained_255"]) == (name, level)]
        where = f"{name}, {options.backbone} trained at {level:g}"
        shown = {"arms": options.compared, "levels": options.shown(level)}
        curve = _sweeps.published_curve(f"{options.backbone}_sigma{level:g}", name)
        cells += _sweeps.level_cells(f"PSNR (dB), {where}", rows, "psnr", published=curve, **shown)
        cells += _sweeps.level_cells(f"SSIM, {where}", rows, "ssim", **shown)
    return cells


def draw(options: Options, records: list[dict[str, Any]], source: dict[str, Any]) -> None:
    """A figure for each measure, test set and training level."""
    for name, level in dict.fromkeys((r["set"], r["trained_255"]) for r in records):
        rows = [r for r in records if (r["set"], r["trained_255"]) == (name, level)]
        curve = _sweeps.published_curve(f"{options.backbone}_sigma{level:g}", name)
        for value, published in (("psnr", curve), ("ssim", [])):
            figure = plotting.sweep_curves(
                rows,
                train_sigma_255=(level,),
                value=value,
                published=published,
                models=options.compared,
                title=f"{name}, {options.backbone} trained at {level:g}",
            )
            path = options.folder / f"{value}-{name}-{options.backbone}-{level:g}.png"
            plotting.save(figure, path, source)


def main(options: Options) -> None:
    """Train what is missing, sweep, compare, draw."""
    sets, key = options.sets(), jax.random.key(options.seed + 1)
    wanted = {
        _sweeps.at(arm, level): (arm, options.config(arm, level, backbone=options.backbone))
        for level in options.levels_255
        for arm in options.compared
    }
    denoisers, source = _sweeps.trained(options, wanted, options.folder)
    _comparison.clear(options.folder, "quality.csv", "psnr-*.png", "ssim-*.png")

    records: list[dict[str, Any]] = []
    for level in options.levels_255:
        functions = _sweeps.functions_at(denoisers, options.compared, level)
        for name, images in sets.items() if functions else ():
            swept = quality_sweep(
                functions, images, options.levels(level), key, repeats=options.sizes.repeats
            )
            records += [{"set": name, "trained_255": level} | record for record in swept]
    if records:
        results.write_csv(records, options.folder / "quality.csv")
    cells = [cell for name in sets for cell in compare(options, records, name)]
    _comparison.write(cells, options.folder)
    draw(options, records, source)

    psnr, ssim = ([c for c in cells if c["result"].startswith(v)] for v in ("PSNR", "SSIM"))
    tables = _comparison.tables(psnr) | _comparison.tables(ssim, form=".3f")
    _sweeps.write_table(
        options.folder,
        "Trained at one noise level, tested at all (columns, in 8-bit units)",
        tables | _sweeps.notes(cells, *_sweeps.other_trainings(options.compared)),
        dict(wanted.values()),
        source,
    )
    print("\n" + _summary(options, psnr))


def _summary(options: Options, cells: list[_comparison.Cell]) -> str:
    """The result in words: the lowest and the highest level, against the first arm."""
    lines = [f"Mean PSNR ({options.compared[0]} in dB, the others against it):"]
    for result in dict.fromkeys(c["result"] for c in cells):
        of_result = [c for c in cells if c["result"] == result]
        lines.append(f"  {result}:")
        for column in (of_result[0]["column"], of_result[-1]["column"]):
            ours = {c["row"]: c["ours"] for c in of_result if c["column"] == column}
            lines.append(f"    sigma {column}: {_sweeps.against_first(ours)}")
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
