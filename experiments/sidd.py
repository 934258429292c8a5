"""Noise of real cameras: networks trained on the pairs of SIDD and tested on its validation blocks.

The noise is neither Gaussian nor of one level, and the clean image is an estimate from many shots. Saied &
Fleuret (2026), Table 10: SwinIR without and with the wrapper, mean PSNR and SSIM of 1,280 blocks in sRGB.
Estimates are clipped to [0, 1] and not rounded to 8 bits.

The data must be downloaded by hand (Abdelhamed, Lin and Brown 2018): a training set, Small or Medium in sRGB,
and ValidationNoisyBlocksSrgb.mat with ValidationGtBlocksSrgb.mat. Paths are also looked up under WNE_DATA.

    python -m experiments.sidd --data sidd:SIDD_Small_sRGB_Only --blocks SIDD --backbone dncnn
    python -m experiments.sidd --data sidd:SIDD_Medium_Srgb --blocks SIDD --preset paper    # an accelerator
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.harness import (
    ARMS,
    Arm,
    Arms,
    Networks,
    OneBackbone,
    Wanted,
    earlier_records,
    find_or_train,
    published,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.parts.sidd_blocks import Blocks, load_blocks
from wne_jax.data.mixtures import parse_mixture
from wne_jax.data.sources import kind_of
from wne_jax.evaluation.records import INPUT, NOT_RUN, Record, mean_over
from wne_jax.evaluation.sweeps import MEASURES, Denoise
from wne_jax.evaluation.tables import View
from wne_jax.images.units import to_unit

VIEWS = (View(rows=("model", "arm"), columns=("metric", "unit"), tables=("dataset",)),)

MEASURED = ("psnr", "ssim")


@dataclass(frozen=True, kw_only=True)
class Options(OneBackbone, Arms, Networks):
    """Options of the command line."""

    NAME = "sidd"

    data: str | None = "sidd:SIDD_Medium_Srgb"
    blocks: str = "SIDD"
    """Folder with the two files of validation blocks."""
    backbone: str = "swinir"
    blocks_at_once: int = 8
    """Number of blocks per batch."""


def wanted(options: Options) -> Wanted[Arm]:
    """The networks, by arm.

    Raises:
        ValueError: The training images are not pairs, or an arm has a training objective without pairs.
    """
    if any(kind_of(part.spec) != "pairs" for part in parse_mixture(options.data)):
        raise ValueError(
            f"--data must be pairs, sidd:DIR or pairs:NOISY:CLEAN, not {options.data!r}"
        )
    if objectives := [arm for arm in options.arms if "train" in ARMS[arm]]:
        raise ValueError(
            f"--arms: {', '.join(objectives)} draw their own noise or target, but pairs contain both"
        )
    # Level 0: no noise is added to that of the cameras.
    changes: dict[str, Any] = {"backbone": options.backbone, "channels": 3}
    return {arm: (arm, options.config(arm, 0.0, **changes)) for arm in options.arms}


def evaluate(
    functions: Mapping[str, Denoise], blocks: Blocks, *, at_once: int, model: str
) -> list[Record]:
    """PSNR and SSIM of every block, for the noisy input and for estimates clipped to [0, 1].

    Args:
        functions: Networks by arm, f32[B, H, W, 3] -> f32[B, H, W, 3].
        blocks: Noisy and clean blocks.
        at_once: Number of blocks per batch.
        model: The backbone.

    Returns:
        Records whose image is "SCENE-BLOCK", both counted from 1.
    """
    measures = [(MEASURES[name], jax.jit(MEASURES[name].function)) for name in MEASURED]
    records = []
    for names, noisy, clean in _batches(blocks, at_once):
        estimates = {INPUT: noisy}
        estimates |= {arm: jnp.clip(denoise(noisy), 0, 1) for arm, denoise in functions.items()}
        records += [
            Record(value=value, metric=measure.metric, unit=measure.unit, image=image, arm=arm,
                   **place(model))
            for arm, estimate in estimates.items()
            for measure, of in measures
            for image, value in zip(names, np.asarray(of(estimate, clean)))
        ]  # fmt: skip
    return records


def place(model: str) -> dict[str, str]:
    """The columns shared by all records."""
    return {"experiment": Options.NAME, "dataset": "SIDD", "model": model}


def _batches(blocks: Blocks, batch: int) -> Iterator[tuple[list[str], jax.Array, jax.Array]]:
    """Names, noisy and clean blocks, scene by scene; a short last batch repeats its last block."""
    scenes, number = blocks.noisy.shape[:2]
    for scene in tqdm(range(scenes), desc="SIDD", unit="scene"):
        for start in range(0, number, batch):
            places = np.minimum(np.arange(start, start + batch), number - 1)
            noisy, clean = (jnp.asarray(to_unit(part[scene][places])) for part in blocks)
            last = min(start + batch, number)
            yield [f"{scene + 1:02d}-{i + 1:02d}" for i in range(start, last)], noisy, clean


def cells(options: Options) -> list[Record]:
    """The cells of the table, with the published figures."""
    theirs = published.SIDD if options.backbone == "swinir" else {}
    return [
        Record(metric=metric, unit=MEASURES[metric].unit, arm=arm, published=figure,
               **place(options.backbone))
        for arm in (INPUT, *options.arms)
        for metric, figure in zip(MEASURED, theirs.get(arm, (None, None)))
    ]  # fmt: skip


def main(options: Options) -> None:
    """Train missing networks, evaluate, report."""
    if options.blocks_at_once < 1:
        raise ValueError(f"--blocks-at-once must be 1 or more, not {options.blocks_at_once}")
    earlier, runs = earlier_records(options), wanted(options)
    blocks = load_blocks(options.blocks)
    denoisers = find_or_train(options, without(runs, {r.arm for r in earlier}))
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    with results_folder(options) as out:
        measured: list[Record] = []
        if functions:
            measured = evaluate(
                functions, blocks, at_once=options.blocks_at_once, model=options.backbone
            )
        records = together(cells(options), earlier, measured)
        out.write(records)
        title = f"SIDD, {np.prod(blocks.noisy.shape[:2])} validation blocks"
        (view,) = VIEWS
        write_table(out, title, tables_of(records, view), dict(runs.values()))
    means = mean_over(records, by=["arm", "metric"])
    for arm in (INPUT, *options.arms):
        psnr, ssim = (means.get((arm, metric)) for metric in MEASURED)
        print(f"{arm}: {NOT_RUN if psnr is None else f'{psnr:.2f} dB, SSIM {ssim:.4f}'}")
    print(f"Table and records are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
