"""Why a network trained at one noise level serves others: how difficult images are in normalized coordinates.

A normalization-equivariant network meets T(y) alone, in which a noise level is nothing but a difficulty,
Delta = ||T(y) - (x - mu(y)) / s(y)||. Saied & Fleuret (2026), Table 3 and Figure 7: the share of Delta at a
test level inside the central 95 % interval of Delta at the training level. That takes no trained network.
Their corpus has more flat patches than BSD400; what a share of them changes is shown beside. With
`--networks` also Figures 6 and 11: the error in normalized coordinates over Delta.

    python -m experiments.difficulty                                  # embedded photographs
    WNE_DATA=... python -m experiments.difficulty --preset small      # BSD400
    WNE_DATA=... python -m experiments.difficulty --preset small --networks --no-train --runs DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments import (
    _cli,
    _comparison,
    _coverage,
    _difficulty_figures,
    _normalized_error,
    _published,
    _sweeps,
)
from experiments._arms import Arm, Backbone
from experiments._coverage import Drawn
from wne_jax._internal.files import write_atomically
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import Denoise
from wne_jax.symmetry import analysis
from wne_jax.training import TrainConfig, is_lead

FLAT_SHARES = tuple(percent / 100 for percent in range(13))
"""Shares of flat patches that are tried."""


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    levels_255: tuple[float, ...] = (50.0, 40.0, 30.0, 20.0, 10.0)
    """Noise levels of the coverage in 8-bit units."""
    patch: int = 70
    """Side of the patches, in pixels."""
    samples: int | None = None
    """Patches a level under mean and standard deviation, whose law is known; by default the paper's 384,000,
    in tiny 50,000."""
    statistics: tuple[Literal["haar_mad", "high_pass", "median_mad", "min_max"], ...] = (
        "haar_mad",
        "high_pass",
    )
    """Further statistics, for which noisy patches are drawn."""
    batches: int = 20
    """Noisy patches a level for those, in batches of 200."""
    flat_255: float = 6.0
    """Flat patches have standard deviations from 0 to this, in 8-bit units."""
    networks: bool = False
    """Whether to measure the error of trained networks, too."""
    backbone: Backbone = "dncnn"
    """Their backbone."""
    arms: tuple[Arm, ...] = ("baseline", "wne", "wne-noise")
    """Their arms."""
    train_levels_255: tuple[float, ...] = (10.0, 25.0, 50.0)
    """Their training levels in 8-bit units."""
    test_patches: int = 96
    """Patches of the test images that they are tested on."""
    workdir: Path = Path("runs/difficulty")
    """Folder for everything that is written."""

    @property
    def number(self) -> int:
        """Patches a level, of known law."""
        return self.samples or (50_000 if self.preset == "tiny" else 384_000)

    @property
    def images(self) -> str:
        """Where the patches come from."""
        return self.data or self.sizes.data


Cells = list[_comparison.Cell]


def configs(options: Options) -> dict[str, tuple[Arm, TrainConfig]]:
    """The networks that are measured."""
    if not options.networks:
        return {}
    return {
        _sweeps.at(arm, level): (arm, options.config(arm, level, backbone=options.backbone))
        for arm in options.arms
        for level in options.train_levels_255
    }


def main(options: Options) -> None:
    """Draw difficulties, compare, measure networks, report."""
    if min(options.test_patches, options.number, options.batches) < 1:
        raise ValueError("samples, batches and test_patches must be 1 or more")
    corpus = load_images(options.images, min_size=options.patch, data_dir=options.data_dir)
    sets = options.sets() if options.networks else {}
    images = [image for of_set in sets.values() for image in of_set]
    _coverage.check_sizes(images, options.patch)
    wanted = configs(options)
    denoisers, source = _sweeps.trained(options, wanted, options.workdir)
    if not is_lead():
        return
    kinds = ("coverage.csv", "flat.csv", "error.csv", "histograms.png", "flat.png", "error.png")
    _comparison.clear(options.workdir, *kinds)
    key_coverage, key_error = jax.random.split(jax.random.key(options.seed + 1))
    drawn, cells = cover(options, corpus, key_coverage, source)
    if options.networks:
        functions = {
            (arm, level): denoisers[_sweeps.at(arm, level)].function
            for arm in options.arms
            for level in options.train_levels_255
            if _sweeps.at(arm, level) in denoisers
        }
        cells += measure_networks(options, functions, images, key_error, source)
    _comparison.write(cells, options.workdir)
    title = f"Difficulty of {options.patch}x{options.patch} patches of {options.images}"
    sections = [f"# {title}", "Ours in bold; in brackets the published figure and the difference."]
    for name, table in _comparison.tables(cells, form=".1f").items():
        sections += [f"## {name}", table]
    if wanted:
        trained = {name: config for name, (_, config) in wanted.items() if name in denoisers}
        sections += ["## Networks", _sweeps.budgets(trained) or "None is trained."]
    sections.append(results.footer(source))
    write_atomically(options.workdir / "table.md", "\n\n".join(sections) + "\n")
    print(summary(options, drawn, cells))


def cover(
    options: Options, corpus: Sequence[NamedImage], key: jax.Array, source: dict[str, Any]
) -> tuple[dict[str, Drawn], Cells]:
    """Table 3 and Figure 7, under every statistic, and what flat patches change."""
    key_law, key_patches, key_flat = jax.random.split(key, 3)
    rng = np.random.default_rng(options.seed)
    stds = _coverage.contrasts(corpus, options.number, options.patch, rng)
    order = rng.permutation(len(corpus))
    number = options.batches * _coverage.BATCH
    clean = _coverage.crops([corpus[i] for i in order], number, options.patch, rng)
    law = _coverage.draw_by_law(stds, options.levels_255, clean[0].size, key_law)
    names = ("mean_std", *options.statistics)
    patches = _coverage.draw_patches(clean, options.levels_255, names, key_patches)
    drawn = {"mean_std": law} | {name: patches[name] for name in options.statistics}

    published = _published.coverage() if options.patch == 70 else {}
    records, cells = [], []
    for name, how, of_levels in (
        ("mean_std", "law", law),
        *((name, "patches", patches[name]) for name in names),
    ):
        found = _coverage.table(of_levels)
        records += [{"statistics": name, "drawn": how} | record for record in found]
        if (name, how) == ("mean_std", "law"):
            cells += cells_of(f"Table 3: coverage (percent), {options.images}", found, published)
        elif name != "mean_std":
            cells += cells_of(f"Coverage (percent) by {name}, {options.images}", found, {})
    results.write_csv(records, options.workdir / "coverage.csv")
    figure = _difficulty_figures.histograms(
        drawn, clean[0].size, title=f"Difficulty of {options.patch}x{options.patch} patches"
    )
    plotting.save(figure, options.workdir / "histograms.png", source)
    return drawn, cells + add_flat(options, law, stds, published, key_flat, source)


def add_flat(
    options: Options,
    law: Drawn,
    stds: np.ndarray,
    published: dict[tuple[float, float], float],
    key: jax.Array,
    source: dict[str, Any],
) -> Cells:
    """The coverage where flat patches take the place of a share of the corpus, nearest to the published one.

    Their standard deviations are uniform from 0 to `flat_255`.
    """
    key_std, key_draw = jax.random.split(key)
    flat_stds = np.asarray(jax.random.uniform(key_std, stds.shape)) * options.flat_255 / 255
    flat = _coverage.draw_by_law(flat_stds, options.levels_255, options.patch**2, key_draw)
    tables = {
        share: _coverage.table(_coverage.with_flat(law, flat, share)) for share in FLAT_SHARES
    }
    records = [{"flat_share": share} | record for share, t in tables.items() for record in t]
    results.write_csv(records, options.workdir / "flat.csv")

    def cells_with(share: float) -> Cells:
        name = f"Table 3: coverage (percent), {options.images} with {100 * share:g} % of the patches flat"
        return cells_of(name, tables[share], published)

    def distance(share: float) -> float:
        gaps = [c["difference"] for c in cells_with(share) if c["difference"] != ""]
        return float(np.mean(np.square(gaps)))

    known = any(cell["published"] != "" for cell in cells_with(0))
    best = min(FLAT_SHARES, key=distance) if known else max(FLAT_SHARES)
    count = round(best * len(stds))
    high, low = max(options.levels_255), min(options.levels_255)
    corners = {
        f"trained at {train:g}, tested at {test:g}": (
            [_coverage.at(tables[share], train, test) for share in FLAT_SHARES],
            published.get((train, test)),
        )
        for train, test in ((high, low), (low, high))
    }
    figure = _difficulty_figures.flat_patches(
        255 * stds,
        255 * np.concatenate([flat_stds[:count], stds[count:]]),
        corners,
        FLAT_SHARES,
        _coverage.published_contrasts(options.patch**2) if known else [],
        title=f"{options.images}, and flat patches (standard deviations from 0 to {options.flat_255:g}) "
        f"in place of {100 * best:g} % of it",
    )
    plotting.save(figure, options.workdir / "flat.png", source)
    return cells_with(best)


def cells_of(result: str, records: Sequence[dict[str, Any]], published: dict) -> Cells:
    """A table of coverages beside the published one."""
    return [
        _comparison.cell(
            result, f"{train:g}", f"{test:g}", record["coverage"], published.get((train, test))
        )
        for record in records
        for train, test in [(record["train_sigma_255"], record["test_sigma_255"])]
    ]


def measure_networks(
    options: Options,
    functions: dict[tuple[str, float], Denoise],
    images: list[NamedImage],
    key: jax.Array,
    source: dict[str, Any],
) -> Cells:
    """Figures 6 and 11: normalized error over difficulty, and what the noise level adds to it."""
    rng = np.random.default_rng(options.seed)
    clean = _coverage.crops(images, options.test_patches, options.patch, rng)
    records = []
    if functions:
        levels = options.test_sigmas_255 or options.sizes.test_sigmas_255
        records = _normalized_error.measure(functions, clean, levels, key)
        results.write_csv(records, options.workdir / "error.csv")
        trained = sorted({level for _, level in functions})
        figure = _difficulty_figures.errors(
            records, clean[0].size, at=trained[len(trained) // 2],
            title=f"Error in normalized coordinates, {options.backbone}",
        )  # fmt: skip
        plotting.save(figure, options.workdir / "error.png", source)
    return [
        _comparison.cell(
            f"Figures 6 and 11: what the noise level adds at equal difficulty (dB), {options.backbone}",
            arm,
            f"{level:g}",
            _normalized_error.excess(
                [r for r in records if (r["model"], r["train_sigma_255"]) == (arm, level)],
                clean[0].size,
            )
            if (arm, level) in functions
            else None,
        )
        for arm in options.arms
        for level in options.train_levels_255
    ]


def summary(options: Options, drawn: dict[str, Drawn], cells: Cells) -> str:
    """The result in words."""
    high, low = max(options.levels_255), min(options.levels_255)
    lines = [
        f"Percent of the difficulty at {low:g} that training at {high:g} covers, and the converse:"
    ]
    for name, of_levels in drawn.items():
        there, back = (
            100 * analysis.coverage(of_levels[test], of_levels[train])
            for train, test in ((high, low), (low, high))
        )
        lines.append(f"  {name:<12} {there:4.0f} {back:4.0f}")
    published = _published.coverage()
    if options.patch == 70 and (high, low) in published:
        there, back = published[int(high), int(low)], published[int(low), int(high)]
        lines.append(f"  {'published':<12} {there:4.0f} {back:4.0f}")
    if flat := next((c["result"] for c in cells if c["result"].endswith("patches flat")), None):
        lines.append(f"Nearest to the published table: {flat.rpartition(', ')[2]}")
    lines.append(f"Tables, figures and records are in {options.workdir}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
