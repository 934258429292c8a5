r"""What the way back is for: a network whose input alone is normalized, $g(T(y))$.

Saied & Fleuret (2026), Figures 18 and 19. Its output cannot follow contrast and brightness: it is the same
for y and a y + b, so that the network has to guess mean and standard deviation of the clean image from the
texture of T(y). What that costs is read off the mean squared error of an estimate f of x, which is, exactly,

    (mean f - mean x)^2 + (std f - std x)^2 + 2 std f std x (1 - r),

brightness, contrast, and structure, with r their correlation. Each is given as the PSNR that an estimate with
that error alone would have. Were it one wrong brightness and contrast for an image, structure would stay that
of the wrapped network. But a convolutional network guesses place by place, from what its receptive field
sees: where structure falls, too, the guess is uneven over the image.

    python -m experiments.input_only
    WNE_DATA=... python -m experiments.input_only --preset small --runs experiments/results/trained
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments import _cli, _comparison, _sweeps
from experiments._arms import Arm
from wne_jax.data import NamedImage
from wne_jax.evaluation import plotting
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import noisy_and_clean, quality_sweep
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser

ARMS: tuple[Arm, ...] = ("baseline", "wne", "input-only")


@dataclass(frozen=True)
class Options(_sweeps.Sweep):
    """Options of the command line."""

    level_255: float = 10.0
    """Training noise level in 8-bit units."""
    workdir: Path = Path("runs/input_only")
    """Folder for everything that is written."""


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Mean and standard deviation `[B]`, and what is left of the mean, `[B, H, W, C]`."""
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean.ravel(), jnp.std(x, axis=(1, 2, 3)), x - mean


def brightness_error(estimate: Array, clean: Array) -> Array:
    """(mean f - mean x)^2, the part of the mean squared error that an offset would mend, `[B]`."""
    return jnp.square(_moments(estimate)[0] - _moments(clean)[0])


def contrast_error(estimate: Array, clean: Array) -> Array:
    """(std f - std x)^2, `[B]`."""
    return jnp.square(_moments(estimate)[1] - _moments(clean)[1])


def structure_error(estimate: Array, clean: Array) -> Array:
    """2 std f std x (1 - r): what is left at the right brightness and contrast, `[B]`."""
    (_, std_f, f), (_, std_x, x) = _moments(estimate), _moments(clean)
    return 2 * (std_f * std_x - jnp.mean(f * x, axis=(1, 2, 3)))


def gain(estimate: Array, clean: Array) -> Array:
    """Contrast of the output over that of the clean image, std f / std x, `[B]`."""
    return _moments(estimate)[1] / _moments(clean)[1]


ERRORS = {
    "brightness": brightness_error,
    "contrast": contrast_error,
    "structure": structure_error,
}


_EXACT = ("wne: brightness", "wne: contrast")
"""Parts that are in the table alone: far above the others, they would press these together."""


