"""What equivariance costs: wrapped over unwrapped, and NE-arch over its ordinary backbone.

Training steps and inference, timed in turns in one run; ratios with their quartiles. Saied & Fleuret (2026),
Tables 2, 5 and 6: the wrapper costs nothing, the equivariant architecture 1.5 to 1.9 times.

    python -m experiments.overhead
    python -m experiments.overhead --preset paper       # the paper's sizes: an accelerator
    python -m experiments.overhead --stage report       # tables and figure anew, from overhead.csv
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments import _cli, _comparison, _published, _timing
from wne_jax._internal.compiler import jit
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.training import (
    ModelConfig,
    TrainConfig,
    create_state,
    draw_batch,
    load_corpus,
    make_train_step,
)

Backbone = Literal["fdncnn", "swinir"]

CONTENDERS: dict[Backbone, dict[str, dict[str, Any]]] = {
    "fdncnn": {
        "ordinary": {},
        "WNE (mean_std)": {"wrapper": "wne"},
        "WNE (haar_mad)": {"wrapper": "wne", "statistics": "haar_mad"},
        "NE-arch": {"options": {"mode": "normalization-equivariant"}},
    },
    "swinir": {"ordinary": {}, "WNE (mean_std)": {"wrapper": "wne"}},
}
"""What is timed, by its changes in `ModelConfig`; every contender is compared with its ordinary backbone."""

ARMS = {"WNE (mean_std)": "wne", "NE-arch": "ne-arch"}
"""The contenders of the paper, by the names of our arms."""

NAMES: dict[Backbone, str] = {"fdncnn": "FDnCNN", "swinir": "SwinIR"}


@dataclass(frozen=True)
class Sizes:
    """A network, and what it is timed on."""

    options: dict[str, int]
    batch: int
    size: int

    @property
    def columns(self) -> dict[str, int]:
        """The sizes as they stand in records; the depth of SwinIR is its number of Swin blocks."""
        options = self.options
        depth = options["depth"] if "depth" in options else options["groups"] * options["blocks"]
        features = options["features"]
        return {"depth": depth, "features": features, "batch": self.batch, "size": self.size}


PRESETS: dict[Literal["tiny", "paper"], dict[Backbone, Sizes]] = {
    "tiny": {
        "fdncnn": Sizes({"depth": 8, "features": 48}, 8, 64),
        "swinir": Sizes({"groups": 2, "blocks": 2, "features": 24, "heads": 3}, 4, 32),
    },
    "paper": {
        "fdncnn": Sizes({"depth": 20, "features": 64}, 16, 128),
        "swinir": Sizes({"groups": 4, "blocks": 6, "features": 60, "heads": 6}, 32, 64),
    },
}


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    preset: Literal["tiny", "paper"] = "tiny"
    """FDnCNN of 8 layers x 48 on 8 x 64 x 64 and SwinIR of 4 blocks x 24 on 4 x 32 x 32, or the paper's: 20 x
    64 on 16 x 128 x 128 and 24 x 60 on 32 x 64 x 64."""
    backbones: tuple[Backbone, ...] = ("fdncnn", "swinir")
    """What is timed; the rows of the others say that they were not run."""
    depth: int | None = None
    """Layers of FDnCNN, in place of the preset's."""
    features: int | None = None
    """Features a layer of FDnCNN, in place of the preset's."""
    batch: int | None = None
    """Images a batch, in place of the preset's."""
    size: int | None = None
    """Side of the images, in place of the preset's."""
    rounds: int = 15
    """How often each function is timed."""
    stage: Literal["all", "report"] = "all"
    """Time and report, or report what overhead.csv holds."""
    workdir: Path = Path("runs/overhead")
    """Folder for everything that is written."""


def sizes_of(options: Options, backbone: Backbone) -> Sizes:
    """The preset, with what was given in place of it."""
    preset = PRESETS[options.preset][backbone]
    given = {"depth": options.depth, "features": options.features} if backbone == "fdncnn" else {}
    changes = {name: value for name, value in given.items() if value is not None}
    return Sizes(
        preset.options | changes, options.batch or preset.batch, options.size or preset.size
    )


def make_functions(
    backbone: Backbone, contender: dict[str, Any], sizes: Sizes
) -> dict[str, Callable[[], Any]]:
    """A whole training step (crops, noise, gradient, Adam) and an inference of one contender, compiled."""
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


def measure(options: Options) -> list[dict[str, Any]]:
    """Time the contenders of every backbone in turns; one record for each ratio."""
    return [r for backbone in options.backbones for r in _measure(options, backbone)]


