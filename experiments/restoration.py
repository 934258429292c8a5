"""Train networks to deblur, to enlarge, to demosaic and to fill in, and test them elsewhere.

For each task (`wne_jax.training.tasks`), a network is trained at one noise level and one exposure: bare, with
random exposures as augmentation (soft-ne), and wrapped, with `mean_std` and with `noise_level`. All arms of a
task have the same backbone, steps, crops and noise. They are tested at other noise levels, and at other
exposures: the observation y is replaced by a y + b, and the estimate f(a y + b) is compared as (f - b) / a.
Beside them are bicubic and bilinear interpolation, and the filters of Wiener and of Richardson and Lucy.
Before anything is written, f(a y + b) = a f(y) + b is asserted for each wrapped network.

    python -m experiments.restoration
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.harness import (
    Arm,
    Compared,
    Wanted,
    central,
    earlier_records,
    find_or_train,
    load_sets,
    results_folder,
    run,
    set_name,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.parts.deconvolution import deconvolved
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over
from wne_jax.evaluation.tables import View
from wne_jax.images import degradations, metrics, to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers import pixel_shuffle
from wne_jax.operators import BayerMosaic, Blur
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    normalization_defect,
)
from wne_jax.training.tasks import Observation, Task

EXPOSURES = {
    "y": (1.0, 0.0),
    "y / 2": (0.5, 0.0),
    "y / 4": (0.25, 0.0),
    "y / 4 + 1/2": (0.25, 0.5),
    "4 y": (4.0, 0.0),
}
"""The observations of the test, as a y + b."""

AS_TRAINED = "y"


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line; defaults come from the preset."""

    NAME = "restoration"

    arms: tuple[Arm, ...] = ("baseline", "soft-ne", "wne", "wne-noise-level")
    train_sigmas_255: tuple[tuple[float, ...], ...] = ((10.0,),)
    test_sigmas_255: tuple[float, ...] | None = (2.5, 5.0, 10.0, 20.0, 40.0)
    steps: int | None = 400
    tasks: tuple[str, ...] = ("superres:2", "demosaic", "deblur", "inpaint")
    """Tasks: denoise, deblur[:PIXELS], superres[:FACTOR], demosaic, inpaint[:SHARE]."""
    size: int = 96
    """Side of the square images, in pixels."""

    @property
    def parsed(self) -> list[Task]:
        """The tasks."""
        return [Task.parse(text) for text in self.tasks]


def wanted(options: Options) -> Wanted[tuple[str, str]]:
    """The training run of every arm on every task."""
    return {
        (str(task), arm): (
            arm,
            options.config(
                arm, options.trained, backbone=options.backbone, task=str(task), channels=_channels(task)
            ),
        )
        for task in options.parsed
        for arm in options.arms
    }  # fmt: skip


def _channels(task: Task) -> int:
    return 3 if task.name == "demosaic" else 1


def classical(task: Task, seen: Observation) -> dict[str, Array]:
    """Restorations without training, `[1, H, W, C]`."""
    y = seen.y[None]
    if task.name == "deblur":
        blur = task.operator(jax.random.key(0), seen.y.shape)
        assert isinstance(blur, Blur)
        return {"blurred": y, **deconvolved(y, blur)}
    if task.name == "superres":
        batch, height, width, channels = y.shape
        shape = (batch, task.factor * height, task.factor * width, channels)
        return {"bicubic": jax.image.resize(y, shape, "cubic")}
    if task.name == "demosaic":
        mosaic = BayerMosaic()
        known = mosaic.adjoint(jnp.ones((1, *(2 * n for n in y.shape[1:3]), 1)))
        return {"bilinear": _interpolated(mosaic.adjoint(pixel_shuffle(y, 2)), known)}
    if seen.where is not None:
        return {"interpolated": _interpolated(y, seen.where[None].astype(y.dtype))}
    return {"noisy": y}


def _interpolated(y: Array, known: Array) -> Array:
    """Each unknown value becomes the weighted mean of the known among its 8 neighbours, from gaps inwards."""
    while not bool(jnp.all(known)):
        weight = _spread(known)
        near = jnp.where(weight > 0, _spread(y) / jnp.where(weight > 0, weight, 1), 0)
        y, known = jnp.where(known > 0, y, near), (weight > 0).astype(y.dtype)
    return y


def _spread(x: Array) -> Array:
    """Images convolved with (1, 2, 1) / 2 along both axes, with zeros outside."""
    for axis in (1, 2):
        size = x.shape[axis]
        padded = jnp.pad(x, [(1, 1) if k == axis else (0, 0) for k in range(4)])
        before, same, after = (
            jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)
        )
        x = 0.5 * before + same + 0.5 * after
    return x


