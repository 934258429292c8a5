"""Noise that is not Gaussian, and the blocks of JPEG.

Networks are trained on uniform, Laplace or Rayleigh noise of one level, and tested on it at the others; those
of uniform noise also on clean images that were compressed as JPEG, over its quality. Saied & Fleuret (2026),
Figures 20 and 21.

Rayleigh noise keeps its positive mean, sigma sqrt(pi / (4 - pi)) = 1.91 sigma. Of an offset as such an
equivariant map knows nothing: f(y + b) = f(y) + b, so a brighter image gives a brighter estimate. But this
mean rises with the noise, and a noise level s that is read off y obeys s(a y + b) = a s(y): y - 1.91 s(y) is
equivariant, too. So such a map may subtract the mean at every level, as well as it reads that level off the
texture of the noise. A network that is not equivariant may subtract the mean of its training level wherever
it is, and leave 1.91 (sigma - sigma_train). The table of offsets shows what each does.

    python -m experiments.non_gaussian --noises uniform jpeg           # minutes on 2 cores
    WNE_DATA=... python -m experiments.non_gaussian --preset small     # BSD400, Set12
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from experiments import _cli, _comparison, _published, _sweeps
from experiments._arms import Arm
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import Record, quality_sweep
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig, is_lead

Noise = Literal["uniform", "laplace", "rayleigh", "jpeg"]

TRAINED: dict[Noise, tuple[str, float]] = {
    "uniform": ("uniform", 14.0),
    "laplace": ("laplace", 20.0),
    "rayleigh": ("rayleigh", 17.0),
    "jpeg": ("uniform", 14.0),
}
"""What the networks that are tested on a degradation were trained on: noise, and level in 8-bit units."""

SWEEPS: dict[Noise, _published.Sweep] = {
    "uniform": "uniform_sigma14",
    "laplace": "laplace_sigma20",
    "rayleigh": "rayleigh_sigma17",
    "jpeg": "jpeg_qf_from_uniform",
}


@dataclass(frozen=True, kw_only=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    noises: tuple[Noise, ...] = ("uniform", "laplace", "rayleigh", "jpeg")
    """What to test on; jpeg takes the networks of uniform noise."""
    arms: tuple[Arm, ...] = ("baseline", "se-arch", "ne-arch", "wne", "wne-capped")
    """What to train and compare."""
    qualities: tuple[int, ...] = tuple(range(5, 90, 10))
    """Qualities of JPEG, 1 (worst) to 100; the published ones are 5, 10, ..., 85."""
    workdir: Path = Path("runs/non_gaussian")
    """Folder for everything that is written."""


def wanted(options: Options) -> dict[str, tuple[Arm, TrainConfig]]:
    """The networks, by noise and arm."""
    trained = dict.fromkeys(TRAINED[noise] for noise in options.noises)
    return {
        f"{noise} {arm}": (arm, options.config(arm, sigma, noise=noise))
        for noise, sigma in trained
        for arm in options.arms
    }


def offset_255(estimate: jax.Array, clean: jax.Array) -> jax.Array:
    """How much brighter an estimate is than the clean image, in 8-bit units, f32[B].

    Example:
        >>> offset_255(jnp.full((1, 2, 2, 1), 0.75), jnp.full((1, 2, 2, 1), 0.25)).tolist()
        [127.5]
    """
    return 255 * jnp.mean(estimate - clean, axis=(1, 2, 3))


def sweep(
    options: Options,
    noise: Noise,
    denoisers: Mapping[str, Denoiser],
    images: Sequence[NamedImage],
) -> list[Record]:
    """PSNR (dB) and offset (8-bit units) of every arm that is there, over the levels of one degradation."""
    trained, sigma = TRAINED[noise]
    labels = {arm: f"{trained} {arm}" for arm in options.arms}
    functions = {a: denoisers[label].function for a, label in labels.items() if label in denoisers}
    if not functions:
        return []
    return quality_sweep(
        functions,
        images,
        options.qualities if noise == "jpeg" else options.levels(sigma),
        jax.random.key(options.seed + 1),
        measures={"psnr": metrics.psnr, "offset": offset_255},
        repeats=1 if noise == "jpeg" else options.sizes.repeats,
        noise=noise,
    )


def cells(
    options: Options, noise: Noise, set_name: str, records: Sequence[Record]
) -> list[_comparison.Cell]:
    """PSNR of the input and of every arm, beside the published ones."""
    curve = _sweeps.published_curve(SWEEPS[noise], set_name)
    return _sweeps.level_cells(
        f"Figures 20, 21: PSNR (dB), {in_words(noise)}, {set_name}",
        [*_input_as_model(records, "psnr"), *records],
        "psnr",
        arms=("input", *options.arms),
        levels=options.qualities if noise == "jpeg" else options.shown(TRAINED[noise][1]),
        published=[*_input_as_model(curve, "psnr"), *curve],
    )


def figure_of(noise: Noise, set_name: str, records: Sequence[Record]) -> Figure:
    """The curves of one degradation, the published ones behind ours."""
    levels = {record["sigma_255"] for record in records}
    published = [
        record
        for record in _sweeps.published_curve(SWEEPS[noise], set_name)
        if min(levels) <= record["sigma_255"] <= max(levels)
    ]
    title = f"{set_name}, {in_words(noise)}"
    if noise == "jpeg":
        return quality_curves(records, published, title=title)
    return plotting.sweep_curves(
        records, train_sigma_255=TRAINED[noise][1:], published=published, title=title
    )


def quality_curves(records: Sequence[Record], published: Sequence[Record], *, title: str) -> Figure:
    """PSNR over the quality of JPEG: a curve a model, and that of the compressed image."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for colour, model in zip(cycle(plotting.COLOURS), dict.fromkeys(r["model"] for r in records)):
        axes.plot(*_points(records, model), "o-", color=colour, label=model, ms=4)
        if theirs := _points(published, model):
            axes.plot(*theirs, "--", color=colour, lw=1, alpha=0.7, zorder=1)
    if published:
        axes.plot([], [], "--", color="0.4", lw=1, label="published")
    before = _input_as_model(records, "psnr")
    axes.plot(*_points(before, "input"), ":", color="0.4", label="compressed image")
    axes.set(xlabel="quality of JPEG", ylabel="output PSNR (dB)", title=title)
    axes.legend(frameon=False)
    return figure


