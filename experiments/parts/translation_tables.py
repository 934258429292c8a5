"""Tables of `experiments.translation`, with the published figures."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from wne_jax.evaluation.records import Record
from wne_jax.evaluation.tables import markdown_table
from wne_jax.layers import PRESETS
from wne_jax.symmetry.translation import shift_equivariant, translation_equivariant

MOVES = ("shift", "translation")
METRIC = "cosine_error"
KEPT, ZEROED = "kept", "zeroed"
"""Values of the setting `nyquist_bins`: whether a map's Nyquist bins are kept."""

PUBLISHED = {
    ("BatchNorm", "training"): (9.51e-09, 2.55e-06),
    ("BatchNorm", "evaluation"): (8.95e-09, 9.69e-09),
    ("InstanceNorm", None): (9.58e-09, 7.13e-06),
    ("LayerNorm-CHW", None): (4.97e-01, 4.97e-01),
    ("LayerNorm-C", None): (4.66e-09, 2.44e-03),
    ("LayerNorm-AF", None): (9.17e-09, 8.08e-07),
}
"""Errors of Scanvic et al. under shifts and translations, by layer and mode: means over maps and
initializations."""

PUBLISHED_THEOREM = {
    "BatchNorm": "translations",
    "InstanceNorm": "translations",
    "LayerNorm-CHW": "neither",
    "LayerNorm-C": "shifts only",
    "LayerNorm-AF": "translations",
}
"""The equivariance of each layer according to their table 1."""

BROKEN = 1e-4
"""Mean errors above this are not rounding errors."""


def published() -> list[Record]:
    """The published errors, for unchanged maps."""
    return [
        Record(
            experiment="translation", metric=METRIC, arm=layer, published=figure,
            settings={"mode": mode, "transformation": move, "nyquist_bins": KEPT},
        )
        for (layer, mode), figures in PUBLISHED.items()
        for move, figure in zip(MOVES, figures)
    ]  # fmt: skip


def tables(records: Sequence[Record], setting: str) -> tuple[str, str]:
    """All tables as Markdown.

    Args:
        records: Records of the experiment.
        setting: Network, images and precision, as text.

    Returns:
        The whole text; and the main table, with a sentence on whether theorem and measurement agree.
    """
    found = [r for r in records if r.metric == METRIC]
    judgement, conclusion = _judgement(found)
    errors = _error_table("layer", "arm", found)
    by_mode = _error_table("mode", "mode", [r for r in found if r["mode"]])
    number = len({r["feature_map"] for r in found} - {None})
    sections = [
        "# Normalization layers under shifts and translations",
        f"Inputs of the {number} normalization layers of {setting}. Published: Scanvic et al. 2025, a "
        "ResNet-18 trained on ImageNet, its validation images.",
        "## Table 1: the theorem",
        _theorem_table(),
        "## Table 2: errors, 1 - cosine similarity (mean ± standard error)",
        "Means over feature maps, images, initializations (1, 0 and Gaussian) and modes; the standard error "
        "is that of the means of the feature maps. The published figures have rounding errors of about 1e-8, "
        "as from subtracting a cosine from one; ours are half the squared distance of unit vectors, the same "
        "quantity without cancellation.",
        errors,
        "## Table 3: BatchNorm by mode",
        by_mode,
        "## Effect of the Nyquist bins of even sizes",
        "Mean translation error by the size of the map, with Gaussian parameters, for unchanged maps and for "
        "maps with the Nyquist bins zeroed first. Odd sizes have no Nyquist bins. A real translation damps "
        "these bins, which changes even the standard deviation of a whole map. In evaluation, BatchNorm "
        "divides by constants, which no translation changes.",
        _nyquist_table(found),
        "## Theorem and measurement",
        "Means over feature maps with Gaussian parameters, Nyquist bins zeroed first.",
        judgement,
        conclusion,
    ]
    return "\n\n".join(sections), f"{errors}\n\n{judgement}\n\n{conclusion}"


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
    return markdown_table(header, rows)


def _error_table(name: str, column: str, records: Sequence[Record]) -> str:
    """Errors by a column with the published ones, with and without Nyquist bins."""
    rows = []
    for value in dict.fromkeys(r[column] for r in records):
        row = [value]
        for move in MOVES:
            chosen = {column: value, "transformation": move}
            figures = [r.published for r in _select(records, **chosen) if r.published is not None]
            ours = _mean(records, nyquist_bins=KEPT, **chosen)
            row += [ours, f"{np.mean(figures):.2e}"]
        rows.append([*row, _mean(records, nyquist_bins=ZEROED, **chosen)])
    header = [
        *(name, "shifts", "published", "translations", "published"),
        "translations, Nyquist bins zeroed",
    ]
    return markdown_table(header, rows)


def _nyquist_table(records: Sequence[Record]) -> str:
    chosen = {"init": "gaussian", "transformation": "translation"}
    sizes = list(dict.fromkeys(r["size"] for r in records if r["size"]))
    rows = []
    for name, mode in PUBLISHED:
        for words, bins in (("as they are", KEPT), ("zeroed", ZEROED)):
            of_layer = _select(records, arm=name, mode=mode, nyquist_bins=bins, **chosen)
            cells = [_mean(of_layer, size=size) for size in sizes]
            rows.append([f"{name} ({mode})" if mode else name, words, *cells])
    return markdown_table(["layer", "Nyquist bins", *sizes], rows)


def _judgement(records: Sequence[Record]) -> tuple[str, str]:
    """A table of predicted and measured equivariance, and the conclusion as a sentence."""
    rows, disagree = [], []
    for name, preset in PRESETS.items():
        for transformation, decide in (
            ("shift", shift_equivariant),
            ("translation", translation_equivariant),
        ):
            predicted = decide(preset()).holds
            chosen = {"arm": name, "init": "gaussian", "nyquist_bins": ZEROED}
            found = _select(records, transformation=transformation, **chosen)
            error = np.mean([r.value for r in found])
            measured = bool(error < BROKEN)
            if predicted != measured:
                disagree.append(f"{name} under {transformation}s")
            yes_no = ["commutes" if holds else "does not" for holds in (predicted, measured)]
            rows.append([name, transformation, yes_no[0], f"{error:.1e}", yes_no[1]])
    table = markdown_table(
        ["layer", "transformation", "theorem", "error", f"measured (error below {BROKEN:g})"], rows
    )
    if disagree:
        return table, f"THEOREM AND MEASUREMENT DISAGREE on {', '.join(disagree)}."
    return table, "Theorem and measurement agree on all of them."


def _select(records: Sequence[Record], **wanted: str | None) -> list[Record]:
    return [r for r in records if all(r[name] == value for name, value in wanted.items())]


def _mean(records: Sequence[Record], **wanted: str) -> str:
    """Mean over the feature maps, and its standard error.

    Measurements on one map share the map and the displacement, so only the means of the maps are independent.
    """
    by_map = defaultdict(list)
    for record in _select(records, **wanted):
        if record.value is not None:
            by_map[record["feature_map"]].append(record.value)
    means = np.array([np.mean(values) for values in by_map.values()])
    if len(means) < 2:
        return f"{means.mean():.1e}"
    return f"{means.mean():.1e} ± {means.std(ddof=1) / np.sqrt(means.size):.0e}"
