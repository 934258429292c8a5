"""The figures of `experiments.regret`: regret over test levels, and the coordinates of each choice."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.harness import Arm
from wne_jax.config import ModelConfig, Rescaled, SmoothBase
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over
from wne_jax.evaluation.sweeps import noisy_and_clean
from wne_jax.evaluation.tables import label
from wne_jax.layers import gaussian_blur
from wne_jax.statistics import fixed
from wne_jax.transforms import normalize
from wne_jax.wrappers.rescaled import blend, multi_scale

EXPLAINED: tuple[Arm, ...] = ("wne", "wne-blend", "wne-noise", "wne-smooth-base")
PATCH = 64


def regret_curves(records: Sequence[Record], arms: Sequence[Arm]) -> Figure:
    """Regret over the test level: a panel per training level, a curve per candidate.

    Args:
        records: Records of the regret.
        arms: The candidates, in the order of their colours.
    """
    trains = list(dict.fromkeys(r.trained for r in records))
    there = {r.arm for r in records}
    arms = [arm for arm in arms if arm in there and arm != "baseline"]
    means = mean_over(records, by=["trained", "arm", "level"])
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
        levels = sorted({r.level for r in records if r.trained == train})
        for end in train:
            if levels[0] <= end <= levels[-1]:
                axes.axvline(end, color="0.6", lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_xticks(levels, [f"{sigma:g}" for sigma in levels], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="test level (8-bit units)", title=f"trained at {label(train)}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("regret (dB): specialist minus this one")
    shown = [axes.get_legend_handles_labels() for axes in grid]
    named = {name: handle for part in shown for handle, name in zip(*part)}
    figure.legend(
        [named[arm] for arm in arms], arms, loc="outside right upper", frameon=False, fontsize=8
    )
    return figure


def coordinates(
    configs: Mapping[Arm, ModelConfig],
    images: Sequence[NamedImage],
    levels: Sequence[float],
    key: jax.Array,
) -> list[dict[str, Any]]:
    """Contrast of the clean patch and noise level in the backbone's coordinates.

    Args:
        configs: The models, by arm.
        images: Clean images.
        levels: Noise levels in 8-bit units.
        key: Random key of the sweep.

    Returns:
        Records of the metrics "contrast" and "noise", two for each patch.
    """
    found = []
    for arm, config in configs.items():
        see = jax.jit(lambda y, x, config=config: _seen(config, y, x))
        for level in sorted(set(levels)):
            for image in images:
                noisy, clean = (patches(v) for v in noisy_and_clean(image, level, key))
                contrast, strength = see(noisy, clean)
                values = {"contrast": contrast, "noise": level / 255 * strength}
                found += [
                    {"metric": metric, "arm": arm, "level": level, "image": image.name,
                     "value": float(value), "settings": {"patch": number}}
                    for metric, of in values.items()
                    for number, value in enumerate(of)
                ]  # fmt: skip
    return found


def patches(image: jax.Array) -> jax.Array:
    """Patches `[N, PATCH, PATCH, C]` of one image `[1, H, W, C]`; incomplete patches are dropped."""
    rows, columns = image.shape[1] // PATCH, image.shape[2] // PATCH
    whole = image[0, : rows * PATCH, : columns * PATCH]
    grid = jnp.reshape(whole, (rows, PATCH, columns, PATCH, image.shape[-1]))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (rows * columns, PATCH, PATCH, image.shape[-1]))


def _seen(config: ModelConfig, y: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Standard deviation of the clean image in the backbone's coordinates, and the divisor of the noise."""
    model: Any = config.build()
    z, stats = normalize(y, statistics=model.statistics)
    target, _ = normalize(x, statistics=fixed(stats))
    factor = {"blend": blend, "multi_scale": multi_scale}.get(
        config.inside.by if isinstance(config.inside, Rescaled) else ""
    )
    k = jnp.ones_like(stats.scale) if factor is None else factor(z)
    target = target / k
    if isinstance(config.inside, SmoothBase):
        target = target - gaussian_blur(target, config.inside.sigma_px)
    return jnp.std(target, axis=(1, 2, 3)), 1 / (stats.scale * k)[:, 0, 0, 0]


def coordinate_panels(points: Sequence[Record]) -> Figure:
    """Noise over contrast, a panel per choice; good choices map test levels onto the training level."""
    arms = list(dict.fromkeys(p.arm for p in points))
    levels = sorted({p.level for p in points})
    (trained,) = points[0].trained
    figure = Figure(figsize=(2.9 * len(arms) + 0.4, 3.7), layout="constrained")
    grid = figure.subplots(1, len(arms), squeeze=False, sharex=True, sharey=True)[0]
    for axes, arm in zip(grid, arms):
        for colour, level in zip(plotting.COLOURS[1:], levels):
            name = f"{level:g}, the training level" if level == trained else f"{level:g}"
            axes.plot(
                _values(points, arm, level, "contrast"), _values(points, arm, level, "noise"),
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


def _values(points: Sequence[Record], arm: str, level: float, metric: str) -> np.ndarray:
    """One coordinate of all patches, in their order."""
    return np.array([p.value for p in points if (p.arm, p.level, p.metric) == (arm, level, metric)])


def _covered(points: Sequence[Record], arm: str, level: float) -> float:
    """Share of a level's patches inside the central 95 % of the training level in both coordinates."""
    inside = []
    for metric in ("contrast", "noise"):
        home = _values(points, arm, points[0].trained[0], metric)
        low, high = np.quantile(home, (0.025, 0.975))
        there = _values(points, arm, level, metric)
        inside.append((low <= there) & (there <= high))
    return float(np.mean(np.all(inside, axis=0)))
