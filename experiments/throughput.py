"""Speed of training and inference of every model, wrapped and unwrapped, compared with PyTorch.

Training is measured in patches per second of the whole step, as `fit` runs it (crops, noise, gradient, Adam),
inference in megapixels per second. PyTorch trains on one constant batch and draws noise in the step, so it
reads no data. Functions of one model are timed in turns in one run. Ratios are of times: below 1 is faster.
The share of the device's peak counts the operations of our network, also for PyTorch.

    python -m experiments.throughput
    python -m experiments.throughput --models dncnn swinir --no-torch
    python -m experiments.throughput --preset paper       # the papers' sizes: an accelerator
"""

import copy
import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from experiments.harness import Folder, Measured, results_folder, run, timing
from experiments.parts.peak import peak_flops
from experiments.parts.throughput_tables import (
    goals,
    make_figure,
    make_table,
    peaks_line,
    to_records,
    to_rows,
)
from wne_jax._internal.compiler import jit
from wne_jax._internal.files import write_atomically
from wne_jax.data.corpus import Corpus
from wne_jax.evaluation import plotting
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import read_records, write_records
from wne_jax.evaluation.tables import View, markdown_table
from wne_jax.training import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    TrainState,
    create_state,
    draw_batch,
    load_corpus,
    make_train_step,
)
from wne_jax.training.compute import Compute, Runner
from wne_jax.training.config import Precision
from wne_jax.training.step import MATMUL_PRECISION, make_update

Model = Literal["dncnn", "fdncnn", "ne-arch", "swinir", "restormer"]
Call = Callable[[], Any]

VIEWS = (
    View(
        rows=("model", "arm"), columns=("task", "precision"), tables=("metric", "unit"),
        only={"metric": ("time_ratio", "rate", "share_of_peak"), "quantile": (0.5, None)},
    ),
)  # fmt: skip

GROUPS: tuple[tuple[Model, ...], ...] = (
    ("dncnn",), ("fdncnn", "ne-arch"), ("swinir",), ("restormer",),
)  # fmt: skip
"""Models that are compared with each other, and hence timed in turns."""

REFERENCES = {
    "jax": "torch eager",
    "jax wrapped": "jax",
    "torch compile": "torch eager",
    "device corpus": "constant batch",
    "host corpus": "constant batch",
}
"""The reference of each variant, at the same precision."""

BUSY = 0.7
"""Load above which times are unreliable, because PyTorch's threads wait for each other."""

_NE = {"mode": "normalization-equivariant"}
_STACK, _PAPER_STACK = {"depth": 8, "features": 48}, {"depth": 20, "features": 64}


class Case(NamedTuple):
    """A model, and the sizes of the images that it is timed on."""

    backbone: str
    options: dict[str, Any]
    batch: int
    size: int


PRESETS: dict[str, dict[str, Case]] = {
    "tiny": {
        "dncnn": Case("dncnn", _STACK, 8, 64),
        "fdncnn": Case("fdncnn", _STACK, 8, 64),
        "ne-arch": Case("fdncnn", _STACK | _NE, 8, 64),
        "swinir": Case("swinir", {"groups": 1, "blocks": 2, "features": 30, "heads": 3}, 4, 64),
        "restormer": Case(
            "restormer",
            {"dim": 16, "blocks": (1, 1), "heads": (1, 2), "refinement_blocks": 1},
            4,
            64,
        ),
    },
    "paper": {
        "dncnn": Case("dncnn", _PAPER_STACK, 16, 128),
        "fdncnn": Case("fdncnn", _PAPER_STACK, 16, 128),
        "ne-arch": Case("fdncnn", _PAPER_STACK | _NE, 16, 128),
        "swinir": Case("swinir", {"groups": 4, "blocks": 6, "features": 60, "heads": 6}, 32, 64),
        "restormer": Case(
            "restormer",
            {"dim": 48, "blocks": (4, 6, 6, 8), "heads": (1, 2, 4, 8), "refinement_blocks": 4},
            4,
            128,
        ),
    },
}


