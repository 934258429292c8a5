"""Train denoisers at one noise level and test them at all others.

The arms differ only in the wrapper; backbone, loss, schedule, steps, seed, crops and noise are the same.
Saied & Fleuret (2026), Figures 3 and 4: the unwrapped network collapses above its training level and stalls
below it; the wrapped one does neither. One arm differs in more: `alias-free` is `wne` around a network with
other activations and padding, which also commutes with sub-pixel translations.

    python -m experiments.mismatch                                     # minutes on 2 cores
    WNE_DATA=... python -m experiments.mismatch --preset small         # BSD400; Set12 and BSD68
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.harness import (
    Arm,
    Compared,
    Folder,
    Wanted,
    earlier_records,
    find_or_train,
    results_folder,
    run,
    tables_of,
    together,
    without,
    write_table,
)
from experiments.harness.compilations import Watched, counted
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import INPUT, Record, mean_over, split_by
from wne_jax.evaluation.sweeps import noisy_and_clean, sweep
from wne_jax.evaluation.tables import View
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.training.config import Precision

VIEW = View(rows=("arm",), tables=("metric", "unit", "dataset"))

CROP = 128
"""Side of the crops for the defect and for the panel, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of the command line; defaults come from the preset."""

    NAME = "mismatch"

    arms: tuple[Arm, ...] = ("baseline", "wne", "wne-noise")
    precision: Precision = "float32"
    """Precision of convolutions; parameters stay float32."""

    @property
    def specs(self) -> tuple[str, ...]:
        """The given test sets, else all of the preset."""
        return self.test or self.sizes.test

    def sets(self) -> dict[str, list[NamedImage]]:
        """The test images, by the name of their set; with several sets, image names include it."""
        sets = super().sets()
        if len(sets) == 1:
            return sets
        return {
            name: [image._replace(name=f"{name}/{image.name}") for image in images]
            for name, images in sets.items()
        }

    def levels(self, trained: Sequence[float]) -> list[float]:
        """The levels of the sweep, including the positive training levels."""
        levels = self.test_sigmas_255 or self.sizes.test_sigmas_255
        return sorted({*levels, *trained} - {0.0})


def wanted(options: Options) -> Wanted[Arm]:
    """The training run of every arm."""
    changes = {"backbone": options.backbone, "precision": options.precision}
    return {arm: (arm, options.config(arm, options.trained, **changes)) for arm in options.arms}


def check_identities(denoisers: Mapping[Arm, Denoiser], image: NamedImage, key: jax.Array) -> None:
    """Assert f(a y + b) = a f(y) + b on a noisy crop, for every arm that claims it.

    Raises:
        AssertionError: A claim does not hold; nothing has been written yet.
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


def measure(
    options: Options, denoisers: Mapping[Arm, Denoiser], sets: Mapping[str, list[NamedImage]]
) -> list[Record]:
    """PSNR at all levels, and the defect at the lowest and highest level on crops of four images."""
    if not denoisers:
        return []
    key, levels = jax.random.key(options.seed + 1), options.levels(options.trained)
    first = next(iter(sets.values()))
    check_identities(denoisers, first[0], key)
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    common = {"experiment": options.NAME, "model": options.backbone, "trained": options.trained}
    records = []
    for name, images in sets.items():
        records += sweep(
            functions, images, levels, key, repeats=options.draws, dataset=name, **common
        )
    crops = [i._replace(pixels=i.pixels[:CROP, :CROP]) for i in first[:4]]
    ends = (levels[0], levels[-1])
    return records + sweep(
        functions, crops, ends, key, measures=("defect",), dataset=next(iter(sets)), **common
    )


def draw(options: Options, records: Sequence[Record], out: Folder) -> None:
    """Draw output over input PSNR, a figure for each test set."""
    psnr = [r for r in records if r.metric == "psnr"]
    for number, ((name,), rows) in enumerate(split_by(psnr, ["dataset"]).items()):
        figure = plotting.quality_curves(
            rows, trained=options.trained, arms=options.arms,
            title=f"{name}, trained at {options.at}",
        )  # fmt: skip
        path = out.path / ("psnr.png" if number == 0 else f"psnr-{name}.png")
        plotting.save(figure, path, out.source)


