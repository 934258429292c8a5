"""Figures from records and arrays. Each function returns a figure; `save` writes it with its origin."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.tables import METRICS, heading
from wne_jax.statistics import NoiseCurve

with extra("plot", "figures"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

COLOURS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
"""Colours that colour-blind readers can distinguish, for models in order of appearance."""


def quality_curves(
    records: Sequence[Record],
    metric: str = "psnr",
    *,
    trained: Sequence[float],
    arms: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Output quality over input quality, one curve per arm, as in Figure 3 of Saied & Fleuret (2026).

    Args:
        records: Records of a sweep, including the arm `INPUT` for the degraded image. Published values,
            including those of the input, are drawn as a thin dashed line behind the curve of their arm.
        metric: The metric.
        trained: Training levels; those in the sweep are marked, and a range is shaded.
        arms: Arms with the first colours, drawn or not, so that an arm has the same colour in every figure.
        title: Title of the figure.

    Raises:
        ValueError: There is no arm `INPUT`.
    """
    figure, axes = _figure(5.6, 4.6)
    records = [record for record in records if record.metric == metric]
    means = mean_over(records, by=["arm", "level"])
    levels = sorted(level for arm, level in means if arm == INPUT)
    if not levels:
        raise ValueError(f"the records must have the arm {INPUT!r}, whose values are the x axis")
    x = [means[INPUT, level] for level in levels]
    shown = [arm for arm in dict.fromkeys(arm for arm, _ in means) if arm != INPUT]
    published = _published_points(records)
    for colour, arm in zip(_cycle(), dict.fromkeys([*arms, *shown])):
        if arm not in shown:
            continue
        points = [(at, means[arm, s]) for at, s in zip(x, levels) if (arm, s) in means]
        axes.plot(*zip(*points), "o-", color=colour, label=arm, ms=4)
        if arm in published:
            axes.plot(*zip(*published[arm]), "--", color=colour, lw=1, alpha=0.7, zorder=1)
    drawn = [point for arm in shown for point in published.get(arm, ())]
    if drawn:
        axes.plot([], [], "--", color="0.4", lw=1, label="published")
    axes.axline((x[0], x[0]), slope=1, color="0.6", lw=1, ls=":", label="output = input")

    inside = [at for at, level in zip(x, levels) if trained[0] <= level <= trained[-1]]
    if len(trained) == 1 and inside:
        axes.axvline(inside[0], color="0.6", lw=1, ls="--", label=f"trained at {trained[0]:g}")
    elif inside:
        axes.axvspan(min(inside), max(inside), color="0.93", label="trained on")

    unit = f" ({records[0].unit})" if records[0].unit else ""
    name = METRICS.get(metric, metric)
    axes.set(xlabel=f"input {name}{unit}", ylabel=f"output {name}{unit}", title=title)
    ours = list(means.values())
    beside = 0.05 * (max(ours) - min(ours))
    outputs = ours + [y for at, y in drawn if min(x) - beside <= at <= max(x) + beside]
    ends = [*outputs, *x]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(x) - margin, max(x) + margin)
    axes.set_ylim(min(outputs) - margin, max(outputs) + margin)
    above = axes.secondary_xaxis("top", functions=(lambda v: v, lambda v: v))
    named = _apart(x, 0.05 * (max(x) - min(x)))
    above.set_xticks([x[i] for i in named], [f"{levels[i]:g}" for i in named], fontsize=8)
    above.set_xlabel("noise level (8-bit units)")
    axes.legend(frameon=False)
    return figure


def _published_points(records: Sequence[Record]) -> dict[str, list[tuple[float, float]]]:
    """The published curves of the arms: output over input quality, if both are published."""
    means = mean_over(records, "published", by=["arm", "level"])
    curves: dict[str, list[tuple[float, float]]] = {}
    for (arm, level), value in means.items():
        if arm != INPUT and (INPUT, level) in means:
            curves.setdefault(arm, []).append((means[INPUT, level], value))
    return {arm: sorted(points) for arm, points in curves.items()}


