"""Goals, table and figure of `experiments.throughput`.

In memory, a measurement is a row with all numbers of one model, variant, precision and task. On disk, each
number is a record. `to_records` and `to_rows` are inverses.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, split_by
from wne_jax.evaluation.tables import markdown_table

BAR = 0.2
"""Width of a bar of the figure, relative to the width 1 of a precision."""


_QUANTILES = {"_q1": 0.25, "": 0.5, "_q3": 0.75}


def to_records(row: Mapping[str, Any]) -> Iterator[Record]:
    """A record for each number of a measurement; missing numbers have none."""
    settings = {name: row[name] for name in ("precision", "task", "batch", "size")}
    numbers = [("rate", row["unit"], row["rate"], {})]
    for end, quantile in _QUANTILES.items():
        at = {"quantile": quantile}
        numbers.append(("seconds", "s", row[f"seconds{end}"], at))
        if row["ratio"] is not None:
            numbers.append(
                ("time_ratio", None, row[f"ratio{end}"], at | {"reference": row["ratio_to"]})
            )
    if row["flops"] is not None:
        numbers.append(("operations", None, row["flops"], {}))
        numbers.append(("share_of_peak", None, row["share_of_peak"], {}))
    numbers.append(("peak", "1/s", row["peak_flops"], {"origin": row["peak_from"]}))
    for metric, unit, value, more in numbers:
        yield Record(experiment="throughput", metric=metric, unit=unit, value=value, model=row["model"],
                     arm=row["variant"], settings=settings | more)  # fmt: skip


def to_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The measurements, from their records."""
    key = ("model", "arm", "precision", "task", "batch", "size")
    rows = []
    for place, of in split_by(records, key).items():
        found = {(r.metric, r["quantile"]): r for r in of}

        def value(metric: str, quantile: float | None = None) -> float | None:
            record = found.get((metric, quantile))  # noqa: B023
            return None if record is None else record.value

        ratio, peak = found.get(("time_ratio", 0.5)), found["peak", None]
        row = dict(zip(("model", "variant", *key[2:]), place))
        row |= {f"seconds{end}": value("seconds", q) for end, q in _QUANTILES.items()}
        row |= {f"ratio{end}": value("time_ratio", q) for end, q in _QUANTILES.items()}
        rows.append(row | {
            "rate": value("rate"), "unit": found["rate", None].unit, "flops": value("operations"),
            "share_of_peak": value("share_of_peak"), "peak_flops": peak.value,
            "peak_from": peak["origin"], "ratio_to": None if ratio is None else ratio["reference"],
        })  # fmt: skip
    return rows


def goals(records: Sequence[Mapping[str, Any]], *, on_gpu: bool) -> list[dict[str, str]]:
    """The goals, the worst case for each, and whether it was reached.

    Args:
        records: The measurements, as rows.
        on_gpu: Whether they were made on a GPU; some goals only apply there.
    """
    key = ("model", "variant", "precision", "task")
    seconds = {tuple(r[k] for k in key): r["seconds"] for r in records}
    compared = [r for r in records if r["ratio"] is not None]
    column, limit = ("ratio_q1", 1.0) if on_gpu else ("ratio", 1.02)
    wrapper = {_label(r): r[column] for r in compared if r["variant"] == "jax wrapped"}
    equal = {
        _label(r): 1 / r["ratio"]
        for r in compared
        if on_gpu and r["variant"] == "jax" and r["task"] == "training"
    }
    mixed, affine = {}, {}
    for (model, variant, precision, task), value in seconds.items():
        if variant != "jax" or task != "training":
            continue
        eager = seconds.get((model, "torch eager", "float32", task))
        if on_gpu and precision == "bfloat16" and eager is not None:
            mixed[model] = eager / value
        ordinary = seconds.get(("fdncnn", variant, precision, task))
        if model == "ne-arch" and ordinary is not None:
            affine[precision] = value / ordinary
    pipeline = {
        f"{r['variant']}, {r['precision']}": r["ratio"]
        for r in compared
        if r["task"] == "input pipeline"
    }
    name = "lower quartile of the time" if on_gpu else "time"
    speed = "GPU training, speed over eager"
    return [
        _judge(f"wrapped over unwrapped, {name}: at most {limit:.2f}", wrapper, limit),
        _judge(f"{speed} PyTorch at equal precision: at least 1.3", equal, 1.3, least=True),
        _judge(f"{speed} PyTorch in float32, ours in bfloat16: at least 2.5", mixed, 2.5, least=True),
        _judge("NE-arch over FDnCNN, time of training: at most 1.15", affine, 1.15),
        _judge("step with data over step with a constant batch, time: at most 1.03", pipeline, 1.03),
    ]  # fmt: skip


