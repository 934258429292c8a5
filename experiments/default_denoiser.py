"""Train and measure the small denoiser that comes with the package.

The backbone and the images of `mismatch --preset small`, with the noise level in place of the standard
deviation, and every crop at a level of its own: to the backbone, a range of levels is one of contrasts. The
loss is L1, which weighs the low levels more than squares would. A base of 4 pixels
(`wne_jax.wrappers.smooth_base`), which helps away from a single training level, was tried here and lost at
every level.

    WNE_DATA=... python -m experiments.default_denoiser        # 8,000 steps
    cp runs/default/package/* wne_jax/weights/default/
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import jax

from experiments import _cli
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import psnr_sweep
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import ModelConfig, OptimizerConfig, TrainConfig, fit, is_lead

CONFIG = TrainConfig(
    model=ModelConfig(
        backbone="dncnn",
        options={"depth": 8, "features": 48},
        wrapper="wne",
        statistics="haar_mad",
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

LEVELS = (2.0, 5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0)


@dataclass(frozen=True)
class Options(_cli.Machine):
    """Options of the command line."""

    test: tuple[str, ...] = ("folder:Set12", "folder:BSD68")
    """Test images."""
    seed: int = 1
    """Seed of the test noise."""
    workdir: Path = Path("runs/default")
    """Folder for everything that is written."""
    resume: bool = False
    """Go on with what the folder holds."""


def main(options: Options) -> None:
    """Train, save, sweep."""
    sets = _cli.load_sets(options.test, data_dir=options.data_dir)
    run, package = options.workdir / "run", options.workdir / "package"
    with options.joined():
        source = _cli.claim(options.workdir, options, resume=options.resume)
        fit(CONFIG, run, resume=options.resume, data_dir=options.data_dir, compute=options.compute)
    if not is_lead():
        return
    denoiser = Denoiser.load(run)
    package.mkdir(exist_ok=True)
    denoiser.save(package / "denoiser.safetensors")
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(run / name, package / name)

    low, high = CONFIG.sigma_255
    sections = [f"# The packaged denoiser, trained on BSD400 at sigma {low:g} to {high:g}"]
    for name, images in sets.items():
        key = jax.random.key(options.seed)
        records = psnr_sweep({"default": denoiser.function}, images, LEVELS, key)
        results.write_csv(records, options.workdir / f"psnr-{name}.csv")
        rows = [r | {"model": "noisy input", "psnr": r["input_psnr"]} for r in records] + records
        table = results.pivot_table(rows, "psnr", rows="model", columns="sigma_255")
        sections += [f"## PSNR (dB), {name}", table]
    sections.append(results.footer(source))
    write_atomically(package / "table.md", "\n\n".join(sections) + "\n")
    print(f"The denoiser and its table are in {package}/")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
