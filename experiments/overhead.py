"""What equivariance costs: wrapped over unwrapped, and NE-arch over its ordinary backbone.

Training steps and inference, timed in turns in one run; ratios with their quartiles. Saied & Fleuret (2026),
Tables 2, 5 and 6: the wrapper costs nothing, the equivariant architecture 1.5 to 1.9 times.

    python -m experiments.overhead
    python -m experiments.overhead --preset paper       # the paper's sizes: an accelerator
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments import _cli, _timing
from wne_jax import plotting, results
from wne_jax._compiler import jit
from wne_jax._files import write_atomically
from wne_jax.training import (
    ModelConfig,
    TrainConfig,
    create_state,
    draw_batch,
    load_corpus,
    make_train_step,
)

CONTENDERS: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "WNE (mean_std)": {"wrapper": "wne"},
    "WNE (noise_level)": {"wrapper": "wne", "statistics": "noise_level"},
    "NE-arch": {"mode": "normalization-equivariant"},
}
"""Every contender is compared with the ordinary FDnCNN; `mode` is the backbone's, the rest the wrapper's."""

PRESETS = {
    "tiny": {"depth": 8, "features": 48, "batch": 8, "size": 64},
    "paper": {"depth": 20, "features": 64, "batch": 16, "size": 128},
}


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    preset: Literal["tiny", "paper"] = "tiny"
    """FDnCNN of 8 layers x 48 on 8 x 64 x 64, or the paper's 20 x 64 on 16 x 128 x 128."""
    depth: int | None = None
    """Layers, in place of the preset's."""
    features: int | None = None
    """Features a layer, in place of the preset's."""
    batch: int | None = None
    """Images a batch, in place of the preset's."""
    size: int | None = None
    """Side of the images, in place of the preset's."""
    rounds: int = 15
    """How often each function is timed."""
    workdir: Path = Path("runs/overhead")
    """Folder for everything that is written."""


def make_functions(
    contender: dict[str, Any], *, depth: int, features: int, batch: int, size: int
) -> dict[str, Callable[[], Any]]:
    """A whole training step (crops, noise, gradient, Adam) and an inference of one contender, compiled."""
    mode = contender.get("mode", "ordinary")
    wrapper = {key: value for key, value in contender.items() if key != "mode"}
    options = {"depth": depth, "features": features, "mode": mode}
    model = ModelConfig(backbone="fdncnn", options=options, **wrapper)
    config = TrainConfig(model=model, batch=batch, patch=size)
    corpus, state = jax.device_put(load_corpus(config)), create_state(config)
    noisy = draw_batch(config, corpus, state.step).noisy
    step, infer = jit(make_train_step(config)), jit(model.build().apply)
    return {
        "training": lambda: step(state, corpus),
        "inference": lambda: infer(state.variables(), noisy),
    }


def measure(options: Options) -> list[dict[str, Any]]:
    """Time all contenders in turns; one record for each ratio."""
    given = {name: getattr(options, name) for name in ("depth", "features", "batch", "size")}
    sizes = PRESETS[options.preset] | {k: v for k, v in given.items() if v is not None}
    functions = {name: make_functions(c, **sizes) for name, c in CONTENDERS.items()}
    records = []
    for task in tqdm(("training", "inference"), desc="overhead"):
        of_task = {name: made[task] for name, made in functions.items()}
        seconds = _timing.interleaved(of_task, rounds=options.rounds)
        reference = seconds.pop("ordinary")
        for name, values in seconds.items():
            milliseconds = {
                "milliseconds": 1e3 * float(np.median(values)),
                "reference_milliseconds": 1e3 * float(np.median(reference)),
            }
            records.append(
                {"variant": name, "task": task}
                | _timing.ratio(values, reference)
                | milliseconds
                | sizes
            )
    return records


def main(options: Options) -> None:
    """Measure, then write overhead.csv, overhead.md and overhead.png."""
    if (options.workdir / "config.json").exists():
        raise FileExistsError(
            f"{options.workdir} holds results already: --workdir names another folder"
        )
    records = measure(options)
    source = _cli.claim(options.workdir, options, resume=False)
    results.write_csv(records, options.workdir / "overhead.csv")
    body = [
        [r["variant"], r["task"], f"{r['ratio']:.3f}", f"{r['ratio_q1']:.3f} to {r['ratio_q3']:.3f}",
         f"{r['milliseconds']:.1f}", f"{r['reference_milliseconds']:.1f}"]
        for r in records
    ]  # fmt: skip
    header = ["variant", "task", "ratio (median)", "quartiles", "ms", "ordinary, ms"]
    table = results.markdown_table(header, body)
    write_atomically(options.workdir / "overhead.md", f"{table}\n\n{results.footer(source)}\n")
    labelled = [r | {"label": f"{r['variant']}, {r['task']}"} for r in records]
    figure = plotting.ratio_bars(
        labelled, group="label", value="ratio", low="ratio_q1", high="ratio_q3",
        title=f"Cost over the ordinary FDnCNN, {source['device']}",
    )  # fmt: skip
    plotting.save(figure, options.workdir / "overhead.png", source)
    print(f"\n{table}\n\nRecords and figure are in {options.workdir}/")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
