"""Train denoisers at one noise level and test them at all the others.

The arms differ in the wrapper and in nothing else: same backbone, loss, schedule, steps, seed, crops and
noise. Saied & Fleuret (2026), Figures 3 and 4: the unwrapped network collapses above its training level and
stalls below it; the wrapped one does neither. One arm differs in more: `alias-free` is `wne` around a network
of other activations and padding, which commutes with sub-pixel translations, too.

    python -m experiments.mismatch                                     # minutes on 2 cores
    WNE_DATA=... python -m experiments.mismatch --preset small         # BSD400; Set12 and BSD68
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _cli
from experiments._arms import PRESETS, Arm, Size, run_config
from experiments._compilations import Watched, counted
from wne_jax._internal.files import write_atomically
from wne_jax.data import Corpus, NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import defect_sweep, noisy_and_clean, psnr_sweep
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.training import TrainConfig, finished, fit, is_lead, load_corpus
from wne_jax.training.config import Precision


@dataclass(frozen=True)
class Options(_cli.Machine):
    """Options of the command line; what is not given comes from the preset."""

    preset: Size = "tiny"
    """Size: minutes on 2 cores, under two hours, or the paper's own."""
    sigma_255: tuple[float, ...] = (25.0,)
    """Training noise level in 8-bit units: one number, or the ends of a range."""
    arms: tuple[Arm, ...] = ("baseline", "wne", "wne-noise")
    """What to train and compare."""
    backbone: Literal["dncnn", "fdncnn"] = "dncnn"
    """The network inside every arm."""
    data: str | None = None
    """Training images: embedded, folder:PATH, tfds:NAME, ...; commas mix several."""
    test: tuple[str, ...] | None = None
    """Test images, likewise; several sets may be named."""
    test_sigmas_255: tuple[float, ...] | None = None
    """Test noise levels in 8-bit units."""
    steps: int | None = None
    """Training steps an arm."""
    precision: Precision = "float32"
    """What training computes in; parameters are float32 always."""
    seed: int = 0
    """Seed of the initial parameters, the crops and the noise."""
    stage: Literal["all", "train", "eval", "report"] = "all"
    """Do one part only; "eval" needs trained arms, "report" needs psnr.csv."""
    workdir: Path = Path("runs/mismatch")
    """Folder for everything that is written."""
    resume: bool = False
    """Go on with what the folder holds."""


def arm_configs(options: Options) -> dict[Arm, TrainConfig]:
    """The training run of every arm."""
    common = {"data": options.data, "precision": options.precision, "seed": options.seed}
    common |= {"backbone": options.backbone, "steps": options.steps}
    return {a: run_config(a, options.preset, options.sigma_255, **common) for a in options.arms}


def train(options: Options, corpus: Corpus) -> None:
    """Train every arm that has not reached its last step."""
    arms = arm_configs(options)
    with counted() as compilations:
        for arm, config in arms.items():
            fit(
                config,
                options.workdir / arm,
                resume=options.resume,
                corpus=corpus,
                compute=options.compute,
            )
    if is_lead() and options.parallel != "pmap":  # which compiles under a name of its own
        print(f"training step: {compilations['train_step']} compilations, {len(arms)} arms")


def test_images(options: Options) -> list[NamedImage]:
    """The held-out images; with several sets, each name says its set.

    Raises:
        ValueError: Two sets of one name.
    """
    specs = options.test or PRESETS[options.preset].test
    sets = _cli.load_sets(specs, data_dir=options.data_dir)
    if len(sets) == 1:
        return next(iter(sets.values()))
    return [i._replace(name=f"{name}/{i.name}") for name, images in sets.items() for i in images]


