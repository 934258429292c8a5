"""What a denoiser does to a pixel: the rows of its Jacobian, as images.

Saied & Fleuret (2026), Figure 5: a normalization-equivariant f is its adaptive filters and nothing else,
f(y) = J(y) y, and each of them sums to one: at every noise level an average of pixels, chosen by the image.
An unwrapped network has neither, and away from its training level its sums leave one. Drawn are the filters
of a flat pixel, one of an edge and one of a texture; measured is the residual of the first identity, rho, and
the sums of all rows.

    python -m experiments.filters                                     # a DnCNN, minutes on 2 cores
    WNE_DATA=... python -m experiments.filters --preset small --backbones dncnn swinir
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from experiments import _cli, _comparison, _runs, _sweeps
from experiments._arms import Arm, Backbone
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import noisy_and_clean
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry import analysis
from wne_jax.symmetry.equivariance import row_sums
from wne_jax.training import TrainConfig, is_lead

ARMS: dict[Backbone, tuple[Arm, ...]] = {
    "dncnn": ("baseline", "wne", "wne-noise", "ne-arch"),
    "fdncnn": ("baseline", "wne", "ne-arch"),
    "swinir": ("baseline", "wne"),
    "restormer": ("baseline", "wne"),
}
"""What is compared, by backbone; "ne-arch" is an FDnCNN."""


@dataclass(frozen=True)
class Options(_runs.Runs):
    """Options of the command line."""

    backbones: tuple[Backbone, ...] = ("dncnn",)
    """Networks; the transformers take longer."""
    sigma_255: float = 25.0
    """Training level in 8-bit units."""
    levels_255: tuple[float, ...] = (10.0, 50.0)
    """Test levels in 8-bit units."""
    test: str | None = None
    """Test images, of which the first is taken; by default the preset's."""
    size: int = 128
    """Side of the square that is cut from its centre, in pixels."""
    window: int = 25
    """Side of the window of a filter that is shown, odd, in pixels."""
    workdir: Path = Path("runs/filters")
    """Folder for everything that is written."""


def configs(options: Options) -> dict[tuple[Backbone, Arm], tuple[Arm, TrainConfig]]:
    """The networks, by backbone and arm."""
    return {
        (backbone, arm): (arm, options.config(arm, options.sigma_255, backbone=backbone))
        for backbone in options.backbones
        for arm in ARMS[backbone]
    }


def choose_pixels(clean: np.ndarray, margin: int) -> dict[str, tuple[int, int]]:
    """The flattest pixel of a gray image, that of the clearest edge, and that of the strongest texture.

    By the eigenvalues of the structure tensor: both small, one large, both large.

    Args:
        clean: Image f32[H, W].
        margin: Distance that is kept from the border, in pixels.
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
    denoisers: Mapping[tuple[Backbone, Arm], Denoiser], noisy: Mapping[float, jax.Array]
) -> list[dict[str, Any]]:
    """The ratio rho and the sums of all rows, of every network and level."""
    records = []
    for (backbone, arm), denoiser in denoisers.items():
        identities = jax.jit(
            lambda y, f=denoiser.function: (analysis.euler_ratio(f, y), row_sums(f, y))
        )
        for level, y in noisy.items():
            rho, sums = identities(y)
            records.append({
                "backbone": backbone,
                "model": arm,
                "sigma_255": level,
                "rho": float(rho[0]),
                "row_sum_mean": float(jnp.mean(sums)),
                "row_sum_min": float(jnp.min(sums)),
                "row_sum_max": float(jnp.max(sums)),
                "row_sum_error": float(jnp.sqrt(jnp.mean(jnp.square(sums - 1)))),
            })  # fmt: skip
    return records


def draw(
    denoisers: Mapping[Arm, Denoiser],
    noisy: Mapping[float, jax.Array],
    pixels: Mapping[str, tuple[int, int]],
    *,
    window: int,
    title: str,
) -> Figure:
    """Filters below the noisy pixels that they weigh; a column for each level and pixel, a row a network.

    Red weighs positively, blue negatively; every filter has a scale of its own, and its sum above it. A
    median depends on a few pixels only: they show in filters of `wne-noise`, as a block of two by two.
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


def compare(options: Options, records: list[dict[str, Any]]) -> list[_comparison.Cell]:
    """The ratio rho and the distance of the sums from one, a row for each network, trained or not."""
    found = {(r["backbone"], r["model"], r["sigma_255"]): r for r in records}
    names = {
        "rho": "Figure 5: rho = |f(y) - J y| / |f(y)|",
        "row_sum_error": "Figure 5: sums of the rows of J, root mean square distance from 1",
    }
    return [
        _comparison.cell(
            result,
            f"{backbone} {arm}",
            f"{level:g}",
            found.get((backbone, arm, level), {}).get(column),
        )
        for column, result in names.items()
        for backbone, arm in configs(options)
        for level in options.levels_255
    ]


def main(options: Options) -> None:
    """Take an image, measure, draw."""
    if options.window % 2 == 0 or not 3 <= options.window < options.size:
        raise ValueError(
            f"window must be odd, at least 3 and below size ({options.size}), not {options.window}"
        )
    spec = options.test or options.sizes.test[0]
    name = _cli.set_name(spec)
    image = _cli.load_sets([spec], data_dir=options.data_dir)[name][0]
    image = image._replace(name=f"{name}/{image.name}")
    height, width, _ = image.pixels.shape
    if min(height, width) < options.size:
        raise ValueError(
            f"size is {options.size}, but {image.name} is {height}x{width}: take a smaller square"
        )
    crop = _sweeps.central(image, options.size)
    wanted = configs(options)
    denoisers, source = _sweeps.trained(options, wanted, options.workdir)
    if not is_lead():
        return
    _comparison.clear(options.workdir, "filters.csv", "filters-*.png")
    key = jax.random.key(options.seed + 1)
    noisy = {level: noisy_and_clean(crop, level, key)[0] for level in options.levels_255}
    clean = noisy_and_clean(crop, 0.0, key)[1][0, ..., 0]
    pixels = choose_pixels(np.asarray(clean), options.window // 2)
    cells = compare(options, [])
    if denoisers:
        records = measure(denoisers, noisy)
        results.write_csv(records, options.workdir / "filters.csv")
        cells = compare(options, records)
    for backbone in options.backbones:
        of_backbone = {arm: d for (b, arm), d in denoisers.items() if b == backbone}
        if of_backbone:
            figure = draw(
                of_backbone, noisy, pixels, window=options.window,
                title=f"Rows of the Jacobian, {backbone}, trained at {options.sigma_255:g}; {image.name}",
            )  # fmt: skip
            plotting.save(figure, options.workdir / f"filters-{backbone}.png", source)
    _comparison.write(cells, options.workdir)
    sections = [f"# Adaptive filters, trained at {options.sigma_255:g}, tested on {image.name}"]
    for result, table in _comparison.tables(cells, form=".1e").items():
        sections += [f"## {result}", table]
    trained = {
        " ".join(model): config for model, (_, config) in wanted.items() if model in denoisers
    }
    sections += ["## Networks", _sweeps.budgets(trained) or "None is trained."]
    text = "\n\n".join([*sections, results.footer(source)]) + "\n"
    write_atomically(options.workdir / "table.md", text)
    print(f"{text}\nTable, figures and records are in {options.workdir}/")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
