"""The report on made-up runs."""

import base64
import importlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tyro

from experiments import mismatch
from experiments.report.__main__ import Options, main
from experiments.report.counts import count
from experiments.report.gather import Run, find, views_of
from experiments.report.page import grids
from experiments.report.sections import SECTIONS, assign, unlisted
from wne_jax.evaluation.origin import write_json
from wne_jax.evaluation.records import Record, write_records
from wne_jax.evaluation.tables import View
from wne_jax.images.reading import write_image
from wne_jax.training import ModelConfig, TrainConfig
from wne_jax.training.config import save_config

ROOT = Path(__file__).parents[2]

HOSTILE = "<script>alert('x & \"y\"')</script>"


def psnr(arm, level, value=None, published=None, **columns):
    columns = {"metric": "psnr", "unit": "dB", "dataset": "Set12", "model": "dncnn"} | columns
    return Record(
        experiment="matched", arm=arm, level=level, value=value, published=published, **columns
    )


RECORDS = [
    psnr("wne", 25, 30.0, image="01"),
    psnr("wne", 25, 30.2, image="02"),
    psnr("wne", 25, published=30.43),
    psnr("wne", 50, published=27.22),
    psnr("baseline", 25, 30.75, published=30.5),
    psnr("baseline", 50, 27.17, 27.17),
    psnr("ours | <b>", 25, 31.0, model=None),
    psnr("wne", 25, 2.5e-7, metric="some_defect", unit=None, model=None),
    psnr(HOSTILE, 25, 0.915, 0.9156, metric=HOSTILE, unit=HOSTILE, model=HOSTILE, dataset=HOSTILE),
]
PSNR, DEFECT = "PSNR (dB), Set12", "some defect, Set12"


