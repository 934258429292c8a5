"""The sections of the report: the paper's tables and figures in order, then ours.

Experiments that are not listed are shown, too: the title is the first line of the module's docstring, and the
command is that of the run.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.report.gather import Run


@dataclass(frozen=True)
class Section:
    """One experiment in the report.

    Attributes:
        name: Name of its module in `experiments` and of its folder.
        title: Title of the section.
        paper: Its tables and figures in Saied & Fleuret (2026); empty if it is not in the paper.
        asks: The question, and what to look at.
        command: The command that runs it.
        trained: Whether its preset determines the trained networks.
    """

    name: str
    title: str
    paper: str
    asks: str
    command: str
    trained: bool = True


def _small(name: str) -> str:
    return f"WNE_DATA=... python -m experiments.{name} --preset small"


SECTIONS: tuple[Section, ...] = (
    Section(
        "matched",
        "Matched noise",
        "Tables 1, 7, 8 and 9",
        "Does the wrapper reduce PSNR at the training noise level? In each column, compare the "
        "equivariant rows with the baseline: they differ by tenths of a dB at most.",
        _small("matched") + " --tables 1 7",
    ),
    Section(
        "robustness",
        "Away from the training level",
        "Figures 3, 4, 10 and 12 to 16",
        "Trained at one noise level and tested at all others. The baseline collapses above its training "
        "level and stalls below it; the equivariant networks follow the noise. Look at both ends of the "
        "curves.",
        _small("robustness"),
    ),
    Section(
        "defects",
        "How equivariant is it?",
        "Figures 8 and 9",
        "The relative error of f(a y + b) = a f(y) + b. Training on many levels, or on random contrast, "
        "reduces it; only the wrapper reduces it to rounding. Look at the orders of magnitude.",
        _small("defects"),
    ),
    Section(
        "input_only",
        "Normalizing only the input",
        "Figures 18 and 19",
        "Is the normalized input enough, or is denormalization needed? Without it, the network has to "
        "guess brightness and contrast. Look at the gap to the wrapped network at every level.",
        _small("input_only"),
    ),
    Section(
        "filters",
        "Adaptive filters",
        "Figure 5",
        "An equivariant f is a weighted mean of pixels, f(y) = J(y) y, with weights that adapt to the "
        "image and sum to one. Look at the rows of J as images, at their sums, and at the error of the "
        "identity.",
        _small("filters"),
    ),
    Section(
        "difficulty",
        "Why it works: difficulty in normalized coordinates",
        "Table 3, Figures 6, 7 and 11",
        "The backbone sees images of one contrast, in which noise levels overlap. Coverage is the share "
        "of test patches whose difficulty occurs in training: look at the corners. It needs no trained "
        "network.",
        _small("difficulty"),
    ),
    Section(
        "non_gaussian",
        "Noise that is not Gaussian",
        "Figures 20 and 21",
        "Uniform, Laplace and Rayleigh noise, and JPEG. The symmetry does not assume Gaussian noise: "
        "check whether the curves have the same shape as with Gaussian noise.",
        _small("non_gaussian"),
    ),
    Section(
        "noise2noise",
        "Noise2Noise, and denoisers used as priors",
        "Tables 11 and 12, appendix N",
        "Networks are trained without clean images at one level, then iterated while the noise level "
        "decreases. Look at the end of the iteration: below its training level, the baseline gets worse.",
        _small("noise2noise"),
    ),
    Section(
        "overhead",
        "Computational cost",
        "Tables 2, 5 and 6",
        "Time per batch relative to the unwrapped network: 1 means no cost. Look at training and "
        "inference, and compare with the equivariant architecture.",
        "python -m experiments.overhead",
        trained=False,
    ),
    Section(
        "sidd",
        "Noise of real cameras",
        "Table 10",
        "Smartphone photographs with a measured clean image: the noise is neither Gaussian nor of one "
        "level. Look at the difference between the rows.",
        "WNE_DATA=... python -m experiments.sidd --blocks SIDD --preset paper",
    ),
    Section(
        "regret",
        "Which statistic?",
        "",
        "Every equivariant location and scale give the same symmetry; the paper uses mean and standard "
        "deviation. Regret is the PSNR gap to a specialist trained at the test level: look at the worst "
        "level of each statistic.",
        "python -m experiments.regret",
    ),
    Section(
        "frozen",
        "Published networks, without training",
        "",
        "A published network of one noise level, wrapped without training. Look at the levels far from "
        "its training level.",
        "WNE_DATA=... python -m experiments.frozen --weights FILE --test folder:Set12",
        trained=False,
    ),
    Section(
        "translation",
        "Shifts and translations of normalization layers",
        "",
        "Which normalization layers commute with shifts of the image: the theorem of Scanvic et al. "
        "(2025) compared with measurements. Look at the layers that do not commute.",
        "python -m experiments.translation",
        trained=False,
    ),
    Section(
        "aliasing",
        "Where denoisers lose translations",
        "",
        "Each step of each backbone is tested separately with shifted images. Look at the steps that do "
        "not commute, and at the effect of circular padding.",
        "python -m experiments.aliasing",
        trained=False,
    ),
    Section(
        "mismatch",
        "One training level, all test levels, by one command",
        "",
        "The first command of the README. Look at both ends of the curves, and at the effect of the "
        "noise level as statistic instead of the standard deviation.",
        "python -m experiments.mismatch",
    ),
    Section(
        "series",
        "Forecasts in any units",
        "",
        "WNE over time is instance normalization without an epsilon. Look at small scales, where RevIN "
        "breaks.",
        "python -m experiments.series",
        trained=False,
    ),
    Section(
        "fields",
        "Surrogates of two equations",
        "",
        "Which wrapper fits an equation: scale and offset for the heat equation, Galilean boosts for "
        "Burgers' equation. Look at offsets outside of the training range.",
        "python -m experiments.fields",
        trained=False,
    ),
    Section(
        "large_images",
        "Images larger than memory",
        "",
        "Files are denoised to files. Time per megapixel and peak memory should not grow with the image.",
        "python -m experiments.large_images",
        trained=False,
    ),
    Section(
        "throughput",
        "Throughput",
        "",
        "Training and inference of all backbones, compared with PyTorch on the same machine. Look at the "
        "time ratios and the goals.",
        "python -m experiments.throughput",
        trained=False,
    ),
    Section(
        "precision",
        "Training in bfloat16",
        "",
        "The same networks trained in float32 and in bfloat16. Look at the differences between the "
        "two tables.",
        "python -m experiments.mismatch --arms baseline wne-noise --precision bfloat16 --workdir "
        "runs/precision/bfloat16",
    ),
)  # fmt: skip


def assign(runs: Sequence[Run]) -> list[tuple[Section, list[Run]]]:
    """The runs of each section: those in its folder, then others by command; remaining runs come last."""
    names = {section.name for section in SECTIONS}
    places: dict[str, list[Run]] = {name: [] for name in names}
    others: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.folder.name not in names):
        inside = [p for p in (run.folder.name, run.folder.parent.name, run.module) if p in names]
        if inside:
            places[inside[0]].append(run)
        elif not run.empty:
            others.setdefault(run.module, []).append(run)
    known = [(section, places[section.name]) for section in SECTIONS]
    return known + [(unlisted(name, of[0]), of) for name, of in others.items()]


def unlisted(name: str, run: Run) -> Section:
    """The section of an experiment that is not in `SECTIONS`, from its module if there is one."""
    path = Path(__file__).parents[1] / f"{name}.py"
    words = ast.get_docstring(ast.parse(path.read_text())) if path.is_file() else None
    title = (words or name.replace("_", " ").capitalize()).partition("\n")[0].rstrip(".")
    return Section(name, title, "", "", run.source["command"])