def level_curves(
    records: Sequence[Record],
    metric: str,
    *,
    label: str,
    trained: Sequence[float] = (),
    logarithmic: bool = False,
    title: str = "",
) -> Figure:
    """A metric over the noise level, one curve per arm.

    Args:
        records: Records of a sweep, which are averaged over images and repeats.
        metric: The metric.
        label: Label of its axis.
        trained: Training levels, which are marked.
        logarithmic: Whether the metric also has a logarithmic scale.
        title: Title of the figure.
    """
    figure, axes = _figure(6.4, 4.4)
    means = mean_over([r for r in records if r.metric == metric], by=["arm", "level"])
    for colour, arm in zip(_cycle(), dict.fromkeys(arm for arm, _ in means)):
        points = sorted((level, y) for (name, level), y in means.items() if name == arm)
        axes.plot(*zip(*points), "o-", color=colour, label=arm, ms=4)
    for level in trained:
        axes.axvline(level, color="0.6", lw=1, ls="--", label=f"trained at {level:g}")
    axes.set_xscale("log")
    if logarithmic:
        axes.set_yscale("log")
    levels = sorted({level for _, level in means})
    named = _apart(np.log(levels), 0.04 * np.log(levels[-1] / levels[0]))
    axes.set_xticks([levels[i] for i in named], [f"{levels[i]:g}" for i in named])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="noise level (8-bit units)", ylabel=label, title=title)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _apart(places: Sequence[float] | np.ndarray, gap: float) -> list[int]:
    """Indices of positions with at least `gap` between neighbours, from the last one on, for labels."""
    named: list[int] = []
    for i in reversed(range(len(places))):
        if not named or abs(places[i] - places[named[-1]]) >= gap:
            named.append(i)
    return named


