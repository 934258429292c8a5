"""What the report says about each experiment: the paper's tables and figures in order, then ours.

An experiment that is not listed is shown, too: its title is the first line of its module's docstring, and its
command is that of its run.
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
        name: Its module in `experiments`, and its folder.
        title: What it is about.
        paper: Its tables and figures in Saied & Fleuret (2026); empty for what is beyond the paper.
        asks: What it asks, and what to look at.
        command: What makes it.
        trained: Whether its preset says what networks were trained.
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
        "Tested at the noise level that it was trained for, does the wrapper cost anything? In each "
        "column, look at how far the equivariant rows lie from the baseline: tenths of a dB at most.",
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
        "The relative error of f(a y + b) = a f(y) + b. Training on many levels, or on changed contrast, "
        "makes it smaller; only the wrapper makes it rounding. Look at the orders of magnitude.",
        _small("defects"),
    ),
    Section(
        "input_only",
        "Normalizing the input alone",
        "Figures 18 and 19",
        "Is it the normalized input that helps, or the way back? Without the way back the network has to "
        "guess brightness and contrast. Look at its distance from the wrapped one at every level.",
        _small("input_only"),
    ),
    Section(
        "filters",
        "Adaptive filters",
        "Figure 5",
        "An equivariant f is a weighted mean of pixels, f(y) = J(y) y, with weights that adapt to the "
        "image and sum to one. Look at rows of J as images, at their sums, and at the error of the "
        "identity.",
        _small("filters"),
    ),
    Section(
        "difficulty",
        "Why it works: difficulty in normalized coordinates",
        "Table 3, Figures 6, 7 and 11",
        "The backbone sees images of one contrast, in which noise levels overlap. Coverage is the share "
        "of test patches as difficult as those of training: look at the corners. It needs no trained "
        "network.",
        _small("difficulty"),
    ),
    Section(
        "non_gaussian",
        "Noise that is not Gaussian",
        "Figures 20 and 21",
        "Uniform, Laplace and Rayleigh noise, and JPEG. Nothing in the symmetry is about Gaussian noise: "
        "look at whether the curves keep the shape that they have under it.",
        _small("non_gaussian"),
    ),
    Section(
        "noise2noise",
        "Noise2Noise, and denoisers used as priors",
        "Tables 11 and 12, appendix N",
        "Trained without clean images at one level, then used again and again while the noise falls. Look"
        " at where the iteration ends: the baseline leaves its training level and loses what it had.",
        _small("noise2noise"),
    ),
    Section(
        "overhead",
        "What it costs",
        "Tables 2, 5 and 6",
        "Time of a batch relative to the unwrapped network: 1 is free. Look at training and inference, "
        "and at the equivariant architecture for comparison.",
        "python -m experiments.overhead",
        trained=False,
    ),
    Section(
        "sidd",
        "Noise of real cameras",
        "Table 10",
        "Smartphone photographs with a measured truth: the noise is neither Gaussian nor of one level. "
        "Look at the difference between the rows.",
        "WNE_DATA=... python -m experiments.sidd --blocks SIDD --preset paper",
    ),
    Section(
        "regret",
        "Which statistics?",
        "",
        "Every location and scale that follow the image give the same symmetry; the paper takes mean and "
        "standard deviation. Regret is what a specialist, trained for the level, does better: look at the"
        " worst level of each statistic.",
        "python -m experiments.regret",
    ),
    Section(
        "frozen",
        "Other people's networks, frozen",
        "",
        "One published network for one noise level, wrapped without training. Look at the levels far from"
        " its own.",
        "WNE_DATA=... python -m experiments.frozen --weights FILE --test folder:Set12",
        trained=False,
    ),
    Section(
        "translation",
        "Shifts and translations of normalization layers",
        "",
        "Which normalization layers commute with moving the image: the theorem of Scanvic et al. (2025) "
        "beside measurement. Look at where both say no.",
        "python -m experiments.translation",
        trained=False,
    ),
    Section(
        "aliasing",
        "Where denoisers lose translations",
        "",
        "Every step of every backbone by itself, before and after a move of the image. Look for the steps"
        " that lose it, and at what circular padding changes.",
        "python -m experiments.aliasing",
        trained=False,
    ),
    Section(
        "mismatch",
        "One training level, all test levels, by one command",
        "",
        "The README's first command. Look at the two ends of the curves, and at what the noise level does"
        " in place of the standard deviation.",
        "python -m experiments.mismatch",
    ),
    Section(
        "large_images",
        "Images larger than memory",
        "",
        "From file to file. Seconds a megapixel and peak memory should not grow with the image.",
        "python -m experiments.large_images",
        trained=False,
    ),
    Section(
        "throughput",
        "Throughput",
        "",
        "Training and inference of all backbones beside PyTorch on the same machine. Look at the time "
        "ratios, and at the goals.",
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
    """The runs of each section: those in its folder, then others by its command; the rest at the end."""
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
    """The section of an experiment that is not in `SECTIONS`, from its module where there is one."""
    path = Path(__file__).parents[1] / f"{name}.py"
    words = ast.get_docstring(ast.parse(path.read_text())) if path.is_file() else None
    title = (words or name.replace("_", " ").capitalize()).partition("\n")[0].rstrip(".")
    return Section(name, title, "", "", run.source["command"])
