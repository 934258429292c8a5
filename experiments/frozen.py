"""Use a published network of one noise level at all levels, without training.

The same weights are used in four ways: unwrapped; normalized by mean and standard deviation to the network's
range (`mean_std`); normalized by the noise level to its training level (`haar_mad`); and, below that level,
with only the detail rescaled (`one_level`, see `wne_jax.wrappers.one_level`). The last three are exactly
normalization-equivariant and blind.

    WNE_DATA=... python -m experiments.frozen --weights dncnn_25.mat --test folder:Set12
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from experiments.harness import (
    Folder,
    Images,
    Levels,
    OneLevelWeights,
    Results,
    Seed,
    load_sets,
    results_folder,
    run,
    tables_of,
    write_table,
)
from wne_jax.config import WrapperConfig, at_every_level
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, split_by
from wne_jax.evaluation.sweeps import Defect, sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser
from wne_jax.wrappers.one_level import ANCHOR

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset"))


@dataclass(frozen=True, kw_only=True)
class Options(Images, Levels, OneLevelWeights, Seed, Results):
    """Options of the command line."""

    NAME = "frozen"

    test: tuple[str, ...] | None = ("embedded",)
    test_sigmas_255: tuple[float, ...] | None = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0, 90.0)
    repeats: int | None = 1


def arms(trained_sigma_255: float) -> dict[str, dict[str, Any]]:
    """The changes of each arm to the configuration of the weights."""
    level = trained_sigma_255 / 255
    anchored = {"wrapper": WrapperConfig(anchor=ANCHOR)}
    return {
        "unwrapped": {"wrapper": None},
        "mean_std": anchored,
        "haar_mad": {"wrapper": WrapperConfig("wne", "haar_mad", anchor=(ANCHOR.location, level))},
        "one_level": at_every_level(trained_sigma_255),
    }


def measure(
    options: Options, denoisers: Mapping[str, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """PSNR at all levels, and the defect at the first and last level on crops of two images."""
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    levels, key = options.test_sigmas_255 or (), jax.random.key(options.seed)
    records = []
    for name, images in sets.items():
        columns = {
            "experiment": options.NAME, "dataset": name, "model": options.weights.name,
            "trained": options.trained_sigma_255,
        }  # fmt: skip
        records += sweep(functions, images, levels, key, repeats=options.repeats or 1, **columns)
        crops = [image._replace(pixels=image.pixels[:96, :96]) for image in images[:2]]
        ends = (levels[0], levels[-1])
        records += sweep(functions, crops, ends, key, measures=[Defect(samples=4)], **columns)
    return records


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw output over input PSNR, a figure for each test set."""
    for number, ((name,), rows) in enumerate(split_by(records, ["dataset"]).items()):
        trained = options.trained_sigma_255
        figure = plotting.quality_curves(
            rows, trained=(trained,), title=f"{name}, one frozen network for {trained:g}"
        )
        path = out.path / ("psnr.png" if number == 0 else f"psnr-{name}.png")
        plotting.save(figure, path, out.source)


def main(options: Options) -> None:
    """Load, sweep, report."""
    if not options.test_sigmas_255 or not options.test:
        raise ValueError("--test needs at least one set, and --test-sigmas-255 one level")
    sets = load_sets(options.test, data_dir=options.data_dir)
    denoisers = {
        arm: Denoiser.load(options.weights, allow_namespace=options.allow_namespace, **wrapping)
        for arm, wrapping in arms(options.trained_sigma_255).items()
    }
    with results_folder(options) as out:
        records = measure(options, denoisers, sets)
        out.write(records)
        draw(options, records, out)
        trained = f"trained at {options.trained_sigma_255:g}"
        sections = tables_of(records, VIEW)
        write_table(out, f"{options.weights.name}, {trained}, frozen (8-bit units)", sections, {})
    text = "\n\n".join(f"{title}\n\n{table}" for title, table in sections.items())
    print(f"\n{text}\n\nTable, figure and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