def check_identities(denoisers: dict[str, Denoiser], image: NamedImage, key: jax.Array) -> None:
    """Assert f(a y + b) = a f(y) + b of every arm that promises it, on a noisy crop.

    Raises:
        AssertionError: A promise is broken; nothing has been written by then.
    """
    crop = image._replace(pixels=image.pixels[:64, :64])
    noisy, _ = noisy_and_clean(crop, 25.0, key)
    # By default accelerators multiply in TF32 (NVIDIA) or bfloat16 (TPU).
    compute_dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    for arm, denoiser in denoisers.items():
        if denoiser.symmetry != "normalization":
            continue
        assert_normalization_equivariant(
            denoiser.function, noisy, key, gain=4.0, compute_dtype=compute_dtype
        )
        assert_exact_under_powers_of_two(denoiser.function, noisy)
        print(f"{arm}: f(a y + b) = a f(y) + b holds to rounding, bit for bit under powers of two")


def test_levels(options: Options) -> list[float]:
    """The levels of the sweep, a positive training level among them."""
    levels = options.test_sigmas_255 or PRESETS[options.preset].test_sigmas_255
    return sorted({*levels, *options.sigma_255} - {0.0})


def load_arms(options: Options) -> dict[str, Denoiser]:
    """The trained arms.

    Raises:
        ValueError: An arm has not reached its last step, so that the comparison would not be fair.
    """
    for arm, config in arm_configs(options).items():
        if not finished(options.workdir / arm, config):
            raise ValueError(
                f"{options.workdir / arm} is not trained to its end: --stage train --resume"
            )
    denoisers = {arm: Denoiser.load(options.workdir / arm) for arm in options.arms}
    for denoiser in denoisers.values():
        denoiser.function = Watched(denoiser.function)
    return denoisers


def evaluate(options: Options, denoisers: dict[str, Denoiser], images: list[NamedImage]) -> None:
    """Check the identities, then sweep; write psnr.csv and defect.csv."""
    preset, key = PRESETS[options.preset], jax.random.key(options.seed + 1)
    check_identities(denoisers, images[0], key)
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}

    levels = test_levels(options)
    records = psnr_sweep(functions, images, levels, key, repeats=preset.repeats)
    results.write_csv(records, options.workdir / "psnr.csv")
    defects = defect_sweep(functions, _crops(images[:4]), (levels[0], levels[-1]), key)
    results.write_csv(defects, options.workdir / "defect.csv")


def _crops(images: list[NamedImage], size: int = 128) -> list[NamedImage]:
    return [image._replace(pixels=image.pixels[:size, :size]) for image in images]


def report(
    options: Options,
    denoisers: dict[str, Denoiser],
    images: list[NamedImage],
    source: dict[str, Any],
) -> None:
    """Write the table and the figures from the CSVs, and say what they show."""
    workdir = options.workdir
    records, defects = (results.read_csv(workdir / f"{name}.csv") for name in ("psnr", "defect"))
    with_input = [r | {"model": "noisy input", "psnr": r["input_psnr"]} for r in records] + records
    trained = " to ".join(f"{sigma:g}" for sigma in options.sigma_255)
    sections = [f"# Trained at sigma {trained}, tested at all levels (8-bit units)"]
    if options.preset == "paper":
        sections.append("Baseline and wrapped arms differ in loss and schedule, as in the paper.")
    for name, rows in _by_set(with_input).items():
        table = results.pivot_table(rows, "psnr", rows="model", columns="sigma_255")
        sections += [f"## PSNR (dB), {name}", table]
    table = results.pivot_table(
        defects, "defect", rows="model", columns="sigma_255", form="{:.1e}".format
    )
    sections += ["## Normalization-equivariance defect (mean relative L2)", table]
    sections.append(results.footer(source))
    write_atomically(workdir / "table.md", "\n\n".join(sections) + "\n")

    for number, (name, rows) in enumerate(_by_set(records).items()):
        figure = plotting.sweep_curves(
            rows, train_sigma_255=options.sigma_255, title=f"{name}, trained at {trained}"
        )
        plotting.save(figure, workdir / ("psnr.png" if number == 0 else f"psnr-{name}.png"), source)
    plotting.save(_panel(options, denoisers, images[0]), workdir / "panel.png", source)
    print("\n" + _summary(options, records, defects))


