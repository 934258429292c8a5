"""How certain is it: the standard deviations of `Denoiser.uncertainty` beside the errors.

The packaged denoiser is blind. At each noise level, all pixels of the central squares of a test set are
sorted by their predicted standard deviation and divided into five equal groups. In each group, the root mean
square (RMS) of the errors is divided by that of the standard deviations: 1 is perfect, and within 1.3 is the
aim. The control predicts one level for all pixels, the RMS error of the whole set, in the same groups. Before
anything is measured, the uncertainty of the first image is checked to be exactly equivariant.

`--calibrate FILE` measures nothing: it fits the constants for gray and colour images on the embedded
photographs for training, which neither trained the packaged denoiser nor test it, and writes them into this
weight file.

    WNE_DATA=... python -m experiments.uncertainty --test folder:BSD68
    python -m experiments.uncertainty --calibrate wne_jax/weights/default/denoiser.safetensors
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from tqdm import tqdm

from experiments.harness import (
    Levels,
    Measured,
    Photographs,
    Seed,
    central,
    load_sets,
    results_folder,
    run,
    tables_of,
    write_table,
)
from wne_jax.config import in_opponent_colours
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over, read_records
from wne_jax.evaluation.tables import View
from wne_jax.images import to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry.actions import Affine
from wne_jax.symmetry.equivariance import assert_equivariant
from wne_jax.weights import load_model, save

GROUPS = 5
AIM = 1.3
"""Ratios from 1 / AIM to AIM count as calibrated."""

FITTED_255 = (5.0, 15.0, 35.0, 75.0)
FITTED_SIZE = 64
"""Noise levels, and the side of the central squares, on which the constants are fitted."""

RATIO, ERROR, STD = "RMS error / RMS standard deviation", "RMS error", "RMS standard deviation"
WITHIN = "share of errors within"
VIEW = View(rows=("arm", "group"), tables=("metric", "unit", "dataset"))


@dataclass(frozen=True, kw_only=True)
class Options(Levels, Photographs, Seed, Measured):
    """Options of the command line."""

    NAME = "uncertainty"

    test: tuple[str, ...] = ("embedded",)
    test_sigmas_255: tuple[float, ...] = (10.0, 25.0, 50.0)
    size: int = 96
    """Side of the square images, in pixels."""
    channels: Literal[1, 3] = 1
    """Channels: 1 for gray, 3 for colour."""
    probes: int = 24
    """Probes of the Jacobian, on one lattice of pixels each."""
    calibrate: Path | None = None
    """Only fit the constants of this weight file, and write them into it."""


def main(options: Options) -> None:
    """Measure, or read earlier records, and report; or calibrate."""
    if options.calibrate is not None:
        calibrate(options.calibrate, options.seed)
        return
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            denoiser, records = Denoiser.default("gray" if options.channels == 1 else "color"), []
            sets = load_sets(options.test, data_dir=options.data_dir, channels=options.channels)
            for name, images in sets.items():
                panel: list = []
                records += measure(options, denoiser, name, images, panel)
                title = f"{name}, noise {', '.join(f'{s:g}' for s in options.test_sigmas_255)}"
                labels = [f"{s:g}" for s in options.test_sigmas_255]
                figure = plotting.image_panel(panel, row_labels=labels, title=title)
                plotting.save(figure, out.path / f"panel-{name}.png", out.source)
            out.write(records)
        for name in dict.fromkeys(record.dataset for record in records):
            of_set = [record for record in records if record.dataset == name]
            plotting.save(reliability(of_set, f"{name}"), out.path / f"{name}.png", out.source)
        sections = tables_of(records, VIEW) | {"Notes": verdict(records)}
        write_table(out, "Uncertainty (columns: noise in 8-bit units)", sections, {})
    print(verdict(records))
    print(f"Table, figures and records are in {options.folder}/")


def measure(
    options: Options, denoiser: Denoiser, name: str, images: Sequence[NamedImage], panel: list
) -> Iterator[Record]:
    """Errors and standard deviations in groups of pixels, at every level."""
    pictures = [to_unit(central(image, options.size).pixels) for image in images]
    place: dict[str, Any] = {"experiment": options.NAME, "dataset": name}
    for level in options.test_sigmas_255:
        rng = np.random.default_rng([options.seed, int(100 * level)])
        errors, stds = [], []
        for number, x in enumerate(tqdm(pictures, desc=f"{name} {level:g}", unit="image")):
            y = x + rng.normal(0, level / 255, x.shape).astype(np.float32)
            if number == 0 and not panel:
                require_equivariance(denoiser, y)
            estimate, std = denoiser(y), denoiser.uncertainty(y, probes=options.probes)
            errors.append((estimate - x).ravel())
            stds.append(std.ravel())
        top = 3 * level / 255 / 2
        panel.append(
            {
                "noisy": y, "estimate": estimate, "error, absolute": np.abs(estimate - x) / top,
                "standard deviation": std / top,
            }
        )  # fmt: skip
        yield from grouped(np.concatenate(errors), np.concatenate(stds), level=level, **place)


def grouped(error: np.ndarray, std: np.ndarray, **place: Any) -> Iterator[Record]:
    """The records of all pixels at one level, sorted by their standard deviations."""
    order = np.argsort(std, kind="stable")
    whole = rms(error)
    for number, group in enumerate(np.array_split(order, GROUPS), 1):
        settings = {"group": f"fifth {number}"}
        off, predicted = rms(error[group]), rms(std[group])
        packaged: dict[str, Any] = {"arm": "packaged", "settings": settings, **place}
        control: dict[str, Any] = {"arm": "one level for all", "settings": settings, **place}
        yield Record(metric=RATIO, value=off / predicted, **packaged)
        yield Record(metric=RATIO, value=off / whole, **control)
        yield Record(metric=ERROR, unit="of 255", value=255 * off, **packaged)
        yield Record(metric=STD, unit="of 255", value=255 * predicted, **packaged)
        for times in (1, 2):
            share = np.mean(np.abs(error[group]) <= times * std[group])
            deviations = f"{WITHIN} {times} standard deviation{'s' * (times > 1)}"
            yield Record(metric=deviations, value=float(share), **packaged)


def rms(x: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def require_equivariance(denoiser: Denoiser, y: np.ndarray) -> None:
    """Check that the uncertainty follows contrast and not brightness.

    The image is rounded to multiples of 2^-12, so that the changes themselves are exact.

    Raises:
        AssertionError: The uncertainty is not equivariant as a difference.
    """
    y = np.round(y * 4096) / np.float32(4096)

    def uncertainty(y: Array) -> Array:
        return jnp.asarray(denoiser.uncertainty(np.asarray(y[0])))[None]

    plain = uncertainty(y[None])
    for a, b in ((8.0, 0.0), (0.25, -3.0)):
        action = Affine(a, b)
        assert_equivariant(uncertainty, action, y[None], output="difference")
        if not bool((uncertainty(action(y[None])) == a * plain).all()):
            raise AssertionError(
                f"the uncertainty of {a} y + {b} is not {a} times that of y, bit for bit"
            )


def verdict(records: Sequence[Record]) -> str:
    """One line for each set and level: the ratios that are farthest from 1."""
    lines = []
    for (name, level), of in by_level(records).items():
        low, high = min(of.values()), max(of.values())
        met = "met" if low >= 1 / AIM and high <= AIM else "missed"
        lines.append(
            f"- {name}, noise {level:g}: ratios from {low:.3f} to {high:.3f}; "
            f"the aim, {1 / AIM:.3f} to {AIM:g}, is {met}."
        )
    return "\n".join(lines)


def by_level(records: Sequence[Record]) -> dict[tuple[str, float], dict[str, float]]:
    """The ratios of the packaged denoiser by group, for each set and level."""
    means = mean_over(
        [r for r in records if r.metric == RATIO and r.arm == "packaged"],
        by=["dataset", "level", "group"],
    )
    found: dict[tuple[str, float], dict[str, float]] = {}
    for (name, level, group), value in means.items():
        found.setdefault((name, level), {})[group] = value
    return found


def reliability(records: Sequence[Record], title: str) -> Figure:
    """RMS error over RMS standard deviation of each group, and the band of the aim."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    points = mean_over(records, by=["metric", "arm", "level", "group"])
    groups = dict.fromkeys(record["group"] for record in records)
    for colour, level in zip(plotting.COLOURS, dict.fromkeys(r.level for r in records)):
        x, y = (
            [points[metric, "packaged", level, group] for group in groups]
            for metric in (STD, ERROR)
        )
        axes.loglog(x, y, "o-", color=colour, ms=4, label=f"noise {level:g}")
    ends = np.array(axes.get_xlim())
    axes.fill_between(ends, ends / AIM, ends * AIM, color="0.93", label=f"within {AIM:g}")
    axes.plot(ends, ends, ":", color="0.6", lw=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.set(xlim=ends, xlabel=f"{STD} (of 255)", ylabel=f"{ERROR} (of 255)", title=title)
    axes.legend(frameon=False)
    return figure


def calibrate(path: Path, seed: int) -> None:
    """Fit the constants of a weight file, and write them into it."""
    found = {}
    for channels, wrapping in ((1, {}), (3, in_opponent_colours())):
        images = load_images("embedded", split="train", channels=channels)
        squares = [to_unit(central(image, FITTED_SIZE).pixels) for image in images]
        levels = [sigma / 255 for sigma in FITTED_255]
        denoiser = Denoiser.load(path, **wrapping).calibrated(squares, levels, seed=seed)
        assert denoiser.calibration is not None
        found[channels] = denoiser.calibration
        print(f"{channels} channels: {denoiser.calibration:.4f}")
    save(path, *load_model(path), calibration=found)
    print(f"{path}: SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    run(main, Options, __doc__)
