"""Noise that is not Gaussian, and JPEG compression.

Networks are trained on uniform, Laplace or Rayleigh noise of one level and tested on the same noise at other
levels. Those of uniform noise are also tested on clean JPEG-compressed images, over the quality. Saied &
Fleuret (2026), Figures 20 and 21.

Rayleigh noise has a positive mean, sigma sqrt(pi / (4 - pi)) = 1.91 sigma, which is not subtracted here. An
equivariant map cannot see a constant offset: f(y + b) = f(y) + b. But this mean is proportional to the noise
level, and an estimate s of the level satisfies s(a y + b) = a s(y), so y - 1.91 s(y) is equivariant. Hence an
equivariant map can subtract the mean at every level, as accurately as it estimates the level. A network that
is not equivariant may always subtract the mean of its training level, which leaves 1.91 (sigma -
sigma_train). The table of offsets shows what each network does.

    python -m experiments.non_gaussian --noises uniform jpeg           # minutes on 2 cores
    WNE_DATA=... python -m experiments.non_gaussian --preset small     # BSD400, Set12
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from experiments.harness import (
    Arm,
    Arms,
    Folder,
    Sweep,
    Wanted,
    against_first,
    earlier_records,
    find_or_train,
    notes,
    other_trainings,
    published,
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
from wne_jax.evaluation.sweeps import Quality, sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser

Noise = Literal["uniform", "laplace", "rayleigh", "jpeg"]

TRAINED: dict[Noise, tuple[str, float]] = {
    "uniform": ("uniform", 14.0),
    "laplace": ("laplace", 20.0),
    "rayleigh": ("rayleigh", 17.0),
    "jpeg": ("uniform", 14.0),
}
"""For each test degradation, the training noise of its networks and the level in 8-bit units."""

SWEEPS: dict[Noise, published.Sweep] = {
    "uniform": "uniform_sigma14",
    "laplace": "laplace_sigma20",
    "rayleigh": "rayleigh_sigma17",
    "jpeg": "jpeg_qf_from_uniform",
}


Key = tuple[str, Arm]
"""The key of a network: its training noise and its arm."""

VIEW = View(
    rows=("arm",), tables=("metric", "unit", "degradation", "trained_on", "trained", "dataset")
)


@dataclass(frozen=True, kw_only=True)
class Options(Arms, Sweep):
    """Options of the command line."""

    NAME = "non_gaussian"

    arms: tuple[Arm, ...] = ("baseline", "se-arch", "ne-arch", "wne", "wne-wiener-cap")
    noises: tuple[Noise, ...] = ("uniform", "laplace", "rayleigh", "jpeg")
    """Test degradations; jpeg uses the networks of uniform noise."""
    qualities: tuple[int, ...] = tuple(range(5, 90, 10))
    """JPEG qualities, 1 (worst) to 100; the published ones are 5, 10, ..., 85."""

    def levels_of(self, noise: Noise) -> list[float]:
        """Test levels or qualities."""
        return [*map(float, self.qualities)] if noise == "jpeg" else self.levels(TRAINED[noise][1:])

    def shown_of(self, noise: Noise) -> list[float]:
        """Test levels or qualities shown in tables."""
        return self.levels_of(noise) if noise == "jpeg" else self.shown(TRAINED[noise][1:])


def wanted(options: Options) -> Wanted[Key]:
    """The networks, by noise and arm."""
    trained = dict.fromkeys(TRAINED[noise] for noise in options.noises)
    return {
        (noise, arm): (arm, options.config(arm, sigma, noise=noise))
        for noise, sigma in trained
        for arm in options.arms
    }


def offset_255(estimate: jax.Array, clean: jax.Array) -> jax.Array:
    """Mean of an estimate minus mean of the clean image, in 8-bit units, f32[B].

    Example:
        >>> offset_255(jnp.full((1, 2, 2, 1), 0.75), jnp.full((1, 2, 2, 1), 0.25)).tolist()
        [127.5]
    """
    return 255 * jnp.mean(estimate - clean, axis=(1, 2, 3))


def place(options: Options, noise: Noise, dataset: str) -> dict[str, Any]:
    """The columns shared by all records of a degradation and a test set."""
    trained_on, sigma = TRAINED[noise]
    return {"experiment": options.NAME, "degradation": noise, "dataset": dataset, "trained": sigma,
            "model": "dncnn", "settings": {"trained_on": trained_on}}  # fmt: skip


def measure(
    options: Options, denoisers: Mapping[Key, Denoiser], sets: Mapping[str, Sequence[NamedImage]]
) -> list[Record]:
    """PSNR (dB) and offset (8-bit units) of every existing network, over the levels of each degradation."""
    records = []
    for noise in options.noises:
        trained_on = TRAINED[noise][0]
        functions = {arm: d.function for (on, arm), d in denoisers.items() if on == trained_on}
        for name, images in sets.items() if functions else ():
            records += sweep(
                functions,
                images,
                options.levels_of(noise),
                jax.random.key(options.seed + 1),
                measures=("psnr", Quality("offset", offset_255, "of 255")),
                repeats=1 if noise == "jpeg" else options.draws,
                **place(options, noise, name),
            )
    return records


def cells(options: Options, datasets: Sequence[str]) -> list[Record]:
    """The cells of the tables, including the input's, with the published figures."""
    return [
        cell
        for noise in options.noises
        for name in datasets
        for cell in published.cells(
            published.curve(SWEEPS[noise], name), (INPUT, *options.arms), options.shown_of(noise),
            metric="psnr", unit="dB", **place(options, noise, name),
        )
    ]  # fmt: skip


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw a figure for each degradation and test set, with the published curves behind ours."""
    psnr = [r for r in records if r.metric == "psnr" and r.value is not None]
    for (noise, name), rows in split_by(psnr, ["degradation", "dataset"]).items():
        levels = {record.level for record in rows}
        theirs = [
            record
            for record in published.curve(SWEEPS[noise], name)
            if min(levels) <= record.level <= max(levels)
        ]
        title = f"{name}, {in_words(noise)}"
        if noise == "jpeg":
            figure = quality_curves(rows, theirs, title=title)
        else:
            figure = plotting.quality_curves(
                [*rows, *theirs], trained=TRAINED[noise][1:], arms=options.arms, title=title
            )
        plotting.save(figure, out.path / f"{noise}-{name}.png", out.source)


def quality_curves(records: Sequence[Record], theirs: Sequence[Record], *, title: str) -> Figure:
    """Draw PSNR over the JPEG quality: a curve for each arm and one for the compressed image."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    arms = [arm for arm in dict.fromkeys(r.arm for r in records) if arm != INPUT]
    for colour, arm in zip(cycle(plotting.COLOURS), arms):
        axes.plot(*_points(records, arm, "value"), "o-", color=colour, label=arm, ms=4)
        if points := _points(theirs, arm, "published"):
            axes.plot(*points, "--", color=colour, lw=1, alpha=0.7, zorder=1)
    if theirs:
        axes.plot([], [], "--", color="0.4", lw=1, label="published")
    axes.plot(*_points(records, INPUT, "value"), ":", color="0.4", label="compressed image")
    axes.set(xlabel="quality of JPEG", ylabel="output PSNR (dB)", title=title)
    axes.legend(frameon=False)
    return figure


