"""Tables and figure of `experiments.translation`, with the published figures beside ours."""

from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import records as results
from wne_jax.layers import PRESETS
from wne_jax.symmetry.translation import shift_equivariant, translation_equivariant

Records = list[dict[str, Any]]

PUBLISHED = {
    "BatchNorm": (9.23e-09, 1.28e-06),
    "InstanceNorm": (9.58e-09, 7.13e-06),
    "LayerNorm-CHW": (4.97e-01, 4.97e-01),
    "LayerNorm-C": (4.66e-09, 2.44e-03),
    "LayerNorm-AF": (9.17e-09, 8.08e-07),
}
"""Errors of Scanvic et al. under shifts and translations: means over maps, initializations and modes."""

PUBLISHED_MODES = {"training": (9.51e-09, 2.55e-06), "evaluation": (8.95e-09, 9.69e-09)}
"""Their errors of BatchNorm, by mode."""

PUBLISHED_THEOREM = {
    "BatchNorm": "translations",
    "InstanceNorm": "translations",
    "LayerNorm-CHW": "neither",
    "LayerNorm-C": "shifts only",
    "LayerNorm-AF": "translations",
}
"""What their table 1 says that each layer commutes with."""

BROKEN = 1e-4
"""Mean errors above this are no rounding."""


def report(
    workdir: Path, setting: str, sizes: dict[str, str], raw: Records, clean: Records, source: Any
) -> str:
    """Write the tables to tables.md.

    Args:
        workdir: Folder of the experiment.
        setting: Network, images and precision, in words.
        sizes: Of the feature maps, by name.
        raw: Records of the maps as they are.
        clean: Records of the maps without Nyquist bins.
        source: The provenance.

    Returns:
        The main table, and whether theorem and measurement agree.
    """
    judgement, conclusion = _judgement(clean)
    errors = _error_table("layer", PUBLISHED, raw, clean)
    sections = [
        "# Normalization layers under shifts and translations",
        f"Inputs of the {len(sizes)} normalization layers of {setting}. Published: Scanvic et al. 2025, a "
        "ResNet-18 trained on ImageNet, its validation images.",
        "## Table 1: the theorem",
        _theorem_table(),
        "## Table 2: errors, 1 - cosine similarity (mean ± standard error)",
        "Means over feature maps, images, initializations (1, 0 and Gaussian) and modes. In the published "
        "figures rounding shows at about 1e-8, as where a cosine is subtracted from one; ours are half "
        "the squared distance of unit vectors, the same quantity, which keeps its digits.",
        errors,
        "## Table 3: BatchNorm by mode",
        _error_table("mode", PUBLISHED_MODES, raw, clean),
        "## What the Nyquist bins of even sizes contribute",
        "Mean translation error by the size of the map, Gaussian parameters, maps as they are and with the "
        "Nyquist bins zeroed first. Odd sizes have none. A real translation damps these bins, so that not "
        "even the deviation of a whole map stays the same; BatchNorm in evaluation divides by constants, "
        "and does not mind.",
        _nyquist_table(sizes, raw, clean),
        "## Theorem and measurement",
        "Means over feature maps with Gaussian parameters, Nyquist bins zeroed first.",
        judgement,
        conclusion,
        results.footer(source),
    ]
    write_atomically(workdir / "tables.md", "\n\n".join(sections) + "\n")
    return f"{errors}\n\n{judgement}\n\n{conclusion}"


def _theorem_table() -> str:
    rows = []
    for name, preset in PRESETS.items():
        layer = preset()
        ours = "translations" if translation_equivariant(layer) else "shifts only"
        if not shift_equivariant(layer):
            ours = "neither"
        sets = [layer.centring, layer.scaling, layer.affine or "none"]
        verdict = translation_equivariant(layer).why
        rows.append([name, *sets, ours, PUBLISHED_THEOREM[name], verdict])
    header = ["layer", "centring", "scaling", "affine", "commutes with", "published", "because"]
    return results.markdown_table(header, rows)


def _error_table(
    column: str,
    published: dict[str, tuple[float, float]],
    raw: Records,
    clean: Records,
) -> str:
    """Errors by a column, each beside the published one, and without Nyquist bins."""
    rows = []
    for name, figures in published.items():
        row = [name]
        for transformation, figure in zip(("shift", "translation"), figures):
            chosen = {column: name, "transformation": transformation}
            row += [_mean(raw, **chosen), f"{figure:.2e}"]
        rows.append([*row, _mean(clean, **chosen)])
    header = [
        *(column, "shifts", "published", "translations", "published"),
        "translations, Nyquist bins zeroed",
    ]
    return results.markdown_table(header, rows)


def _nyquist_table(sizes: dict[str, str], raw: Records, clean: Records) -> str:
    chosen = {"init": "gaussian", "transformation": "translation"}
    by_size = [
        [
            [r for r in records if sizes[r["feature_map"]] == size]
            for size in dict.fromkeys(sizes.values())
        ]
        for records in (raw, clean)
    ]
    rows = []
    for name in PRESETS:
        for mode in ("training", "evaluation") if name == "BatchNorm" else ("",):
            for words, parts in zip(("as they are", "zeroed"), by_size):
                label = f"{name} ({mode})" if mode else name
                cells = [_mean(part, layer=name, mode=mode, **chosen) for part in parts]
                rows.append([label, words, *cells])
    return results.markdown_table(["layer", "Nyquist bins", *dict.fromkeys(sizes.values())], rows)


def _judgement(clean: Records) -> tuple[str, str]:
    """A table of predicted and measured, and the conclusion in words."""
    rows, disagree = [], []
    for name, preset in PRESETS.items():
        for transformation, decide in (
            ("shift", shift_equivariant),
            ("translation", translation_equivariant),
        ):
            predicted = decide(preset()).holds
            chosen = {"layer": name, "init": "gaussian", "transformation": transformation}
            error = np.mean(_select(clean, **chosen))
            measured = bool(error < BROKEN)
            if predicted != measured:
                disagree.append(f"{name} under {transformation}s")
            yes_no = ["commutes" if holds else "does not" for holds in (predicted, measured)]
            rows.append([name, transformation, yes_no[0], f"{error:.1e}", yes_no[1]])
    table = results.markdown_table(
        ["layer", "transformation", "theorem", "error", f"measured (error below {BROKEN:g})"], rows
    )
    if disagree:
        return table, f"THEOREM AND MEASUREMENT DISAGREE on {', '.join(disagree)}."
    return table, "Theorem and measurement agree on all of them."


def _select(records: Records, **wanted: str) -> list[float]:
    return [r["error"] for r in records if all(r[name] == v for name, v in wanted.items())]


def _mean(records: Records, **wanted: str) -> str:
    """Mean and standard error of the records that are wanted."""
    values = np.array(_select(records, **wanted))
    return f"{values.mean():.1e} ± {values.std(ddof=1) / np.sqrt(values.size):.0e}"
