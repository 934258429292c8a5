"""Train and measure the small denoiser that comes with the package.

The backbone and the images of `mismatch --preset small`, with the noise level in place of the standard
deviation, and every crop at a level of its own: to the backbone, a range of levels is one of contrasts. The
loss is L1, which weighs the low levels more than squares would. A base of 4 pixels
(`wne_jax.wrappers.smooth_base`), which helps away from a single training level, was tried here and lost at
every level.

    WNE_DATA=... python -m experiments.default_denoiser        # 8,000 steps
    cp runs/default_denoiser/package/* wne_jax/weights/default/
"""

import shutil
from dataclasses import dataclass

import jax

from experiments.harness import (
    Images,
    Levels,
    Training,
    load_sets,
    refuse_results,
    results_folder,
    run,
    tables_of,
    write_table,
)
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import OptimizerConfig, TrainConfig, fit, is_lead

CONFIG = TrainConfig(
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
"""The training run."""

FILES = ("denoiser.safetensors", "config.json", "metrics.jsonl")
"""What of the run goes into the package, beside the table."""


@dataclass(frozen=True, kw_only=True)
class Options(Images, Levels, Training):
    """Options of the command line."""

    NAME = "default_denoiser"

    test: tuple[str, ...] | None = ("folder:Set12", "folder:BSD68")
    test_sigmas_255: tuple[float, ...] | None = (2.0, 5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0)
    repeats: int | None = 1


def main(options: Options) -> None:
    """Train, sweep, and lay the package's files together."""
    refuse_results(options)
    if options.stage == "report":
        raise ValueError("--stage report: the package is laid together by --stage eval")
    if not options.test or not options.test_sigmas_255:
        raise ValueError("--test and --test-sigmas-255 must name a set and a level at least")
    sets, folder = load_sets(options.test, data_dir=options.data_dir), options.networks / "default"
    if options.stage != "eval":
        with options.joined():
            fit(CONFIG, folder, resume=True, data_dir=options.data_dir, compute=options.compute)
    if not is_lead() or options.stage == "train":
        return
    denoiser, key = Denoiser.load(folder), jax.random.key(options.seed + 1)
    with results_folder(options) as out:
        denoiser.save(folder / FILES[0])
        for name in FILES:
            (out.path / "package").mkdir(exist_ok=True)
            shutil.copy(folder / name, out.path / "package" / name)
        records = [
            record
            for name, images in sets.items()
            for record in sweep(
                {"default": denoiser.function}, images, options.test_sigmas_255, key,
                repeats=options.repeats or 1, experiment=options.NAME, dataset=name,
                model=CONFIG.model.backbone, trained=CONFIG.sigma_255,
            )
        ]  # fmt: skip
        out.write(records)
        low, high = CONFIG.sigma_255
        title = f"The packaged denoiser, trained on BSD400 at sigma {low:g} to {high:g}"
        view = View(rows=("arm",), tables=("metric", "unit", "dataset"))
        write_table(out, title, tables_of(records, view), {"default": CONFIG})
        shutil.copy(out.path / "table.md", out.path / "package")
    print(f"The denoiser and its table are in {options.folder / 'package'}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
