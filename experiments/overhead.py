"""The cost of equivariance: wrapped over unwrapped, and NE-arch over its ordinary backbone.

Training steps and inference are timed in turns in one run; ratios are given with quartiles. Saied & Fleuret
(2026), Tables 2, 5 and 6: the wrapper adds no time, the equivariant architecture takes 1.5 to 1.9 times as
long.

    python -m experiments.overhead
    python -m experiments.overhead --preset paper       # the paper's sizes: an accelerator
    python -m experiments.overhead --stage report       # redraw tables and figure from the records
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments.harness import Folder, Measured, published, results_folder, run, timing
from wne_jax._internal.compiler import jit
from wne_jax._internal.files import write_atomically
from wne_jax.config import WrapperConfig
from wne_jax.evaluation import plotting
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import NOT_RUN, Record, read_records, split_by, write_records
from wne_jax.evaluation.tables import View, markdown_table
from wne_jax.training import (
    ModelConfig,
    TrainConfig,
    create_state,
    draw_batch,
    load_corpus,
    make_train_step,
)

ORDINARY = "ordinary"
"""The variant that the others are compared with."""

RATIO = "time_ratio"

VIEWS = (
    View(
        rows=("model", "arm"), columns=("device", "task"), tables=("metric",),
        only={"metric": (RATIO,), "quantile": (0.5,)},
    ),
)  # fmt: skip

CONTENDERS: dict[str, dict[str, dict[str, Any]]] = {
    "fdncnn": {
        ORDINARY: {},
        "WNE (mean_std)": {"wrapper": "wne"},
        "WNE (haar_mad)": {"wrapper": WrapperConfig("wne", "haar_mad")},
        "NE-arch": {"options": {"mode": "normalization-equivariant"}},
    },
    "swinir": {ORDINARY: {}, "WNE (mean_std)": {"wrapper": "wne"}},
}
"""The variants by their changes to `ModelConfig`; each is compared with its ordinary backbone."""

WRAPPED = {name: change for name, change in CONTENDERS["fdncnn"].items() if name != "NE-arch"}
"""The variants of any other backbone."""

ARMS = {"WNE (mean_std)": "wne", "NE-arch": "ne-arch"}
"""Our arms by the variants of the paper."""

NAMES: dict[str, str] = {"fdncnn": "FDnCNN", "swinir": "SwinIR"}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network and of the images that it is timed on."""

    options: dict[str, int]
    batch: int
    size: int

    @property
    def settings(self) -> dict[str, int]:
        """The sizes as settings of records; the depth of a SwinIR is its number of Swin blocks."""
        settings = {"batch": self.batch, "size": self.size}
        if "features" not in self.options:  # a network from elsewhere, with its own defaults
            return settings
        options = self.options
        depth = options["depth"] if "depth" in options else options["groups"] * options["blocks"]
        return {"depth": depth, "features": options["features"]} | settings


PRESETS: dict[Literal["tiny", "paper"], dict[str, Sizes]] = {
    "tiny": {
        "fdncnn": Sizes({"depth": 8, "features": 48}, 8, 64),
        "swinir": Sizes({"groups": 2, "blocks": 2, "features": 24, "heads": 3}, 4, 32),
    },
    "paper": {
        "fdncnn": Sizes({"depth": 20, "features": 64}, 16, 128),
        "swinir": Sizes({"groups": 4, "blocks": 6, "features": 60, "heads": 6}, 32, 64),
    },
}


@dataclass(frozen=True, kw_only=True)
class Options(Measured):
    """Options of the command line."""

    NAME = "overhead"

    preset: Literal["tiny", "paper"] = "tiny"
    """Size: tiny (minutes on 2 cores), small (up to two hours), or paper (an accelerator)."""
    backbones: tuple[str, ...] = ("fdncnn", "swinir")
    """Backbones: names such as dncnn and swinir, or package.module:Name."""
    backbone: str | None = None
    """Backbone: dncnn, fdncnn, ffdnet, drunet, swinir or restormer; or package.module:Name."""
    depth: int | None = None
    """Layers of FDnCNN (default: the preset's)."""
    features: int | None = None
    """Features per layer of FDnCNN (default: the preset's)."""
    batch: int | None = None
    """Images or crops in a batch (default: the preset's)."""
    size: int | None = None
    """Side of the square images, in pixels (default: the preset's)."""
    rounds: int = 15
    """Number of timed calls of each function."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The backbone of `--backbone`, else those of `--backbones`."""
        return self.backbones if self.backbone is None else (self.backbone,)


def sizes_of(options: Options, backbone: str) -> Sizes:
    """The preset's sizes, replaced by the given options."""
    presets = PRESETS[options.preset]
    preset = presets.get(backbone, dataclasses.replace(presets["fdncnn"], options={}))
    given = {"depth": options.depth, "features": options.features} if backbone == "fdncnn" else {}
    changes = {name: value for name, value in given.items() if value is not None}
    return Sizes(
        preset.options | changes, options.batch or preset.batch, options.size or preset.size
    )


def make_functions(
    backbone: str, contender: dict[str, Any], sizes: Sizes
) -> dict[str, Callable[[], Any]]:
    """A whole training step (crops, noise, gradient, Adam) and an inference of one variant, compiled."""
    changes = dict(contender)
    model = ModelConfig(backbone, sizes.options | changes.pop("options", {}), **changes)
    config = TrainConfig(model=model, batch=sizes.batch, patch=sizes.size)
    corpus, state = jax.device_put(load_corpus(config)), create_state(config)
    noisy = draw_batch(config, corpus, state.step).noisy
    step, infer = jit(make_train_step(config)), jit(model.build().apply)
    return {
        "training": lambda: step(state, corpus),
        "inference": lambda: infer(state.variables(), noisy),
    }