def _judge(
    goal: str, values: Mapping[str, float], limit: float, *, least: bool = False
) -> dict[str, str]:
    """Compare the worst value with the limit."""
    if not values:
        return {"goal": goal, "worst case": "", "verdict": "not measured here"}
    worst = (min if least else max)(values, key=values.__getitem__)
    reached = values[worst] >= limit if least else values[worst] <= limit
    verdict = "reached" if reached else "missed"
    return {"goal": goal, "worst case": f"{values[worst]:.3f} ({worst})", "verdict": verdict}


def _label(record: Mapping[str, Any]) -> str:
    return f"{record['model']}, {record['task']}, {record['precision']}"


def make_table(records: Sequence[Mapping[str, Any]]) -> str:
    """All measurements as a Markdown table; missing numbers are left empty."""
    header = ["model", "task", "precision", "variant", "rate", "ms", "time ratio (quartiles)", "to",
              "GFLOP", "share of peak"]  # fmt: skip
    body = [
        [
            r["model"], r["task"], r["precision"], r["variant"], f"{r['rate']:.4g} {r['unit']}",
            f"{1e3 * r['seconds']:.4g}",
            *(["", ""] if r["ratio"] is None else
              [f"{r['ratio']:.3f} ({r['ratio_q1']:.3f} to {r['ratio_q3']:.3f})", r["ratio_to"]]),
            *(["", ""] if r["flops"] is None else
              [f"{r['flops'] / 1e9:.3g}", f"{r['share_of_peak']:.1%}"]),
        ]
        for r in records
    ]  # fmt: skip
    return markdown_table(header, body)


def make_figure(records: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Rates as bars: axes for each model and task, a group for each precision, a colour for each variant."""
    rows = [r for r in records if r["task"] != "input pipeline"]
    models, tasks, variants, precisions = (
        list(dict.fromkeys(r[k] for r in rows)) for k in ("model", "task", "variant", "precision")
    )
    width = max(2.0, 0.2 * (len(variants) + 1) * len(precisions))
    size = (width * len(models) + 0.6, 2.2 * len(tasks) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(tasks), len(models), squeeze=False)
    for r in rows:
        axes = grid[tasks.index(r["task"]), models.index(r["model"])]
        nth = variants.index(r["variant"])
        place = precisions.index(r["precision"]) + (nth - (len(variants) - 1) / 2) * BAR
        spread = [[r["rate"] * (1 - r["seconds"] / r["seconds_q3"])],
                  [r["rate"] * (r["seconds"] / r["seconds_q1"] - 1)]]  # fmt: skip
        axes.bar(place, r["rate"], BAR, color=plotting.COLOURS[nth], yerr=spread,
                 error_kw={"lw": 0.8, "ecolor": "0.5"})  # fmt: skip
        above = (place, r["rate"] * r["seconds"] / r["seconds_q1"])
        axes.annotate(f"{r['rate']:.3g}", above, xytext=(0, 3), textcoords="offset points",
                      ha="center", rotation=90, fontsize=7)  # fmt: skip
        axes.margins(y=0.2)
        axes.set_title(r["model"], fontsize=10)
        axes.set_xticks(range(len(precisions)), precisions, fontsize=8)
        axes.tick_params(axis="y", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes, task in zip(grid[:, 0], tasks):
        unit = next(r["unit"] for r in rows if r["task"] == task)
        axes.set_ylabel(f"{task}, {unit}", fontsize=9)
    handles = [Patch(color=colour, label=v) for colour, v in zip(plotting.COLOURS, variants)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(variants), frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def peaks_line(records: Sequence[Mapping[str, Any]]) -> str:
    """The peak at each precision, and its origin."""
    peaks = {r["precision"]: (r["peak_flops"] / 1e12, r["peak_from"]) for r in records}
    origins = {"published": "published", "matmul": "a large product, measured"}
    return "; ".join(
        f"{name} {value:.4g} TFLOP/s ({origins[origin]})" for name, (value, origin) in peaks.items()
    )
