"""Which statistic? The PSNR gap between one network for all noise levels and a specialist for each.

Saied & Fleuret (2026) normalize by mean and standard deviation, but their characterization allows any
location and scale. Here every choice is trained at one level and tested at all. Its *regret* at a test level
is the PSNR of a specialist minus its own. The specialist is trained at the test level with the same backbone
and steps; it is the best of the arms in `--specialists`, each averaged over seeds. A range, as in
`--train-sigmas-255 25 0:55`, counts as a training level. (With the preset `paper`, the unwrapped network has
its own loss and schedule.)

    python -m experiments.regret                          # 46 small networks: an hour on 2 cores
    WNE_DATA=... python -m experiments.regret --preset small --seeds 3 --arms wne wne-noise wne-smooth-base
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    central,
    earlier_records,
    find_or_train,
    other_trainings,
    published,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.parts.regret_figures import (
    EXPLAINED,
    PATCH,
    coordinate_panels,
    coordinates,
    regret_curves,
)
from experiments.parts.regret_measures import in_windows, under_changes
from wne_jax.cli.noise_levels import Level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, mean_over
from wne_jax.evaluation.sweeps import Denoise, sweep
from wne_jax.evaluation.tables import View, markdown_table
from wne_jax.inference.denoiser import Denoiser

CANDIDATES: tuple[Arm, ...] = (
    "wne",
    "wne-noise",
    "wne-highpass",
    "wne-median",
    "wne-minmax",
    "wne-blend",
    "wne-multiscale",
    "wne-learned",
    "wne-std-smooth-base",
    "wne-smooth-base",
    "wne-wiener-cap",
)

REGRET = View(rows=("arm",), tables=("metric", "unit", "dataset", "trained"),
              only={"metric": ("regret",)})  # fmt: skip
OTHERS = View(rows=("arm",), columns=("window", "change"), tables=("metric", "unit", "level", "trained"),
              only={"metric": ("psnr_in_windows", "psnr_under_a_change")})  # fmt: skip
VIEWS = (REGRET, OTHERS)


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line, with one set of test images."""

    NAME = "regret"

    arms: tuple[Arm, ...] = CANDIDATES
    train_sigmas_255: tuple[Level, ...] = ((10.0,), (25.0,), (50.0,))
    specialists: tuple[Arm, ...] = ("baseline", "wne-smooth-base")
    """Arms that are trained at every test level; the best one is the specialist of that level."""
    seeds: int = 1
    """Number of networks (seeds) of each candidate and specialist."""
    crop: int = 256
    """Side of the central crops of the test images, in pixels."""
    windows: tuple[int, ...] = (32, 64, 128)
    """Sides of windows that are denoised separately, in pixels; divisors of `crop`."""

    @property
    def compared(self) -> tuple[Arm, ...]:
        """The candidates and the unwrapped network."""
        return tuple(dict.fromkeys(("baseline", *self.arms)))

    @property
    def singles(self) -> list[float]:
        """The training levels that are not ranges."""
        return [level[0] for level in self.train_sigmas_255 if len(level) == 1]

    @property
    def middle(self) -> Level:
        """The middle training level."""
        return (self.singles[len(self.singles) // 2],)

    def test_levels(self) -> list[float]:
        """The test levels, including the single training levels."""
        levels = self.test_sigmas_255 or (5, 10, 15, 25, 35, 50, 75, 100)
        return sorted({*map(float, levels), *self.singles})


class Network(NamedTuple):
    """One training run of the experiment."""

    arm: Arm
    level: Level
    seed: int


def wanted_networks(options: Options) -> tuple[list[Network], list[Network]]:
    """The candidates with the unwrapped network, and the specialists."""
    seeds = range(options.seed, options.seed + options.seeds)
    candidates = [
        Network(a, t, s) for t in options.train_sigmas_255 for a in options.compared for s in seeds
    ]
    levels = [(level,) for level in options.test_levels()]
    specialists = [Network(a, t, s) for t in levels for a in options.specialists for s in seeds]
    return candidates, specialists


def wanted(options: Options) -> Wanted[Network]:
    """All networks and their training runs."""
    candidates, specialists = wanted_networks(options)
    return {
        n: (n.arm, options.config(n.arm, n.level, seed=n.seed, backbone=options.backbone))
        for n in (*candidates, *specialists)
    }


def measure(
    options: Options,
    denoisers: Mapping[Network, Denoiser],
    images: Sequence[NamedImage],
    dataset: str,
    networks: Sequence[Network],
    levels: Sequence[float],
    metric: str,
) -> list[Record]:
    """PSNR of the existing networks, averaged over the images: a record for each network and level."""
    named = {str(n): n for n in networks if n in denoisers}
    functions = {name: denoisers[n].function for name, n in named.items()}
    key = jax.random.key(options.seed + 1)
    swept = sweep(functions, images, levels, key, repeats=options.draws) if functions else []
    means = mean_over(swept, by=["arm", "level"])
    return [
        Record(
            experiment=options.NAME, metric=metric, unit="dB", dataset=dataset,
            degradation="gaussian", level=level, trained=n.level, model=options.backbone,
            arm=n.arm, seed=n.seed, value=means[name, level],
        )
        for name, n in named.items()
        for level in levels
    ]  # fmt: skip


def functions_at(
    options: Options, denoisers: Mapping[Network, Denoiser], level: Level
) -> dict[Arm, Denoise]:
    """The networks of the first seed trained at a level, by arm."""
    networks = {arm: Network(arm, level, options.seed) for arm in options.compared}
    return {arm: denoisers[n].function for arm, n in networks.items() if n in denoisers}


def with_all_seeds(records: Sequence[Record], seeds: int) -> list[Record]:
    """Records of the arms and training levels for which all seeds exist."""
    found = {(r.arm, r.trained, r.seed) for r in records}
    number = Counter((arm, trained) for arm, trained, _ in found)
    return [r for r in records if number[r.arm, r.trained] == seeds]


def specialists_at(records: Sequence[Record], arms: Sequence[str]) -> dict[float, float]:
    """The PSNR of the best specialist of every level, each averaged over its seeds.

    A level at which one of the arms is missing has no specialist, since the missing one might be the best.
    """
    means = mean_over(records, by=["level", "arm"])
    levels = dict.fromkeys(level for level, _ in means)
    complete = [level for level in levels if all((level, arm) in means for arm in arms)]
    return {level: max(means[level, arm] for arm in arms) for level in complete}


def regrets(candidates: Sequence[Record], specialists: Mapping[float, float]) -> list[Record]:
    """The PSNR gap of the candidates to the specialist, at the levels that have one."""
    return [
        dataclasses.replace(r, metric="regret", value=specialists[r.level] - r.value)
        for r in candidates
        if r.level in specialists
    ]


def published_regret(trained: float, test: float) -> float | None:
    """The regret of the published DnCNN WNE at pairs of its three training levels, else None."""
    if trained not in published.LEVELS or test not in published.LEVELS:
        return None
    own, there = (published.sweep(f"dncnn_sigma{level:g}") for level in (trained, test))
    at = [published.at_level(there, arm, test) for arm in ("baseline", "wne")]
    here = published.between_levels(own, "wne", test)
    return None if here is None else max(value for value in at if value is not None) - here


def verdicts(records: Sequence[Record], arm: str) -> dict[str, str]:
    """Columns of the ranking for an arm, computed from the regrets."""
    mean = mean_over(records, by=["arm", "trained", "level"])
    of = {
        name: {(trained, level): v for (a, trained, level), v in mean.items() if a == name}
        for name in (arm, "wne", "baseline")
    }
    ours = of[arm]
    pairs = sorted(ours.keys() & of["wne"].keys())
    worst = [max(of[name][pair] for pair in pairs) for name in (arm, "wne") if pairs]
    home = [p for p in ours if p in of["baseline"] and p[0] == (p[1],)]
    return {
        "worst regret / mean_std's": f"{worst[0] / worst[1]:.2f}" if pairs and worst[1] > 0 else "",
        "below mean_std": f"{sum(ours[p] < of['wne'][p] for p in pairs)} of {len(pairs)}",
        "within 0.3 dB": f"{sum(value <= 0.3 for value in ours.values())} of {len(ours)}",
        "gap to the baseline at its level": ", ".join(
            f"{ours[pair] - of['baseline'][pair]:+.2f}" for pair in home
        ),
    }


def check(options: Options) -> None:
    """Reject inconsistent options.

    Raises:
        ValueError: The options are inconsistent.
    """
    if bad := [side for side in options.windows if side < 1 or options.crop % side]:
        raise ValueError(f"--windows must divide --crop = {options.crop}; {bad} do not")
    if options.crop < PATCH:
        raise ValueError(f"--crop must be {PATCH} or more, not {options.crop}")
    if own := other_trainings((*options.arms, *options.specialists)):
        raise ValueError(f"--arms must be trained at the levels of this experiment; {own[0]}")
    if not options.singles:
        raise ValueError("--train-sigmas-255 needs at least one single level, not only ranges")


def main(options: Options) -> None:
    """Train missing networks, measure, compare, draw."""
    check(options)
    sets = options.sets()
    if len(sets) > 1:
        raise ValueError(f"--test must be one test set, not {', '.join(sets)}")
    ((name, images),) = sets.items()
    images = [central(image, options.crop) for image in images]
    earlier, runs = earlier_records(options), wanted(options)
    done = {
        Network(r.arm, r.trained, r.seed) for r in earlier if r.metric in ("psnr", "specialist")
    }
    denoisers = find_or_train(options, without(runs, done))
    with results_folder(options) as out:
        records = together(earlier, measured(options, denoisers, images, name))
        records = [r for r in records if r.metric != "regret"]
        found = compare(options, records, name)
        if not any(r.metric == "regret" and r.value is not None for r in found):
            raise ValueError(
                f"{options.networks} holds no candidate, or no specialist of a test level"
            )
        records = [*found, *records]
        out.write(records)
        draw(options, records, out)
        write_table(
            out, f"Regret: gap between one network and a specialist for each level ({_seeds(options)})",
            sections(options, records, f"{name}, crops of {options.crop}"),
            {
                arm if options.seeds == 1 else f"{arm} ({config.seed})": config
                for arm, config in reversed(runs.values())
            },
        )  # fmt: skip
    ranking = rank([r for r in records if r.metric == "regret" and r.value is not None])
    lines = ["", "Worst and mean regret over all training and test levels (dB):"]
    lines += [f"  {arm:>19}: {worst:.2f}  {mean:.2f}" for arm, (_, worst, mean) in ranking.items()]
    print("\n".join([*lines, f"Tables and figures are in {options.folder}/"]))


def _seeds(options: Options) -> str:
    return f"{options.seeds} seed{'s' * (options.seeds > 1)}"


def measured(
    options: Options,
    denoisers: Mapping[Network, Denoiser],
    images: Sequence[NamedImage],
    dataset: str,
) -> list[Record]:
    """All measurements that need networks, and the coordinates of each choice."""
    if options.stage == "report":
        return []
    candidates, specialists = wanted_networks(options)
    levels = options.test_levels()
    records = []
    for level in levels:
        here = [n for n in specialists if n.level == (level,)]
        records += measure(options, denoisers, images, dataset, here, [level], metric="specialist")
    records += measure(options, denoisers, images, dataset, candidates, levels, metric="psnr")
    middle, last = options.middle, options.train_sigmas_255[-1]
    key = jax.random.key(options.seed + 1)
    home, wide = (functions_at(options, denoisers, level) for level in (middle, last))
    common = {"experiment": options.NAME, "degradation": "gaussian", "model": options.backbone,
              "seed": options.seed}  # fmt: skip
    records += in_windows(
        home, images, middle[0], key, sides=options.windows, crop=options.crop,
        trained=middle, **common,
    )  # fmt: skip
    records += under_changes(wide, images, key, trained=last, **common)
    configs = {arm: options.config(arm, middle).model for arm in EXPLAINED}
    records += [
        Record(
            experiment=options.NAME, dataset=dataset, degradation="gaussian", trained=middle, **r
        )
        for r in coordinates(configs, images, (levels[0], middle[0], levels[-1]), key)
    ]
    return records


def compare(options: Options, records: Sequence[Record], dataset: str) -> list[Record]:
    """The cells of the tables with the published figures, and the regrets that can be computed."""
    own, swept = (
        with_all_seeds([r for r in records if r.metric == metric], options.seeds)
        for metric in ("specialist", "psnr")
    )
    places = [
        Record(
            experiment=options.NAME, metric="regret", unit="dB", dataset=dataset,
            degradation="gaussian", level=test, trained=level, model=options.backbone, arm=arm,
            published=published_regret(level[0], test)
            if arm == "wne" and dataset == "Set12" and len(level) == 1 else None,
        )
        for level in options.train_sigmas_255
        for arm in options.compared
        for test in options.test_levels()
    ]  # fmt: skip
    return places + regrets(swept, specialists_at(own, options.specialists))


def sections(options: Options, records: Sequence[Record], where: str) -> dict[str, str]:
    """The tables: ranking, regret by training level, specialists, windows, and changes of contrast."""
    found = [r for r in records if r.metric == "regret" and r.value is not None]
    ranking = rank(found)
    body = [
        [arm, f"{number}", f"{worst:.2f}", f"{mean:.2f}", *verdicts(found, arm).values()]
        for arm, (number, worst, mean) in ranking.items()
    ]
    header = ["", "pairs", "worst regret", "mean regret", *verdicts(found, next(iter(ranking)))]
    tables = {f"All pairs of training and test level (dB), {where}": markdown_table(header, body)}
    tables |= tables_of(records, REGRET)
    own = with_all_seeds([r for r in records if r.metric == "specialist"], options.seeds)
    best = specialists_at(own, options.specialists)
    levels = [f"{level:g}" for level in best]
    psnr = [f"{value:.2f}" for value in best.values()]
    tables["Specialists"] = markdown_table(["", *levels], [["PSNR (dB)", *psnr]])
    return tables | tables_of(records, OTHERS)


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw regret over test levels, and the coordinates of each choice."""
    of_regret = [r for r in records if r.metric == "regret" and r.value is not None]
    plotting.save(regret_curves(of_regret, options.arms), out.path / "regret.png", out.source)
    points = [r for r in records if r.metric in ("contrast", "noise")]
    if points:
        plotting.save(coordinate_panels(points), out.path / "coordinates.png", out.source)


def rank(records: Sequence[Record]) -> dict[str, tuple[int, float, float]]:
    """Number of pairs, worst and mean regret of every arm, sorted by most pairs, then by worst regret."""
    means = mean_over(records, by=["arm", "trained", "level"])
    arms = dict.fromkeys(arm for arm, _, _ in means)
    found = {arm: [v for (a, _, _), v in means.items() if a == arm] for arm in arms}
    scores = {arm: (len(v), max(v), float(np.mean(v))) for arm, v in found.items()}
    return dict(sorted(scores.items(), key=lambda item: (-item[1][0], item[1][1])))


if __name__ == "__main__":
    run(main, Options, __doc__)
