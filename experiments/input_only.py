r"""Why denormalization is needed: a network with normalized input and no denormalization, $g(T(y))$.

Saied & Fleuret (2026), Figures 18 and 19. Its output is the same for y and a y + b, so the network must guess
mean and standard deviation of the clean image from the texture of T(y). The cost is visible in the mean
squared error of an estimate f of x, which is exactly

    (mean f - mean x)^2 + (std f - std x)^2 + 2 std f std x (1 - r),

the errors of brightness, contrast and structure, where r is the correlation of f and x. Each is given as the
PSNR of an estimate with that error only. If the network guessed one wrong brightness and contrast for the
whole image, the structure error would equal that of the wrapped network. But a convolutional network guesses
separately at every place, from its receptive field; a larger structure error shows that the guess varies over
the image.

    python -m experiments.input_only
    WNE_DATA=... python -m experiments.input_only --preset small --networks experiments/results/networks
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    against_first,
    earlier_records,
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
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import Quality, noisy_and_clean, sweep
from wne_jax.evaluation.tables import View
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset", "trained"))


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line."""

    NAME = "input_only"

    arms: tuple[Arm, ...] = ("baseline", "wne", "input-only")
    train_sigmas_255: tuple[Level, ...] = ((10.0,),)


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Mean and standard deviation `[B]`, and the image minus its mean `[B, H, W, C]`."""
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean.ravel(), jnp.std(x, axis=(1, 2, 3)), x - mean


def brightness_error(estimate: Array, clean: Array) -> Array:
    """(mean f - mean x)^2, the part of the mean squared error that an offset would remove, `[B]`."""
    return jnp.square(_moments(estimate)[0] - _moments(clean)[0])


def contrast_error(estimate: Array, clean: Array) -> Array:
    """(std f - std x)^2, `[B]`."""
    return jnp.square(_moments(estimate)[1] - _moments(clean)[1])


def structure_error(estimate: Array, clean: Array) -> Array:
    """2 std f std x (1 - r), the error that remains at correct brightness and contrast, `[B]`."""
    (_, std_f, f), (_, std_x, x) = _moments(estimate), _moments(clean)
    return 2 * (std_f * std_x - jnp.mean(f * x, axis=(1, 2, 3)))


def gain(estimate: Array, clean: Array) -> Array:
    """Contrast of the output relative to the clean image, std f / std x, `[B]`."""
    return _moments(estimate)[1] / _moments(clean)[1]


ERRORS = {
    "brightness": brightness_error,
    "contrast": contrast_error,
    "structure": structure_error,
}


EXACT = {("wne", "brightness"), ("wne", "contrast")}
"""Parts shown only in the table."""

MEASURES = (
    "psnr",
    *(Quality(f"{part}_error", function) for part, function in ERRORS.items()),
    Quality("contrast_gain", gain),
)

ALONE = {f"{part}_error": f"psnr_of_{part}_alone" for part in ERRORS}
"""Each part of the error, and its metric in decibels."""


def in_decibels(records: Sequence[Record]) -> list[Record]:
    """The parts of the error as PSNR, a record for each arm, level and part.

    Squared errors are first averaged over the images, because a part may be 0 in one of them. The baseline is
    left out, because its parts are not informative.
    """
    columns = ("experiment", "metric", "dataset", "degradation", "model", "trained", "arm", "level")
    parts = [r for r in records if r.metric in ALONE and r.arm not in (INPUT, "baseline")]
    return [
        Record(
            unit="dB", value=-10 * np.log10(max(error, 1e-12)),
            **dict(zip(columns, place)) | {"metric": ALONE[place[1]]},
        )
        for place, error in mean_over(parts, by=columns).items()
    ]  # fmt: skip


def wanted(options: Options) -> Wanted[Arm]:
    """The networks, by arm."""
    backbone = options.backbone
    return {
        arm: (arm, options.config(arm, options.trained, backbone=backbone)) for arm in options.arms
    }


def place(options: Options, dataset: str) -> dict[str, Any]:
    """The columns shared by all records of a test set."""
    return {"experiment": options.NAME, "dataset": dataset, "model": options.backbone,
            "trained": options.trained, "degradation": "gaussian"}  # fmt: skip


def curve(options: Options, dataset: str) -> list[Record]:
    """The published PSNR curve."""
    return published.curve(f"{options.backbone}_sigma{options.at}_in", dataset)


def cells(options: Options, datasets: Sequence[str]) -> list[Record]:
    """The cells of the tables, with the published figures."""
    levels, arms = options.shown(options.trained), options.arms
    wrapped = [arm for arm in arms if arm != "baseline"]
    metrics_of = {"psnr": ("dB", arms), **dict.fromkeys(ALONE.values(), ("dB", wrapped))}
    metrics_of["contrast_gain"] = (None, arms)
    return [
        cell
        for name in datasets
        for metric, (unit, of) in metrics_of.items()
        for cell in published.cells(
            curve(options, name) if metric == "psnr" else [],
            of, levels, metric=metric, unit=unit, **place(options, name),
        )
    ]  # fmt: skip


def measure(
    options: Options, denoisers: Mapping[Arm, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """PSNR, the parts of the error and the gain of every network at all test levels."""
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    levels, key = options.levels(options.trained), jax.random.key(options.seed + 1)
    records = []
    for name, images in sets.items() if functions else ():
        records += sweep(
            functions, images, levels, key,
            measures=MEASURES, repeats=options.draws, **place(options, name),
        )  # fmt: skip
    return [*records, *in_decibels(records)]


def main(options: Options) -> None:
    """Train missing networks, sweep, compare, draw."""
    earlier, runs, sets = earlier_records(options), wanted(options), options.sets()
    denoisers = find_or_train(options, without(runs, {r.arm for r in earlier}))
    with results_folder(options) as out:
        found = cells(options, list(sets))
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, [r for r in records if r.value is not None], out)
        for name, images in sets.items():
            if denoisers.keys() == runs.keys():  # else keep an earlier panel
                panel = _panel(options, denoisers, images[0])
                plotting.save(panel, out.path / f"panel-{name}.png", out.source)
        named = {"psnr", *ALONE.values(), "contrast_gain"}
        levels = options.shown(options.trained)
        shown = [r for r in records if r.arm != INPUT and r.metric in named and r.level in levels]
        title = f"Input-only normalization, trained at {options.at} (columns: test levels, in 8-bit units)"
        write_table(out, title, tables_of(shown, VIEW) | notes(found), dict(runs.values()))
    print("\n" + _summary(options, records))


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw PSNR with the published curves, the parts of the error, and the gain of contrast."""
    for (name,), rows in split_by(records, ["dataset"]).items():
        trained, title = options.trained, f"{name}, trained at {options.at}"
        both = [*rows, *curve(options, name)]
        figures = {
            "psnr": plotting.quality_curves(both, trained=trained, arms=options.arms, title=title),
            "errors": plotting.level_curves(
                _parts_as_arms(rows), "psnr",
                label="PSNR (dB) with this part of the error alone", trained=trained, title=title,
            ),
            "gain": plotting.level_curves(
                [r for r in rows if r.arm != INPUT], "contrast_gain",
                label="std of the output / std of the clean image", trained=trained, title=title,
            ),
        }  # fmt: skip
        for kind, figure in figures.items():
            plotting.save(figure, out.path / f"{kind}-{name}.png", out.source)


