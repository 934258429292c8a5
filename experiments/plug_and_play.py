"""Deblurring, super-resolution and inpainting with a denoiser as prior.

Each photograph is degraded by a known linear operator and white noise, and restored by half-quadratic
splitting (`wne_jax.inference.plug_and_play`) with three denoisers: the packaged one, total variation
(Chambolle's, from scikit-image) and, if `--weights` is given, that network wrapped in `OneLevel`. They are
compared with the observation itself (enlarged by bicubic interpolation, gaps filled by the mean) and, for
blurs, with the Wiener and Richardson-Lucy filters of scikit-image.

The protocol is that of Zhang et al. 2021 (DPIR): circular blurs, bicubic downsampling, noise of 2.55 and
7.65, 8 steps for blurs and 24 for the other tasks. Their kernels are not used: the blurs are a Gaussian of
1.6 pixels and a straight motion of 15 pixels at 30 degrees. Before anything is written, each restoration with
the packaged denoiser is checked to be normalization-equivariant as a whole.

    python -m experiments.plug_and_play
    WNE_DATA=... python -m experiments.plug_and_play --test folder:Set12 --weights dncnn_25.mat
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from skimage import restoration
from tqdm import tqdm

from experiments.harness import (
    Folder,
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
from experiments.parts.deconvolution import deconvolved
from wne_jax.config import at_every_level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, read_records
from wne_jax.evaluation.tables import View
from wne_jax.images import degradations, metrics, to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.plug_and_play import Denoise, Restoration, half_quadratic_splitting
from wne_jax.operators import (
    Blur,
    Downsample,
    Mask,
    Operator,
    degrade,
    gaussian_kernel,
    motion_kernel,
)

VIEW = View(rows=("degradation", "arm"), tables=("metric", "unit", "dataset"))

BLURS = {"blur": gaussian_kernel(1.6), "motion": motion_kernel(15.0, 30.0)}
FACTORS = {"enlarge 2": 2, "enlarge 3": 3}
INPAINT = "fill in"
SHARE = 0.5
"""Share of the known pixels."""

TASKS = (*BLURS, *FACTORS, INPAINT)


@dataclass(frozen=True, kw_only=True)
class Options(Levels, Photographs, Seed, Measured):
    """Options of the command line."""

    NAME = "plug_and_play"

    test: tuple[str, ...] = ("embedded",)
    test_sigmas_255: tuple[float, ...] = (2.55, 7.65)
    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ..."""
    trained_sigma_255: float = 25.0
    """Noise level that the weights were trained at, in 8-bit units: the wrapped network then works at every
    level and in any units."""
    size: int = 120
    """Side of the square images, in pixels."""


def operator_of(task: str, key: Array, size: int) -> Operator:
    """The operator of a task."""
    if task in BLURS:
        return Blur(BLURS[task])
    if task in FACTORS:
        return Downsample(FACTORS[task])
    return Mask(np.asarray(jax.random.uniform(key, (1, size, size, 1)) < SHARE))


def total_variation(x: Array, sigma: Array) -> Array:
    """Chambolle's denoiser of scikit-image, with the noise level as weight."""
    denoised = restoration.denoise_tv_chambolle(
        np.asarray(x[0, ..., 0], np.float64), weight=float(sigma[0]), max_num_iter=100
    )
    return jnp.asarray(denoised, x.dtype)[None, ..., None]


def denoisers(options: Options) -> dict[str, Denoise]:
    """The priors by name."""
    found: dict[str, Denoise] = {"total variation": total_variation}
    found["packaged"] = Denoiser.default().function
    if options.weights is not None:
        wrapped = Denoiser.load(options.weights, **at_every_level(options.trained_sigma_255))
        found[options.weights.name.partition(".")[0]] = wrapped.function
    return found


def classical(task: str, y: Array, size: int) -> dict[str, Array]:
    """The observation at the size of the image, and the restorations by scikit-image."""
    if task in FACTORS:
        shape = (*y.shape[:1], size, size, y.shape[-1])
        return {INPUT: jax.image.resize(y, shape, "cubic")}
    if task not in BLURS:
        seen = y != 0
        return {INPUT: jnp.where(seen, y, jnp.mean(y, where=seen))}
    return {INPUT: y, **deconvolved(y, Blur(BLURS[task]))}


