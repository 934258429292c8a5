"""Networks trained only on noisy pairs, applied once and in iterations.

All arms are trained on two noisy copies of each crop at sigma 10, never on a clean one. (a) One pass at other
levels, compared with networks trained on clean images if --networks contains them. (b) Residual-stopped
denoising: many small steps from sigma 10 until the residual is at 1/255 (Saied & Fleuret 2026, Table 11). (c)
Inpainting from 10 % of the pixels (Table 12), and problems without a published counterpart. Both iterations
use `wne_jax.inference.solvers.iterate` with the published constants; the published network is a SwinIR.

    python -m experiments.noise2noise
    WNE_DATA=... python -m experiments.noise2noise --preset small --networks experiments/results/networks
    WNE_DATA=... python -m experiments.noise2noise --preset paper --backbone swinir --arms n2n n2n-wne
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Size,
    Wanted,
    central,
    earlier_records,
    file_name,
    find_or_train,
    notes,
    published,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.parts import trajectories
from experiments.parts.restoration import (
    PROBLEMS,
    STOP_DENOISING,
    STOP_RESTORATION,
    Outcome,
    Problem,
    denoise_until,
    kept_steps,
    solve,
)
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, NOT_RUN, Record, mean_over
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View

TASK = "denoising"
"""The task of (b); the tasks of (c) are problems."""

PUBLISHED: dict[str, str] = {"n2n": "baseline", "n2n-wne": "wne"}
"""Rows of the published tables, keyed by our arms."""

VIEWS = (
    View(
        rows=("arm",), tables=("metric", "unit", "dataset", "trained"), only={"task": (None,)},
    ),
    View(
        rows=("arm",), columns=("result",), tables=("task", "dataset", "images", "size"),
        only={"result": ("one pass", "best", "final", "SSIM", "steps to best", "steps")},
    ),
)  # fmt: skip


class Extent(NamedTuple):
    """The part of a test set that is iterated: the first images, and the central crop of each."""

    images: int | None
    crop: int | None

    def of(self, images: Sequence[NamedImage]) -> list[NamedImage]:
        """The images."""
        chosen = images[: self.images]
        return [i if self.crop is None else central(i, self.crop) for i in chosen]


EXTENTS: dict[Size, dict[str, Extent]] = {
    "tiny": {"denoising": Extent(2, 128), "restoration": Extent(2, 64)},
    "small": {"denoising": Extent(None, 128), "restoration": Extent(4, 128)},
    "paper": {"denoising": Extent(None, None), "restoration": Extent(None, None)},
}


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line."""

    NAME = "noise2noise"

    arms: tuple[Arm, ...] = ("n2n", "n2n-wne", "n2n-wne-wiener-cap")
    train_sigmas_255: tuple[Level, ...] = ((10.0,),)
    supervised: tuple[Arm, ...] = ("baseline", "wne")
    """Arms trained on clean images; they are shown if --networks contains them, and never trained here."""
    problems: tuple[Problem, ...] = ("inpainting", "lowpass")
    """Inverse problems: known are random pixels, all but a square, low frequencies, or block means."""
    max_steps: int = 1000
    """Maximum steps of a restoration."""
    denoising_steps: int = 200
    """Maximum steps of residual-stopped denoising."""

    @property
    def name(self) -> str:
        """Name of the default folder."""
        return self.NAME if self.backbone == "dncnn" else f"{self.NAME}-{file_name(self.backbone)}"

    @property
    def level(self) -> float:
        """The training level, which is also that of the noisy images of (b)."""
        if len(self.trained) > 1:
            raise ValueError(f"--train-sigmas-255: this experiment takes one level, not {self.at}")
        return self.trained[0]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All iterations."""
        return (TASK, *self.problems)

    def extent(self, task: str) -> Extent:
        """The part of a test set that is iterated for a task, "denoising" or a problem."""
        extents = EXTENTS[self.preset]
        return extents.get(task, extents["restoration"])

    def steps_of(self, task: str) -> int:
        """Maximum steps of an iteration."""
        return self.denoising_steps if task == TASK else self.max_steps


Outcomes = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""By task and arm."""

Functions = Mapping[str, Callable[[Array], Array]]


def wanted(options: Options, arms: Sequence[Arm]) -> Wanted[Arm]:
    """The networks of the given arms."""
    return {
        arm: (arm, options.config(arm, options.trained, backbone=options.backbone)) for arm in arms
    }


def place(options: Options, dataset: str) -> dict[str, Any]:
    """The columns shared by all records of a test set."""
    return {"experiment": options.NAME, "dataset": dataset, "model": options.backbone,
            "trained": options.trained, "degradation": "gaussian"}  # fmt: skip


