"""Why a network trained at one noise level works at others: the difficulty of images after normalization.

The backbone of a normalization-equivariant network only sees T(y), in which the noise level appears as a
difficulty, Delta = ||T(y) - (x - mu(y)) / s(y)||. Saied & Fleuret (2026), Table 3 and Figure 7: the share of
Delta at a test level that lies inside the central 95 % interval of Delta at the training level. This needs no
trained network. Their corpus has more flat patches than BSD400; the effect of a share of flat patches is also
shown. `--errors` adds Figures 6 and 11: the error in normalized coordinates over Delta.

    python -m experiments.difficulty                                  # embedded photographs
    WNE_DATA=... python -m experiments.difficulty --preset small      # BSD400
    WNE_DATA=... python -m experiments.difficulty --preset small --errors --networks DIR
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    earlier_records,
    find_or_train,
    published,
    results_folder,
    run,
    set_name,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.parts import coverage, difficulty_figures, normalized_error
from experiments.parts.coverage import Drawn
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over
from wne_jax.evaluation.sweeps import Denoise
from wne_jax.evaluation.tables import View, label

COVERAGE, EXCESS = "coverage", "error_added_by_level"

VIEWS = (
    View(
        rows=("trained",), tables=("metric", "unit", "dataset", "arm", "flat_share"),
        only={"metric": (COVERAGE,)},
    ),
    View(
        rows=("arm",), columns=("trained",), tables=("metric", "unit", "dataset", "model"),
        only={"metric": (EXCESS,)},
    ),
)  # fmt: skip

FLAT_SHARES = tuple(percent / 100 for percent in range(13))
"""Shares of flat patches to try."""


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line."""

    NAME = "difficulty"

    arms: tuple[Arm, ...] = ("baseline", "wne", "wne-noise")
    train_sigmas_255: tuple[Level, ...] = ((10.0,), (25.0,), (50.0,))
    coverage_sigmas_255: tuple[float, ...] = (50.0, 40.0, 30.0, 20.0, 10.0)
    """Noise levels of the coverage in 8-bit units, each as a training and as a test level."""
    patch: int = 70
    """Side of the square patches, in pixels."""
    samples: int | None = None
    """Patches per level for mean and standard deviation, whose distribution is known; by default the paper's
    384,000, in tiny 50,000."""
    further_statistics: tuple[Literal["haar_mad", "high_pass", "median_mad", "min_max"], ...] = (
        "haar_mad",
        "high_pass",
    )
    """Further statistics, measured on noisy patches."""
    batches: int = 20
    """Batches of 200 noisy patches per level for these statistics."""
    flat_std_255: float = 6.0
    """Maximum standard deviation of flat patches, in 8-bit units."""
    errors: bool = False
    """Also measure the error of trained networks."""
    test_patches: int = 96
    """Number of patches of the test images for the networks."""

    @property
    def number(self) -> int:
        """Patches per level for mean and standard deviation."""
        return self.samples or (50_000 if self.preset == "tiny" else 384_000)

    @property
    def images(self) -> str:
        """The source of the patches."""
        return self.data or self.sizes.data


Key = tuple[Arm, Level]


def wanted(options: Options) -> Wanted[Key]:
    """The networks to measure."""
    if not options.errors:
        return {}
    return {
        (arm, level): (arm, options.config(arm, level, backbone=options.backbone))
        for arm in options.arms
        for level in options.train_sigmas_255
    }


