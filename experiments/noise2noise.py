"""Networks that were trained from noisy pairs alone, used again and again while the noise falls.

All arms see two noisy copies of each crop, at sigma 10, and never a clean one. (a) One pass at other levels,
beside networks trained from clean images, where --runs has them. (b) Residual-stopped denoising: many small
steps from sigma 10 until the residual is at 1/255 (Saied & Fleuret 2026, Table 11). (c) Inpainting from 10 %
of the pixels (Table 12), and problems without a published counterpart. Both iterations are
`wne_jax.inference.solvers.iterate`, with the published constants; the published network is a SwinIR.

    python -m experiments.noise2noise
    WNE_DATA=... python -m experiments.noise2noise --preset small --runs experiments/results/trained
    WNE_DATA=... python -m experiments.noise2noise --preset paper --backbone swinir --arms n2n n2n-wne
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import Array

from experiments import _cli, _comparison, _published, _runs, _sweeps, _trajectories
from experiments._arms import Arm, Size
from experiments._restoration import (
    PROBLEMS,
    STOP_DENOISING,
    STOP_RESTORATION,
    Outcome,
    Problem,
    denoise_until,
    kept_steps,
    solve,
)
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import psnr_sweep

SIGMA_255 = 10.0
"""Level of training, and of the noisy images of (b)."""

PUBLISHED: dict[str, str] = {"n2n": "baseline", "n2n-wne": "wne"}
"""Rows of the published tables, by our arms."""


class Extent(NamedTuple):
    """What of a test set the iterations go through: so many images, and the middle of each."""

    images: int | None
    crop: int | None

    def of(self, images: Sequence[NamedImage]) -> list[NamedImage]:
        """The images."""
        chosen = images[: self.images]
        return [i if self.crop is None else _sweeps.central(i, self.crop) for i in chosen]


EXTENTS: dict[Size, dict[str, Extent]] = {
    "tiny": {"denoising": Extent(2, 128), "restoration": Extent(2, 64)},
    "small": {"denoising": Extent(None, 128), "restoration": Extent(4, 128)},
    "paper": {"denoising": Extent(None, None), "restoration": Extent(None, None)},
}


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    arms: tuple[Arm, ...] = ("n2n", "n2n-wne", "n2n-wne-capped")
    """What is trained and compared."""
    supervised: tuple[Arm, ...] = ("baseline", "wne")
    """Arms that were trained from clean images; they are shown if --runs has them, and never trained here."""
    backbone: Literal["dncnn", "swinir"] = "dncnn"
    """The network inside."""
    problems: tuple[Problem, ...] = ("inpainting", "lowpass")
    """What is known of the images to restore: pixels, all but a square, low frequencies, block means."""
    max_steps: int = 1000
    """Steps after which a restoration ends anyway."""
    denoising_steps: int = 200
    """Steps after which residual-stopped denoising ends anyway."""
    workdir: Path | None = None
    """Folder for everything that is written; by default runs/noise2noise, for SwinIR with -swinir added."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.workdir or _sweeps.folder_of("noise2noise", self.backbone)

    def extent(self, task: str) -> Extent:
        """What of a test set an iteration goes through; "denoising" or a problem."""
        extents = EXTENTS[self.preset]
        return extents.get(task, extents["restoration"])

    def steps_of(self, task: str) -> int:
        """After how many steps an iteration ends."""
        return self.denoising_steps if task == "denoising" else self.max_steps


Outcomes = dict[str, dict[str, list[Outcome]]]
"""By task ("denoising", or a problem) and model."""


def iterate_all(
    options: Options,
    functions: Mapping[str, Callable[[Array], Array]],
    images: Sequence[NamedImage],
) -> Outcomes:
    """Every task with every model."""
    key, found = jax.random.key(options.seed + 1), {}
    for task in ("denoising", *options.problems):
        views, steps = options.extent(task).of(images), options.steps_of(task)
        found[task] = {
            model: denoise_until(f, views, key, sigma_255=SIGMA_255, max_steps=steps)
            if task == "denoising"
            else solve(task, f, views, key, max_steps=steps)
            for model, f in functions.items()
        }
    return found