def _measure(options: Options, backbone: Backbone) -> list[dict[str, Any]]:
    sizes = sizes_of(options, backbone)
    functions = {
        name: make_functions(backbone, contender, sizes)
        for name, contender in CONTENDERS[backbone].items()
    }
    records = []
    for task in tqdm(("training", "inference"), desc=f"overhead, {NAMES[backbone]}"):
        of_task = {name: made[task] for name, made in functions.items()}
        seconds = _timing.interleaved(of_task, rounds=options.rounds)
        reference = seconds.pop("ordinary")
        for name, values in seconds.items():
            milliseconds = {
                "milliseconds": 1e3 * float(np.median(values)),
                "reference_milliseconds": 1e3 * float(np.median(reference)),
            }
            records.append(
                {"backbone": backbone, "variant": name, "task": task}
                | _timing.ratio(values, reference)
                | milliseconds
                | sizes.columns
            )
    return records


def comparison(records: list[dict[str, Any]], device: str) -> list[_comparison.Cell]:
    """Our ratios beside the published ones.

    Args:
        records: Those of `measure`.
        device: What they were timed on: "CPU", "GPU" or "TPU".
    """
    ours = {
        (r["backbone"], r["variant"], f"{device} {r['task']}"): round(r["ratio"], 4)
        for r in records
    }
    cells = []
    for backbone, contenders in CONTENDERS.items():
        for variant in contenders:
            published = _published.OVERHEAD.get((backbone, ARMS.get(variant, "")), {})
            measured = [column for b, v, column in ours if (b, v) == (backbone, variant)]
            cells += [
                _comparison.cell(
                    f"Tables 2, 5, 6: time over the ordinary {NAMES[backbone]}", variant, column,
                    ours.get((backbone, variant, column)), published.get(column),
                )
                for column in dict.fromkeys([*published, *measured])
            ]  # fmt: skip
    return cells


def table(records: list[dict[str, Any]]) -> str:
    """Our ratios and times, and the published ratios: a row for each contender and task."""
    found = {(r["backbone"], r["variant"], r["task"]): r for r in records}
    body = []
    for backbone, contenders in CONTENDERS.items():
        for task in ("training", "inference"):
            for variant in (name for name in contenders if name != "ordinary"):
                place = (NAMES[backbone], variant, task)
                ratios = _published.OVERHEAD.get((backbone, ARMS.get(variant, "")), {})
                published = [
                    f"{ratios[f'{device} {task}']:.2f}" if ratios else ""
                    for device in ("CPU", "GPU")
                ]
                body.append([*place, *_columns(found.get((backbone, variant, task))), *published])
    header = ["backbone", "variant", "task", "ratio (median)", "quartiles", "ms", "ordinary, ms",
              "published, CPU", "published, GPU"]  # fmt: skip
    return results.markdown_table(header, body)


def _columns(r: dict[str, Any] | None) -> list[str]:
    """Ratio, quartiles and times of a record."""
    if r is None:
        return [_comparison.NOT_RUN, "", "", ""]
    return [
        f"{r['ratio']:.3f}", f"{r['ratio_q1']:.3f} to {r['ratio_q3']:.3f}",
        f"{r['milliseconds']:.1f}", f"{r['reference_milliseconds']:.1f}",
    ]  # fmt: skip


def report(options: Options, records: list[dict[str, Any]], source: dict[str, Any]) -> None:
    """Write overhead.md, comparison.csv and overhead.png."""
    device = source["device"].partition(":")[0].upper()
    _comparison.write(comparison(records, device), options.workdir)
    ours = {r["backbone"]: _sizes_in_words(r) for r in records}
    note = (
        f"Here: {'; '.join(ours.values())}. Published: Saied & Fleuret (2026), Tables 2, 5 and 6: "
        + "; ".join(
            _sizes_in_words({"backbone": backbone} | sizes.columns)
            for backbone, sizes in PRESETS["paper"].items()
        )
        + "."
    )
    shown = table(records)
    text = f"{shown}\n\n{note}\n\n{results.footer(source)}\n"
    write_atomically(options.workdir / "overhead.md", text)
    labelled = [
        r | {"label": f"{NAMES[r['backbone']]}, {r['variant']}, {r['task']}"} for r in records
    ]
    figure = plotting.ratio_bars(
        labelled, group="label", value="ratio", low="ratio_q1", high="ratio_q3",
        title=f"Time over the ordinary network, on {device}",
    )  # fmt: skip
    plotting.save(figure, options.workdir / "overhead.png", source)
    print(f"\n{shown}\n\nRecords and figure are in {options.workdir}/")


def _sizes_in_words(r: dict[str, Any]) -> str:
    """Network and batch of a record."""
    network = f"{NAMES[r['backbone']]} {r['depth']} x {r['features']}"
    return f"{network} on {r['batch']} x {r['size']} x {r['size']}"


def main(options: Options) -> None:
    """Measure, or read what was measured; report."""
    config, csv = options.workdir / "config.json", options.workdir / "overhead.csv"
    if options.stage == "report":
        report(options, results.read_csv(csv), json.loads(config.read_text()))
        return
    if config.exists():
        raise FileExistsError(
            f"{options.workdir} holds results already: --workdir names another folder"
        )
    records = measure(options)
    source = _cli.claim(options.workdir, options, resume=False)
    results.write_csv(records, csv)
    report(options, records, source)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