def _parts_as_arms(records: Sequence[Record]) -> list[Record]:
    """The parts of the error as curves, without two parts of `wne` that are far above the others."""
    parts = {metric: error.removesuffix("_error") for error, metric in ALONE.items()}
    return [
        dataclasses.replace(r, metric="psnr", arm=f"{r.arm}: {parts[r.metric]}")
        for r in records
        if r.metric in parts and (r.arm, parts[r.metric]) not in EXACT
    ]


def _panel(
    options: Options, denoisers: Mapping[Arm, Denoiser], image: NamedImage, size: int = 128
) -> Figure:
    """One image at both ends of the sweep, and at the training level unchanged and multiplied by 0.5."""
    key = jax.random.key(options.seed + 1)
    levels, trained = options.levels(options.trained), options.trained[-1]
    rows, labels = [], []
    for sigma, a in ((levels[0], 1.0), (trained, 1.0), (trained, 0.5), (levels[-1], 1.0)):
        noisy, clean = (a * x for x in noisy_and_clean(image, sigma, key))
        shown = {"clean": clean, "noisy": noisy}
        for arm, denoiser in denoisers.items():
            estimate = denoiser.function(noisy)
            psnr = metrics.psnr(estimate.clip(0, 1), clean)[0]
            shown[f"{arm}, {psnr:.1f} dB"] = estimate
        rows.append({caption: _window(x, size) for caption, x in shown.items()})
        labels.append(f"sigma {sigma:g}" + (f", times {a:g}" if a != 1 else ""))
    return plotting.image_panel(
        rows, row_labels=labels, title=f"{image.name}, trained at {options.at}"
    )


def _window(x: Array, size: int) -> np.ndarray:
    """The central square of the first image of a batch."""
    height, width = x.shape[1:3]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return np.asarray(x[0, top : top + size, left : left + size])


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary: PSNR at three levels, and the parts of the error at the training level."""
    lines = [
        f"Trained at {options.at}, mean PSNR ({options.arms[0]} in dB, the others against it):"
    ]
    means = mean_over(records, by=["metric", "arm", "level"])
    levels, trained = options.levels(options.trained), options.trained[-1]
    for level in dict.fromkeys((levels[0], trained, levels[-1])):
        values = {arm: means.get(("psnr", arm, level)) for arm in options.arms}
        lines.append(f"  sigma {level:g}: {against_first(values)}")
    for arm in options.arms[1:]:
        parts = {part: means.get((f"{part}_error", arm, trained)) for part in ERRORS}
        if None not in parts.values():
            total = sum(parts.values())
            shares = [f"{part} {100 * value / total:.0f} %" for part, value in parts.items()]
            lines.append(f"  Squared error of {arm} at {options.at}: {', '.join(shares)}")
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