@dataclass(frozen=True, kw_only=True)
class Options(Measured):
    """Options of the command line."""

    NAME = "throughput"

    preset: Literal["tiny", "paper"] = "tiny"
    """Size: tiny (minutes on 2 cores), small (up to two hours), or paper (an accelerator)."""
    models: tuple[Model, ...] = ("dncnn", "fdncnn", "ne-arch", "swinir", "restormer")
    """Models; NE-arch is FDnCNN with normalization-equivariant layers."""
    precisions: tuple[Precision, ...] | None = None
    """Precisions of convolutions and matrix products (default: float32 on a CPU, else all three)."""
    rounds: int = 11
    """Number of timed calls of each function."""
    torch: bool = True
    """Whether PyTorch is also timed, if it is installed and supports JAX's device."""
    torch_compile: bool = False
    """Whether torch.compile is also timed on a CPU, where it compiles for minutes; elsewhere it always is."""


def make_config(case: Case, precision: Precision) -> TrainConfig:
    """The training run of a case, unwrapped."""
    return TrainConfig(
        model=ModelConfig(case.backbone, case.options),
        optimizer=OptimizerConfig(learning_rate=1e-4, schedule="constant"),
        batch=case.batch, patch=case.size, precision=precision, steps=1_000_000,
    )  # fmt: skip


def wrapped(config: TrainConfig) -> TrainConfig:
    """The same run with the wrapper of the paper, mean and standard deviation."""
    return replace(config, model=replace(config.model, wrapper="wne"))


def training_call(
    config: TrainConfig, state: TrainState, corpus: Corpus, compute: Compute, *, calls: int
) -> Call:
    """`calls` training steps, as `fit` runs them; the given state is not modified."""
    runner = Runner(config, corpus, compute)
    state, source = runner.place(_copy(state)), runner.source(0)

    def call() -> dict[str, Array]:
        nonlocal state
        done = 0
        while done < calls:
            state, progress = runner.advance(state, next(source), calls - done)
            done += progress.steps
        return progress.metrics

    return call


def inference_call(
    config: TrainConfig, variables: Any, noisy: Array, *, calls: int
) -> tuple[Call, float | None]:
    """A function that applies the network `calls` times, and the operations of one call."""
    model = config.model.build(
        **({"dtype": jnp.bfloat16} if config.precision == "bfloat16" else {})
    )
    with jax.default_matmul_precision(MATMUL_PRECISION[config.precision]):
        lowered = jit(model.apply).lower(variables, noisy)
    infer = lowered.compile()
    return lambda: [infer(variables, noisy) for _ in range(calls)][-1], count_flops(lowered)


def pipeline_functions(
    config: TrainConfig, state: TrainState, corpus: Corpus, *, calls: int
) -> dict[str, Call]:
    """The update on one constant batch, and the step that draws its batch from the device or the host."""
    update = jit(make_update(config), donate_argnums=0)
    first, state = state, _copy(state)
    batch = jax.jit(partial(draw_batch, config))(corpus, state.step)

    def constant() -> dict[str, Array]:
        nonlocal state
        for _ in range(calls):
            state, metrics = update(state, batch)
        return metrics

    functions = {"constant batch": constant}
    for place in ("device", "host"):
        compute = Compute(parallel="single", corpus=place, folded=1)
        call = training_call(config, first, corpus, compute, calls=calls)
        try:
            call()
        except ImportError as error:
            warnings.warn(f"{place} corpus is left out: {error}", stacklevel=2)
        else:
            functions[f"{place} corpus"] = call
    return functions


def _copy(state: TrainState) -> TrainState:
    """A copy of a state that a step may donate."""
    return jax.tree.map(jnp.copy, state)


def count_flops(lowered: Any) -> float | None:
    """Operations of one call as counted by XLA, or None if it has no count.

    They are counted before compilation, which may turn convolutions into library calls that XLA cannot count.
    """
    try:
        costs = lowered.cost_analysis() or lowered.compile().cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    if isinstance(costs, list):  # in some versions of JAX
        costs = costs[0] if costs else None
    flops = (costs or {}).get("flops", 0.0)
    return float(flops) if flops > 0 else None


def find_torch(options: Options) -> str | None:
    """PyTorch's name of JAX's device; None, with a warning, if PyTorch cannot be timed."""
    if not options.torch:
        return None
    try:
        import torch
    except ImportError:
        warnings.warn("PyTorch is not installed; its rows are left out", stacklevel=2)
        return None
    if jax.default_backend() == "cpu":
        if not options.torch_compile:
            warnings.warn("torch.compile is left out; add it with --torch-compile", stacklevel=2)
        return "cpu"
    if jax.default_backend() == "gpu" and torch.cuda.is_available():
        return "cuda"
    warnings.warn(
        f"PyTorch cannot use JAX's device ({jax.default_backend()}): its rows are left out",
        stacklevel=2,
    )
    return None


