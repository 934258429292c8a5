"""Gather what was run into one page: the paper's tables and figures beside ours, and how each was made.

Reads the folders of experiments (`config.json`, `comparison.csv`, tables and figures) and of trained
networks, and computes no result anew. Writes FILE.html, one file that needs no network, and FILE.md, which
shows the figures where they lie. What was not run says so, with the command that would make it.

    python -m experiments.report                                       # of runs/
    python -m experiments.report --runs experiments/results
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import _arms, _cli, _document, _html, _summary
from experiments._comparison import NOT_RUN
from experiments._comparison import Cell as Record
from experiments._document import (
    Block,
    Cell,
    Command,
    Figure,
    Folded,
    Heading,
    Paragraph,
    Table,
)
from experiments._gather import Network, Run, find
from experiments._sections import SECTIONS, Section
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation import records as results

_WIDE, _LONG = 8, 12
"""Columns that a comparison may have beside each other, and rows that it may have unfolded."""
_SHOWN_ROWS = 40
"""Tables of one file after that many rows are folded."""
_TITLE = "Normalization equivariance: the paper's results, recomputed"


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    runs: Path = Path("runs")
    """Folder of the experiments' folders."""
    networks: Path | None = None
    """A further folder of trained networks, beside those inside the folder of experiments."""
    output: Path | None = None
    """What is written, without .html and .md (default: `report` in the folder of experiments)."""
    max_megabytes: float = 8.0
    """Larger figures are named in place of shown."""


def main(options: Options) -> None:
    """Gather, then write the page and the Markdown file."""
    runs, networks = find(options.runs, options.networks)
    base = options.output or options.runs / "report"
    base = base.with_suffix("") if base.suffix in (".html", ".md") else base
    sections = assign(runs)
    blocks = document(sections, networks, max_bytes=int(1e6 * options.max_megabytes))
    opening = [Paragraph(text) for text in _summary.sentences(sections)]
    page = _html.page(_TITLE, opening, contents(sections, networks), blocks)
    base.parent.mkdir(parents=True, exist_ok=True)
    html, markdown = base.with_name(f"{base.name}.html"), base.with_name(f"{base.name}.md")
    write_atomically(html, page)
    whole = [Heading(1, _TITLE), *opening, *blocks]
    write_atomically(markdown, _document.to_markdown(whole, base.parent))
    print(opening[0].text.replace("**", ""))
    print(f"The page is {html}, and {markdown} says the same")


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
    unknown = [
        (Section(name, name.replace("_", " ").capitalize(), "", "", of[0].source["command"]), of)
        for name, of in others.items()
    ]
    return known + unknown


def contents(
    sections: Sequence[tuple[Section, list[Run]]], networks: Sequence[Network]
) -> dict[str, list[_html.Entry]]:
    """The sections in groups, as the page lists them."""
    groups: dict[str, list[_html.Entry]] = {"The paper": [], "Beyond the paper": []}
    for section, runs in sections:
        there = any(not run.empty for run in runs)
        group = "The paper" if section.paper else "Beyond the paper"
        groups[group].append(_html.Entry(section.name, section.title, there))
    return groups | {"How": [_html.Entry("networks", "Trained networks", bool(networks))]}


def document(
    sections: Sequence[tuple[Section, list[Run]]], networks: Sequence[Network], *, max_bytes: int
) -> list[Block]:
    """The overview, the sections, and the networks."""
    blocks: list[Block] = [_summary.overview(sections)]
    for section, runs in sections:
        beyond = f" ({section.paper})" if section.paper else ""
        blocks.append(Heading(2, f"{section.title}{beyond}", section.name))
        blocks += [Paragraph(section.asks)] if section.asks else []
        shown = [run for run in runs if not run.empty]
        for run in shown:
            if len(shown) > 1:
                blocks.append(Heading(3, f"Run `{run.folder.name}`"))
            blocks += run_blocks(section, run, level=3 + (len(shown) > 1), max_bytes=max_bytes)
        if not shown:
            blocks.append(Paragraph(f"**{NOT_RUN}**. This makes it:", "note"))
            blocks.append(Command(section.command))
    return blocks + network_blocks(networks)