def _panel(options: Options, denoisers: Mapping[Arm, Denoiser], image: NamedImage) -> Figure:
    """Crops of one image, far below and far above the training level, denoised by every arm."""
    key = jax.random.key(options.seed + 1)
    height, width, _ = image.pixels.shape
    top, left = (height - CROP) // 6, (width - CROP) // 2
    window = np.s_[:, max(top, 0) :, max(left, 0) :]
    rows, labels, levels = [], [], options.levels(options.trained)
    for sigma in (levels[0], levels[-1]):
        noisy, clean = noisy_and_clean(image, sigma, key)
        shown = {"noisy": noisy} | {arm: d.function(noisy) for arm, d in denoisers.items()}
        crops = {name: x[window][:, :CROP, :CROP] for name, x in shown.items()}
        clean = clean[window][:, :CROP, :CROP]
        row = {"clean": clean}
        for name, crop in crops.items():
            estimate = crop if name == "noisy" else crop.clip(0, 1)
            row[f"{name}, {metrics.psnr(estimate, clean)[0]:.1f} dB"] = crop
        rows.append({caption: np.asarray(x[0]) for caption, x in row.items()})
        labels.append(f"sigma {sigma:g}")
    return plotting.image_panel(
        rows, row_labels=labels, title=f"{image.name}, trained at {options.at}"
    )


def main(options: Options) -> None:
    """Train, evaluate, report."""
    earlier, runs, sets = earlier_records(options), wanted(options), options.sets()
    missing = without(runs, {r.arm for r in earlier})
    with counted() as compilations:
        denoisers = find_or_train(options, missing)
    if options.stage == "all" and options.parallel != "pmap":  # pmap's function has another name
        print(f"training step: {compilations['train_step']} compilations, {len(missing)} arms")
    for denoiser in denoisers.values():
        denoiser.function = Watched(denoiser.function)
    with results_folder(options) as out, counted() as compilations:
        places = [
            Record(experiment=options.NAME, metric="psnr", unit="dB", dataset=name, arm=arm,
                   degradation="gaussian", model=options.backbone, trained=options.trained, level=level)
            for name in sets
            for arm in (INPUT, *options.arms)
            for level in options.levels(options.trained)
        ]  # fmt: skip
        records = together(places, earlier, measure(options, denoisers, sets))
        out.write(records)
        draw(options, [r for r in records if r.value is not None], out)
        if denoisers.keys() == runs.keys():  # else keep an earlier panel
            panel = _panel(options, denoisers, next(iter(sets.values()))[0])
            plotting.save(panel, out.path / "panel.png", out.source)
        title = f"Trained at sigma {options.at}, tested at all levels (8-bit units)"
        configs = dict(runs.values())
        write_table(out, title, tables_of(records, VIEW), configs)
    shapes = sum(len(denoiser.function.shapes) for denoiser in denoisers.values())
    print(f"denoising: {compilations['denoise']} compilations, {shapes} shapes of all arms")
    print("\n" + _summary(options, records))


def _summary(options: Options, records: Sequence[Record]) -> str:
    """A summary of the results."""
    means = mean_over(records, by=["metric", "arm", "level"])
    defects = mean_over([r for r in records if r.metric == "defect"], by=["arm"])
    levels = options.levels(options.trained)
    first, *others = [arm for arm in options.arms if ("psnr", arm, levels[0]) in means]
    lines = [f"Mean PSNR on held-out images ({first} in dB, the others against it):"]
    for level in dict.fromkeys((levels[0], *sorted({*options.trained} & {*levels}), levels[-1])):
        gains = ", ".join(
            f"{arm} {means['psnr', arm, level] - means['psnr', first, level]:+.1f}"
            for arm in others
        )
        lines.append(
            f"  sigma {level:>3g}: {first} {means['psnr', first, level]:.1f}  {gains}".rstrip()
        )
    lines.append(
        "Equivariance defect: " + ", ".join(f"{arm} {v:.0e}" for (arm,), v in defects.items())
    )
    lines.append(f"Table, figures and records are in {options.folder}/")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options, __doc__)