def torch_functions(
    case: Case,
    clean: np.ndarray,
    task: str,
    precision: Precision,
    device: str,
    *,
    variants: Sequence[str],
    calls: int,
) -> dict[str, Call]:
    """The same task in PyTorch, for "torch eager" and "torch compile"."""
    import torch

    from experiments.parts import torch_models

    def repeat(step: Call) -> None:
        for _ in range(calls):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    network = torch_models.build(case.backbone, case.options, size=case.size)
    functions = {}
    for variant in variants:
        step = torch_models.make_function(
            copy.deepcopy(network), clean, task=task, precision=precision,
            compiled=variant == "torch compile", device=device,
        )  # fmt: skip
        try:
            step()
        except Exception as error:  # errors of the compiler, the system or memory, of any type
            if variant == "torch eager":
                raise
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"torch.compile of {case.backbone} is left out: {reason}", stacklevel=2)
        else:
            functions[variant] = partial(repeat, step)
    return functions


def contenders(
    case: Case, state: TrainState, task: str, precision: Precision, *, calls: int
) -> dict[str, tuple[Call, float | None]]:
    """Our variants of a model for a task and precision, with the operations of one call."""
    config = make_config(case, precision)
    corpus = _corpus(config.patch)
    if task == "input pipeline":
        functions = pipeline_functions(config, state, corpus, calls=calls)
        return {variant: (call, None) for variant, call in functions.items()}
    made: dict[str, tuple[Call, float | None]] = {}
    for variant, training in (("jax", config), ("jax wrapped", wrapped(config))):
        if task == "inference":
            noisy = jax.jit(partial(draw_batch, config))(corpus, state.step).noisy
            made[variant] = inference_call(training, state.variables(), noisy, calls=calls)
            continue
        compute = Compute(parallel="single", corpus="device", folded=calls)
        flops = count_flops(jax.jit(make_train_step(training)).lower(state, corpus))
        made[variant] = training_call(training, state, corpus, compute, calls=calls), flops
    return made


def opponents(
    case: Case, task: str, precision: Precision, options: Options, *, device: str, calls: int
) -> dict[str, Call]:
    """PyTorch's variants, on the clean images that ours are trained on."""
    config = make_config(case, precision)
    batch = jax.jit(partial(draw_batch, config))(_corpus(config.patch), jnp.int32(0))
    variants = ["torch eager", *(["torch compile"] if compiles(options, device) else [])]
    clean = np.array(batch.clean)
    return torch_functions(case, clean, task, precision, device, variants=variants, calls=calls)


@cache
def _corpus(patch: int) -> Corpus:
    """The embedded images that are at least as large as a patch, read once."""
    return load_corpus(TrainConfig(patch=patch))


def compiles(options: Options, device: str) -> bool:
    """Whether `torch.compile` is timed."""
    return options.torch_compile or device != "cpu"


def measure(
    options: Options, precisions: Sequence[Precision], *, device: str | None
) -> list[dict[str, Any]]:
    """Time everything: a row for each model, variant, precision and task.

    Args:
        options: The options.
        precisions: The precisions.
        device: PyTorch's device, or None if it is not timed.
    """
    calls = (
        1 if jax.default_backend() == "cpu" else 10
    )  # launches overlap on an accelerator, as in a real run
    peaks = {precision: peak_flops(precision) for precision in precisions}
    groups = [[m for m in group if m in options.models] for group in GROUPS]
    tasks = [(group, task) for group in groups if group for task in ("training", "inference")]
    tasks += [(["dncnn"], "input pipeline")] if "dncnn" in options.models else []
    states = {
        model: create_state(make_config(PRESETS[options.preset][model], "float32"))
        for model in options.models
    }
    rows = []
    for group, task in tqdm(tasks, desc="throughput"):
        if task == "input pipeline" and calls > 1:
            calls = 100  # many more than the prefetched batches
        cases = {model: PRESETS[options.preset][model] for model in group}
        made = {}
        for model, precision in itertools.product(group, precisions):
            ours = contenders(cases[model], states[model], task, precision, calls=calls)
            made |= {(model, variant, precision): entry for variant, entry in ours.items()}
            if device is None or task == "input pipeline":
                continue
            theirs = opponents(cases[model], task, precision, options, device=device, calls=calls)
            flops = ours["jax"][1]
            made |= {(model, variant, precision): (call, flops) for variant, call in theirs.items()}
        functions = {name: call for name, (call, _) in made.items()}
        timed = timing.interleaved(functions, rounds=options.rounds)
        seconds = {name: values / calls for name, values in timed.items()}
        for (model, variant, precision), (_, flops) in made.items():
            key = {"model": model, "variant": variant, "precision": precision, "task": task}
            reference = seconds.get((model, REFERENCES.get(variant), precision))
            one = seconds[model, variant, precision]
            rows.append(key | _row(cases[model], task, one, flops, peaks[precision])
                           | _comparison(variant, one, reference))  # fmt: skip
    return rows