def run_blocks(section: Section, run: Run, *, level: int, max_bytes: int) -> list[Block]:
    """One run: its budget, its comparisons, its figures, its other tables, and where it comes from."""
    says = budget(section, run)
    blocks: list[Block] = [Paragraph(says, "badge")] if says else []
    shown, folded = comparisons(run.cells, level=level)
    blocks += shown
    blocks += [_figure(section, path, max_bytes=max_bytes) for path in run.figures]
    blocks += folded
    for name, text in run.texts.items():
        tables = _tables(text.replace(results.footer(run.source), ""), level=level)
        blocks += [Folded(f"Tables of {name}", tuple(tables))] if run.cells else tables
    seed = run.source["config"].get("seed")
    origin = [] if seed is None else [f"seed {seed}"]
    versions = (f"{name} {version}" for name, version in run.source["versions"].items())
    origin += [run.source["device"], *versions, f"revision {run.source['revision']}"]
    return [*blocks, Command(run.source["command"]), Paragraph("; ".join(origin), "source")]


def budget(section: Section, run: Run) -> str:
    """What the networks of a run were trained with, beside what the published ones were."""
    config = run.source["config"]
    preset = _arms.PRESETS.get(config.get("preset"))
    if preset is None:
        return ""
    name = f"**preset {config['preset']}**"
    if not section.trained or config.get("networks") is False:
        return f"{name} on {run.source['device']}"
    ours = f"{name}: {'; '.join(dict.fromkeys(_trainings(run)))}"
    if not section.paper:
        return ours
    published = _arms.PRESETS["paper"].train["steps"]
    return f"{ours}; **published**: {published:,} steps or more, full-size networks"


def _trainings(run: Run) -> Iterator[str]:
    """How each network of a run was trained: those that its rows name, else its arms."""
    config = run.source["config"]
    networks = _arms.PRESETS[config["preset"]].networks
    rows = [c["row"].split() for c in run.cells if c["ours"] != ""]
    pairs = [(words[0], words[-1]) for words in rows if words[0] in networks]
    arms = [arm for arm in config.get("arms") or () if arm in _arms.ARMS] or ["baseline"]
    for backbone, arm in pairs or [(config.get("backbone") or "dncnn", arm) for arm in arms]:
        settings = {name: config.get(name) for name in ("data", "steps")}
        training = _arms.run_config(arm, config["preset"], 25.0, backbone=backbone, **settings)
        size = network(networks[training.model.backbone]) or training.model.backbone
        yield (
            f"{size}, {training.steps:,} steps, {training.batch} crops of "
            f"{training.patch}x{training.patch} of {training.data}"
        )


def network(options: Mapping[str, Any]) -> str:
    """The size of a network, from the options of its backbone.

    Example:
        >>> network({"depth": 8, "features": 48}), network({"groups": 2, "heads": 3})
        ('8x48', 'groups 2, heads 3')
    """
    rest = dict(options)
    size = (
        [f"{rest.pop('depth')}x{rest.pop('features')}"]
        if {"depth", "features"} <= rest.keys()
        else []
    )
    return ", ".join([*size, *(f"{name} {value}" for name, value in rest.items())])


def comparisons(cells: Sequence[Record], *, level: int) -> tuple[list[Block], list[Block]]:
    """Ours beside the published figures, a table for each result.

    Returns:
        Tables with their headings; and those to be folded: long ones, and those with nothing published
        beside others that have.
    """
    found: dict[str, list[Record]] = {}
    for record in cells:
        found.setdefault(record["result"], []).append(record)
    has = {name: any(c["published"] != "" for c in records) for name, records in found.items()}
    shown: list[Block] = []
    folded: list[Block] = []
    for result, records in found.items():
        table = _comparison_table(records)
        if len(table.rows) > _LONG or (any(has.values()) and not has[result]):
            folded.append(Folded(result, (table,)))
        else:
            shown += [Heading(level, result), table]
    return shown, folded


def _comparison_table(cells: Sequence[Record]) -> Table:
    """One result; a sweep of many columns goes downwards."""
    columns: dict[str, list[Record]] = {}
    for c in cells:
        columns.setdefault(c["column"], []).append(c)
    rows = tuple(dict.fromkeys(c["row"] for c in cells))
    forms = {column: _form(records) for column, records in columns.items()}
    shown = {(c["row"], c["column"]): _cell(c, forms[c["column"]]) for c in cells}
    corner = "ours (published, difference)" if any(c["published"] != "" for c in cells) else ""
    if len(columns) > max(_WIDE, len(rows)):
        down = [(name, *(shown.get((row, name), "") for row in rows)) for name in columns]
        return Table((corner, *rows), tuple(down))
    body = [(row, *(shown.get((row, name), "") for name in columns)) for row in rows]
    return Table((corner, *columns), tuple(body))