_COLUMNS = {
    "denoising": {
        "one pass": "one_pass",
        "best": "best",
        "final": "final",
        "steps to best": "steps_to_best",
        "steps": "steps",
    },
    "restoration": {"one pass": "one_pass", "final": "final", "SSIM": "ssim", "steps": "steps"},
}
"""Columns of the tables, and what they are in the records."""


def compare(options: Options, found: Outcomes, name: str) -> list[_comparison.Cell]:
    """The cells of the iterations on one test set, a table for each task."""
    cells = []
    for task in ("denoising", *options.problems):
        published = {
            "denoising": _published.RESIDUAL_STOPPED,
            "inpainting": _published.INPAINTING,
        }.get(task, {})
        of_set = published if name == "Set12" else {}
        for arm in options.arms:
            records = [outcome.record for outcome in found.get(task, {}).get(arm, ())]
            row = of_set.get(PUBLISHED.get(arm, ""), {})
            for column, field in _COLUMNS.get(task, _COLUMNS["restoration"]).items():
                ours = float(np.mean([r[field] for r in records])) if records else None
                cells.append(
                    _comparison.cell(
                        _title(options, task, name), arm, column, ours, row.get(column)
                    )
                )
    return cells


def _title(options: Options, task: str, name: str) -> str:
    """What a table shows, and of how much."""
    number, crop = options.extent(task)
    images = "all images" if number is None else f"{number} images"
    size = "whole" if crop is None else f"at most {crop}x{crop} each"
    where = f"{name}, {images}, {size}; at most {options.steps_of(task)} steps"
    if task == "denoising":
        result = f"Table 11 (of a SwinIR): residual-stopped denoising from sigma {SIGMA_255:g}"
        return f"{result}, PSNR (dB); {where}"
    table = "Table 12 (of a SwinIR): " if task == "inpainting" else ""
    return f"{table}{task} ({PROBLEMS[task]}), PSNR (dB); {where}"


def draw(options: Options, found: Outcomes, name: str, source: dict[str, Any]) -> None:
    """Curves, and the trajectories of the first image as a panel and as an animation."""
    for task, by_model in found.items():
        title = f"{task}, {name}, {options.backbone} trained from noisy pairs at {SIGMA_255:g}"
        stop = STOP_DENOISING if task == "denoising" else STOP_RESTORATION
        figure = _trajectories.curves(by_model, stop_255=255 * stop, title=title)
        plotting.save(figure, options.folder / f"{task}-{name}.png", source)
        of_image = {model: outcomes[0] for model, outcomes in by_model.items()}
        image = next(iter(of_image.values())).record["image"]
        path = options.folder / f"trajectories-{task}-{name}.png"
        plotting.save(
            _trajectories.panel(of_image, title=f"{title}: image {image}"), path, source, dpi=120
        )
        if task != "denoising":
            _trajectories.animation(of_image, path.with_suffix(".gif"))


def sweep(
    options: Options,
    functions: Mapping[str, Callable[[Array], Array]],
    images: Sequence[NamedImage],
    name: str,
    source: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[_comparison.Cell]]:
    """One pass over all levels: the records and the cells of one test set, and a figure."""
    records, key = [], jax.random.key(options.seed + 1)
    if functions:
        records = psnr_sweep(
            functions, images, options.levels(SIGMA_255), key, repeats=options.sizes.repeats
        )
        title = f"{name}, {options.backbone} trained at {SIGMA_255:g}, one pass"
        figure = plotting.sweep_curves(records, train_sigma_255=(SIGMA_255,), title=title)
        plotting.save(figure, options.folder / f"psnr-{name}.png", source)
    cells = _sweeps.level_cells(
        f"One pass: PSNR (dB), {name}, trained at {SIGMA_255:g}",
        records,
        "psnr",
        arms=(*options.arms, *options.supervised),
        levels=options.shown(SIGMA_255),
        published=_sweeps.published_curve(f"{options.backbone}_sigma{SIGMA_255:g}", name),
    )
    return [{"set": name} | record for record in records], cells


