"""Figures of iterations: curves over the steps, a panel of estimates, an animation."""

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from experiments.parts.restoration import Outcome
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, split_by

Trajectories = Mapping[str, Outcome]
"""Outcomes of one image, by model."""

SHADES = 48
"""Gray levels of an animation; more would make the file larger, since noise does not compress."""


PSNR, LEVEL = "psnr_at_step", "residual_level"
"""Metrics of an image after a number of steps, which is the setting `step`."""


def curves(records: Sequence[Record], *, stop_255: float, title: str) -> Figure:
    """PSNR and level over the steps, averaged over images; a finished image keeps its last value.

    Args:
        records: Records of one task, with the metrics `PSNR` and `LEVEL`.
        stop_255: Stopping level in 8-bit units, which is marked.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    quality, level = figure.subplots(1, 2)
    starts, lengths = [], []
    arms = split_by(records, ["arm"])
    for colour, ((arm,), of_arm) in zip(cycle(plotting.COLOURS), arms.items()):
        steps, psnr = mean_history([r for r in of_arm if r.metric == PSNR])
        quality.plot(steps, psnr, color=colour, label=arm)
        quality.plot(steps[-1], psnr[-1], "o", color=colour, ms=5)
        # A geometric mean, so that diverging levels do not hide the others.
        levels = [r for r in of_arm if r.metric == LEVEL]
        steps, logarithm = mean_history(levels, lambda value: np.log(value + 1e-9))
        level.plot(steps, np.exp(logarithm), color=colour)
        starts.append(max(r.value for r in levels if r["step"] == 0))
        lengths.append(steps[-1])
    level.set_yscale("log")
    level.axhline(stop_255, color="0.6", lw=1, ls=":")
    level.annotate(
        "stops here", (1, stop_255), xycoords=("axes fraction", "data"), xytext=(-2, 3),
        textcoords="offset points", ha="right", fontsize=8, color="0.4",
    )  # fmt: skip
    level.set_ylim(stop_255 / 2, 4 * max(starts))
    for axes, label in ((quality, "PSNR (dB)"), (level, "residual level (8-bit units)")):
        axes.set(xlabel="steps", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        if max(lengths) > 300:
            axes.set_xscale("symlog", linthresh=10, linscale=0.6)
            axes.set_xlim(0, 1.1 * max(lengths))
            ticks = [t for t in (0, 10, 30, 100, 300, 1000) if t <= max(lengths)]
            axes.set_xticks(ticks, map(str, ticks))
    figure.legend(loc="outside lower center", ncols=len(arms), frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def mean_history(
    records: Sequence[Record], of: Callable[[np.ndarray], np.ndarray] = lambda value: value
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over images of a quantity at each step.

    Not every step is recorded: values are interpolated between recorded steps and constant after the last.

    Args:
        records: Records of one metric and arm, with the setting `step`.
        of: Function of a value, whose mean is taken.

    Returns:
        The steps that are recorded for any image, and the means.

    Example:
        >>> def at(image, step, value):
        ...     return Record(experiment="e", metric=PSNR, image=image, value=value, settings={"step": step})
        >>> steps, mean = mean_history([at("a", 0, 10), at("a", 2, 30), at("b", 0, 10), at("b", 1, 10)])
        >>> steps.tolist(), mean.tolist()
        ([0, 1, 2], [10.0, 15.0, 20.0])
    """
    steps = np.unique([record["step"] for record in records])
    rows = []
    for of_image in split_by(records, ["image"]).values():
        points = sorted((record["step"], record.value) for record in of_image)
        x, y = np.transpose(points)
        rows.append(np.interp(steps, x, of(y)))
    return steps, np.mean(rows, axis=0)


def panel(trajectories: Trajectories, *, title: str, columns: int = 5) -> Figure:
    """The image, the observation, and estimates at the same steps: a row per model, until its last step.

    Args:
        trajectories: Outcomes of one image.
        title: Title of the figure.
        columns: Number of steps shown.
    """
    rows = []
    for outcome in trajectories.values():
        row = {"clean": outcome.clean, "observed": outcome.observed}
        for t in _shown_steps(trajectories, columns):
            t = _last(outcome, t)
            row[f"step {t}: {_figures(outcome, t)}"] = outcome.frames[t]
        rows.append(row)
    return plotting.image_panel(rows, row_labels=list(trajectories), title=title)


def animation(trajectories: Trajectories, path: Path, *, size: int = 128, frames: int = 30) -> None:
    """Write a GIF of all models side by side, with a frame per step; finished models keep their last frame.

    Args:
        trajectories: Outcomes of one image.
        path: Path of the file, which ends in .gif.
        size: Side in pixels of each picture: larger images are cropped to the centre, smaller ones enlarged.
        frames: Maximum number of frames.
    """
    pictures = []
    for step in _shown_steps(trajectories, frames):
        first = next(iter(trajectories.values()))
        tiles = [_tile(first.observed, ("observed",), size)]
        for model, outcome in trajectories.items():
            t = _last(outcome, step)
            words = (model, f"step {t}", *_figures(outcome, t).split(", "))
            tiles.append(_tile(outcome.frames[t], words, size))
        pictures.append(Image.fromarray(np.concatenate(tiles, axis=1)))
    pauses = [150] * (len(pictures) - 1) + [2500]
    gif = io.BytesIO()
    pictures[0].save(
        gif,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=pauses,
        loop=0,
        optimize=True,
    )
    write_atomically(path, gif.getvalue())


def _shown_steps(trajectories: Trajectories, number: int) -> list[int]:
    """A selection of the kept steps until all converging models have ended, then the last step."""
    ends = [max(o.frames) for o in trajectories.values()]
    converged = [max(o.frames) for o in trajectories.values() if o.record["converged"]]
    kept = sorted({t for o in trajectories.values() for t in o.frames})
    steps = [t for t in kept if t <= 0.9 * max(converged or ends)]
    chosen = np.unique(np.linspace(0, len(steps) - 1, number - 1).round().astype(int))
    return [*(steps[i] for i in chosen if steps), max(ends)]


def _last(outcome: Outcome, step: int) -> int:
    """The last step up to this one whose estimate was kept."""
    return max(t for t in outcome.frames if t <= step)


def _figures(outcome: Outcome, step: int) -> str:
    sigma = 255 * outcome.sigma[step]
    level = f"{sigma:.1f}" if sigma < 1000 else f"{sigma:.0e}"
    return f"sigma {level}, {outcome.psnr[step]:.1f} dB"


def _tile(image: np.ndarray, lines: Sequence[str], size: int, *, gap: int = 6) -> np.ndarray:
    """A gray image with lines of text below, and a white margin."""
    height, width = (min(side, size) for side in image.shape[:2])
    top, left = ((side - n) // 2 for side, n in zip(image.shape, (height, width)))
    shown = image[top : top + height, left : left + width].mean(axis=-1)
    shown = np.rint(np.clip(shown, 0, 1) * (SHADES - 1)) * (255 / (SHADES - 1))
    enlarge = max(1, size // max(height, width))
    shown = shown.astype(np.uint8).repeat(enlarge, 0).repeat(enlarge, 1)
    canvas = Image.new("L", (max(shown.shape[1], size) + gap, shown.shape[0] + 64), 255)
    canvas.paste(Image.fromarray(shown), (gap // 2, gap // 2))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for i, line in enumerate(lines):
        draw.text((gap // 2, shown.shape[0] + 5 + 14 * i), line, fill=0, font=font)
    return np.asarray(canvas)