def measure(options: Options) -> Iterator[Record]:
    """Time the variants of every backbone in turns."""
    device = jax.default_backend().upper()
    for backbone in options.chosen:
        sizes = sizes_of(options, backbone)
        functions = {
            name: make_functions(backbone, contender, sizes)
            for name, contender in CONTENDERS.get(backbone, WRAPPED).items()
        }
        for task in tqdm(
            ("training", "inference"), desc=f"overhead, {NAMES.get(backbone, backbone)}"
        ):
            of_task = {name: made[task] for name, made in functions.items()}
            seconds = timing.interleaved(of_task, rounds=options.rounds)
            settings = {"task": task, "device": device} | sizes.settings
            for name, values in seconds.items():
                place = {"experiment": Options.NAME, "model": backbone, "arm": name}
                yield Record(
                    metric="seconds", unit="s", value=np.median(values), settings=settings, **place
                )
                if name != ORDINARY:
                    ratios = timing.ratio_quantiles(values, seconds[ORDINARY])
                    for quantile, ratio in ratios.items():
                        at = settings | {"quantile": quantile}
                        yield Record(metric=RATIO, value=ratio, settings=at, **place)


def published_ratios() -> Iterator[Record]:
    """Tables 2, 5 and 6."""
    for backbone, contenders in CONTENDERS.items():
        for name in contenders:
            found = published.OVERHEAD.get((backbone, ARMS.get(name, "")), {})
            for column, ratio in found.items():
                device, task = column.split()
                yield Record(
                    experiment=Options.NAME, metric=RATIO, model=backbone, arm=name, published=ratio,
                    settings={"task": task, "device": device, "quantile": 0.5},
                )  # fmt: skip


def table(records: Sequence[Record]) -> str:
    """Our ratios and times, and the published ratios: a row for each variant and task."""
    found = split_by(records, ["model", "arm", "task", "metric"])
    body = []
    for backbone in dict.fromkeys([*CONTENDERS, *(r.model for r in records)]):
        contenders = CONTENDERS.get(backbone, WRAPPED)
        for task in ("training", "inference"):
            (ordinary,) = found.get((backbone, ORDINARY, task, "seconds"), [None])
            for name in (name for name in contenders if name != ORDINARY):
                ratios = found.get((backbone, name, task, RATIO), [])
                (own,) = found.get((backbone, name, task, "seconds"), [None])
                theirs = {r["device"]: f"{r.published:.2f}" for r in ratios if r.published}
                body.append([
                    NAMES.get(backbone, backbone), name, task, *_columns(ratios, own, ordinary),
                    theirs.get("CPU", ""), theirs.get("GPU", ""),
                ])  # fmt: skip
    header = ["backbone", "variant", "task", "ratio (median)", "quartiles", "ms", "ordinary, ms",
              "published, CPU", "published, GPU"]  # fmt: skip
    return markdown_table(header, body)


def _columns(ratios: Sequence[Record], own: Record | None, ordinary: Record | None) -> list[str]:
    """Ratio, quartiles and times."""
    if own is None or ordinary is None:
        return [NOT_RUN, "", "", ""]
    of = {r["quantile"]: r.value for r in ratios if r.value is not None}
    times = [f"{1e3 * record.value:.1f}" for record in (own, ordinary)]
    return [f"{of[0.5]:.3f}", f"{of[0.25]:.3f} to {of[0.75]:.3f}", *times]


def report(records: list[Record], folder: Folder) -> None:
    """Write table.md and overhead.png."""
    measured = [r for r in records if r.value is not None]
    ours = {r.model: _sizes_in_words(r.model, r.settings) for r in measured}
    theirs = [_sizes_in_words(name, sizes.settings) for name, sizes in PRESETS["paper"].items()]
    note = (
        f"Here: {'; '.join(ours.values())}. Published: Saied & Fleuret (2026), Tables 2, 5 and 6: "
        f"{'; '.join(theirs)}."
    )
    shown = table(records)
    write_atomically(folder.path / "table.md", f"{shown}\n\n{note}\n\n{footer(folder.source)}\n")
    device = measured[0]["device"]
    figure = plotting.ratio_bars(
        [r for r in measured if r.metric == RATIO],
        rows=["model", "arm", "task"],
        title=f"Time over the ordinary network, on {device}",
    )
    plotting.save(figure, folder.path / "overhead.png", folder.source)
    print(f"\n{shown}\n\nRecords and figure are in {folder.workdir}/")


def _sizes_in_words(backbone: str, sizes: dict[str, int]) -> str:
    """Network and batch as text."""
    network = NAMES.get(backbone, backbone)
    if "depth" in sizes:
        network += f" {sizes['depth']} x {sizes['features']}"
    return f"{network} on {sizes['batch']} x {sizes['size']} x {sizes['size']}"


def main(options: Options) -> None:
    """Measure, or read earlier records; report."""
    with results_folder(options) as folder:
        path = folder.path / "records.csv"
        if options.stage != "report":
            write_records([*measure(options), *published_ratios()], path)
        report(read_records(path), folder)


if __name__ == "__main__":
    run(main, Options, __doc__)