def _row(
    case: Case, task: str, seconds: np.ndarray, flops: float | None, peak: tuple[float, str]
) -> dict[str, Any]:
    """Seconds of a call, and the derived quantities."""
    low, middle, high = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    inference = task == "inference"
    work = case.batch * case.size**2 / 1e6 if inference else case.batch
    return {
        "batch": case.batch, "size": case.size,
        "seconds": middle, "seconds_q1": low, "seconds_q3": high,
        "rate": work / middle, "unit": "megapixels/s" if inference else "patches/s",
        "flops": flops, "share_of_peak": None if flops is None else flops / middle / peak[0],
        "peak_flops": peak[0], "peak_from": peak[1],
    }  # fmt: skip


def _comparison(variant: str, seconds: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    """Time relative to the reference, round by round; empty without a reference."""
    if reference is None:
        return {"ratio_to": None, "ratio": None, "ratio_q1": None, "ratio_q3": None}
    low, middle, high = timing.ratio_quantiles(seconds, reference).values()
    return {"ratio_to": REFERENCES[variant], "ratio": middle, "ratio_q1": low, "ratio_q3": high}


def main(options: Options) -> None:
    """Measure, or read earlier records; report."""
    if options.stage == "report":
        with results_folder(options) as folder:
            report(to_rows(read_records(folder.path / "records.csv")), folder)
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory for PyTorch
    on_cpu, device = jax.default_backend() == "cpu", find_torch(options)
    precisions = options.precisions or (("float32",) if on_cpu else get_args(Precision))
    load = os.getloadavg()[0]
    if on_cpu and load > BUSY:
        warnings.warn(
            f"the machine is busy (load {load:.1f}): times are unreliable, PyTorch's on a CPU most of all",
            stacklevel=2,
        )
    found = {
        "torch_version": "left out" if device is None else metadata.version("torch"),
        "load": load,
    }
    with results_folder(options, **found) as folder:
        rows = measure(options, precisions, device=device)
        records = [record for row in rows for record in to_records(row)]
        write_records(records, folder.path / "records.csv")
        report(rows, folder)


def report(rows: list[dict[str, Any]], folder: Folder) -> None:
    """Write table.md and throughput.png."""
    source, config = folder.source, folder.source["config"]
    judged = goals(rows, on_gpu=source["device"].startswith(("gpu", "cuda")))
    verdicts = markdown_table(list(judged[0]), [list(row.values()) for row in judged])
    sizes = "; ".join(
        f"{model} {case.options} on {case.batch} x {case.size} x {case.size}"
        for model, case in PRESETS[config["preset"]].items()
        if model in config["models"]
    )
    shown = f"{make_table(rows)}\n\n## Goals\n\n{verdicts}\n"
    notes = (
        f"Peaks: {peaks_line(rows)}. PyTorch: {config['torch_version']}. "
        f"Load at the start: {config['load']:.1f}. Sizes: {sizes}."
    )
    text = f"{shown}\n{notes}\n\n{footer(source)}\n"
    write_atomically(folder.path / "table.md", text)
    figure = make_figure(rows, f"Throughput, {source['device']}")
    plotting.save(figure, folder.path / "throughput.png", source)
    print(f"\n{shown}\nRecords and figure are in {folder.workdir}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