def _points(records: Sequence[Record], arm: str, column: str) -> list[tuple[float, ...]]:
    """Levels and mean PSNRs of an arm."""
    means = mean_over(records, column, by=["arm", "level"])
    return list(zip(*sorted((level, psnr) for (name, level), psnr in means.items() if name == arm)))


def in_words(noise: Noise) -> str:
    """A degradation and the training noise of its networks, as text."""
    trained, sigma = TRAINED[noise]
    if noise == "jpeg":
        return f"JPEG, trained on {trained} noise at {sigma:g}"
    law = trained if trained == "uniform" else trained.capitalize()  # a person's name
    return f"{law} noise, trained at {sigma:g}"


def summary(options: Options, records: Sequence[Record]) -> str:
    """A summary: the first arm in dB, the others relative to it, at both ends of every sweep."""
    psnr = [r for r in records if r.metric == "psnr" and r.value is not None]
    there = {r.degradation for r in psnr}
    lines = [f"{noise}: not run" for noise in options.noises if noise not in there]
    for (noise, dataset), found in split_by(psnr, ["degradation", "dataset"]).items():
        means = mean_over(found, by=["arm", "level"])
        levels = sorted({record.level for record in found})
        name = "quality" if noise == "jpeg" else "sigma"
        for level in (levels[0], levels[-1]):
            values = {arm: means[arm, level] for arm in options.arms if (arm, level) in means}
            where = f"{dataset}, {noise}, {name} {level:g}, PSNR (dB)"
            lines.append(f"{where}: {against_first(values)}")
    return "\n".join([*lines, f"Tables, figures and records are in {options.folder}/"])


def main(options: Options) -> None:
    """Train missing networks, sweep, report."""
    if not options.qualities or not all(1 <= quality <= 100 for quality in options.qualities):
        given = ", ".join(map(str, options.qualities)) or "nothing"
        raise ValueError(f"--qualities must be from 1 to 100, not {given}")
    earlier, runs, sets = earlier_records(options), wanted(options), options.sets()
    done = {(r["trained_on"], r.arm) for r in earlier}
    denoisers = find_or_train(options, without(runs, done))
    with results_folder(options) as out:
        found = cells(options, list(sets))
        records = together(found, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, records, out)
        shown = [
            r
            for r in records
            if r.level in options.shown_of(r.degradation)
            and (r.metric == "psnr" or r.degradation == "rayleigh")
        ]
        sections = tables_of(shown, VIEW) | notes(found, *other_trainings(options.arms))
        configs = {" ".join(key): config for key, (_, config) in runs.items()}
        write_table(out, "Noise that is not Gaussian, and JPEG", sections, configs)
    print("\n" + summary(options, records))


if __name__ == "__main__":
    run(main, Options, __doc__)