def require_equivariance(
    solve: Callable[..., Restoration], operator: Operator, y: Array, sigma: float
) -> None:
    """Check that the restoration of an image is equivariant, exactly for powers of two and else to rounding.

    Raises:
        AssertionError: The restoration is not normalization-equivariant.
    """
    one = operator(jnp.ones_like(operator.adjoint(y)))
    plain = solve(y, operator, sigma=sigma).estimate
    exact = solve(8 * y, operator, sigma=8 * sigma).estimate
    moved = solve(3 * y - 0.7 * one, operator, sigma=3 * sigma).estimate
    difference = float(jnp.max(jnp.abs(moved - (3 * plain - 0.7))))
    if not bool((exact == 8 * plain).all()) or not difference < 1e-2:
        raise AssertionError(f"the restoration is not equivariant: the error is {difference:.2g}")


def measure(
    options: Options, name: str, images: list[NamedImage], priors: dict[str, Denoise], panel: list
) -> Iterator[Record]:
    """PSNR of all methods on all tasks, and the residual of the data."""
    degraded = [(t, s) for t in TASKS for s in options.test_sigmas_255]
    for number, (task, level) in enumerate(tqdm(degraded, desc=name, unit="task")):
        sigma = level / 255
        for index, image in enumerate(images):
            x = jnp.asarray(to_unit(image.pixels))[None]
            key = jax.random.fold_in(jax.random.key(options.seed), index)
            operator = operator_of(task, jax.random.fold_in(key, 1), options.size)
            y = degrade(operator, degradations.gaussian)(
                jax.random.fold_in(key, 2 + number), x, sigma
            )
            if task == INPAINT:
                y = operator(y)  # unknown pixels are zeroed, including their noise
            steps = 8 if task in BLURS else 24
            solvers = {
                n: partial(half_quadratic_splitting, d, steps=steps) for n, d in priors.items()
            }
            if index == 0:
                require_equivariance(solvers["packaged"], operator, y, sigma)
            restored = classical(task, y, options.size)
            place = {
                "experiment": options.NAME, "dataset": name, "image": image.name,
                "degradation": task, "level": level,
            }  # fmt: skip
            for arm, solve in solvers.items():
                found = solve(y, operator, sigma=sigma)
                restored[arm] = found.estimate
                fit = float(found.residual[-1, 0]) / sigma
                yield Record(metric="residual / noise", arm=arm, value=fit, **place)
                yield Record(metric="diverged", arm=arm, value=float(found.diverged[0]), **place)
            for arm, estimate in restored.items():
                psnr = float(metrics.psnr(jnp.clip(estimate, 0, 1), x)[0])
                yield Record(metric="psnr", unit="dB", arm=arm, value=psnr, **place)
            if index == len(images) - 1 and level == options.test_sigmas_255[-1]:
                panel.append(
                    {"clean": np.asarray(x[0])} | {k: np.asarray(v[0]) for k, v in restored.items()}
                )


def main(options: Options) -> None:
    """Restore and measure, or read earlier records; report."""
    if options.size % 6 or options.size < 48:
        raise ValueError(f"--size must be a multiple of 6, 48 or more, not {options.size}")
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            priors, records = denoisers(options), []
            for name, images in load_sets(options.test, data_dir=options.data_dir).items():
                panel: list = []
                crops = [central(image, options.size) for image in images]
                records += measure(options, name, crops, priors, panel)
                draw(panel, name, options.test_sigmas_255[-1], out)
            out.write(records)
        sections = tables_of(records, VIEW)
        write_table(out, "Plug and play (columns: noise in 8-bit units)", sections, {})
    print(
        "\n\n".join(f"{title}\n\n{table}" for title, table in sections.items() if "PSNR" in title)
    )
    print(f"\nTable, figure and records are in {options.folder}/")


def draw(panel: list, name: str, level: float, out: Folder) -> None:
    """Draw one image, with a row for each task."""
    names = [arm for arm in panel[0] if all(arm in row for row in panel)]
    rows = [{arm: row[arm].clip(0, 1) for arm in names} for row in panel]
    title = f"{name}, noise {level:g}"
    figure = plotting.image_panel(rows, row_labels=TASKS, title=title)
    plotting.save(figure, out.path / f"panel-{name}.png", out.source)


if __name__ == "__main__":
    run(main, Options, __doc__)