def image_panel(
    panels: Sequence[Mapping[str, np.ndarray]], *, row_labels: Sequence[str], title: str = ""
) -> Figure:
    """Rows of images with captions, from black at 0 to white at 1.

    Args:
        panels: For each row, a mapping from captions to images [H, W, C] in unit range.
        row_labels: One label per row.
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


def ratio_bars(records: Sequence[Record], *, rows: Sequence[str], title: str = "") -> Figure:
    """Ratios as points with their quartiles, and a line at 1.

    Args:
        records: Three records per ratio, with the setting `quantile` at 0.25, 0.5 and 0.75.
        rows: The columns or settings that identify a ratio.
        title: Title of the figure.
    """
    ratios = {
        heading(key): mean_over(of, by=["quantile"]) for key, of in split_by(records, rows).items()
    }
    figure, axes = _figure(6.4, 0.45 * len(ratios) + 1.3)
    low, middle, high = (np.array([of[(q,)] for of in ratios.values()]) for q in (0.25, 0.5, 0.75))
    spread = np.stack([middle - low, high - middle])
    places = np.arange(len(ratios))[::-1]
    axes.errorbar(middle, places, xerr=spread, fmt="o", color=COLOURS[1], capsize=3)
    axes.axvline(1, color="0.6", lw=1, ls="--")
    for x, y in zip(middle, places):
        axes.annotate(
            f"{x:.2f}", (x, y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(places, list(ratios))
    axes.set_ylim(-0.6, len(ratios) - 0.4)
    axes.set(xlabel="time ratio (median, quartiles)", title=title)
    return figure


def spectrum_curves(records: Sequence[Record], *, cutoff: float, title: str = "") -> Figure:
    """Radial power spectra, one curve per layer, as in Figure 1 of Scanvic et al. (2025).

    Args:
        records: Records of the metric "power", one arm per layer, with the setting `frequency` in cycles per
            pixel; they are averaged over maps.
        cutoff: The band limit of the maps before the layers, in cycles per pixel.
        title: Title of the figure.
    """
    figure, axes = _figure(6.4, 4.4)
    means = mean_over(records, by=["arm", "frequency"])
    for colour, layer in zip(_cycle(), dict.fromkeys(arm for arm, _ in means)):
        points = sorted((f, p) for (name, f), p in means.items() if name == layer)
        style = "--" if layer == INPUT else "-"
        axes.plot(*zip(*points), style, color=colour, label=layer, lw=1.6)
    axes.axvline(cutoff, color="0.6", lw=1, ls=":", label="cut-off")
    axes.set_yscale("log")
    axes.set(
        xlabel="radial frequency (cycles per pixel)", ylabel="power spectral density", title=title
    )
    axes.legend(frameon=False, fontsize=8)
    return figure


_SHADE = "0.93"


def layer_bars(records: Sequence[Record], *, threshold: float, title: str = "") -> Figure:
    """The defect of every step of a network, from the image at the top to the result, one panel per model.

    Args:
        records: One record per step, in network order, with the settings `kind`, `transformation`, `padding`.
        threshold: Defects below it are rounding; that side is shaded, and their bars are pale.
        title: Title of the figure.
    """
    panels = {model: of for (model,), of in split_by(records, ["model"]).items()}
    moves = list(dict.fromkeys(record["transformation"] for record in records))
    paddings = list(dict.fromkeys(record["padding"] for record in records))
    # In inches: a panel has a header, a row for each step, and a footer for the ticks.
    row, head, foot, label, bar, gap = 0.17, 0.55, 0.35, 1.5, 1.3, 0.1
    steps = {m: len(panel) // len(moves) // len(paddings) for m, panel in panels.items()}
    heights = {model: head + row * number + foot for model, number in steps.items()}
    places = _in_columns(heights)
    height = max(above + heights[model] for model, (_, above) in places.items())
    pitch = label + len(moves) * (bar + gap) + 0.2
    size = pitch * (1 + max(column for column, _ in places.values())), height + 0.8
    figure = Figure(figsize=size)
    figure.suptitle(title, fontsize=11, y=1 - 0.15 / size[1])
    for model, (column, above) in places.items():
        bottom = size[1] - 0.4 - above - head - row * steps[model]
        for i, move in enumerate(moves):
            left = pitch * column + label + i * (bar + gap)
            axes = figure.add_axes((
                left / size[0], bottom / size[1], bar / size[0], row * steps[model] / size[1]
            ))  # fmt: skip
            shown = [record for record in panels[model] if record["transformation"] == move]
            _bars_downwards(axes, shown, paddings, threshold, labelled=i == 0)
            axes.set_title(move, fontsize=8)
            if i == 0:
                axes.text(
                    0, 1 + 0.27 / (row * steps[model]), model, transform=axes.transAxes,
                    fontsize=10, fontweight="bold",
                )  # fmt: skip
    colours = [
        Patch(color=COLOURS[2 - i], label=f"padding {padding}")
        for i, padding in enumerate(paddings)
    ]
    shade = Patch(color=_SHADE, label="rounding: commutes")
    figure.legend(
        handles=[*colours, shade], loc="lower center", ncols=1 + len(paddings), frameon=False
    )
    return figure


def _in_columns(heights: Mapping[str, float]) -> dict[str, tuple[int, float]]:
    """Column of each panel and its distance from the top; columns are about as high as the highest panel."""
    places, column, above = {}, 0, 0.0
    for name, height in heights.items():
        if above + height > 1.2 * max(heights.values()):
            column, above = column + (above > 0), 0.0
        places[name] = (column, above)
        above += height
    return places


def _bars_downwards(
    axes: Any,
    records: Sequence[Record],
    paddings: Sequence[str],
    threshold: float,
    *,
    labelled: bool,
) -> None:
    """Bars of one transformation on a logarithmic scale, with the paddings side by side."""
    height = 0.8 / len(paddings)
    axes.axvspan(1e-8, threshold, color=_SHADE, zorder=0)
    for i, padding in enumerate(paddings):
        shown = [record for record in records if record["padding"] == padding]
        places = np.arange(len(shown)) + (i - (len(paddings) - 1) / 2) * height
        values = np.array([record.value for record in shown])
        bars = axes.barh(places, np.maximum(values, 1e-8), height, color=COLOURS[2 - i])
        for bar, value in zip(bars, values):
            bar.set_alpha(0.3 if value < threshold else 1)
    axes.set(xscale="log", xlim=(1e-8, 4), ylim=(len(shown) - 0.4, -0.6))
    axes.set_xticks([1e-7, 1e-5, 1e-3, 1e-1])
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(shown)), [record["kind"] for record in shown], fontsize=7)
    axes.yaxis.set_tick_params(labelleft=labelled)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, source: Mapping[str, Any], *, dpi: int = 150) -> None:
    """Write a PNG with its origin in the description.

    Args:
        figure: The figure.
        path: Output path, which ends in .png.
        source: The result of `wne_jax.evaluation.origin.provenance`.
        dpi: Resolution.
    """
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    figure.savefig(png, dpi=dpi, format="png", metadata={"Description": footer(source)})
    write_atomically(path, png.getvalue())


def noise_curve(curve: NoiseCurve, *, title: str = "") -> Figure:
    """The variance of the noise of one image over its intensity: the bins, and the line as far as it counts.

    Args:
        curve: What `wne_jax.statistics.noise_curve` returns; its first image is drawn.
        title: Title of the figure.
    """
    figure, axes = _figure(5.2, 4.0)
    x, variance, blocks = (np.asarray(part)[0] for part in curve[:3])
    some = blocks > 0
    axes.plot(x[some], variance[some], "o", color=COLOURS[1], ms=5, label="flat blocks of a bin")
    slope, mean, at_mean = (float(part[0]) for part in (curve.slope, curve.mean, curve.at_mean))
    if some.any():
        ends = np.array([x[some].min(), x[some].max()])
        style = "-" if float(curve.trust[0]) > 0.5 else ":"
        label = f"line, {float(curve.significance[0]):.1f} standard errors"
        axes.plot(ends, at_mean + slope * (ends - mean), style, color=COLOURS[2], label=label)
    axes.set(xlabel="intensity", ylabel="variance of the noise", title=title)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _cycle() -> Sequence[str]:
    return COLOURS * 4