def in_decibels(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of the error as PSNR: a record for each model, level and part.

    Squared errors are averaged over the images first: a part may be 0 in one of them.
    """
    return [
        {"model": f"{model}: {part}", "sigma_255": sigma, "psnr": -10 * np.log10(max(error, 1e-12))}
        for part in ERRORS
        for (model, sigma), error in results.mean_over(
            records, part, by=["model", "sigma_255"]
        ).items()
        if model != "baseline"
    ]


def main(options: Options) -> None:
    """Train what is missing, sweep, compare, draw."""
    sets, key = options.sets(), jax.random.key(options.seed + 1)
    level, levels = options.level_255, options.levels(options.level_255)
    wanted = {arm: (arm, options.config(arm, level)) for arm in ARMS}
    denoisers, source = _sweeps.trained(options, wanted, options.workdir)
    figures = [f"{kind}-*.png" for kind in ("psnr", "errors", "gain", "panel")]
    _comparison.clear(options.workdir, "quality.csv", *figures)
    functions = {arm: denoiser.function for arm, denoiser in denoisers.items()}
    measures = {"psnr": metrics.psnr, **ERRORS, "gain": gain}

    cells: list[_comparison.Cell] = []
    records: list[dict[str, Any]] = []
    for name, images in sets.items():
        swept = []
        if functions:
            swept = quality_sweep(
                functions, images, levels, key, measures=measures, repeats=options.sizes.repeats
            )
            _draw(options, name, swept, source)
            panel = _panel(options, denoisers, images[0])
            plotting.save(panel, options.workdir / f"panel-{name}.png", source)
        cells += compare(options, swept, name)
        records += [{"set": name} | record for record in swept]
    if records:
        results.write_csv(records, options.workdir / "quality.csv")
    _comparison.write(cells, options.workdir)
    _sweeps.write_table(
        options.workdir,
        f"Input-only normalization, trained at {level:g} (columns: test levels, in 8-bit units)",
        _comparison.tables(cells) | _sweeps.notes(cells),
        {arm: config for arm, (_, config) in wanted.items()},
        source,
    )
    print("\n" + _summary(options, records))


def compare(options: Options, records: list[dict[str, Any]], name: str) -> list[_comparison.Cell]:
    """PSNR beside the published one, then its parts and the gain of contrast."""
    level, where = options.level_255, f"{name}, trained at {options.level_255:g}"
    curve = _sweeps.published_curve(f"dncnn_sigma{level:g}_in", name)
    shown = {"levels": options.shown(level)}
    parts = [f"{arm}: {part}" for part in ERRORS for arm in ("wne", "input-only")]
    return [
        *_sweeps.level_cells(
            f"PSNR (dB), {where}", records, "psnr", arms=ARMS, published=curve, **shown
        ),
        *_sweeps.level_cells(
            f"PSNR (dB) that each part of the error alone would leave, {where}",
            in_decibels(records),
            "psnr",
            arms=parts,
            **shown,
        ),
        *_sweeps.level_cells(
            f"Contrast of the output over that of the clean image, {where}",
            records,
            "gain",
            arms=ARMS,
            **shown,
        ),
    ]


def _draw(
    options: Options, name: str, records: list[dict[str, Any]], source: dict[str, Any]
) -> None:
    """PSNR over the published curves, the parts of the error, and the gain of contrast."""
    trained, title = (options.level_255,), f"{name}, trained at {options.level_255:g}"
    curve = _sweeps.published_curve(f"dncnn_sigma{options.level_255:g}_in", name)
    figures = {
        "psnr": plotting.sweep_curves(
            records, train_sigma_255=trained, published=curve, title=title
        ),
        "errors": plotting.level_curves(
            [r for r in in_decibels(records) if r["model"] not in _EXACT],
            "psnr",
            label="PSNR (dB) with this part of the error alone",
            train_sigma_255=trained,
            title=title,
        ),
        "gain": plotting.level_curves(
            records,
            "gain",
            label="std of the output / std of the clean image",
            train_sigma_255=trained,
            title=title,
        ),
    }
    for kind, figure in figures.items():
        plotting.save(figure, options.workdir / f"{kind}-{name}.png", source)


def _panel(
    options: Options, denoisers: dict[str, Denoiser], image: NamedImage, size: int = 128
) -> Figure:
    """One image at the ends of the sweep, and at the training level as it is and halved, noise and all."""
    key = jax.random.key(options.seed + 1)
    levels, trained = options.levels(options.level_255), options.level_255
    rows, labels = [], []
    for sigma, a in ((levels[0], 1.0), (trained, 1.0), (trained, 0.5), (levels[-1], 1.0)):
        noisy, clean = (a * x for x in noisy_and_clean(image, sigma, key))
        shown = {"clean": clean, "noisy": noisy}
        for arm, denoiser in denoisers.items():
            estimate = denoiser.function(noisy)
            psnr = metrics.psnr(estimate.clip(0, 1), clean)[0]
            shown[f"{arm}, {psnr:.1f} dB"] = estimate
        rows.append({caption: _window(x, size) for caption, x in shown.items()})
        labels.append(f"sigma {sigma:g}" + (f", times {a:g}" if a != 1 else ""))
    return plotting.image_panel(
        rows, row_labels=labels, title=f"{image.name}, trained at {trained:g}"
    )


def _window(x: Array, size: int) -> np.ndarray:
    """The central square of the first image of a batch."""
    height, width = x.shape[1:3]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return np.asarray(x[0, top : top + size, left : left + size])


def _summary(options: Options, records: list[dict[str, Any]]) -> str:
    """The result in words: PSNR at three levels, and what the error is made of at the training level."""
    lines = [
        f"Trained at {options.level_255:g}, mean PSNR ({ARMS[0]} in dB, the others against it):"
    ]
    psnr = results.mean_over(records, "psnr", by=["sigma_255", "model"])
    levels = options.levels(options.level_255)
    for level in dict.fromkeys((levels[0], options.level_255, levels[-1])):
        values = {arm: psnr.get((level, arm), "") for arm in ARMS}
        lines.append(f"  sigma {level:g}: {_sweeps.against_first(values)}")
    at_training = [r for r in records if r["sigma_255"] == options.level_255]
    for arm in ("wne", "input-only"):
        of_arm = [r for r in at_training if r["model"] == arm]
        if of_arm:
            parts = {part: np.mean([r[part] for r in of_arm]) for part in ERRORS}
            shares = [f"{part} {100 * v / sum(parts.values()):.0f} %" for part, v in parts.items()]
            lines.append(f"  Squared error of {arm} at {options.level_255:g}: {', '.join(shares)}")
    lines.append(f"Tables, figures and records are in {options.workdir}/")
    return "\n".join(lines)


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