def observe(task: Task, image: NamedImage, level: float, seed: int) -> tuple[Observation, Array]:
    """The observation of an image at a noise level in 8-bit units, and the clean image f32[1, H, W, C]."""
    clean = jnp.asarray(to_unit(image.pixels))
    key = jax.random.fold_in(jax.random.key(seed + 1), zlib.crc32(image.name.encode()))
    key = jax.random.fold_in(key, round(1000 * level))
    return task.observe(key, clean, degradations.gaussian, level / 255), clean[None]


def restorer(denoiser: Denoiser, seen: Observation) -> Callable[[Array], Array]:
    """The network as a function of observations `[1, h, w, c]` with one mask."""
    where = None if seen.where is None else seen.where[None]
    function = partial(denoiser.function, where=where)
    if where is None or denoiser.symmetry == "normalization":
        return function
    return lambda y: function(jnp.where(where, y, 0))  # missing pixels are 0 at every exposure


def check_identities(
    denoisers: Mapping[tuple[str, str], Denoiser], images: Mapping[int, NamedImage], seed: int
) -> None:
    """Assert f(a y + b) = a f(y) + b for every wrapped network.

    Raises:
        AssertionError: It does not hold; nothing has been written yet.
    """
    for (name, arm), denoiser in denoisers.items():
        if denoiser.symmetry != "normalization":
            continue
        task = Task.parse(name)
        crop = central(images[_channels(task)], 48)
        seen, _ = observe(task, crop, 10.0, seed)
        f = jax.jit(restorer(denoiser, seen))
        assert_normalization_equivariant(f, seen.y[None], jax.random.key(seed), gain=4.0)
        assert_exact_under_powers_of_two(f, seen.y[None])
        print(f"{name}, {arm}: f(a y + b) = a f(y) + b, bit for bit under powers of two")


def measure(
    options: Options,
    task: Task,
    dataset: str,
    images: Sequence[NamedImage],
    denoisers: Mapping[str, Denoiser],
) -> Iterator[Record]:
    """PSNR and SSIM over noise levels and, at the training level, over exposures; and the defect."""
    trained = options.trained[0]
    common = {
        "experiment": options.NAME, "dataset": dataset, "degradation": str(task),
        "model": options.backbone, "trained": options.trained,
    }  # fmt: skip
    for image in images:
        for level in options.levels(options.trained):
            seen, clean = observe(task, image, level, options.seed)
            place = common | {"image": image.name, "level": level}
            for arm, estimate in classical(task, seen).items():
                yield from _quality(estimate, clean, arm=arm, settings=_exposure("y"), **place)
            for arm, denoiser in denoisers.items():
                f, y = restorer(denoiser, seen), seen.y[None]
                shown = EXPOSURES if level == trained else [AS_TRAINED]
                for exposure in shown:
                    a, b = EXPOSURES[exposure]
                    estimate = (f(a * y + b) - b) / a
                    settings = _exposure(exposure)
                    yield from _quality(estimate, clean, arm=arm, settings=settings, **place)
                if level == trained:
                    defect = float(normalization_defect(f, y, jax.random.key(options.seed))[0])
                    yield Record(metric="defect", arm=arm, value=defect, **place)


def _exposure(name: str) -> dict[str, str]:
    return {"exposure": name}


def _quality(estimate: Array, clean: Array, **place: object) -> Iterator[Record]:
    psnr, ssim = _measures(estimate, clean)
    yield Record(metric="psnr", unit="dB", value=float(psnr[0]), **place)
    yield Record(metric="ssim", value=float(ssim[0]), **place)


@jax.jit
def _measures(estimate: Array, clean: Array) -> tuple[Array, Array]:
    estimate = jnp.clip(estimate, 0, 1)
    return metrics.psnr(estimate, clean), metrics.ssim(estimate, clean)


def sections(options: Options, records: Sequence[Record]) -> dict[str, str]:
    """The tables: over noise levels, over exposures, and the defect."""
    rows, tables = ("degradation", "arm"), ("metric", "unit", "dataset")
    at, arms = options.trained[0], options.arms
    over_levels = partial(View, rows, ("level",), tables)
    over_exposures = partial(View, rows, ("exposure",), tables)
    views = []
    for metric in ("psnr", "ssim"):
        only = {"metric": [metric]}
        views += [
            ("over the noise level", over_levels(only | {"exposure": [AS_TRAINED]})),
            (
                f"over the exposure, noise {at:g}",
                over_exposures(only | {"level": [at], "arm": arms}),
            ),
        ]
    defect = View(("degradation",), ("arm",), tables, {"metric": ["defect"]})
    views.insert(2, (f"noise {at:g}", defect))
    return {
        f"{title}, {what}": table
        for what, view in views
        for title, table in tables_of(records, view).items()
    }