def _form(cells: Sequence[Record]) -> str:
    """How the numbers of a column are written: dB with two digits, others with more where they are small."""
    if all(map(_summary.in_decibels, cells)):
        return ".2f"
    sizes = [
        abs(c[name]) for c in cells for name in ("ours", "published") if c[name] not in ("", 0)
    ]
    if sizes and min(sizes) < 1e-3:
        return ".1e"
    return ".2f" if not sizes or max(sizes) >= 2 else ".4f" if max(sizes) < 1 else ".3f"


def _cell(c: Record, form: str) -> Cell:
    published = "" if c["published"] == "" else f"{c['published']:{form}}"
    if c["ours"] == "":
        return Cell(NOT_RUN, published, tone="absent")
    ours = f"**{c['ours']:{form}}**"
    if not published:
        return Cell(ours)
    tone = "above" if c["difference"] > 0 else "below"
    tone = "near" if _summary.near(c["ours"], c["published"]) else tone
    return Cell(ours, published, f"{c['difference']:+z{form}}", tone)


def _figure(section: Section, path: Path, *, max_bytes: int) -> Block:
    words = path.stem.replace("-", " ").replace("_", " ")
    size = path.stat().st_size
    if size > max_bytes:
        return Paragraph(f"{path.name} ({size / 1e6:.1f} MB) is too large for this page.", "note")
    return Figure(path, f"{words} (`{path.name}`)", f"{section.title}: {words}")


def _tables(text: str, *, level: int) -> list[Block]:
    """The blocks of a Markdown file under a heading of the report; what is long is folded."""
    shown: list[Block] = []
    folded: list[tuple[str, list[Block]]] = []
    rows = 0
    for block in _document.from_markdown(text):
        if isinstance(block, Heading):
            if rows > _SHOWN_ROWS:
                folded.append((block.text, []))
                continue
            block = Heading(min(6, block.level + level - 1), block.text)
        rows += len(block.rows) if isinstance(block, Table) else 0
        (folded[-1][1] if folded else shown).append(block)
    return [*shown, *(Folded(summary, tuple(blocks)) for summary, blocks in folded)]


def network_blocks(networks: Sequence[Network]) -> list[Block]:
    """What each network was trained with."""
    blocks: list[Block] = [Heading(2, "Trained networks", "networks")]
    if not networks:
        return [*blocks, Paragraph(f"**{NOT_RUN}**: there are none in this folder.", "note")]
    header = (
        "run", "backbone", "wrapper", "parameters", "data", "level", "loss", "steps", "batch x patch",
        "seed", "final loss", "minutes",
    )  # fmt: skip
    text = (
        "Every network behind the results above. Levels are in 8-bit units, and the loss is that of the "
        "last line of the log."
    )
    return [*blocks, Paragraph(text), Table(header, tuple(map(_network_row, networks)))]


def _network_row(trained: Network) -> tuple[str, ...]:
    config, model = trained.config, trained.config.model
    last = trained.log[-1] if trained.log else {"step": 0}
    whole = last["step"] >= config.steps
    return (
        f"{trained.folder.parent.name}/{trained.folder.name}",
        " ".join([model.backbone, network(model.options)]),
        model.wrapper
        if model.wrapper in ("none", "scale")
        else f"{model.wrapper}, {model.statistics}",
        f"{trained.parameters:,}",
        config.data,
        " to ".join(f"{sigma:g}" for sigma in config.sigma_255)
        + ("" if config.noise == "gaussian" else f" {config.noise}"),
        config.loss + ("" if config.objective == "supervised" else f", {config.objective}"),
        f"{config.steps:,}" if whole else f"{last['step']:,} of {config.steps:,}",
        f"{config.batch} x {config.patch}",
        str(config.seed),
        f"{last['loss']:.2e}" if "loss" in last else "",
        f"{trained.minutes:.1f}" if trained.log else "",
    )


if __name__ == "__main__":
    _cli.run(main, Options, __doc__)
