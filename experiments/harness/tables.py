"""Tables of results as Markdown, with notes and training settings."""

from collections.abc import Iterable, Mapping

from experiments.harness.arms import ARMS, Arm
from experiments.harness.folders import Folder
from wne_jax._internal.files import write_atomically
from wne_jax.config import SmoothBase
from wne_jax.data.mixtures import parse_mixture
from wne_jax.data.sources import kind_of
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import NOT_RUN, Record
from wne_jax.evaluation.tables import View, escaped, markdown
from wne_jax.training import TrainConfig

INTERPOLATED = (
    "Published figures are those of the published sweep; missing levels are interpolated linearly in the "
    "logarithm of sigma."
)
"""The note below tables that use `published.between_levels`."""


def tables_of(records: Iterable[Record], view: View) -> dict[str, str]:
    """Markdown tables of records by their titles.

    Example:
        >>> place = dict(experiment="e", metric="psnr", unit="dB", dataset="Set12", trained=25, arm="wne")
        >>> list(tables_of([Record(level=5, value=30, **place)], View(rows=("arm",))))
        ['PSNR (dB), Set12, trained at 25']
    """
    return {
        title[:1].upper() + title[1:]: markdown(table)
        for title, table in view.pivot(records).items()
    }


def other_trainings(arms: Iterable[Arm]) -> list[str]:
    """Notes on arms whose training levels differ from those in the titles.

    Example:
        >>> other_trainings(["wne", "multi-noise"])
        ['multi-noise is trained at 0 to 55, not at the level in the title.']
    """
    own = {arm: ARMS[arm].get("train", {}).get("sigma_255") for arm in arms}
    return [
        f"{arm} is trained at {' to '.join(f'{sigma:g}' for sigma in levels)}, "
        "not at the level in the title."
        for arm, levels in own.items()
        if levels
    ]


def notes(records: Iterable[Record], *texts: str) -> dict[str, str]:
    """The section "Notes" of `table.md`, which explains how to read the tables.

    Args:
        records: Those of the tables; if some have published figures, a note explains the interpolation.
        texts: Further notes, one or more sentences each.

    Example:
        >>> notes([], "Of two."), notes([])
        ({'Notes': '- Of two.'}, {})
    """
    published = any(record.published is not None for record in records)
    said = [*([INTERPOLATED] if published else []), *texts]
    return {"Notes": "\n".join(f"- {text}" for text in said)} if said else {}


def against_first(values: Mapping[str, float | None]) -> str:
    """The first value, and the differences of the others to it; missing ones are left out.

    Example:
        >>> against_first({"baseline": 30.31, "wne": 30.18, "ne-arch": None})
        'baseline 30.31, wne -0.13'
    """
    (first, reference), *others = values.items()
    if reference is None:
        return f"{first} not run"
    gains = [f"{name} {value - reference:+.2f}" for name, value in others if value is not None]
    return ", ".join([f"{first} {reference:.2f}", *gains])


def budgets(configs: Mapping[str, TrainConfig]) -> str:
    """The training settings of networks as a Markdown list, with an item for each distinct setting.

    Example:
        >>> from experiments.harness.arms import run_config
        >>> text = budgets({arm: run_config(arm, "tiny", 25) for arm in ("baseline", "wne")})
        >>> text.split(", gaussian")[0]
        '- baseline, wne: dncnn (depth 6, features 32), 750 steps of 16 crops 40x40 of embedded'
        >>> budgets({"wne-wiener-cap": run_config("wne-wiener-cap", "tiny", 25)}).split(", 750")[0]
        '- wne-wiener-cap: dncnn (depth 6, features 32, base of 4 pixels, cap 1.3)'
    """
    kinds: dict[str, list[str]] = {}
    for label, config in configs.items():
        model, levels = config.model, config.sigma_255
        sizes = [f"{name} {value}" for name, value in model.options.items() if name != "mode"]
        if isinstance(model.inside, SmoothBase):
            sizes += [f"base of {model.inside.sigma_px:g} pixels"]
            cap = model.inside.wiener_cap
            sizes += [f"cap {cap:g}"] if cap is not None else []
        clean = all(kind_of(part.spec) == "clean" for part in parse_mixture(config.data))
        span = f" from {levels[0]:g} to {levels[-1]:g}" if len(levels) > 1 else ""
        noise = f"{config.noise} noise{span}, {config.objective}, " if clean else ""
        noise = noise if config.task == "denoise" else f"task {config.task}, {noise}"
        text = (
            f"{model.backbone} ({', '.join(sizes) or 'published size'}), {config.steps:,} steps of "
            f"{config.batch} crops {config.patch}x{config.patch} of {config.data}, {noise}{config.loss}, "
            f"learning rate {config.optimizer.learning_rate:g} {config.optimizer.schedule}, "
            f"seed {config.seed}"
        )
        kinds.setdefault(text, []).append(label)
    return "\n".join(f"- {', '.join(labels)}: {text}" for text, labels in kinds.items())


def write_table(
    out: Folder, title: str, sections: Mapping[str, str], configs: Mapping[str, TrainConfig]
) -> None:
    """Write `table.md`: sections by title, training settings of the networks, and the origin of the results.

    Args:
        out: The results folder.
        title: Title of the page.
        sections: Tables and notes.
        configs: The networks by name; empty if the experiment has none.
    """
    lines = [f"# {escaped(title)}"]
    if any("**" in text for text in sections.values()):
        lines.append("Ours in bold; in brackets the published figure and the difference.")
    for name, text in sections.items():
        lines += [f"## {escaped(name)}", text]
    if configs:
        lines += [
            "## Networks",
            f"Training settings of each. Cells of missing networks say {NOT_RUN!r}.",
            budgets(configs),
        ]
    write_atomically(
        out.path / "table.md", "\n\n".join([*lines, escaped(footer(out.source))]) + "\n"
    )
