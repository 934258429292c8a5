"""Renders the page from its template and the data of each run.

The template escapes all text; style and images are embedded in the page.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2
from PIL import Image

from experiments.harness import ARMS, PRESETS, run_config
from experiments.report import counts
from experiments.report.counts import Sections
from experiments.report.gather import Network, Run
from experiments.report.sections import Section
from wne_jax.evaluation.records import NOT_RUN
from wne_jax.evaluation.tables import Cell, Table

_WIDE, _LONG = 8, 12
"""Maximum number of columns of a table, and of rows of a table that is not folded."""
_TITLE = "Normalization equivariance: the paper's results, recomputed"


class Shown(NamedTuple):
    """A cell of the page.

    Attributes:
        ours: Our number, or "not run".
        published: The published number; empty if there is none.
        difference: Ours minus published, with sign; empty if one of them is missing.
        tone: Whether ours is near, above, below, or absent; used as CSS class.
    """

    ours: str
    published: str = ""
    difference: str = ""
    tone: Literal["", "above", "near", "below", "absent"] = ""


@dataclass(frozen=True)
class Grid:
    """A table of the page: texts, and a cell for each row and column."""

    title: str
    corner: str
    published: bool
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    folded: bool


class Figure(NamedTuple):
    """An image embedded in the page, or a note that it is too large."""

    caption: str
    name: str
    alt: str
    source: str
    width: int = 0
    height: int = 0
    note: str = ""


def render(sections: Sections, networks: Sequence[Network], *, max_bytes: int) -> str:
    """The page as HTML.

    Args:
        sections: The runs of each section.
        networks: The trained networks.
        max_bytes: Maximum size of a figure; larger ones are only named.
    """
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    whole = counts.overall(sections)
    return environment.get_template("page.html.j2").render(
        title=_TITLE,
        style=(folder / "page.css").read_text(),
        not_run=NOT_RUN,
        near=counts.NEAR,
        whole=whole,
        small=[preset for preset in whole.presets if preset != "paper"],
        sections=[_section(section, runs, max_bytes=max_bytes) for section, runs in sections],
        networks=[_network_row(network) for network in networks],
    )


def _section(section: Section, runs: Sequence[Run], *, max_bytes: int) -> dict[str, Any]:
    shown = [run for run in runs if not run.empty]
    return {
        "section": section,
        "counts": counts.of_runs(shown),
        "presets": ", ".join(filter(None, dict.fromkeys(run.preset for run in shown))) or "run",
        "figures": sum(len(run.figures) for run in shown),
        "runs": [
            {
                "folder": run.folder.name,
                "source": run.source,
                "seed": run.source["config"].get("seed"),
                "budget": budget(section, run),
                "grids": grids(run.tables),
                "figures": [_figure(section, path, max_bytes=max_bytes) for path in run.figures],
            }
            for run in shown
        ],
    }


def grids(tables: Mapping[str, Table]) -> list[Grid]:
    """Tables of the page; long ones and, if others have published figures, those without are folded."""
    published = {
        title: any(cell.published is not None for cell in table.cells.values())
        for title, table in tables.items()
    }
    beside = any(published.values())
    return [
        _grid(title, table, published=published[title], beside=beside)
        for title, table in tables.items()
    ]


def _grid(title: str, table: Table, *, published: bool, beside: bool) -> Grid:
    """One table; a table with many columns is transposed."""
    names, columns, at = table.rows, table.columns, lambda row, column: (row, column)
    name, column_name = table.row_heading, table.column_heading
    down, across = table.row_parts, table.column_parts
    if len(columns) > max(_WIDE, len(names)):
        names, columns, at = table.columns, table.rows, lambda row, column: (column, row)
        name, column_name = table.column_heading, table.row_heading
        down, across = across, down

    def shown(row: tuple[Any, ...], column: tuple[Any, ...]) -> Shown:
        place = at(row, column)
        return (
            show(table.cells[place], table.forms[place[1]]) if place in table.cells else Shown("")
        )

    return Grid(
        title,
        f"{', '.join(down)} ↓ {', '.join(across)} →",
        published,
        tuple(map(column_name, columns)),
        tuple((name(row), tuple(shown(row, column) for column in columns)) for row in names),
        folded=len(names) > _LONG or (beside and not published),
    )


def show(cell: Cell, form: str) -> Shown:
    """Format a cell with a number format."""
    published = "" if cell.published is None else f"{cell.published:{form}}"
    if cell.value is None:
        return Shown(NOT_RUN, published, tone="absent")
    ours = f"{cell.value:{form}}"
    if cell.difference is None:
        return Shown(ours)
    tone = "above" if cell.difference > 0 else "below"
    tone = "near" if counts.near(cell.value, cell.published) else tone
    return Shown(ours, published, f"{cell.difference:+z{form}}", tone)


def _figure(section: Section, path: Path, *, max_bytes: int) -> Figure:
    """An image at the size given by its resolution."""
    words = path.stem.replace("-", " ").replace("_", " ")
    alt, size = f"{section.title}: {words}", path.stat().st_size
    if size > max_bytes:
        return Figure(words, path.name, alt, "", note=f"{size / 1e6:.1f} MB")
    with Image.open(path) as image:
        scale = min(1.0, 96 / image.info.get("dpi", (96, 96))[0])
        width, height = (max(1, round(scale * side)) for side in image.size)
    content = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{content}"
    return Figure(words, path.name, alt, source, width, height)


class Budget(NamedTuple):
    """The training settings of a run.

    Attributes:
        preset: The preset.
        says: The training settings, or the device if nothing was trained.
        published: Steps of the published networks, if there are any.
    """

    preset: str
    says: str
    published: int | None = None


def budget(section: Section, run: Run) -> Budget | None:
    """The training settings of a run; None if its preset is unknown."""
    config = run.source["config"]
    if config.get("preset") not in PRESETS:
        return None
    if not section.trained or config.get("errors") is False:
        return Budget(run.preset, f"on {run.source['device']}")
    says = "; ".join(dict.fromkeys(_trainings(run)))
    published = PRESETS["paper"].train["steps"] if section.paper else None
    return Budget(run.preset, says, published)


def _trainings(run: Run) -> Iterator[str]:
    """The training settings of each network of a run: those named by its records, else its arms."""
    config = run.source["config"]
    networks = PRESETS[config["preset"]].networks
    named = {(r.model, r.arm): None for r in run.records if r.value is not None}
    pairs = [(model, arm) for model, arm in named if model in networks and arm in ARMS]
    arms = [arm for arm in config.get("arms") or () if arm in ARMS] or ["baseline"]
    for backbone, arm in pairs or [(config.get("backbone") or "dncnn", arm) for arm in arms]:
        settings = {name: config.get(name) for name in ("data", "steps")}
        training = run_config(arm, config["preset"], 25.0, backbone=backbone, **settings)
        size = network(networks[training.model.backbone]) or training.model.backbone
        yield (
            f"{size}, {training.steps:,} steps, {training.batch} crops of "
            f"{training.patch}x{training.patch} of {training.data}"
        )


def network(options: Mapping[str, Any]) -> str:
    """The size of a network as text, from the options of its backbone.

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


def _network_row(trained: Network) -> dict[str, str]:
    config, model = trained.config, trained.config.model
    last = trained.log[-1] if trained.log else {"step": 0}
    whole = last["step"] >= config.steps
    return {
        "run": f"{trained.folder.parent.name}/{trained.folder.name}",
        "backbone": " ".join([model.backbone, network(model.options)]),
        "wrapper": "none"
        if model.wrapper is None
        else f"{model.wrapper.kind}, {model.wrapper.statistic}",
        "parameters": f"{trained.parameters:,}",
        "data": config.data,
        "level": " to ".join(f"{sigma:g}" for sigma in config.sigma_255)
        + ("" if config.noise == "gaussian" else f" {config.noise}"),
        "loss": config.loss + ("" if config.objective == "supervised" else f", {config.objective}"),
        "steps": f"{config.steps:,}" if whole else f"{last['step']:,} of {config.steps:,}",
        "batch x patch": f"{config.batch} x {config.patch}",
        "seed": str(config.seed),
        "final loss": f"{last['loss']:.2e}" if "loss" in last else "",
        "minutes": f"{trained.minutes:.1f}" if trained.log else "",
    }