def _by_set(records: list[dict]) -> dict[str, list[dict]]:
    """Records by test set, where image names say theirs."""
    sets: dict[str, list[dict]] = {}
    for record in records:
        folder, _, name = str(record["image"]).rpartition("/")
        sets.setdefault(folder if name and folder else "held-out images", []).append(record)
    return sets


def _panel(
    options: Options, denoisers: dict[str, Denoiser], image: NamedImage, size: int = 128
) -> Any:
    """Crops of one image, far below and far above the training level, as every arm sees them."""
    key = jax.random.key(options.seed + 1)
    height, width, _ = image.pixels.shape
    top, left = (height - size) // 6, (width - size) // 2
    window = np.s_[:, max(top, 0) :, max(left, 0) :]
    rows, labels = [], []
    for sigma in (test_levels(options)[0], test_levels(options)[-1]):
        noisy, clean = noisy_and_clean(image, sigma, key)
        shown = {"noisy": noisy} | {arm: d.function(noisy) for arm, d in denoisers.items()}
        crops = {name: x[window][:, :size, :size] for name, x in shown.items()}
        clean = clean[window][:, :size, :size]
        row = {"clean": clean}
        for name, crop in crops.items():
            estimate = crop if name == "noisy" else crop.clip(0, 1)
            row[f"{name}, {metrics.psnr(estimate, clean)[0]:.1f} dB"] = crop
        rows.append({caption: np.asarray(x[0]) for caption, x in row.items()})
        labels.append(f"sigma {sigma:g}")
    return plotting.image_panel(
        rows, row_labels=labels, title=f"{image.name}, trained at {options.sigma_255[0]:g}"
    )


def _summary(options: Options, records: list[dict], defects: list[dict]) -> str:
    """The result in words."""
    psnr = results.mean_over(records, "psnr", by=["model", "sigma_255"])
    defect = results.mean_over(defects, "defect", by=["model"])
    levels = sorted({record["sigma_255"] for record in records})
    shown = (levels[0], *options.sigma_255, levels[-1])
    ends = [level for level in dict.fromkeys(shown) if level in levels]
    first = options.arms[0]
    lines = [f"Mean PSNR on held-out images ({first} in dB, the others against it):"]
    for level in ends:
        gains = ", ".join(
            f"{arm} {psnr[arm, level] - psnr[first, level]:+.1f}" for arm in options.arms[1:]
        )
        lines.append(f"  sigma {level:>3g}: {first} {psnr[first, level]:.1f}  {gains}".rstrip())
    lines.append(
        "Equivariance defect: " + ", ".join(f"{arm} {defect[(arm,)]:.0e}" for arm in options.arms)
    )
    lines.append(f"Table, figures and records are in {options.workdir}/")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Train, evaluate, report."""
    training = options.stage in ("all", "train")
    if not training and not (options.workdir / "config.json").is_file():
        raise FileNotFoundError(f"{options.workdir} holds no run: --stage train makes one")
    configs = arm_configs(options)
    for config in configs.values():
        config.model.build()  # refused here, an option that the backbone lacks claims no folder
    with options.joined():
        images = test_images(options)
        corpus = None
        if training:
            corpus = load_corpus(next(iter(configs.values())), data_dir=options.data_dir)
        source = _cli.claim(options.workdir, options, resume=options.resume or not training)
        if corpus is not None:
            train(options, corpus)
    if options.stage == "train" or not is_lead():
        return
    denoisers = load_arms(options)
    with counted() as compilations:
        if options.stage in ("all", "eval"):
            evaluate(options, denoisers, images)
        if options.stage in ("all", "report"):
            report(options, denoisers, images, source)
    shapes = sum(len(denoiser.function.shapes) for denoiser in denoisers.values())
    print(f"denoising: {compilations['denoise']} compilations, {shapes} shapes of all arms")


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
