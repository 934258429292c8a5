"""Difficulties of noisy patches, and how much of a test level's difficulties a training level covers.

`drawn` is always a dict from noise level, in 8-bit units, to the difficulties f32[N] of N patches.
"""

from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from experiments.harness import published
from wne_jax.data import NamedImage
from wne_jax.evaluation.records import Record
from wne_jax.images import degradations as noise
from wne_jax.images.units import to_unit
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry import analysis

BATCH = 200
"""Number of noisy patches per batch."""

Drawn = dict[float, np.ndarray]

_draw = jax.jit(analysis.draw_difficulty, static_argnums=2)


def contrasts(
    images: Sequence[NamedImage], number: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Standard deviations of random windows of random gray images, in random order: f32[number], unit range.

    All windows of an image are computed at once from summed-area tables.
    """
    found = []
    for image, wanted in zip(images, rng.multinomial(number, [1 / len(images)] * len(images))):
        x = to_unit(image.pixels).astype(np.float64)[..., 0]
        x -= x.mean()  # avoids cancellation in the squares below
        mean, square = (_window_means(part, size) for part in (x, x * x))
        found.append(rng.choice(np.sqrt(np.maximum(square - mean**2, 0)).ravel(), wanted))
    return rng.permutation(np.concatenate(found)).astype(np.float32)


def _window_means(x: np.ndarray, size: int) -> np.ndarray:
    """Means over all windows [size, size] of an image [H, W]."""
    area = np.pad(x.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = area[size:, size:] - area[:-size, size:] - area[size:, :-size] + area[:-size, :-size]
    return sums / size**2


def check_sizes(images: Sequence[NamedImage], patch: int) -> None:
    """Check that every image contains a patch.

    Raises:
        ValueError: An image is smaller than a patch.
    """
    for image in images:
        height, width, _ = image.pixels.shape
        if min(height, width) < patch:
            raise ValueError(
                f"patch is {patch}, but the test image {image.name} is {height}x{width}: "
                "use smaller patches or other images"
            )


def crops(
    images: Sequence[NamedImage], number: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Random windows, drawn from all images in turn: f32[number, size, size, C] in unit range."""
    found = []
    for i in range(number):
        pixels = images[i % len(images)].pixels
        top, left = (rng.integers(side - size + 1) for side in pixels.shape[:2])
        found.append(to_unit(pixels[top : top + size, left : left + size]))
    return np.stack(found)


def draw_by_law(stds: np.ndarray, levels: Iterable[float], d: int, key: jax.Array) -> Drawn:
    """Difficulties under mean and standard deviation, for patches of the given contrasts (unit range)."""
    return {
        level: np.asarray(_draw(jax.random.fold_in(key, i), np.square(255 * stds / level), d))
        for i, level in enumerate(levels)
    }


def draw_patches(
    clean: np.ndarray, levels: Iterable[float], statistics: Sequence[str], key: jax.Array
) -> dict[str, Drawn]:
    """Difficulties of noisy patches, by name of the statistic; all use the same noise.

    Args:
        clean: Patches f32[N, H, W, C], N a multiple of `BATCH`.
        levels: Noise levels in 8-bit units.
        statistics: Names in `wne_jax.statistics.STATISTICS`.
        key: Random key.
    """

    @jax.jit
    def measure(key: jax.Array, clean: jax.Array, sigma: jax.Array) -> dict[str, jax.Array]:
        noisy = noise.gaussian(key, clean, sigma)
        return {n: analysis.difficulty(noisy, clean, statistics=STATISTICS[n]) for n in statistics}

    batches = clean.reshape(-1, BATCH, *clean.shape[1:])
    found: dict[str, Drawn] = {name: {} for name in statistics}
    for i, level in enumerate(levels):
        keys = jax.random.split(jax.random.fold_in(key, i), len(batches))
        parts = [measure(k, batch, level / 255) for k, batch in zip(keys, batches)]
        for name in statistics:
            found[name][level] = np.concatenate([part[name] for part in parts])
    return found


def with_flat(drawn: Drawn, flat: Drawn, share: float) -> Drawn:
    """The same numbers of difficulties, with a share of them replaced by those of flat patches."""
    return {
        level: np.concatenate([flat[level][: round(share * len(of_corpus))],
                               of_corpus[round(share * len(of_corpus)) :]])
        for level, of_corpus in drawn.items()
    }  # fmt: skip


def coverages(
    drawn: Mapping[float, np.ndarray],
    *,
    dataset: str,
    arm: str,
    metric: str = "coverage",
    flat_share: float | None = None,
    published: Mapping[tuple[float, float], float] | None = None,
) -> list[Record]:
    """Coverage in percent of every test level by every training level.

    Args:
        drawn: Difficulties by level.
        dataset: Source of the patches.
        arm: The statistic.
        metric: Metric of the records.
        flat_share: Share of flat patches.
        published: Published coverages by training and test level.
    """
    share = {} if flat_share is None else {"flat_share": flat_share}
    return [
        Record(
            experiment="difficulty", metric=metric, unit="%", dataset=dataset, degradation="gaussian",
            level=test, trained=train, arm=arm, value=100 * analysis.coverage(met, seen),
            published=(published or {}).get((train, test)), settings={"samples": len(seen)} | share,
        )
        for train, seen in drawn.items()
        for test, met in drawn.items()
    ]  # fmt: skip


def intervals(drawn: Mapping[float, np.ndarray], *, dataset: str, arm: str) -> list[Record]:
    """The ends of the central 95 % interval of every level."""
    return [
        Record(
            experiment="difficulty", metric=f"interval_{end}", dataset=dataset, degradation="gaussian",
            level=level, arm=arm, value=value,
        )
        for level, seen in drawn.items()
        for end, value in zip(("low", "high"), analysis.central_interval(seen))
    ]  # fmt: skip


def at(records: Iterable[Record], train: float, test: float) -> float:
    """The coverage of a pair of levels."""
    return next(r.value for r in records if (r.trained, r.level) == ((train,), test))


def published_contrasts(d: int) -> list[tuple[float, float]]:
    """Points of the contrast distribution of the published corpus, derived from Table 3.

    An interval end is a difficulty, which corresponds at every test level to a contrast,
    std(x)^2 = SNR sigma^2. Difficulties above the upper end of the lowest training level belong to patches of
    lower contrast. The same holds above the lower end of the highest training level; there, the coverage
    excludes difficulties above the upper end, at most 2.5 % of them.

    Args:
        d: Entries of a patch.

    Returns:
        Standard deviations in 8-bit units, and the shares of patches below them.
    """
    covered, ends = published.coverage(), published.difficulty_intervals()
    lowest, highest = min(ends), max(ends)
    points = []
    for test in sorted(ends):
        flat, textured = (
            test * float(np.sqrt(analysis.snr_at(end, d)))
            for end in (ends[lowest][1], ends[highest][0])
        )
        if test > lowest:
            points.append((flat, 1 - covered[lowest, test] / 100))
        if test < highest:
            points.append((textured, covered[highest, test] / 100))
    return sorted(points)
