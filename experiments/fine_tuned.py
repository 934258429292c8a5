r"""A published network of one noise level, wrapped and trained a little further at that level.

The rows start from the same weights and differ only in the wrapper: none (`baseline`), mean and standard
deviation (`wne`), or the noise level (`wne-noise-level`). `frozen` is the network without further steps. On
Set12 the published figures of Saied & Fleuret (2026) stand beside the rows of the same wrapper; theirs were
trained from scratch. The networks go to `--networks`, and are not committed.

    WNE_DATA=... python -m experiments.fine_tuned --weights dncnn_25.mat --data folder:BSD400 \
        --test folder:Set12
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from experiments.harness import (
    Folder,
    Images,
    Levels,
    OneLevelWeights,
    Training,
    check_workdir,
    earlier_records,
    load_sets,
    published,
    results_folder,
    run,
    tables_of,
    together,
    write_table,
)
from experiments.harness.networks import WEIGHTS
from wne_jax.cli import train_options
from wne_jax.cli.train_options import Examples, Network, Updates
from wne_jax.cli.training_run import train, train_config
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, read_records, split_by
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import is_lead, load_config
from wne_jax.training.config import BOOKKEEPING, differences

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset"))

WRAPPINGS = {
    "baseline": {"wrapper": "none"},
    "wne": {"wrapper": "wne", "statistics": "mean_std"},
    "wne-noise-level": {"wrapper": "wne", "statistics": "noise_level"},
}
"""The options of `train` for each arm."""

LEARNING_RATE = 1e-4
"""The highest learning rate; it falls to 0 on a cosine."""


@dataclass(frozen=True, kw_only=True)
class Options(Images, Levels, OneLevelWeights, Training):
    """Options of the command line."""

    NAME = "fine_tuned"

    data: str = "embedded"
    """Training images: folder:PATH, tfds:NAME, embedded; noisy ones: pairs:NOISY:CLEAN, sidd:DIR, repeats:DIR
    (one subfolder a scene, two shots or more). Commas mix several."""
    steps: int = 1000
    """Training steps of a network."""
    networks: Path = Path("runs/fine_tuned_networks")
    test: tuple[str, ...] | None = ("embedded",)
    test_sigmas_255: tuple[float, ...] | None = (5.0, 10.0, 15.0, 25.0, 50.0, 75.0, 100.0)
    repeats: int | None = 1

    def folder_of(self, arm: str) -> Path:
        """The folder of a network."""
        return self.networks / f"{self.weights.name}-{arm}"

    def command(self, arm: str) -> train_options.Options:
        """The options of `train` that fine-tune a network."""
        return train_options.Options(
            data=self.data, data_dir=self.data_dir, out=self.folder_of(arm), resume=True, save_every=100,
            network=Network(init=self.weights, allow_namespace=self.allow_namespace, **WRAPPINGS[arm]),
            examples=Examples(train_sigmas_255=(self.trained_sigma_255,)),
            updates=Updates(steps=self.steps, learning_rate=LEARNING_RATE, seed=self.seed),
            machine=self,
        )  # fmt: skip


def fine_tuned(options: Options, start: Denoiser) -> dict[str, Denoiser]:
    """The networks, trained first if the stage allows it; missing ones are left out.

    Raises:
        SystemExit: The stage is "train", or this process only takes part in training.
        ValueError: A network is there that was trained otherwise.
    """
    if options.stage in ("all", "train"):
        with options.joined():
            for arm in WRAPPINGS:
                train(options.command(arm))
    if options.stage == "train" or not is_lead():
        raise SystemExit(0)
    found = {}
    for arm in WRAPPINGS:
        folder = options.folder_of(arm)
        if (folder / WEIGHTS).is_file():
            wanted = train_config(options.command(arm), start)
            changed = set(differences(load_config(folder / "config.json"), wanted))
            if changed := sorted(
                changed - BOOKKEEPING - {"model.wrapper.anchor"}
            ):  # its anchor was measured
                raise ValueError(f"{folder} is a network of other {', '.join(changed)}")
            found[arm] = Denoiser.load(folder)
    return found


def measure(
    options: Options,
    denoisers: Mapping[str, Denoiser],
    sets: Mapping[str, list[NamedImage]],
    backbone: str,
) -> list[Record]:
    """PSNR and SSIM at all levels, with the published figures of a backbone."""
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    levels, trained = options.test_sigmas_255 or (), options.trained_sigma_255
    columns = {"experiment": options.NAME, "model": options.weights.name, "trained": (trained,)}
    records = []
    for name, images in sets.items():
        theirs = published.curve(f"{backbone}_sigma{trained:g}", name)
        records += sweep(
            functions, images, levels, jax.random.key(options.seed + 1), measures=("psnr", "ssim"),
            repeats=options.repeats or 1, dataset=name, **columns,
        )  # fmt: skip
        records += published.cells(
            theirs, [*WRAPPINGS, "ne-arch"] if theirs else list(WRAPPINGS), levels,
            metric="psnr", unit="dB", dataset=name, degradation="gaussian", **columns,
        )  # fmt: skip
    return records


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw PSNR over the level, a figure for each test set."""
    measured = [r for r in records if r.value is not None and r.metric == "psnr"]
    for (name,), rows in split_by(measured, ["dataset"]).items():
        trained = options.trained_sigma_255
        figure = plotting.quality_curves(
            rows, trained=(trained,), title=f"{name}, fine-tuned at {trained:g}"
        )
        plotting.save(figure, out.path / f"psnr-{name}.png", out.source)


def settings(options: Options) -> str:
    """How the networks were trained."""
    return (
        f"{', '.join(WRAPPINGS)}: {options.steps:,} steps of {Examples.batch} crops {Examples.patch}x"
        f"{Examples.patch} of {options.data}, Gaussian noise of {options.trained_sigma_255:g}, mean squared "
        f"error, learning rate {LEARNING_RATE:g} on a cosine, seed {options.seed}, from "
        f"{options.weights.name}. Cells of missing networks say 'not run'."
    )


def main(options: Options) -> None:
    """Fine-tune, sweep, compare, draw."""
    check_workdir(options)
    earlier = earlier_records(options)
    if options.stage != "report":
        sets = load_sets(options.test or ("embedded",), data_dir=options.data_dir)
        start = Denoiser.load(options.weights, allow_namespace=options.allow_namespace)
        denoisers = {"frozen": start} | fine_tuned(options, start)
        done = {record.arm for record in earlier}
        missing = {arm: denoiser for arm, denoiser in denoisers.items() if arm not in done}
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            records = together(earlier, measure(options, missing, sets, start.config.backbone))
            out.write(records)
        draw(options, records, out)
        sections = tables_of(records, VIEW) | {"Networks": settings(options)}
        title = (
            f"Fine-tuned from {options.weights.name} at {options.trained_sigma_255:g} (8-bit units)"
        )
        write_table(out, title, sections, {})
    text = "\n\n".join(f"{title}\n\n{table}" for title, table in sections.items())
    print(f"\n{text}\n\nTables, figures and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
