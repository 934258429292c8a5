"""By how much a network misses f(a y + b) = a f(y) + b, over noise levels, and what augmentation buys.

Saied & Fleuret (2026), Figures 8 and 9. Two controls have to learn what the wrapper has: `multi-noise` sees
sigma from 0 to 55, `soft-ne` sees random contrasts and brightnesses. The defect is relative L2, the mean over
images and eight draws of a in (0.5, 1.5), b in (-0.25, 0.25); of what is equivariant it is rounding. PSNR of
the same networks, on whole images, stands beside it.

    python -m experiments.defects
    WNE_DATA=... python -m experiments.defects --preset small --runs experiments/results/trained
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments import _cli, _comparison, _sweeps
from experiments._arms import Arm
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import defect_sweep, psnr_sweep

ARMS: tuple[Arm, ...] = ("baseline", "multi-noise", "soft-ne", "ne-arch", "wne", "wne-capped")


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    level_255: float = 25.0
    """Training noise level in 8-bit units, of all but multi-noise."""
    arms: tuple[Arm, ...] = ARMS
    """What is trained and compared."""
    crop: int = 128
    """Side of the central crops on which the defect is measured, in pixels."""
    workdir: Path = Path("runs/defects")
    """Folder for everything that is written."""


def main(options: Options) -> None:
    """Train what is missing, sweep, compare, draw."""
    sets, key = options.sets(), jax.random.key(options.seed + 1)
    level, levels = options.level_255, options.levels(options.level_255)
    wanted = {arm: (arm, options.config(arm, level)) for arm in options.arms}
    denoisers, source = _sweeps.trained(options, wanted, options.workdir)
    _comparison.clear(options.workdir, "defect.csv", "psnr.csv", "defect-*.png", "psnr-*.png")
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}

    cells: list[_comparison.Cell] = []
    measured: dict[str, list[dict[str, Any]]] = {"defect": [], "psnr": []}
    for name, images in sets.items():
        repeats = options.sizes.repeats
        crops = [_sweeps.central(image, options.crop) for image in images]
        defects = defect_sweep(functions, crops, levels, key) if functions else []
        psnr = psnr_sweep(functions, images, levels, key, repeats=repeats) if functions else []
        shown = {"arms": options.arms, "levels": options.shown(level)}
        curve = _sweeps.published_curve(f"dncnn_sigma{level:g}", name)
        where = f"{name}, trained at {level:g}"
        cells += _sweeps.level_cells(f"Defect, {where}", defects, "defect", **shown)
        cells += _sweeps.level_cells(f"PSNR (dB), {where}", psnr, "psnr", published=curve, **shown)
        for value, records in (("defect", defects), ("psnr", psnr)):
            measured[value] += [{"set": name} | record for record in records]
        if functions:
            _draw(options, name, defects, psnr, source)
    for value, records in measured.items():
        if records:
            results.write_csv(records, options.workdir / f"{value}.csv")
    _comparison.write(cells, options.workdir)

    defect, psnr = ([c for c in cells if c["result"].startswith(v)] for v in ("Defect", "PSNR"))
    _sweeps.write_table(
        options.workdir,
        "Normalization-equivariance defect and PSNR over test levels (columns, in 8-bit units)",
        _comparison.tables(defect, form=".1e")
        | _comparison.tables(psnr)
        | _sweeps.notes(cells, *_sweeps.other_trainings(options.arms)),
        {arm: config for arm, (_, config) in wanted.items()},
        source,
    )
    print("\n" + _summary(options, measured))


def _draw(
    options: Options,
    name: str,
    defects: list[dict[str, Any]],
    psnr: list[dict[str, Any]],
    source: dict[str, Any],
) -> None:
    """The defect and PSNR of one test set."""
    trained, title = (options.level_255,), f"{name}, trained at {options.level_255:g}"
    figure = plotting.level_curves(
        defects,
        "defect",
        label="relative defect of f(a y + b) = a f(y) + b",
        train_sigma_255=trained,
        logarithmic=True,
        title=title,
    )
    plotting.save(figure, options.workdir / f"defect-{name}.png", source)
    curve = _sweeps.published_curve(f"dncnn_sigma{options.level_255:g}", name)
    figure = plotting.sweep_curves(psnr, train_sigma_255=trained, published=curve, title=title)
    plotting.save(figure, options.workdir / f"psnr-{name}.png", source)


def _summary(options: Options, measured: dict[str, list[dict[str, Any]]]) -> str:
    """The result in words."""
    defect = results.mean_over(measured["defect"], "defect", by=["model"])
    psnr = results.mean_over(measured["psnr"], "psnr", by=["model"])
    lines = ["Mean over all images and levels:"]
    lines += [f"  {arm}: defect {defect[arm,]:.0e}, PSNR {psnr[arm,]:.2f} dB" for (arm,) in psnr]
    lines.append(f"Tables, figures and records are in {options.workdir}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
