"""Which statistics? The price of one network for all noise levels, against a specialist for each.

Saied & Fleuret (2026) normalize by mean and standard deviation; their characterization leaves location and
scale free. Here every choice is trained at one level and tested at all. Its *regret* at a test level is the
PSNR of a specialist, trained at that level with the same backbone and steps, minus its own; the specialist is
the better of the arms `--specialists`, each the mean over seeds. A range, `--range-255 0 55`, is one more
training level. (In the preset `paper` the unwrapped network has a loss and a schedule of its own.)

    python -m experiments.regret                          # 46 small networks: an hour on 2 cores
    WNE_DATA=... python -m experiments.regret --preset small --seeds 3 --arms wne wne-noise wne-detail
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _cli, _comparison, _published, _regret_figures, _sweeps
from experiments._arms import Arm
from wne_jax.data import NamedImage
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import noisy_and_clean, psnr_sweep
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig

CANDIDATES: tuple[Arm, ...] = (
    "wne",
    "wne-noise",
    "wne-highpass",
    "wne-median",
    "wne-minmax",
    "wne-blend",
    "wne-multiscale",
    "wne-learned",
    "wne-std-detail",
    "wne-detail",
    "wne-capped",
)

AFFINE = ((1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 0.3), (0.25, 0.5))
"""Changes of contrast and brightness under which a network should do the same."""


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    arms: tuple[Arm, ...] = CANDIDATES
    """The candidates."""
    specialists: tuple[Arm, ...] = ("baseline", "wne-detail")
    """Arms that are trained at every test level; the better one is the specialist of that level."""
    train_255: tuple[float, ...] = (10.0, 25.0, 50.0)
    """Training levels in 8-bit units."""
    range_255: tuple[float, float] | None = None
    """The ends of a range of training levels, as one more of them."""
    test_sigmas_255: tuple[float, ...] | None = None
    """Test noise levels in 8-bit units; by default 5, 10, 15, 25, 35, 50, 75, 100 and those of training."""
    seeds: int = 1
    """Networks of each candidate and specialist."""
    crop: int = 256
    """Side of the central crops of the test images, in pixels: one size compiles once."""
    windows: tuple[int, ...] = (32, 64, 128)
    """Sides of windows that are denoised one by one, in pixels; divisors of `crop`."""
    workdir: Path = Path("runs/regret")
    """Folder for everything that is written."""

    def test_levels(self) -> list[float]:
        """The levels of the test, single training levels among them."""
        return sorted(
            {*(self.test_sigmas_255 or (5, 10, 15, 25, 35, 50, 75, 100)), *self.train_255}
        )

    def trainings(self) -> list[tuple[float, ...]]:
        """The training levels, a range last."""
        levels: list[tuple[float, ...]] = [(level,) for level in self.train_255]
        return levels + ([] if self.range_255 is None else [self.range_255])


class Network(NamedTuple):
    """One training run of the experiment."""

    arm: Arm
    level: tuple[float, ...]
    seed: int

    @property
    def label(self) -> str:
        """A name of its own."""
        return f"{self.arm}, trained at {name_of(self.level)}, seed {self.seed}"


def name_of(level: Sequence[float]) -> str:
    """A training level, or a range of them, in words."""
    return " to ".join(f"{sigma:g}" for sigma in level)


def wanted_networks(options: Options) -> tuple[list[Network], list[Network]]:
    """The candidates, with the unwrapped network beside them, and the specialists."""
    seeds = range(options.seed, options.seed + options.seeds)
    arms = dict.fromkeys(("baseline", *options.arms))
    candidates = [Network(a, t, s) for t in options.trainings() for a in arms for s in seeds]
    levels = [(float(level),) for level in options.test_levels()]
    specialists = [Network(a, t, s) for t in levels for a in options.specialists for s in seeds]
    return candidates, specialists


def measure(
    options: Options,
    denoisers: dict[str, Denoiser],
    images: list[NamedImage],
    networks: Sequence[Network],
    levels: Sequence[float],
) -> list[dict[str, Any]]:
    """PSNR of those networks that there are, a record a network and level: the mean over all images."""
    functions = {n.label: denoisers[n.label].function for n in networks if n.label in denoisers}
    key = jax.random.key(options.seed + 1)
    swept = psnr_sweep(functions, images, levels, key, repeats=options.sizes.repeats)
    means = results.mean_over(swept, "psnr", by=["model", "sigma_255"])
    return [
        {"arm": n.arm, "train": name_of(n.level), "seed": n.seed, "test": level}
        | {"psnr": means[n.label, level]}
        for n in networks
        for level in levels
        if n.label in functions
    ]


def with_all_seeds(records: Sequence[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Records of those arms and trainings of which no seed is missing."""
    found = {(r["arm"], r["train"], r["seed"]) for r in records}
    number = Counter((arm, train) for arm, train, _ in found)
    return [r for r in records if number[r["arm"], r["train"]] == seeds]


