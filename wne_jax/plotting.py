"""Figures, from records and arrays. Each function returns a figure; `save` writes it with its origin."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wne_jax._files import write_atomically
from wne_jax.results import Record, footer, mean_over

COLOURS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
"""Colours that the colour-blind tell apart, for models in order of appearance."""


def sweep_curves(
    records: Sequence[Record],
    *,
    train_sigma_255: Sequence[float],
    value: str = "psnr",
    title: str = "",
) -> Figure:
    """Output over input quality, a curve a model, as in Figure 3 of Saied & Fleuret (2026).

    Args:
        records: Of `psnr_sweep` or `ssim_sweep`.
        train_sigma_255: Training levels, marked where they occur in the sweep (a range is shaded).
        value: "psnr" or "ssim".
        title: Title of the figure.
    """
    figure, axes = _figure(5.6, 4.6)
    by_input = mean_over(records, f"input_{value}", by=["sigma_255"])
    means = mean_over(records, value, by=["model", "sigma_255"])
    sigmas = sorted(sigma for (sigma,) in by_input)
    x = [by_input[(sigma,)] for sigma in sigmas]
    for colour, model in zip(_cycle(), _names(records)):
        axes.plot(x, [means[model, s] for s in sigmas], "o-", color=colour, label=model, ms=4)
    axes.axline((x[0], x[0]), slope=1, color="0.6", lw=1, ls=":", label="output = input")

    inside = [by_input[(s,)] for s in sigmas if train_sigma_255[0] <= s <= train_sigma_255[-1]]
    if len(train_sigma_255) == 1 and inside:
        axes.axvline(
            inside[0], color="0.6", lw=1, ls="--", label=f"trained at {train_sigma_255[0]:g}"
        )
    elif inside:
        axes.axvspan(min(inside), max(inside), color="0.93", label="trained on")

    unit = " (dB)" if value == "psnr" else ""
    axes.set(
        xlabel=f"input {value.upper()}{unit}", ylabel=f"output {value.upper()}{unit}", title=title
    )
    low, high = min(x), max(*means.values(), *x)
    margin = 0.05 * (high - low)
    axes.set_xlim(x[-1] - margin, x[0] + margin)
    axes.set_ylim(min(low, *means.values()) - margin, high + margin)
    above = axes.secondary_xaxis("top", functions=(lambda v: v, lambda v: v))
    above.set_xticks(x, [f"{sigma:g}" for sigma in sigmas], fontsize=8)
    above.set_xlabel("noise level (8-bit units)")
    axes.legend(frameon=False)
    return figure


def image_panel(
    panels: Sequence[Mapping[str, np.ndarray]], *, row_labels: Sequence[str], title: str = ""
) -> Figure:
    """Rows of captioned images, shown from black at 0 to white at 1.

    Args:
        panels: For each row, images [H, W, C] in unit range by caption.
        row_labels: A label for each row.
        title: Title of the figure.
    """
    columns = max(len(row) for row in panels)
    figure = Figure(figsize=(1.9 * columns, 2.15 * len(panels) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for row, label, line in zip(panels, row_labels, grid):
        line[0].set_ylabel(label, fontsize=9)
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        for (caption, image), axes in zip(row.items(), line):
            shown = np.clip(image[..., 0] if image.shape[-1] == 1 else image, 0, 1)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(caption, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def ratio_bars(
    records: Sequence[Record], *, group: str, value: str, low: str, high: str, title: str = ""
) -> Figure:
    """Ratios as points with their spread, a line at 1.

    Args:
        records: One for each ratio.
        group: Column of the labels.
        value: Column of the medians.
        low: Column of the lower ends of the spread.
        high: Column of the upper ends.
        title: Title of the figure.
    """
    figure, axes = _figure(6.4, 0.45 * len(records) + 1.3)
    middle = np.array([record[value] for record in records])
    spread = np.abs(np.array([[r[low] for r in records], [r[high] for r in records]]) - middle)
    places = np.arange(len(records))[::-1]
    axes.errorbar(middle, places, xerr=spread, fmt="o", color=COLOURS[1], capsize=3)
    axes.axvline(1, color="0.6", lw=1, ls="--")
    for x, y in zip(middle, places):
        axes.annotate(
            f"{x:.2f}", (x, y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(places, [record[group] for record in records])
    axes.set_ylim(-0.6, len(records) - 0.4)
    axes.set(xlabel="time ratio (median, quartiles)", title=title)
    return figure


def save(figure: Figure, path: Path, source: Mapping[str, Any], *, dpi: int = 150) -> None:
    """Write a PNG whose description says where it comes from.

    Args:
        figure: The figure.
        path: Where to; ends in .png.
        source: What `wne_jax.results.provenance` returned.
        dpi: Resolution.
    """
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    figure.savefig(png, dpi=dpi, format="png", metadata={"Description": footer(source)})
    write_atomically(path, png.getvalue())


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["model"] for record in records))


def _cycle() -> Sequence[str]:
    return COLOURS * 4
