"""Train and measure the small denoiser that comes with the package.

A DnCNN of 8 layers is trained on white noise. Each crop has its own noise level; in normalized coordinates it
is a contrast of the image. The loss is L1, which gives low levels more weight than L2. The first stage
uses `haar_mad` and batch normalization. Then the batch normalization is merged into the convolutions, and
training continues with `noise_level`, from level 1 on. A smooth base of 4 pixels
(`wne_jax.wrappers.smooth_base`) was worse at every level.

`--beside FILE...` measures other weights on the same noise, for example an earlier packaged file.

    WNE_DATA=... python -m experiments.default_denoiser
    cp -r runs/default_denoiser/package/* wne_jax/weights/default/
    python -m experiments.uncertainty --calibrate wne_jax/weights/default/denoiser.safetensors
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness import (
    Images,
    Levels,
    Training,
    check_workdir,
    load_sets,
    results_folder,
    run,
    tables_of,
    write_table,
)
from wne_jax.config import ModelConfig, TwoScales, WrapperConfig
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import OptimizerConfig, TrainConfig, fit, is_lead

FIRST = TrainConfig(
    model=ModelConfig(
        backbone="dncnn",
        options={"depth": 8, "features": 48},
        wrapper=WrapperConfig("wne", "haar_mad"),
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine"),
    data="folder:BSD400",
    sigma_255=(2.0, 75.0),
    loss="l1",
    steps=8000,
    batch=16,
    patch=40,
    save_every=500,
)
SECOND = dataclasses.replace(
    FIRST,
    model=ModelConfig(
        backbone="dncnn",
        options={"depth": 8, "features": 48, "batch_norm": False},
        wrapper=WrapperConfig("wne", "noise_level"),
    ),
    optimizer=dataclasses.replace(FIRST.optimizer, learning_rate=2e-4, clip=1.0, ema=0.995),
    sigma_255=(1.0, 75.0),
    batch=8,
    patch=48,
    seed=1,
    steps=1000,
    save_every=200,
)
STAGES = {"haar_mad": FIRST, "noise_level": SECOND}
"""The training runs, one after the other, by the names of their folders."""

_EPSILON = 1e-5  # of the network's normalization

WEIGHTS = "denoiser.safetensors"
LOGS = ("config.json", "metrics.jsonl")
"""What of each stage goes into the package, beside the weights of the last one and the table."""


@dataclass(frozen=True, kw_only=True)
class Options(Images, Levels, Training):
    """Options of the command line."""

    NAME = "default_denoiser"

    test: tuple[str, ...] | None = ("folder:Set12", "folder:BSD68")
    test_sigmas_255: tuple[float, ...] | None = (1.0, 2.0, 5.0, 15.0, 25.0, 50.0, 75.0)
    repeats: int | None = 1
    beside: tuple[Path, ...] = ()
    """Weight files that are measured on the same images: each has a row by the name of its file."""


def main(options: Options) -> None:
    """Train, sweep, and collect the package's files."""
    check_workdir(options)
    if options.stage == "report":
        raise ValueError("--stage report: --stage eval collects the package's files")
    if not options.test or not options.test_sigmas_255:
        raise ValueError("--test and --test-sigmas-255 must name a set and a level at least")
    sets, folder = load_sets(options.test, data_dir=options.data_dir), options.networks / "default"
    if options.stage != "eval":
        train(options, folder)
    if not is_lead() or options.stage == "train":
        return
    trained = folder / list(STAGES)[-1]
    functions = {
        "packaged": Denoiser.load(trained, inside=TwoScales()).function,
        "at one scale": Denoiser.load(trained).function,
    }
    functions |= {path.stem: Denoiser.load(path).function for path in options.beside}
    key = jax.random.key(options.seed + 1)
    with results_folder(options) as out:
        package(folder, out.path / "package")
        records = [
            record
            for name, images in sets.items()
            for record in sweep(
                functions, images, options.test_sigmas_255, key,
                repeats=options.repeats or 1, experiment=options.NAME, dataset=name,
                model=SECOND.model.backbone, trained=SECOND.sigma_255,
            )
        ]  # fmt: skip
        out.write(records)
        low, high = SECOND.sigma_255
        title = f"The packaged denoiser, trained on BSD400 at sigma {low:g} to {high:g}"
        view = View(rows=("arm",), tables=("metric", "unit", "dataset"))
        write_table(out, title, tables_of(records, view), STAGES)
        shutil.copy(out.path / "table.md", out.path / "package")
    print(f"The denoiser and its table are in {options.folder / 'package'}/")


def train(options: Options, folder: Path) -> None:
    """Run the stages, the second from the weights of the first; what is finished is kept."""
    how: dict[str, Any] = {
        "resume": True, "data_dir": options.data_dir, "compute": options.compute,
    }  # fmt: skip
    first, second = (folder / name for name in STAGES)
    with options.joined():
        fit(FIRST, first, **how)
        start = merged(Denoiser.load(first).variables)
        fit(SECOND, second, variables=start, **how)


def merged(variables: Mapping[str, Any]) -> dict[str, Any]:
    r"""A DnCNN's variables without batch normalization, and the same function.

    With the factor $g = \gamma / \sqrt{v + \varepsilon}$ of a normalization of running mean m and variance v,
    its convolution has the kernel $g k$ and the bias $g (b - m) + \beta$.
    """
    params = {}
    for name, layer in variables["params"].items():
        if not name.startswith("conv_"):
            continue
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        norm = name.replace("conv", "norm")
        if norm in variables["params"]:
            affine, running = variables["params"][norm], variables["batch_stats"][norm]
            factor = np.asarray(affine["scale"]) / np.sqrt(np.asarray(running["var"]) + _EPSILON)
            kernel = factor * kernel
            bias = factor * (bias - running["mean"]) + affine["bias"]
        params[name] = {"kernel": kernel, "bias": np.asarray(bias)}
    return {"params": params}


def package(folder: Path, out: Path) -> None:
    """Copy the weights of the last stage, and configuration and log of each."""
    out.mkdir()
    shutil.copy(folder / list(STAGES)[-1] / WEIGHTS, out)
    for stage in STAGES:
        (out / stage).mkdir()
        for name in LOGS:
            shutil.copy(folder / stage / name, out / stage)


if __name__ == "__main__":
    run(main, Options, __doc__)