def specialists_at(records: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[float, float]:
    """The PSNR of the best specialist of every level: of the arms, each the mean over its seeds.

    A level where one of the arms is missing has no specialist: the rest might not be the best.
    """
    means = results.mean_over(records, "psnr", by=["test", "arm"])
    levels = dict.fromkeys(level for level, _ in means)
    complete = [level for level in levels if all((level, arm) in means for arm in arms)]
    return {level: max(means[level, arm] for arm in arms) for level in complete}


def regrets(
    candidates: Sequence[dict[str, Any]], specialists: dict[float, float]
) -> list[dict[str, Any]]:
    """Records of the candidates with what they lack to the specialist, where there is one."""
    return [
        r | {"specialist": specialists[r["test"]], "regret": specialists[r["test"]] - r["psnr"]}
        for r in candidates
        if r["test"] in specialists
    ]


def published_regret(train: float, test: float) -> float | None:
    """The regret of the published DnCNN WNE, at pairs of its three training levels; else None."""
    levels = _published.LEVELS
    if train not in levels or test not in levels:
        return None
    own, there = (_published.sweep(f"dncnn_sigma{level:g}") for level in (train, test))
    at = [_published.at_level(there, arm, test) for arm in ("baseline", "wne")]
    here = _sweeps.published_at(own, "wne", test)
    return None if here is None else max(value for value in at if value is not None) - here


def verdicts(records: Sequence[dict[str, Any]], arm: str) -> dict[str, str]:
    """How an arm stands to the aims: in words, from the regrets alone."""
    mean = results.mean_over(records, "regret", by=["arm", "train", "test"])
    of = {
        name: {(train, test): value for (a, train, test), value in mean.items() if a == name}
        for name in (arm, "wne", "baseline")
    }
    ours = of[arm]
    pairs = sorted(ours.keys() & of["wne"].keys())
    worst = [max(of[name][pair] for pair in pairs) for name in (arm, "wne") if pairs]
    home = [p for p in ours if p in of["baseline"] and p[0] == f"{p[1]:g}"]
    return {
        "worst, of mean_std's": f"{worst[0] / worst[1]:.2f}" if pairs and worst[1] > 0 else "",
        "below mean_std": f"{sum(ours[p] < of['wne'][p] for p in pairs)} of {len(pairs)}",
        "within 0.3 dB": f"{sum(value <= 0.3 for value in ours.values())} of {len(ours)}",
        "lost to the baseline at its level": ", ".join(
            f"{ours[pair] - of['baseline'][pair]:+.2f}" for pair in home
        ),
    }


def in_windows(
    options: Options, denoisers: dict[str, Denoiser], images: list[NamedImage]
) -> list[dict[str, Any]]:
    """PSNR at the training level of images denoised in windows, each with statistics of its own.

    What the unwrapped network loses is due to the borders; what another loses beyond, to its statistics.
    """
    key, records = jax.random.key(options.seed + 1), []
    level = options.train_255[len(options.train_255) // 2]
    for arm in dict.fromkeys(("baseline", *options.arms)):
        label = Network(arm, (level,), options.seed).label
        if label not in denoisers:
            continue
        for side in (*options.windows, options.crop):
            values = []
            for image in images:
                noisy, clean = noisy_and_clean(image, level, key)
                if min(clean.shape[1:3]) < options.crop:
                    continue
                parts = denoisers[label].function(cut(noisy, side))
                estimate = jnp.clip(paste(parts, options.crop), 0, 1)
                values.append(float(metrics.psnr(estimate, clean)[0]))
            if values:
                records.append({"arm": arm, "window": side, "psnr": float(np.mean(values))})
    return records


def cut(image: jax.Array, side: int) -> jax.Array:
    """The windows `[N, side, side, C]` of one square image `[1, S, S, C]`; `side` divides S."""
    number, channels = image.shape[1] // side, image.shape[-1]
    grid = jnp.reshape(image, (number, side, number, side, channels))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (number**2, side, side, channels))


def paste(windows: jax.Array, size: int) -> jax.Array:
    """The image that `cut` has cut."""
    side, channels = windows.shape[1], windows.shape[-1]
    grid = jnp.reshape(windows, (size // side, size // side, side, side, channels))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (1, size, size, channels))


def under_changes(
    options: Options, denoisers: dict[str, Denoiser], images: list[NamedImage]
) -> list[dict[str, Any]]:
    """PSNR of the networks of the last training when contrast and brightness change; noise of level 25."""
    key, records = jax.random.key(options.seed + 1), []
    for arm in dict.fromkeys(("baseline", *options.arms)):
        label = Network(arm, options.trainings()[-1], options.seed).label
        if label not in denoisers:
            continue
        for a, b in AFFINE:
            for image in images:
                noisy, clean = noisy_and_clean(image, 25.0, key)
                back = (denoisers[label].function(a * noisy + b) - b) / a
                psnr = float(metrics.psnr(jnp.clip(back, 0, 1), clean)[0])
                change = f"{a:g} y + {b:g}" if b else f"{a:g} y"
                records.append({"arm": arm, "change": change, "psnr": psnr})
    return records


def main(options: Options) -> None:
    """Train what is missing, measure, compare, explain."""
    if bad := [side for side in options.windows if side < 1 or options.crop % side]:
        raise ValueError(f"windows must divide crop = {options.crop}; {bad} do not")
    if options.crop < _regret_figures.PATCH:
        raise ValueError(f"crop must be {_regret_figures.PATCH} or more, not {options.crop}")
    if own := [*_sweeps.other_trainings((*options.arms, *options.specialists))]:
        raise ValueError(f"arms must be trained at the levels of this experiment: {own[0]}")
    sets = options.sets()
    if len(sets) > 1:
        raise ValueError(f"regret takes one test set, not {', '.join(sets)}")
    ((name, images),) = sets.items()
    images = [_sweeps.central(image, options.crop) for image in images]
    candidates, specialists = wanted_networks(options)
    wanted = {n.label: (n.arm, _config(options, n)) for n in (*candidates, *specialists)}
    denoisers, source = _sweeps.trained(options, wanted, options.workdir)

    own = [
        record
        for level in options.test_levels()
        for record in measure(
            options, denoisers, images, [n for n in specialists if n.level == (level,)], [level]
        )
    ]
    swept = measure(options, denoisers, images, candidates, options.test_levels())
    own, swept = (with_all_seeds(records, options.seeds) for records in (own, swept))
    records = regrets(swept, specialists_at(own, options.specialists))
    if not records:
        raise ValueError(f"{options.runs} holds no candidate, or no specialist of a test level")
    _comparison.clear(options.workdir, "*.csv", "regret.png", "coordinates.png")
    windows = in_windows(options, denoisers, images)
    changes = under_changes(options, denoisers, images)
    named = {"specialists": own, "regret": records, "windows": windows, "changes": changes}
    for file, rows in named.items():
        if rows:
            results.write_csv(rows, options.workdir / f"{file}.csv")
    where = f"{name}, {len(images)} crops of {options.crop}"
    cells = compare(options, records, name, where)
    _comparison.write(cells, options.workdir)
    _regret_figures.write(options, records, images, source)
    report(options, named, cells, wanted, source, where)


def _config(options: Options, network: Network) -> TrainConfig:
    return options.config(network.arm, network.level, seed=network.seed)


def compare(
    options: Options, records: Sequence[dict[str, Any]], name: str, where: str
) -> list[_comparison.Cell]:
    """Regret by training level, arm and test level, on Set12 beside the published one of the wrapper."""
    means = results.mean_over(records, "regret", by=["train", "arm", "test"])
    cells = []
    for level in options.trainings():
        train = name_of(level)
        for arm in dict.fromkeys(("baseline", *options.arms)):
            for test in options.test_levels():
                comparable = arm == "wne" and name == "Set12" and len(level) == 1
                published = published_regret(level[0], test) if comparable else None
                cells.append(
                    _comparison.cell(
                        f"Regret (dB), trained at {train}, {where}", arm, f"{test:g}",
                        means.get((train, arm, test)), published,
                    )
                )  # fmt: skip
    return cells


def report(
    options: Options,
    named: dict[str, list[dict[str, Any]]],
    cells: Sequence[_comparison.Cell],
    wanted: dict[str, tuple[Arm, TrainConfig]],
    source: dict[str, Any],
    where: str,
) -> None:
    """Write `table.md`, and say who wins."""
    records = named["regret"]
    ranking = rank(records)
    body = [
        [arm, f"{number}", f"{worst:.2f}", f"{mean:.2f}", *verdicts(records, arm).values()]
        for arm, (number, worst, mean) in ranking.items()
    ]
    aims = verdicts(records, next(iter(ranking)))
    header = ["", "pairs", "worst regret", "mean regret", *aims]
    title = f"All pairs of training and test level (dB), {where}"
    tables = {title: results.markdown_table(header, body)}
    tables |= _comparison.tables(cells)
    specialist = {"row": "PSNR (dB)"}
    best = [
        specialist | {"test": t, "psnr": p}
        for t, p in specialists_at(named["specialists"], options.specialists).items()
    ]
    tables["Specialists"] = results.pivot_table(best, "psnr", rows="row", columns="test")
    middle = options.train_255[len(options.train_255) // 2]
    if named["windows"]:
        title = f"PSNR (dB) at {middle:g}, trained there, denoised in windows of this side"
        tables[title] = results.pivot_table(named["windows"], "psnr", rows="arm", columns="window")
    if named["changes"]:
        trained = name_of(options.trainings()[-1])
        title = f"PSNR (dB) at 25 under changes of contrast and brightness, trained at {trained}"
        tables[title] = results.pivot_table(named["changes"], "psnr", rows="arm", columns="change")
    seeds = f"{options.seeds} seed{'s' * (options.seeds > 1)}"
    trained = {
        arm if options.seeds == 1 else f"{arm} ({config.seed})": config
        for arm, config in reversed(wanted.values())
    }
    _sweeps.write_table(
        options.workdir, f"Regret: what one network for all levels lacks ({seeds})", tables,
        trained, source,
    )  # fmt: skip
    lines = ["Worst and mean regret over all training and test levels (dB):"]
    lines += [f"  {arm:>15}: {worst:.2f}  {mean:.2f}" for arm, (_, worst, mean) in ranking.items()]
    print("\n".join(["", *lines, f"Tables and figures are in {options.workdir}/"]))


def rank(records: Sequence[dict[str, Any]]) -> dict[str, tuple[int, float, float]]:
    """Number of pairs, worst and mean regret of every arm: those with most pairs first, then by the worst."""
    means = results.mean_over(records, "regret", by=["arm", "train", "test"])
    arms = dict.fromkeys(arm for arm, _, _ in means)
    found = {arm: [v for (a, _, _), v in means.items() if a == arm] for arm in arms}
    scores = {arm: (len(v), max(v), float(np.mean(v))) for arm, v in found.items()}
    return dict(sorted(scores.items(), key=lambda item: (-item[1][0], item[1][1])))


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