def figure(options: Options, records: Sequence[Record], dataset: str) -> Figure:
    """PSNR of each task over the noise level (above) and over the exposure (below)."""
    tasks = [str(task) for task in options.parsed]
    shown = [r for r in records if r.metric == "psnr" and r.dataset == dataset]
    means = mean_over(shown, by=["degradation", "arm", "level", "exposure"])
    drawing = Figure(figsize=(3.1 * len(tasks), 5.8), layout="constrained")
    grid = drawing.subplots(2, len(tasks), squeeze=False, sharey="row")
    levels, trained = options.levels(options.trained), options.trained[0]
    for column, task in enumerate(tasks):
        above, below = grid[:, column]
        for colour, arm in zip(plotting.COLOURS, options.arms):
            style = {"color": colour, "label": arm, "ms": 4}
            over = [means.get((task, arm, level, AS_TRAINED), np.nan) for level in levels]
            above.plot(levels, over, "o-", **style)
            over = [means.get((task, arm, trained, e), np.nan) for e in EXPOSURES]
            below.plot(range(len(EXPOSURES)), over, "o:", **style)
        others = dict.fromkeys(a for t, a, *_ in means if t == task and a not in options.arms)
        for dash, arm in zip(("--", "-.", ":"), others):
            over = [means.get((task, arm, level, AS_TRAINED), np.nan) for level in levels]
            above.plot(levels, over, dash, color="0.6", lw=1.2, label=arm)
        above.axvline(trained, color="0.85", lw=1, zorder=0)
        above.set(xscale="log", title=task, xlabel="noise level (8-bit units)")
        above.set_xticks(levels, [f"{level:g}" for level in levels])
        above.set_xticks([], minor=True)
        above.legend(frameon=False, fontsize=7)
        below.set_xticks(range(len(EXPOSURES)), list(EXPOSURES), rotation=30, fontsize=8)
        below.set_xlabel(f"observation, at noise {trained:g}")
    for axes in grid[:, 0]:
        axes.set_ylabel("PSNR (dB)")
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    drawing.suptitle(f"{dataset}, trained at noise {trained:g} and exposure y", fontsize=11)
    return drawing


def _images(options: Options) -> dict[int, dict[str, list[NamedImage]]]:
    """The test images by their channels and the name of their set; only the names for the report."""
    if options.stage == "report":
        return {n: {set_name(spec): [] for spec in options.specs} for n in (1, 3)}
    sets = {}
    for channels in sorted({_channels(task) for task in options.parsed}):
        found = load_sets(options.specs, data_dir=options.data_dir, channels=channels)
        sets[channels] = {
            name: [central(image, options.size) for image in images]
            for name, images in found.items()
        }
    return sets


def main(options: Options) -> None:
    """Train, evaluate, report."""
    factors = [task.factor for task in options.parsed]
    if options.size < 48 or any(options.size % factor for factor in factors):
        raise ValueError(
            f"--size must be 48 or more, and a multiple of the factors, not {options.size}"
        )
    earlier, runs, sets = earlier_records(options), wanted(options), _images(options)
    denoisers = find_or_train(options, without(runs, {(r.degradation, r.arm) for r in earlier}))
    if denoisers:
        firsts = {n: next(iter(found.values()))[0] for n, found in sets.items()}
        check_identities(denoisers, firsts, options.seed)
    with results_folder(options) as out:
        records = list(earlier)
        if options.stage != "report":
            for task in tqdm(options.parsed, desc="tasks", unit="task"):
                arms = {arm: d for (name, arm), d in denoisers.items() if name == str(task)}
                for name, images in sets[_channels(task)].items():
                    records += measure(options, task, name, images, arms)
        records = together(records)
        out.write(records)
        dataset = next(iter(next(iter(sets.values()))))
        plotting.save(figure(options, records, dataset), out.path / "psnr.png", out.source)
        title = f"Restoration, trained at noise {options.at} (8-bit units)"
        networks = {f"{task} {arm}": config for (task, arm), (_, config) in runs.items()}
        write_table(out, title, found := sections(options, records), networks)
    for title, table in found.items():
        if "PSNR" in title or "defect" in title.lower():
            print(f"\n{title}\n\n{table}")
    print(f"\nTable, figure and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