def main(options: Options) -> None:
    """Draw difficulties, compare, measure networks, report."""
    if min(options.test_patches, options.number, options.batches) < 1:
        raise ValueError("--samples, --batches and --test-patches must be 1 or more")
    earlier, runs = earlier_records(options), wanted(options)
    corpus = load_images(options.images, min_size=options.patch, data_dir=options.data_dir)
    sets = options.sets() if runs else {}
    images = [image for of_set in sets.values() for image in of_set]
    coverage.check_sizes(images, options.patch)
    done = {(r.arm, r.trained) for r in earlier if r.metric == EXCESS}
    denoisers = find_or_train(options, without(runs, done))
    key_coverage, key_error = jax.random.split(jax.random.key(options.seed + 1))
    with results_folder(options) as out:
        covered = [r for r in earlier if r.metric == COVERAGE]
        drawn = [] if covered else cover(options, corpus, key_coverage, out)
        functions = {key: denoiser.function for key, denoiser in denoisers.items()}
        rows = measure_networks(options, functions, images, key_error, out)
        columns = {"dataset": ", ".join(sets), "model": options.backbone} if runs else {}
        errors = error_records(rows, runs, options.patch**2, **columns)
        records = together(errors, earlier, drawn)
        out.write(records)
        title = f"Difficulty of {options.patch}x{options.patch} patches of {options.images}"
        sections = {name: text for view in VIEWS for name, text in tables_of(records, view).items()}
        there = {(r.arm, r.trained) for r in records if r.metric == EXCESS and r.value is not None}
        configs = {
            f"{arm}, trained at {label(level)}": config
            for (arm, level), (_, config) in runs.items()
            if (arm, level) in there
        }
        write_table(out, title, sections, configs)
    print("\n" + summary(options, records))


def cover(
    options: Options, corpus: Sequence[NamedImage], key: jax.Array, out: Folder
) -> list[Record]:
    """Table 3 and Figure 7 for every statistic, and the effect of flat patches."""
    key_law, key_patches, key_flat = jax.random.split(key, 3)
    rng = np.random.default_rng(options.seed)
    stds = coverage.contrasts(corpus, options.number, options.patch, rng)
    order = rng.permutation(len(corpus))
    number = options.batches * coverage.BATCH
    clean = coverage.crops([corpus[i] for i in order], number, options.patch, rng)
    levels = options.coverage_sigmas_255
    law = coverage.draw_by_law(stds, levels, clean[0].size, key_law)
    names = ("mean_std", *options.further_statistics)
    patches = coverage.draw_patches(clean, levels, names, key_patches)
    drawn = {"mean_std": law} | {name: patches[name] for name in options.further_statistics}

    known = published.coverage() if options.patch == 70 else {}
    dataset, records = set_name(options.images), []
    for name, of_levels in drawn.items():
        theirs = known if name == "mean_std" else {}
        records += coverage.coverages(of_levels, dataset=dataset, arm=name, published=theirs)
        records += coverage.intervals(of_levels, dataset=dataset, arm=name)
    # Mean and standard deviation computed in both ways, which should agree.
    records += coverage.coverages(
        patches["mean_std"], dataset=dataset, arm="mean_std", metric="coverage_of_drawn_patches"
    )
    figure = difficulty_figures.histograms(
        drawn, clean[0].size, title=f"Difficulty of {options.patch}x{options.patch} patches"
    )
    plotting.save(figure, out.path / "histograms.png", out.source)
    return records + add_flat(options, law, stds, known, key_flat, out)


def add_flat(
    options: Options,
    law: Drawn,
    stds: np.ndarray,
    known: Mapping[tuple[float, float], float],
    key: jax.Array,
    out: Folder,
) -> list[Record]:
    """The coverage if flat patches replace a share of the corpus.

    Their standard deviations are uniform from 0 to `flat_std_255`. The share whose table is nearest to the
    published one is compared with it.
    """
    key_std, key_draw = jax.random.split(key)
    flat_stds = np.asarray(jax.random.uniform(key_std, stds.shape)) * options.flat_std_255 / 255
    flat = coverage.draw_by_law(flat_stds, options.coverage_sigmas_255, options.patch**2, key_draw)

    def coverages(share: float, **columns) -> list[Record]:
        return coverage.coverages(
            coverage.with_flat(law, flat, share), dataset=set_name(options.images), arm="mean_std",
            flat_share=share, **columns,
        )  # fmt: skip

    tables = {share: coverages(share, metric="coverage_with_flat_patches") for share in FLAT_SHARES}

    def distance(share: float) -> float:
        gaps = [r.value - known[r.trained[0], r.level] for r in tables[share] if compared(r)]
        return float(np.mean(np.square(gaps)))

    def compared(record: Record) -> bool:
        return (record.trained[0], record.level) in known

    any_known = any(map(compared, tables[0.0]))
    best = min(FLAT_SHARES, key=distance) if any_known else max(FLAT_SHARES)
    count = round(best * len(stds))
    corners = {
        f"trained at {train:g}, tested at {test:g}": (
            [coverage.at(tables[share], train, test) for share in FLAT_SHARES],
            known.get((train, test)),
        )
        for train, test in _corners(options)
    }
    figure = difficulty_figures.flat_patches(
        255 * stds,
        255 * np.concatenate([flat_stds[:count], stds[count:]]),
        corners,
        FLAT_SHARES,
        coverage.published_contrasts(options.patch**2) if any_known else [],
        title=f"{options.images}, and flat patches (standard deviations from 0 to {options.flat_std_255:g}) "
        f"in place of {100 * best:g} % of it",
    )
    plotting.save(figure, out.path / "flat.png", out.source)
    return [*(r for table in tables.values() for r in table), *coverages(best, published=known)]