def main(options: Options) -> None:
    """Train what is missing, sweep, iterate, compare, draw."""
    if min(options.max_steps, options.denoising_steps) < 1:
        raise ValueError("max_steps and denoising_steps must be 1 or more")
    sets = options.sets()
    wanted, others = (
        {arm: (arm, options.config(arm, SIGMA_255, backbone=options.backbone)) for arm in arms}
        for arms in (options.arms, options.supervised)
    )
    supervised = _runs.networks(dataclasses.replace(options, train=False), others)
    denoisers, source = _sweeps.trained(options, wanted, options.folder)
    _comparison.clear(
        options.folder, "psnr.csv", "iterations.csv", "trajectories.csv", "psnr-*.png", "trajectories-*.*",
        *(f"{task}-*.png" for task in ("denoising", *PROBLEMS)),
    )  # fmt: skip
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    with_others = functions | {arm: denoiser.function for arm, denoiser in supervised.items()}

    records: dict[str, list[dict[str, Any]]] = {"psnr": [], "iterations": [], "trajectories": []}
    cells: list[_comparison.Cell] = []
    passes: list[_comparison.Cell] = []
    tables: dict[str, str] = {}
    for name, images in sets.items():
        swept, of_levels = sweep(options, with_others, images, name, source)
        found = iterate_all(options, functions, images) if functions else {}
        draw(options, found, name, source)
        records["psnr"] += swept
        records["iterations"] += _records(found, name)
        records["trajectories"] += _curves(options, found, name)
        of_tasks = compare(options, found, name)
        with_ssim = [cell for cell in of_tasks if "denoising" not in cell["result"]]
        tables |= _comparison.tables([*of_levels, *(c for c in of_tasks if c not in with_ssim)])
        tables |= _comparison.tables(with_ssim, form=".3f")
        cells += [*of_levels, *of_tasks]
        passes += of_levels
    for file, rows in records.items():
        if rows:
            results.write_csv(rows, options.folder / f"{file}.csv")
    _comparison.write(cells, options.folder)
    title = "Trained from noisy pairs at one level: one pass at others, and iterations"
    configs = {arm: config for arm, (_, config) in (wanted | others).items()}
    shown = {
        arm: config for arm, config in configs.items() if arm not in others or arm in supervised
    }
    _sweeps.write_table(options.folder, title, tables | _sweeps.notes(passes), shown, source)
    print("\n" + _summary(options, records["iterations"]))


def _records(found: Outcomes, name: str) -> list[dict[str, Any]]:
    return [
        {"set": name, "task": task, "model": model} | outcome.record
        for task, by_model in found.items()
        for model, outcomes in by_model.items()
        for outcome in outcomes
    ]


def _curves(options: Options, found: Outcomes, name: str) -> list[dict[str, Any]]:
    """Level and PSNR of every image, at the kept steps and the last."""
    return [
        {"set": name, "task": task, "model": model, "image": outcome.record["image"], "step": t}
        | {"sigma_255": 255 * float(outcome.sigma[t]), "psnr": float(outcome.psnr[t])}
        for task, by_model in found.items()
        for model, outcomes in by_model.items()
        for outcome in outcomes
        for t in sorted({*kept_steps(options.steps_of(task)), len(outcome.psnr) - 1})
        if t < len(outcome.psnr)
    ]


def _summary(options: Options, solved: Sequence[Mapping[str, Any]]) -> str:
    """The result in words."""
    lines = []
    for task in ("denoising", *options.problems):
        lines.append(f"{task}, mean PSNR (dB):")
        for arm in options.arms:
            rows = [r for r in solved if r["task"] == task and r["model"] == arm]
            if not rows:
                lines.append(f"  {arm}: {_comparison.NOT_RUN}")
                continue
            one, final, steps = (
                np.mean([r[f] for r in rows]) for f in ("one_pass", "final", "steps")
            )
            ended = sum(r["converged"] for r in rows)
            lines.append(
                f"  {arm}: one pass {one:.2f}, in the end {final:.2f} after {steps:.0f} steps; "
                f"{ended} of {len(rows)} reached the level to stop at"
            )
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