def _points(records: Sequence[Record], model: str) -> list[tuple[float, ...]]:
    """Levels and mean PSNRs of a model."""
    means = results.mean_over(records, "psnr", by=["model", "sigma_255"])
    return list(
        zip(*sorted((level, psnr) for (name, level), psnr in means.items() if name == model))
    )


def _input_as_model(records: Sequence[Record], value: str) -> list[Record]:
    """Records of the input in the place of an estimate."""
    return [record | {"model": "input", value: record[f"input_{value}"]} for record in records]


def in_words(noise: Noise) -> str:
    """A degradation, and the training of the networks that are tested on it."""
    trained, sigma = TRAINED[noise]
    if noise == "jpeg":
        return f"JPEG, trained on {trained} noise at {sigma:g}"
    law = trained if trained == "uniform" else trained.capitalize()  # a person's name
    return f"{law} noise, trained at {sigma:g}"


def offset_table(options: Options, records: Sequence[Record]) -> str:
    """The offsets of input and estimates, at the levels of the tables."""
    levels = options.shown(TRAINED["rayleigh"][1])
    rows = [r for r in [*_input_as_model(records, "offset"), *records] if r["sigma_255"] in levels]
    return results.pivot_table(
        rows, "offset", rows="model", columns="sigma_255", form="{:+.1f}".format
    )


def summary(options: Options, records: Mapping[tuple[Noise, str], Sequence[Record]]) -> str:
    """The result in words: the first arm in dB, the others against it, at both ends of every sweep."""
    lines = [
        f"{noise}: not run" for noise in options.noises if not any(n == noise for n, _ in records)
    ]
    for (noise, set_name), found in records.items():
        psnr = results.mean_over(found, "psnr", by=["model", "sigma_255"])
        levels = sorted({record["sigma_255"] for record in found})
        name = "quality" if noise == "jpeg" else "sigma"
        for level in (levels[0], levels[-1]):
            values = {arm: psnr[arm, level] for arm in options.arms if (arm, level) in psnr}
            place = f"{set_name}, {noise}, {name} {level:g}, PSNR (dB)"
            lines.append(f"{place}: {_sweeps.against_first(values)}")
    return "\n".join([*lines, f"Tables, figures and records are in {options.workdir}/"])


def main(options: Options) -> None:
    """Train what is missing, sweep, report."""
    if not options.qualities or not all(1 <= quality <= 100 for quality in options.qualities):
        given = ", ".join(map(str, options.qualities)) or "nothing"
        raise ValueError(f"qualities must be from 1 to 100, not {given}")
    sets = options.sets()
    configs = wanted(options)
    denoisers, source = _sweeps.trained(options, configs, options.workdir)
    if not is_lead():
        return
    names = [f"{noise}-*.{kind}" for noise in TRAINED for kind in ("csv", "png")]
    _comparison.clear(options.workdir, *names)
    found, compared, tables = {}, [], {}
    for noise in options.noises:
        for name, images in sets.items():
            records = sweep(options, noise, denoisers, images)
            compared += cells(options, noise, name, records)
            if not records:
                continue
            found[noise, name] = records
            results.write_csv(records, options.workdir / f"{noise}-{name}.csv")
            figure = figure_of(noise, name, records)
            plotting.save(figure, options.workdir / f"{noise}-{name}.png", source)
            if noise == "rayleigh":
                title = f"Rayleigh noise: mean(estimate - clean) in 8-bit units, {name}"
                tables[title] = offset_table(options, records)
    _comparison.write(compared, options.workdir)
    shown = {label: config for label, (_, config) in configs.items()}
    tables |= _sweeps.notes(compared, *_sweeps.other_trainings(options.arms))
    _sweeps.write_table(
        options.workdir, "Noise that is not Gaussian, and JPEG",
        _comparison.tables(compared) | tables, shown, source,
    )  # fmt: skip
    print("\n" + summary(options, found))


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
