"""Which statistic for which noise: networks that were trained on white Gaussian noise, tested on other kinds.

The networks are those of `robustness`. One of them is normalized by a noise level, and is tested with every
estimate of it: the median of Haar details (with which it was trained), flat blocks (noise_level), the curve
over intensity (photon), the level in the band that a network sees (adaptive_noise), and a level for each
pixel (local_noise).

    python -m experiments.noise_types --preset small --networks experiments/results/networks --stage eval

Ten minutes on 2 cores, on crops of 6 images of each test set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    against_first,
    central,
    earlier_records,
    find_or_train,
    load_sets,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.images.units import to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.statistics import has_gain, named

Noise = Literal[
    "gaussian", "laplace", "poisson", "speckle", "varying", "correlated", "camera", "camera_jpeg"
]
Statistic = Literal["noise_level", "photon", "adaptive_noise", "local_noise"]

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset", "degradation"))

BEHIND: Arm = "wne-noise"
"""The arm whose network is tested with every estimate."""


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line."""

    NAME = "noise_types"

    arms: tuple[Arm, ...] = ("baseline", "ne-arch", "wne", "wne-noise")
    test_sigmas_255: tuple[float, ...] | None = (10.0, 25.0, 50.0)
    types: tuple[Noise, ...] = (
        "gaussian", "laplace", "poisson", "speckle", "varying", "correlated", "camera", "camera_jpeg",
    )  # fmt: skip
    """Types of noise, by their names in `wne_jax.images.degradations`."""
    estimates: tuple[Statistic, ...] = ("noise_level", "photon", "adaptive_noise", "local_noise")
    """Estimates of the noise level that the arm wne-noise is tested with, beside its own."""
    size: int = 160
    """Side of the square images, in pixels."""
    images: int = 6
    """Maximum number of images."""

    photographs: tuple[str, ...] = ()
    """Noisy photographs, of which crops are drawn before and after the packaged denoiser: folder:RNI."""

    @property
    def specs(self) -> tuple[str, ...]:
        """All test sets of the preset, or those asked for."""
        return self.test or self.sizes.test

    def sets(self) -> dict[str, list[NamedImage]]:
        """Squares of a few images of each set."""
        return {
            name: [central(image, self.size) for image in images[:: -(-len(images) // self.images)]]
            if images
            else []
            for name, images in super().sets().items()
        }

    @property
    def compared(self) -> list[str]:
        """The rows of the tables: the arms, and the estimates."""
        behind = self.estimates if BEHIND in self.arms else ()
        return [*self.arms, *behind]


def wanted(options: Options) -> Wanted[Arm]:
    """The training run of every arm."""
    changes = {"backbone": options.backbone}
    return {arm: (arm, options.config(arm, options.trained, **changes)) for arm in options.arms}


def functions_of(options: Options, denoisers: Mapping[Arm, Denoiser]) -> dict[str, Denoiser]:
    """The compiled functions by the rows of the tables."""
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    if BEHIND not in denoisers:
        return functions
    behind = denoisers[BEHIND]
    for name in options.estimates:
        statistic = named(name)
        model = behind.model.clone(statistics=statistic, unbiased=has_gain(statistic))
        functions[name] = Denoiser(model, behind.variables, channels=behind.channels).function
    return functions


def measure(
    options: Options, denoisers: Mapping[Arm, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """PSNR and SSIM of every row on every kind of noise."""
    records: list[Record] = []
    if not denoisers:
        return records
    functions, key = functions_of(options, denoisers), jax.random.key(options.seed + 1)
    for noise in options.types:
        for name, images in sets.items():
            records += sweep(
                functions, images, options.shown(options.trained), key, degradation=noise,
                measures=("psnr", "ssim"), repeats=options.draws, experiment=options.NAME, dataset=name,
                model=options.backbone, trained=options.trained,
            )  # fmt: skip
    return records


def cells(options: Options, datasets: Sequence[str]) -> list[Record]:
    """The places of the tables."""
    return [
        Record(experiment=options.NAME, metric=metric, unit=unit, dataset=dataset, arm=arm,
               degradation=noise, model=options.backbone, trained=options.trained, level=level)
        for metric, unit in (("psnr", "dB"), ("ssim", None))
        for dataset in datasets
        for noise in options.types
        for arm in (INPUT, *options.compared)
        for level in options.shown(options.trained)
    ]  # fmt: skip


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """A figure a test set."""
    psnr = [r for r in records if r.metric == "psnr" and r.value is not None]
    for (name,), rows in split_by(psnr, ["dataset"]).items():
        figure = gaps(rows, options.compared, title=f"{name}, trained at {options.at}")
        plotting.save(figure, out.path / f"{name}.png", out.source)


def gaps(records: Sequence[Record], arms: Sequence[str], *, title: str) -> Figure:
    """How far each row is below the best on every kind of noise, in PSNR, the mean over levels and images."""
    means = mean_over(records, by=["degradation", "arm"])
    noises = list(dict.fromkeys(noise for noise, _ in means))
    best = {noise: max(means.get((noise, arm), -np.inf) for arm in arms) for noise in noises}
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    markers = "ovs^DPX*"
    for k, arm in enumerate(arms):
        at = [i + 0.08 * (k - len(arms) / 2) for i, n in enumerate(noises) if (n, arm) in means]
        gap = [means[n, arm] - best[n] for n in noises if (n, arm) in means]
        colour = plotting.COLOURS[k % len(plotting.COLOURS)]
        axes.plot(at, gap, markers[k % len(markers)], color=colour, label=arm, ms=6)
    axes.axhline(0, color="0.8", lw=1, zorder=0)
    axes.set_xticks(range(len(noises)), noises)
    axes.set(ylabel="PSNR minus the best (dB), higher is better", title=title)
    figure.legend(frameon=False, ncols=len(arms), fontsize=8, loc="outside lower center")
    return figure


def crops(specs: Sequence[str], *, size: int = 128) -> Figure:
    """Central squares of noisy photographs: as they are, and denoised under two assumptions on the noise."""
    gray, colour = Denoiser.pretrained("gray"), Denoiser.pretrained("color")
    rows, labels = [], []
    for images in load_sets(specs, channels=3).values():
        for image in images:
            has_colours = bool(np.ptp(image.pixels, axis=-1).any())
            pixels = image.pixels if has_colours else image.pixels[..., :1]
            shown = {"as it is": pixels}
            for noise in ("white", "auto"):
                shown[f"--noise {noise}"] = (colour if has_colours else gray).with_noise(noise)(
                    pixels
                )
            squares = {name: central(image._replace(pixels=x), size) for name, x in shown.items()}
            rows.append({name: to_unit(square.pixels) for name, square in squares.items()})
            labels.append(image.name)
    return plotting.image_panel(rows, row_labels=labels, title="The packaged denoiser")


def summary(options: Options, records: Sequence[Record]) -> str:
    """The result in words: the mean over levels, sets and images of every row, for each kind of noise."""
    psnr = [r for r in records if r.metric == "psnr" and r.value is not None]
    means = mean_over(psnr, by=["degradation", "arm"])
    lines = ["Mean PSNR over sets and levels (the first in dB, the others against it):"]
    for noise in options.types:
        values = {arm: means.get((noise, arm)) for arm in options.compared}
        lines.append(f"  {noise}: {against_first(values)}")
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Train what is missing, test, report."""
    earlier, runs, sets = earlier_records(options), wanted(options), options.sets()
    denoisers = find_or_train(options, without(runs, {r.arm for r in earlier}))
    with results_folder(options) as out:
        found = cells(options, list(sets))
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, records, out)
        if options.photographs and options.stage != "report":  # it needs the denoiser
            plotting.save(crops(options.photographs), out.path / "photographs.png", out.source)
        title = f"Other noise than the networks were trained on (white, {options.at}; 8-bit units)"
        write_table(out, title, tables_of(records, VIEW), dict(runs.values()))
    print("\n" + summary(options, records))


if __name__ == "__main__":
    run(main, Options, __doc__)