def iterate_all(options: Options, functions: Functions, images: Sequence[NamedImage]) -> Outcomes:
    """Run every task with every network."""
    key, found = jax.random.key(options.seed + 1), {}
    for task in options.tasks:
        views, steps = options.extent(task).of(images), options.steps_of(task)
        found[task] = {
            arm: denoise_until(f, views, key, sigma_255=options.level, max_steps=steps)
            if task == TASK
            else solve(task, f, views, key, max_steps=steps)
            for arm, f in functions.items()
        }
    return found


class Result(NamedTuple):
    """A column of the tables of iterations, as the setting `result`."""

    name: str
    metric: str
    unit: str | None
    field: str


RESULTS = (
    Result("one pass", "psnr", "dB", "one_pass"),
    Result("best", "psnr", "dB", "best"),
    Result("final", "psnr", "dB", "final"),
    Result("SSIM", "ssim", None, "ssim"),
    Result("steps to best", "steps", None, "steps_to_best"),
    Result("steps", "steps", None, "steps"),
)


def results_of(task: str) -> tuple[Result, ...]:
    """The columns of a task's table."""
    left_out = ("SSIM",) if task == TASK else ("best", "steps to best")
    return tuple(result for result in RESULTS if result.name not in left_out)


def settings(options: Options, task: str) -> dict[str, Any]:
    """The part of a test set that a task uses, as settings of records."""
    number, crop = options.extent(task)
    size = "whole" if crop is None else f"at most {crop}x{crop}"
    return {"task": task, "images": "all" if number is None else str(number), "size": size}


def cells(options: Options, dataset: str) -> list[Record]:
    """The cells of the tables of one test set, with the published figures."""
    level = options.shown(options.trained)
    curve = published.curve(f"{options.backbone}_sigma{options.at}", dataset)
    arms = (*options.arms, *options.supervised)
    found = published.cells(curve, arms, level, metric="psnr", unit="dB", **place(options, dataset))
    tables = {TASK: published.RESIDUAL_STOPPED, "inpainting": published.INPAINTING}
    for task in options.tasks:
        for arm in options.arms:
            row = tables.get(task, {}).get(PUBLISHED.get(arm, ""), {})
            theirs = row if dataset == "Set12" else {}
            found += [
                Record(
                    metric=result.metric, unit=result.unit, arm=arm, published=theirs.get(result.name),
                    settings=settings(options, task) | {"result": result.name},
                    **place(options, dataset),
                )
                for result in results_of(task)
            ]  # fmt: skip
    return found


def records_of(options: Options, found: Outcomes, dataset: str) -> Iterator[Record]:
    """Records of the result of every image, and of its history at the kept steps and the last."""
    for task, by_arm in found.items():
        kept = kept_steps(options.steps_of(task))
        for arm, outcomes in by_arm.items():
            for outcome in outcomes:
                columns = place(options, dataset) | {"arm": arm, "image": outcome.record["image"]}
                for result in RESULTS if task == TASK else results_of(task):
                    yield Record(
                        metric=result.metric, unit=result.unit, value=outcome.record[result.field],
                        settings=settings(options, task) | {"result": result.name}, **columns,
                    )  # fmt: skip
                yield Record(
                    metric="converged", value=outcome.record["converged"],
                    settings=settings(options, task), **columns,
                )  # fmt: skip
                for t in sorted(
                    {t for t in kept if t < len(outcome.psnr)} | {len(outcome.psnr) - 1}
                ):
                    at = {"task": task, "step": t}
                    level, psnr = 255 * outcome.sigma[t], outcome.psnr[t]
                    yield Record(
                        metric=trajectories.LEVEL, unit="1/255", value=level, settings=at, **columns
                    )
                    yield Record(
                        metric=trajectories.PSNR, unit="dB", value=psnr, settings=at, **columns
                    )


def in_words(options: Options, task: str, dataset: str) -> str:
    """The title of a task's figures."""
    return f"{task}, {dataset}, {options.backbone} trained from noisy pairs at {options.at}"


def draw_images(options: Options, found: Outcomes, dataset: str, out: Folder) -> None:
    """Draw the trajectories of the first image, as a panel and as an animation."""
    for task, by_arm in found.items():
        of_image = {arm: outcomes[0] for arm, outcomes in by_arm.items()}
        image = next(iter(of_image.values())).record["image"]
        path = out.path / f"trajectories-{task}-{dataset}.png"
        title = f"{in_words(options, task, dataset)}: image {image}"
        plotting.save(trajectories.panel(of_image, title=title), path, out.source, dpi=120)
        if task != TASK:
            trajectories.animation(of_image, path.with_suffix(".gif"))


