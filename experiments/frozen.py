"""Make a network that others have trained for one noise level serve all of them, without training.

The same weights four times: as they are (`unwrapped`); normalized by mean and standard deviation, in the
network's own range (`mean_std`); normalized by the noise level, at the strength that the network knows
(`haar_mad`); and, below that strength, stretching only the detail (`one_level`, see
`wne_jax.wrappers.one_level`). The last three are exactly normalization-equivariant, and blind.

    WNE_DATA=... python -m experiments.frozen --weights dncnn_25.mat --data folder:Set12
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments import _cli
from wne_jax._internal.files import write_atomically
from wne_jax.data import load_images
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import defect_sweep, psnr_sweep
from wne_jax.inference.denoiser import Denoiser
from wne_jax.wrappers.one_level import ANCHOR


@dataclass(frozen=True)
class Options(_cli.Data):
    """Options of the command line."""

    weights: Path
    """A weight file that `wne_jax.weights` reads."""
    trained_sigma_255: float = 25.0
    """The noise level that the weights were trained for, in 8-bit units."""
    data: str = "embedded"
    """Test images: embedded, folder:PATH, tfds:NAME, ..."""
    sigmas_255: tuple[float, ...] = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 90.0)
    """Test noise levels, in 8-bit units."""
    repeats: int = 1
    """Noise draws for each image and level."""
    seed: int = 0
    """Seed of the noise."""
    allow_namespace: bool = False
    """Accept PyTorch checkpoints that hold an argparse.Namespace beside the tensors."""
    workdir: Path = Path("runs/frozen")
    """Folder for everything that is written."""


def arms(trained_sigma_255: float) -> dict[str, dict[str, Any]]:
    """The models, by what each changes in the configuration that the weights came with."""
    level = trained_sigma_255 / 255
    anchored = {"wrapper": "wne", "anchor": ANCHOR}
    return {
        "unwrapped": {"wrapper": "none"},
        "mean_std": anchored,
        "haar_mad": anchored | {"statistics": "haar_mad", "anchor": (ANCHOR.location, level)},
        "one_level": anchored | {"trained_sigma_255": trained_sigma_255},
    }


def main(options: Options) -> None:
    """Load, sweep, report."""
    images = load_images(options.data, split="test", data_dir=options.data_dir)
    denoisers = {
        arm: Denoiser.load(options.weights, allow_namespace=options.allow_namespace, **wrapping)
        for arm, wrapping in arms(options.trained_sigma_255).items()
    }
    source = _cli.claim(options.workdir, options, resume=False)
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    key = jax.random.key(options.seed)
    records = psnr_sweep(functions, images, options.sigmas_255, key, repeats=options.repeats)
    results.write_csv(records, options.workdir / "psnr.csv")
    crops = [image._replace(pixels=image.pixels[:96, :96]) for image in images[:2]]
    levels = (options.sigmas_255[0], options.sigmas_255[-1])
    defects = defect_sweep(functions, crops, levels, key, samples=4)
    results.write_csv(defects, options.workdir / "defect.csv")
    report(options, records, defects, source)


def report(
    options: Options, records: list[dict], defects: list[dict], source: dict[str, Any]
) -> None:
    """Write the table and the figure."""
    trained = options.trained_sigma_255
    rows = [r | {"model": "noisy input", "psnr": r["input_psnr"]} for r in records] + records
    sections = [f"# {options.weights.name}, trained at {trained:g}, frozen (8-bit units)"]
    name = Path(options.data.rpartition(":")[2]).name
    sections += [
        f"## PSNR (dB), {name}",
        results.pivot_table(rows, "psnr", rows="model", columns="sigma_255"),
        "## Normalization-equivariance defect (mean relative L2)",
        results.pivot_table(
            defects, "defect", rows="model", columns="sigma_255", form="{:.1e}".format
        ),
        results.footer(source),
    ]
    text = "\n\n".join(sections) + "\n"
    write_atomically(options.workdir / "table.md", text)
    figure = plotting.sweep_curves(
        records, train_sigma_255=(trained,), title=f"{name}, one frozen network for {trained:g}"
    )
    plotting.save(figure, options.workdir / "psnr.png", source)
    print("\n" + text + f"\nTable, figure and records are in {options.workdir}/")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