def _corners(options: Options) -> list[tuple[float, float]]:
    """The pairs (training level, test level) of the highest and the lowest level, in both orders."""
    high, low = max(options.coverage_sigmas_255), min(options.coverage_sigmas_255)
    return [(high, low), (low, high)]


def measure_networks(
    options: Options,
    functions: Mapping[Key, Denoise],
    images: Sequence[NamedImage],
    key: jax.Array,
    out: Folder,
) -> list[normalized_error.Row]:
    """Figures 6 and 11: normalized error over difficulty."""
    if not functions:
        return []
    rng = np.random.default_rng(options.seed)
    clean = coverage.crops(images, options.test_patches, options.patch, rng)
    levels = options.test_sigmas_255 or options.sizes.test_sigmas_255
    rows = normalized_error.measure(functions, clean, levels, key)
    if not (
        out.path / "error.png"
    ).exists():  # an earlier figure includes networks that are missing here
        trained = sorted({level for _, level in functions})
        figure = difficulty_figures.errors(
            rows, options.patch**2, at=trained[len(trained) // 2],
            title=f"Error in normalized coordinates, {options.backbone}",
        )  # fmt: skip
        plotting.save(figure, out.path / "error.png", out.source)
    return rows


def error_records(
    rows: Sequence[normalized_error.Row], keys: Iterable[Key], d: int, **columns: str
) -> list[Record]:
    """For each network, the excess error due to the noise level, and the median error by difficulty.

    Args:
        rows: Those of `normalized_error.measure`.
        keys: The networks; those without rows get a record without a value.
        d: Entries of a patch.
        **columns: `dataset` and `model` of the records.
    """
    records = []
    for arm, level in keys:
        found = [r for r in rows if (r["arm"], r["trained"]) == (arm, level)]
        place = {"experiment": Options.NAME, "arm": arm, "trained": level, "unit": "dB"} | columns
        excess = normalized_error.excess(found, d) if found else None
        records.append(Record(metric=EXCESS, value=excess, **place))
        records += [
            Record(metric="median_normalized_error", value=error,
                   settings={"median_difficulty": delta, "patches": number}, **place)
            for delta, error, number in normalized_error.medians(found, d)
        ]  # fmt: skip
    return records


def summary(options: Options, records: Sequence[Record]) -> str:
    """A summary of the results."""
    (high, low), _ = corners = _corners(options)
    covered = [r for r in records if r.metric == COVERAGE]
    means = mean_over(
        [r for r in covered if r["flat_share"] is None], by=["arm", "trained", "level"]
    )
    lines = [
        f"Percent of the difficulty at {low:g} that training at {high:g} covers, and the converse:"
    ]
    for arm in dict.fromkeys(arm for arm, *_ in means):
        there, back = (means[arm, (train,), test] for train, test in corners)
        lines.append(f"  {arm:<12} {there:4.0f} {back:4.0f}")
    known = published.coverage()
    if options.patch == 70 and (high, low) in known:
        there, back = (known[corner] for corner in corners)
        lines.append(f"  {'published':<12} {there:4.0f} {back:4.0f}")
    if shares := {r["flat_share"] for r in covered if r.published is not None} - {None}:
        lines.append(f"Nearest to the published table: {100 * max(shares):g} % of the patches flat")
    lines.append(f"Tables, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
