"""Noise of real cameras: networks trained on the pairs of SIDD, tested on its validation blocks.

The noise is neither Gaussian nor of one level, and the clean image is an estimate from many shots. Saied &
Fleuret (2026), Table 10: SwinIR without and with the wrapper, mean PSNR and SSIM of 1,280 blocks in sRGB.
Estimates are clipped to [0, 1] and not rounded to 8 bits.

The photographs have to be fetched by hand (Abdelhamed, Lin and Brown 2018): a training set, Small or Medium
in sRGB, and ValidationNoisyBlocksSrgb.mat with ValidationGtBlocksSrgb.mat. Paths are looked up under
WNE_DATA, too.

    python -m experiments.sidd --data sidd:SIDD_Small_sRGB_Only --blocks SIDD --backbone dncnn
    python -m experiments.sidd --data sidd:SIDD_Medium_Srgb --blocks SIDD --preset paper    # an accelerator
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import _cli, _comparison, _published, _runs, _sweeps
from experiments._arms import ARMS, Arm
from experiments._sidd_blocks import Blocks, load_blocks
from wne_jax.data.mixtures import parse_mixture
from wne_jax.data.sources import kind_of
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import PSNR_AND_SSIM, Denoise, Record
from wne_jax.images.units import to_unit
from wne_jax.training import TrainConfig, is_lead

INPUT = "noisy input"


@dataclass(frozen=True, kw_only=True)
class Options(_runs.Runs):
    """Options of the command line."""

    data: str = "sidd:SIDD_Medium_Srgb"
    """Training pairs: sidd:DIR, Small or Medium as published, or pairs:NOISY:CLEAN."""
    blocks: str = "SIDD"
    """Folder of the two files of validation blocks."""
    backbone: Literal["swinir", "dncnn"] = "swinir"
    """The network inside every arm; the published one is SwinIR."""
    arms: tuple[Arm, ...] = ("baseline", "wne")
    """What to train and compare."""
    batch: int = 8
    """Blocks that go through a network together."""
    workdir: Path = Path("runs/sidd")
    """Folder for everything that is written."""


def wanted(options: Options) -> dict[str, tuple[Arm, TrainConfig]]:
    """The networks, by arm.

    Raises:
        ValueError: The training images are no pairs, or an arm is a way to train without them.
    """
    if any(kind_of(part.spec) != "pairs" for part in parse_mixture(options.data)):
        raise ValueError(f"data must be pairs, sidd:DIR or pairs:NOISY:CLEAN, not {options.data!r}")
    if objectives := [arm for arm in options.arms if "train" in ARMS[arm]]:
        raise ValueError(
            f"arms: {', '.join(objectives)} choose their noise or target, and pairs have both"
        )
    # At level 0, since no noise is added to that of the cameras.
    changes: dict[str, Any] = {"backbone": options.backbone, "channels": 3}
    return {arm: (arm, options.config(arm, 0.0, **changes)) for arm in options.arms}


def evaluate(functions: Mapping[str, Denoise], blocks: Blocks, *, batch: int) -> list[Record]:
    """PSNR and SSIM of every block.

    Args:
        functions: Models by name, f32[B, H, W, 3] -> f32[B, H, W, 3].
        blocks: Noisy and clean blocks.
        batch: Blocks that go through a model together.

    Returns:
        Records with `image` ("SCENE-BLOCK", from 1) and `model`, and with `input_psnr`, `psnr`, `input_ssim`
        and `ssim` of the noisy block and of the estimate, clipped to [0, 1].
    """
    measures = {name: jax.jit(measure) for name, measure in PSNR_AND_SSIM.items()}
    records = []
    for names, noisy, clean in _batches(blocks, batch):
        before = {f"input_{name}": np.asarray(f(noisy, clean)) for name, f in measures.items()}
        for model, denoise in functions.items():
            estimate = jnp.clip(denoise(noisy), 0, 1)
            after = {name: np.asarray(f(estimate, clean)) for name, f in measures.items()}
            records += [
                {"image": image, "model": model}
                | {name: float(values[i]) for name, values in (before | after).items()}
                for i, image in enumerate(names)
            ]
    return records


def _batches(blocks: Blocks, batch: int) -> Iterator[tuple[list[str], jax.Array, jax.Array]]:
    """Names, noisy and clean blocks, scene by scene; a short last batch repeats its last block."""
    scenes, number = blocks.noisy.shape[:2]
    for scene in tqdm(range(scenes), desc="SIDD", unit="scene"):
        for start in range(0, number, batch):
            places = np.minimum(np.arange(start, start + batch), number - 1)
            noisy, clean = (jnp.asarray(to_unit(part[scene][places])) for part in blocks)
            last = min(start + batch, number)
            yield [f"{scene + 1:02d}-{i + 1:02d}" for i in range(start, last)], noisy, clean


def cells(
    options: Options, records: Sequence[Record], measure: Literal["psnr", "ssim"]
) -> list[_comparison.Cell]:
    """The means of input and arms, beside the published ones."""
    title = "Table 10: PSNR (dB), SIDD" if measure == "psnr" else "Table 10: SSIM, SIDD"
    ours = results.mean_over(records, measure, by=["model"])
    if records:
        ours[(INPUT,)] = float(np.mean([record[f"input_{measure}"] for record in records]))
    theirs = _published.SIDD if options.backbone == "swinir" else {}
    published = {arm: pair[measure == "ssim"] for arm, pair in theirs.items()}
    return [
        _comparison.cell(title, row, options.backbone, ours.get((row,)), published.get(row))
        for row in (INPUT, *options.arms)
    ]


def main(options: Options) -> None:
    """Train what is missing, evaluate, report."""
    if options.batch < 1:
        raise ValueError(f"batch must be 1 or more, not {options.batch}")
    configs = wanted(options)
    blocks = load_blocks(options.blocks)
    denoisers, source = _sweeps.trained(options, configs, options.workdir)
    if not is_lead():
        return
    _comparison.clear(options.workdir, "blocks.csv")
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    records = evaluate(functions, blocks, batch=options.batch) if functions else []
    if records:
        results.write_csv(records, options.workdir / "blocks.csv")
    psnr, ssim = (cells(options, records, measure) for measure in ("psnr", "ssim"))
    _comparison.write([*psnr, *ssim], options.workdir)
    tables = _comparison.tables(psnr) | _comparison.tables(ssim, form=".4f")
    trained = {arm: config for arm, (_, config) in configs.items()}
    title = f"SIDD, {np.prod(blocks.noisy.shape[:2])} validation blocks"
    _sweeps.write_table(options.workdir, title, tables, trained, source)
    for one, other in zip(psnr, ssim):
        values = (
            "not run" if one["ours"] == "" else f"{one['ours']:.2f} dB, SSIM {other['ours']:.4f}"
        )
        print(f"{one['row']}: {values}")
    print(f"Table and records are in {options.workdir}/")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