def provenance(name, **config):
    return {
        "config": {"seed": 7} | config,
        "command": f"python -m experiments.{name} --note {HOSTILE}",
        "versions": {"jax": "0.10.2"},
        "device": "cpu: cpu x 1",
        "revision": "abc",
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    sources = {
        "matched": provenance("matched", preset="small"),
        "defects": provenance("defects", preset="small"),  # started, without results
        "again": provenance(
            "matched", preset="tiny", steps=9
        ),  # a second folder of the same experiment
        "unknown": provenance("unknown"),
    }
    for name, source in sources.items():
        (folder / name).mkdir()
        write_json(source, folder / name / "config.json")
    for name in ("matched", "again"):
        write_records(RECORDS, folder / name / "records.csv")
    write_records([psnr("wne", 5, 30.1)], folder / "unknown/records.csv")
    (folder / "unknown/table.md").write_text("# Not read")
    write_image(folder / "matched/psnr-Set12.png", np.zeros((8, 6, 1), np.uint8))

    model = ModelConfig("dncnn", {"depth": 20, "features": 64}, wrapper="wne")
    (folder / "trained/dncnn-wne-25").mkdir(parents=True)
    config = TrainConfig(model=model, steps=300, data="folder:BSD400")
    save_config(config, folder / "trained/dncnn-wne-25/config.json")
    log = [
        {"step": 120, "loss": 0.5, "steps_per_second": 2.0},
        {"step": 180, "loss": 0.25, "steps_per_second": 1.0},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in log) + '{"step": 2'  # cut short
    (folder / "trained/dncnn-wne-25/metrics.jsonl").write_text(lines)
    main(Options(results=folder))
    return folder


class Page(HTMLParser):
    """Tables with the heading above each, attributes and text; asserts that tags balance."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.attributes, self.text, self.heading = [], [], [], "", ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in self.VOID:
            return
        self.open.append(tag)
        if tag in ("h1", "h2", "h3", "h4", "summary"):
            self.heading = ""
        if tag == "table":
            self.tables.append((self.heading, []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][1][-1][-1] += data
        elif {"h1", "h2", "h3", "h4", "summary"} & set(self.open):
            self.heading += data


@pytest.fixture(scope="module")
def page(runs):
    return Page((runs / "report.html").read_text())


def table(page, result):
    """The table under a heading, as {(row, column): text}."""
    (_, *columns), *rows = next(rows for heading, rows in page.tables if heading == result)
    return {(row, column): text for row, *texts in rows for column, text in zip(columns, texts)}


def test_every_cell_has_its_published_figure_and_the_difference(page):
    assert table(page, PSNR) == {
        ("dncnn wne", "25"): "30.10 (30.43, -0.33)",
        ("dncnn wne", "50"): "not run (27.22)",
        ("dncnn baseline", "25"): "30.75 (30.50, +0.25)",
        ("dncnn baseline", "50"): "27.17 (27.17, +0.00)",
        ("ours | <b>", "25"): "31.00",
        ("ours | <b>", "50"): "",
    }
    assert table(page, DEFECT) == {("wne", "25"): "2.5e-07"}


def test_names_are_escaped(runs, page):
    found = table(page, f"{HOSTILE} ({HOSTILE}), {HOSTILE}")
    assert found == {(f"{HOSTILE} {HOSTILE}", "25"): "0.9150 (0.9156, -0.0006)"}
    text = (runs / "report.html").read_text()
    assert "<script" not in text and "<b>" not in text
    assert "Not read" not in text


def test_wide_tables_are_transposed_and_large_ones_folded(page):
    def shown(records):
        return grids(View().pivot(records))

    (wide,) = shown([psnr("wne", level, 30) for level in range(1, 10)])
    assert wide.columns == ("dncnn wne",) and len(wide.rows) == 9 and not wide.folded
    (few,) = shown([psnr("wne", level, 30) for level in range(1, 9)])
    assert len(few.columns) == 8
    (long,) = shown([psnr(f"arm {i}", 25, 30) for i in range(13)])
    assert long.folded
    # Tables without published figures are folded if another table has some.
    folded = {table.title: table.folded for table in shown(RECORDS)}
    assert folded[PSNR] is False and folded[DEFECT] is True


def test_the_page_loads_nothing_and_its_links_are_valid(runs, page):
    text = (runs / "report.html").read_text()
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset")]
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    places = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(places)) == len(places)
    assert {link[1:] for link in links if link[0] == "#"} <= set(places)
    for outside in ("<script", "<link", "@import", "url("):
        assert outside not in text
    assert HOSTILE in page.text  # as text


def test_figures_are_embedded_unchanged(runs, page):
    (source,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    content = base64.b64decode(source.partition(",")[2])
    assert content == (runs / "matched/psnr-Set12.png").read_bytes()
    main(Options(results=runs, output=runs / "small.html", max_megabytes=1e-6))
    small = Page((runs / "small.html").read_text())
    assert "psnr-Set12.png (0.0 MB) is too large" in small.text


def test_missing_experiments_show_their_command(runs, page):
    text = " ".join(page.text.split())
    for section in SECTIONS:
        made = f"not run. Run it with: {section.command}" in text
        assert made == (section.name != "matched")
    assert f"2 of {len(SECTIONS) + 1} experiments have results" in text  # one is not listed


def test_every_run_states_its_training_and_origin(page):
    text = " ".join(page.text.split())
    small = (
        "preset small: 8x48, 2,000 steps, 16 crops of 40x40 of folder:BSD400; published: 500,000"
    )
    assert small in text and "preset tiny: 6x32, 9 steps, 16 crops of 40x40 of embedded" in text
    assert (
        f"python -m experiments.unknown --note {HOSTILE} seed 7; cpu: cpu x 1; jax 0.10.2" in text
    )


def test_networks_state_their_size_and_training_time(page):
    network = table(page, "Trained networks")
    row = {column: text for (_, column), text in network.items()}
    assert row["parameters"] == "668,225"  # published
    assert row["minutes"] == "2.0"  # 120 steps at 2 a second, 60 at 1
    assert row["steps"] == "180 of 300" and row["final loss"] == "2.50e-01"


def test_information_is_never_shown_only_by_colour(runs):
    text = (runs / "report.html").read_text()
    assert '(27.17, <span class="near">+0.00</span>)' in text
    assert '(30.43, <span class="below">-0.33</span>)' in text
    assert '(30.50, <span class="above">+0.25</span>)' in text
    assert '<span class="absent">not run</span>' in text


def test_comparisons_are_counted(page):
    counts = count(View().pivot(RECORDS).items())
    assert (counts.compared, counts.absent) == (4, 1)
    gaps = sorted(round(gap.difference, 4) for gap in counts.gaps)
    assert gaps == [-0.33, 0.0, 0.25]  # the unit of the other is not dB
    assert counts.worst.place == f"{PSNR}; dncnn wne, 25" and round(counts.typical, 4) == 0.25
    # In the paper, 30.43 and 30.50 are within 0.5 %, but 28 differs from both; one pair has the same order.
    counts = count(View().pivot([*RECORDS, psnr("third", 25, 30.5, 28.0)]).items())
    assert (counts.pairs, counts.ordered) == (2, 1)
    # Two runs have the same records; a third has one cell without a published figure.
    assert "8 numbers are compared with published ones, and 2 cells are not run" in " ".join(
        page.text.split()
    )


def test_an_unlisted_experiment_is_shown_with_its_modules_first_line(tmp_path):
    source = provenance("large_images_again")
    write_json(source, tmp_path / "config.json")
    run = Run(tmp_path, source, RECORDS, ())
    ((section, runs),) = [(s, r) for s, r in assign([run]) if r]
    assert (section.title, runs) == ("Large images again", [run])
    assert unlisted("mismatch", run).title in (mismatch.__doc__ or "").replace("\n", " ")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_commands_have_existing_options(section):
    module, *arguments = section.command.partition("-m ")[2].split()
    options = importlib.import_module(module).Options
    tyro.cli(options, args=arguments)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nowhere", "nowhere is not a folder"),
        ("empty", "no experiment and no trained network: --results"),
        ("broken", "config.json is not JSON"),
        ("columns", "records.csv must have the columns experiment, metric"),
    ],
)
def test_an_invalid_folder_gives_one_line(tmp_path, name, message):
    for folder in ("empty", "broken/x", "columns/x"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "broken/x/config.json").write_text("{")
    write_json(provenance("x"), tmp_path / "columns/x/config.json")
    (tmp_path / "columns/x/records.csv").write_text("result,ours\na,1\n")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        main(Options(results=tmp_path / name))
    assert not list(tmp_path.rglob("report.*"))


def test_tables_of_committed_results_have_distinct_titles():
    runs, networks = find(ROOT / "experiments/results")
    assert len(runs) > 15 and networks
    for run in runs:
        modules = {record.experiment for record in run.records}
        assert modules <= {run.module}, run.folder
        titles = [title for view in views_of(run.module) for title in view.pivot(run.records)]
        assert "" not in titles and len(set(titles)) == len(titles), run.folder
