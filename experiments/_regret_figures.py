"""The figures of `experiments.regret`: regret over test levels, and where each choice puts the difficulty."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments._arms import Arm
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import noisy_and_clean
from wne_jax.layers import gaussian_blur
from wne_jax.statistics import STATISTICS, fixed
from wne_jax.training import ModelConfig
from wne_jax.transforms import normalize
from wne_jax.wrappers.rescaled import blend, multi_scale

if TYPE_CHECKING:
    from experiments.regret import Options

EXPLAINED: tuple[Arm, ...] = ("wne", "wne-blend", "wne-noise", "wne-detail")
PATCH = 64


def write(
    options: "Options",
    records: Sequence[dict[str, Any]],
    images: Sequence[NamedImage],
    source: dict[str, Any],
) -> None:
    """Draw and save both figures."""
    plotting.save(regret_curves(records), options.workdir / "regret.png", source)
    points = coordinates(options, images)
    results.write_csv(points, options.workdir / "coordinates.csv")
    plotting.save(coordinate_panels(points), options.workdir / "coordinates.png", source)


def regret_curves(records: Sequence[dict[str, Any]]) -> Figure:
    """Regret over the test level: a panel a training level, a curve a candidate."""
    trains = list(dict.fromkeys(r["train"] for r in records))
    arms = [a for a in dict.fromkeys(r["arm"] for r in records) if a != "baseline"]
    means = results.mean_over(records, "regret", by=["train", "arm", "test"])
    figure = Figure(figsize=(3.2 * len(trains) + 1.8, 3.8), layout="constrained")
    grid = figure.subplots(1, len(trains), squeeze=False, sharey=True)[0]
    styles = [(colour, line) for line in ("-", "--", ":") for colour in plotting.COLOURS[1:]]
    for axes, train in zip(grid, trains):
        for (colour, line), arm in zip(cycle(styles), arms):
            points = sorted((s, v) for (t, a, s), v in means.items() if (t, a) == (train, arm))
            if not points:  # not trained at this level
                continue
            axes.plot(*zip(*points), line, marker="o", ms=3, color=colour, label=arm)
        axes.axhline(0, color="0.6", lw=1)
        levels = sorted({r["test"] for r in records if r["train"] == train})
        for end in train.split(" to "):
            if levels[0] <= float(end) <= levels[-1]:
                axes.axvline(float(end), color="0.6", lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_xticks(levels, [f"{sigma:g}" for sigma in levels], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="test level (8-bit units)", title=f"trained at {train}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("regret (dB): specialist minus this one")
    shown = [axes.get_legend_handles_labels() for axes in grid]
    named = {name: handle for part in shown for handle, name in zip(*part)}
    figure.legend(
        [named[arm] for arm in arms], arms, loc="outside right upper", frameon=False, fontsize=8
    )
    return figure


def coordinates(options: "Options", images: Sequence[NamedImage]) -> list[dict[str, Any]]:
    """What the backbone meets: contrast of the clean patch and strength of the noise, in its coordinates."""
    records = []
    middle = options.train_255[len(options.train_255) // 2]
    levels = sorted({min(options.test_levels()), middle, max(options.test_levels())})
    key = jax.random.key(options.seed + 1)
    for arm in EXPLAINED:
        config = options.config(arm, middle).model
        see = jax.jit(lambda y, x, config=config: _seen(config, y, x))
        for level in levels:
            for image in images:
                noisy, clean = (patches(v) for v in noisy_and_clean(image, level, key))
                contrast, strength = see(noisy, clean)
                records += [
                    {"arm": arm, "test": level, "trained": level == middle, "image": image.name,
                     "contrast": float(c), "noise": float(level / 255 * s)}
                    for c, s in zip(contrast, strength)
                ]  # fmt: skip
    return records


def patches(image: jax.Array) -> jax.Array:
    """Patches `[N, PATCH, PATCH, C]` of one image `[1, H, W, C]`; what is left at the ends is dropped."""
    rows, columns = image.shape[1] // PATCH, image.shape[2] // PATCH
    whole = image[0, : rows * PATCH, : columns * PATCH]
    grid = jnp.reshape(whole, (rows, PATCH, columns, PATCH, image.shape[-1]))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (rows * columns, PATCH, PATCH, image.shape[-1]))


def _seen(config: ModelConfig, y: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Standard deviation of the clean image in the backbone's coordinates, and what noise is divided by."""
    z, stats = normalize(y, statistics=STATISTICS[config.statistics])
    target, _ = normalize(x, statistics=fixed(stats))
    factor = {"blend": blend, "multi_scale": multi_scale}.get(config.rescale)
    k = jnp.ones_like(stats.scale) if factor is None else factor(z)
    target = target / k
    if config.detail is not None:
        target = target - gaussian_blur(target, config.detail)
    return jnp.std(target, axis=(1, 2, 3)), 1 / (stats.scale * k)[:, 0, 0, 0]


def coordinate_panels(points: Sequence[dict[str, Any]]) -> Figure:
    """Contrast against noise, a panel a choice: test levels should lie where the training level does."""
    arms = list(dict.fromkeys(p["arm"] for p in points))
    levels = sorted({p["test"] for p in points})
    figure = Figure(figsize=(2.9 * len(arms) + 0.4, 3.7), layout="constrained")
    grid = figure.subplots(1, len(arms), squeeze=False, sharex=True, sharey=True)[0]
    for axes, arm in zip(grid, arms):
        for colour, level in zip(plotting.COLOURS[1:], levels):
            mine = [p for p in points if (p["arm"], p["test"]) == (arm, level)]
            name = f"{level:g}, the training level" if mine[0]["trained"] else f"{level:g}"
            axes.plot(
                [p["contrast"] for p in mine], [p["noise"] for p in mine],
                "o", ms=2.5, alpha=0.6, mew=0, color=colour, label=name,
            )  # fmt: skip
        share = {level: _covered(points, arm, level) for level in (levels[0], levels[-1])}
        text = ", ".join(f"{100 * value:.0f} % of {level:g}" for level, value in share.items())
        axes.set_title(f"{arm}\ncovered: {text}", fontsize=9)
        axes.set(xscale="log", yscale="log", xlabel="contrast of the clean patch")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("standard deviation of the noise")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title="test level",
        markerscale=3,
    )
    return figure


def _covered(points: Sequence[dict[str, Any]], arm: str, level: float) -> float:
    """Share of the patches of a level within the central 95 % of the training level, in both coordinates."""
    mine = [p for p in points if p["arm"] == arm]
    inside = []
    for axis in ("contrast", "noise"):
        low, high = np.quantile([p[axis] for p in mine if p["trained"]], (0.025, 0.975))
        inside.append([low <= p[axis] <= high for p in mine if p["test"] == level])
    return float(np.mean(np.all(inside, axis=0)))