def draw(options: Options, records: Sequence[Record], dataset: str, out: Folder) -> None:
    """Draw quality over the levels after one pass, and the iterations over their steps."""
    draw_sweep(options, records, dataset, out)
    for task in options.tasks:
        steps = [
            r
            for r in records
            if (r.dataset, r["task"]) == (dataset, task) and r["step"] is not None
        ]
        if steps:
            stop = 255 * (STOP_DENOISING if task == TASK else STOP_RESTORATION)
            title = in_words(options, task, dataset)
            figure = trajectories.curves(steps, stop_255=stop, title=title)
            plotting.save(figure, out.path / f"{task}-{dataset}.png", out.source)


def draw_sweep(options: Options, records: Sequence[Record], dataset: str, out: Folder) -> None:
    """Draw quality over the levels after one pass."""
    swept = [
        r for r in records if r.dataset == dataset and r["task"] is None and r.value is not None
    ]
    if swept:
        title = f"{dataset}, {options.backbone} trained at {options.at}, one pass"
        figure = plotting.quality_curves(swept, trained=options.trained, title=title)
        plotting.save(figure, out.path / f"psnr-{dataset}.png", out.source)


def main(options: Options) -> None:
    """Train missing networks, sweep, iterate, compare, draw."""
    if min(options.max_steps, options.denoising_steps) < 1:
        raise ValueError("--max-steps and --denoising-steps must be 1 or more")
    earlier, sets = earlier_records(options), options.sets()
    runs, others = wanted(options, options.arms), wanted(options, options.supervised)
    done = {r.arm for r in earlier}
    denoisers = find_or_train(options, without(runs, done), also=without(others, done))
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    iterating = {arm: f for arm, f in functions.items() if arm in runs}
    places, measured, key = [], [], jax.random.key(options.seed + 1)
    with results_folder(options) as out:
        for dataset, images in sets.items():
            places += cells(options, dataset)
            if functions:
                measured += sweep(
                    functions, images, options.levels(options.trained), key, repeats=options.draws,
                    **place(options, dataset),
                )  # fmt: skip
            found = iterate_all(options, iterating, images) if iterating else {}
            if iterating.keys() == runs.keys() or not earlier:  # else keep the earlier figure
                draw_images(options, found, dataset, out)
            measured += records_of(options, found, dataset)
        records = together(places, earlier, measured)
        out.write(records)
        for dataset in sets:
            draw(options, records, dataset, out)
        title = "Trained from noisy pairs at one level: one pass at others, and iterations"
        there = {r.arm for r in records if r.value is not None}
        configs = {
            arm: config for arm, (_, config) in (runs | others).items() if arm in there | set(runs)
        }
        write_table(out, title, sections(options, records) | notes(places), configs)
    print("\n" + _summary(options, records))


def sections(options: Options, records: Sequence[Record]) -> dict[str, str]:
    """The tables by title; those of problems say what is known."""
    levels = options.shown(options.trained)
    one_pass, iterations = VIEWS
    swept = [r for r in records if r.arm != INPUT and r.level in levels]
    tables = {f"One pass: {name}": text for name, text in tables_of(swept, one_pass).items()}
    words = {TASK: "Table 11 (of a SwinIR): residual-stopped denoising", **PROBLEMS}
    words["inpainting"] = f"Table 12 (of a SwinIR): inpainting, {PROBLEMS['inpainting']}"
    for task in options.tasks:
        shown = {result.name for result in results_of(task)}
        of_task = [r for r in records if r["task"] == task and r["result"] in shown]
        for name, text in tables_of(of_task, iterations).items():
            tables[f"{name}; at most {options.steps_of(task)} steps"] = f"{words[task]}.\n\n{text}"
    return tables


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary of the results."""
    lines = []
    means = mean_over(records, by=["task", "arm", "metric", "result"])
    for task in options.tasks:
        lines.append(f"{task}, mean PSNR (dB):")
        for arm in options.arms:
            if (task, arm, "psnr", "final") not in means:
                lines.append(f"  {arm}: {NOT_RUN}")
                continue
            one, final = (means[task, arm, "psnr", result] for result in ("one pass", "final"))
            ended = [
                r.value for r in records if (r.metric, r["task"], r.arm) == ("converged", task, arm)
            ]
            lines.append(
                f"  {arm}: one pass {one:.2f}, in the end {final:.2f} after "
                f"{means[task, arm, 'steps', 'steps']:.0f} steps; "
                f"{sum(ended):.0f} of {len(ended)} reached the level to stop at"
            )
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
