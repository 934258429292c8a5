"""The adaptive filters of a denoiser: the rows of its Jacobian, as images.

Saied & Fleuret (2026), Figure 5: a normalization-equivariant f satisfies f(y) = J(y) y, and each row of J
sums to one. So every output pixel is a weighted average of input pixels, with weights that depend on the
image. An unwrapped network has neither property; away from its training level, its sums move away from one.
The figure shows the filters of a flat pixel, an edge and a texture; the table has the residual of the first
identity, rho, and the sums of all rows.

    python -m experiments.filters                                     # a DnCNN, minutes on 2 cores
    WNE_DATA=... python -m experiments.filters --preset small --backbones dncnn swinir
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from experiments.harness import (
    Arm,
    Sweep,
    TrainLevels,
    Wanted,
    central,
    earlier_records,
    file_name,
    find_or_train,
    load_sets,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.harness.options import only
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record
from wne_jax.evaluation.sweeps import noisy_and_clean
from wne_jax.evaluation.tables import View, label
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry import analysis
from wne_jax.symmetry.equivariance import row_sums

Key = tuple[str, Arm]
"""A backbone, and an arm."""

ARMS: dict[str, tuple[Arm, ...]] = {
    "dncnn": ("baseline", "wne", "wne-noise", "ne-arch"),
    "fdncnn": ("baseline", "wne", "ne-arch"),
}
"""The arms by backbone; "ne-arch" is an FDnCNN. Other backbones are compared bare and wrapped."""


VIEW = View(rows=("model", "arm"), tables=("metric",), only={"metric": ("rho", "row_sum_error")})


@dataclass(frozen=True, kw_only=True)
class Options(TrainLevels, Sweep):
    """Options of the command line; only the first test image is used."""

    NAME = "filters"

    backbones: tuple[str, ...] = ("dncnn",)
    """Backbones: names such as dncnn and swinir, or package.module:Name."""
    backbone: str | None = None
    """Backbone: dncnn, fdncnn, ffdnet, drunet, swinir or restormer; or package.module:Name."""
    train_sigmas_255: tuple[Level, ...] = ((25.0,),)
    test_sigmas_255: tuple[float, ...] | None = (10.0, 50.0)
    size: int = 128
    """Side of the square images, in pixels."""
    window: int = 25
    """Side of the window in which a filter is shown, odd, in pixels."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The backbone of `--backbone`, else those of `--backbones`."""
        return self.backbones if self.backbone is None else (self.backbone,)

    @property
    def levels_shown(self) -> tuple[float, ...]:
        """The given test levels."""
        return self.test_sigmas_255 or (10.0, 50.0)

    def image(self) -> NamedImage:
        """The whole image.

        Raises:
            ValueError: The image is smaller than the square.
        """
        ((name, images), *_) = load_sets(self.specs[:1], data_dir=self.data_dir).items()
        image = images[0]._replace(name=f"{name}/{images[0].name}")
        height, width, _ = image.pixels.shape
        if min(height, width) < self.size:
            raise ValueError(
                f"size is {self.size}, but {image.name} is {height}x{width}: reduce --size"
            )
        return image


def wanted(options: Options) -> Wanted[Key]:
    """The networks, by backbone and arm."""
    level = only(options.train_sigmas_255)
    return {
        (backbone, arm): (arm, options.config(arm, level, backbone=backbone))
        for backbone in options.chosen
        for arm in ARMS.get(backbone, ("baseline", "wne"))
    }


def choose_pixels(clean: np.ndarray, margin: int) -> dict[str, tuple[int, int]]:
    """Choose the flattest pixel of a gray image, the clearest edge and the strongest texture.

    The criterion is the eigenvalues of the structure tensor: both small, one large, both large.

    Args:
        clean: Image f32[H, W].
        margin: Minimum distance from the border, in pixels.
    """
    smooth = ndimage.gaussian_filter(np.asarray(clean, np.float64), 1.0)
    dy, dx = np.gradient(smooth)
    yy, xx, xy = (ndimage.gaussian_filter(p, 3.0) for p in (dy * dy, dx * dx, dy * dx))
    root = np.sqrt(np.square(yy - xx) + 4 * np.square(xy))
    large, small = (yy + xx + root) / 2, (yy + xx - root) / 2
    inside = np.s_[margin:-margin, margin:-margin]
    chosen = {}
    for name, measure in {"flat": -large, "edge": large - 8 * small, "texture": small}.items():
        inner = measure[inside]
        row, column = np.unravel_index(np.argmax(inner), inner.shape)
        chosen[name] = (int(row) + margin, int(column) + margin)
    return chosen


def measure(
    denoisers: Mapping[Key, Denoiser], noisy: Mapping[float, jax.Array]
) -> dict[tuple[str, Arm, float, str], float]:
    """The ratio rho and the row sums of every network and level, by metric."""
    found = {}
    for (backbone, arm), denoiser in denoisers.items():
        identities = jax.jit(
            lambda y, f=denoiser.function: (analysis.euler_ratio(f, y), row_sums(f, y))
        )
        for level, y in noisy.items():
            rho, sums = identities(y)
            values = {
                "rho": rho[0],
                "row_sum_mean": jnp.mean(sums),
                "row_sum_min": jnp.min(sums),
                "row_sum_max": jnp.max(sums),
                "row_sum_error": jnp.sqrt(jnp.mean(jnp.square(sums - 1))),
            }
            found |= {(backbone, arm, level, name): float(v) for name, v in values.items()}
    return found


def draw(
    denoisers: Mapping[Arm, Denoiser],
    noisy: Mapping[float, jax.Array],
    pixels: Mapping[str, tuple[int, int]],
    *,
    window: int,
    title: str,
) -> Figure:
    """Draw filters below the noisy input; a column for each level and pixel, a row for each network.

    Positive weights are red, negative ones blue. Every filter has its own colour scale; its sum is shown
    above it. A median depends on a few pixels only: they are visible in filters of `wne-noise` as a 2 x 2
    block.
    """
    columns = [(level, name) for level in noisy for name in pixels]
    size = (1.35 * len(columns) + 0.9, 1.6 * (1 + len(denoisers)) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + len(denoisers), len(columns), squeeze=False)
    half = window // 2
    for axes, (level, name) in zip(grid[0], columns):
        row, column = pixels[name]
        patch = noisy[level][0, row - half : row + half + 1, column - half : column + half + 1, 0]
        axes.imshow(np.clip(patch, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.plot(half, half, "s", ms=5, mfc="none", mec=plotting.COLOURS[2])
        axes.set_title(f"{name}, sigma {level:g}", fontsize=9)
    grid[0, 0].set_ylabel("noisy", fontsize=9)
    for line, (arm, denoiser) in zip(grid[1:], denoisers.items()):
        line[0].set_ylabel(arm, fontsize=9)
        rows = [
            r
            for y in noisy.values()
            for r in analysis.filters(denoiser.function, y, [*pixels.values()])
        ]
        for axes, weights, (_, name) in zip(line, rows, columns):
            row, column = pixels[name]
            shown = weights[row - half : row + half + 1, column - half : column + half + 1, 0]
            limit = float(jnp.max(jnp.abs(shown)))
            axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set_title(f"sum {float(jnp.sum(weights)):.3f}", fontsize=8)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=10)
    return figure


METRICS = ("rho", "row_sum_error", "row_sum_mean", "row_sum_min", "row_sum_max")
"""rho = |f(y) - J y| / |f(y)|, then the sums of the rows of J: the root mean square distance from 1, ..."""


def as_records(
    options: Options,
    image: NamedImage,
    found: Mapping[tuple[str, Arm, float, str], float],
) -> list[Record]:
    """A record for each network, level and metric, including networks that are missing."""
    dataset, _, name = image.name.partition("/")
    return [
        Record(
            experiment=options.NAME, metric=metric, dataset=dataset, image=name,
            degradation="gaussian", level=level, trained=only(options.train_sigmas_255),
            model=backbone, arm=arm, value=found.get((backbone, arm, level, metric)),
        )
        for metric in METRICS
        for backbone, arm in wanted(options)
        for level in options.levels_shown
    ]  # fmt: skip


def main(options: Options) -> None:
    """Load an image, measure, draw."""
    if options.window % 2 == 0 or not 3 <= options.window < options.size:
        raise ValueError(
            f"--window must be odd, at least 3 and below --size ({options.size}), not {options.window}"
        )
    image, runs, earlier = options.image(), wanted(options), earlier_records(options)
    crop = central(image, options.size)
    denoisers = find_or_train(options, without(runs, {(r.model, r.arm) for r in earlier}))
    key = jax.random.key(options.seed + 1)
    noisy = {level: noisy_and_clean(crop, level, key)[0] for level in options.levels_shown}
    clean = noisy_and_clean(crop, 0.0, key)[1][0, ..., 0]
    pixels = choose_pixels(np.asarray(clean), options.window // 2)
    with results_folder(options) as out:
        new = as_records(options, image, measure(denoisers, noisy))
        measured = together(earlier, [r for r in new if r.value is not None])
        places = {(r.metric, r.model, r.arm, r.level): r for r in measured}
        records = [places.get((r.metric, r.model, r.arm, r.level), r) for r in new]
        out.write(records)
        there = {(r.model, r.arm) for r in measured}
        for backbone in options.chosen:
            of_backbone = {arm: d for (b, arm), d in denoisers.items() if b == backbone}
            if of_backbone.keys() == {arm for model, arm in there if model == backbone} != set():
                figure = draw(
                    of_backbone, noisy, pixels, window=options.window,
                    title=f"Rows of the Jacobian, {backbone}, trained at "
                    f"{label(only(options.train_sigmas_255))}; {image.name}",
                )  # fmt: skip
                plotting.save(figure, out.path / f"filters-{file_name(backbone)}.png", out.source)
        trained = {" ".join(key): config for key, (_, config) in runs.items() if key in there}
        at = label(only(options.train_sigmas_255))
        title = f"Adaptive filters, trained at {at}, tested on {image.name}"
        sections = tables_of(records, VIEW)
        write_table(out, title, sections, trained)
    print("\n\n".join([*sections.values(), f"Table, figures and records are in {options.folder}/"]))


if __name__ == "__main__":
    run(main, Options, __doc__)
