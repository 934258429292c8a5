"""The report, of made-up runs."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments import _comparison, _document, _html
from experiments._document import Cell, Heading, Listing, Paragraph, Table
from experiments._sections import SECTIONS
from experiments._summary import count
from experiments.report import Options, main
from wne_jax.evaluation import records as results
from wne_jax.images.reading import write_image
from wne_jax.training import ModelConfig, TrainConfig
from wne_jax.training.config import save_config

HOSTILE = "<script>alert('x & \"y\"')</script>"

CELLS = [
    _comparison.cell("Table 1: PSNR (dB), Set12", "dncnn wne", "25", 30.1, 30.43),
    _comparison.cell("Table 1: PSNR (dB), Set12", "dncnn wne", "50", None, 27.22),
    _comparison.cell("Table 1: PSNR (dB), Set12", "dncnn baseline", "25", 30.75, 30.5),
    _comparison.cell("Table 1: PSNR (dB), Set12", "dncnn baseline", "50", 27.17, 27.17),
    _comparison.cell("Table 1: PSNR (dB), Set12", "ours | <b>", "25", 31.0),
    _comparison.cell("Figure 8: defect", "wne", "25", 2.5e-7),
    _comparison.cell(HOSTILE, "wne", "SSIM", 0.915, 0.9156),
]


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
        "defects": provenance("defects", preset="small"),  # claimed, and nothing in it yet
        "again": provenance(
            "matched", preset="tiny", steps=9
        ),  # another folder of the same experiment
        "unknown": provenance("unknown"),
    }
    for name, source in sources.items():
        (folder / name).mkdir()
        results.write_json(source, folder / name / "config.json")
    for name in ("matched", "again"):
        _comparison.write(CELLS, folder / name)
    table = f"# A title\n\n## {HOSTILE}\n\n| model | 5 |\n|---|---|\n| **wne** | 30.1 |\n\n"
    (folder / "unknown/table.md").write_text(table + results.footer(sources["unknown"]) + "\n")
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
    main(Options(runs=folder))
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


def find(page, result):
    """The table under a heading, as {(row, column): text}."""
    (_, *columns), *rows = next(rows for heading, rows in page.tables if heading == result)
    return {(row, column): text for row, *texts in rows for column, text in zip(columns, texts)}


def test_every_cell_stands_beside_its_published_figure_and_the_difference(page):
    table = find(page, "Table 1: PSNR (dB), Set12")
    assert table == {
        ("dncnn wne", "25"): "30.10 (30.43, -0.33)",
        ("dncnn wne", "50"): "not run (27.22)",
        ("dncnn baseline", "25"): "30.75 (30.50, +0.25)",
        ("dncnn baseline", "50"): "27.17 (27.17, +0.00)",
        ("ours | <b>", "25"): "31.00",
        ("ours | <b>", "50"): "",
    }
    assert find(page, "Figure 8: defect") == {("wne", "25"): "2.5e-07"}
    assert find(page, HOSTILE) == {("wne", "SSIM"): "0.9150 (0.9156, -0.0006)"}


def test_html_and_markdown_hold_the_same_tables(runs, page):
    text = re.sub(r"</?details>|<summary>.*?</summary>", "", (runs / "report.md").read_text())
    tables = [b for b in _document.from_markdown(text) if isinstance(b, Table)]
    plain = [
        [[re.sub(r"\*\*|`|\[(.*?)\]\(#.*?\)", r"\1", cell) for cell in row]
         for row in (table.header, *table.rows)]
        for table in tables
    ]  # fmt: skip
    assert plain == [rows for _, rows in page.tables]


def test_the_page_asks_nothing_of_a_network_and_links_reach_their_places(runs, page):
    text = (runs / "report.html").read_text()
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset")]
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    places = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(places)) == len(places)
    assert {link[1:] for link in links if link[0] == "#"} <= set(places)
    for outside in ("<script", "<link", "@import", "url("):
        assert outside not in text
    assert HOSTILE in page.text  # as text


def test_figures_lie_in_the_page_byte_for_byte(runs, page):
    (source,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    content = base64.b64decode(source.partition(",")[2])
    assert content == (runs / "matched/psnr-Set12.png").read_bytes()
    assert "](<matched/psnr-Set12.png>)" in (runs / "report.md").read_text()
    main(Options(runs=runs, output=runs / "small.html", max_megabytes=1e-6))
    small = Page((runs / "small.html").read_text())
    assert "psnr-Set12.png (0.0 MB) is too large" in small.text


def test_what_was_not_run_names_its_command(runs, page):
    text = " ".join(page.text.split())
    for section in SECTIONS:
        made = f"not run. This makes it: {section.command}" in text
        assert made == (section.name != "matched")
    assert "2 of 19 experiments have results" in text


def test_every_run_says_its_budget_and_where_it_comes_from(page):
    text = " ".join(page.text.split())
    small = (
        "preset small: 8x48, 2,000 steps, 16 crops of 40x40 of folder:BSD400; published: 500,000"
    )
    assert small in text and "preset tiny: 6x32, 9 steps, 16 crops of 40x40 of embedded" in text
    assert (
        f"python -m experiments.unknown --note {HOSTILE} seed 7; cpu: cpu x 1; jax 0.10.2" in text
    )


def test_networks_say_how_large_they_are_and_how_long_they_were_trained(page):
    network = find(page, "Trained networks")
    row = {column: text for (_, column), text in network.items()}
    assert row["parameters"] == "668,225"  # published
    assert row["minutes"] == "2.0"  # 120 steps at 2 a second, 60 at 1
    assert row["steps"] == "180 of 300" and row["final loss"] == "2.50e-01"


def test_markdown_becomes_html_and_nothing_else_gets_through():
    text = (
        "# A *title* & more\n## Next\n\none\ntwo **b** `x**2 < y`\n\n- i\n- [j](#there)\n\n"
        "| a | b |\n|---|:-:|\n| x \\| y | -1.5 |\n| **z** | |\n\n[out](https://example.org)"
    )
    blocks = _document.from_markdown(text)
    assert blocks[:4] == [
        Heading(1, "A *title* & more"),
        Heading(2, "Next"),
        Paragraph("one two **b** `x**2 < y`"),
        Listing(("i", "[j](#there)")),
    ]
    assert blocks[4] == Table(("a", "b"), (("x | y", "-1.5"), ("**z**", "")))
    html = _html.render(blocks)
    assert "<h1>A *title* &amp; more</h1>\n<h2>Next</h2>" in html
    assert "<p>one two <strong>b</strong> <code>x**2 &lt; y</code></p>" in html
    assert '<ul><li>i</li><li><a href="#there">j</a></li></ul>' in html
    assert '<th scope="row">x | y</th><td class="number">-1.5</td>' in html
    assert "<p>[out](https://example.org)</p>" in html


def test_blocks_survive_markdown(tmp_path):
    blocks = [
        Heading(2, "T"),
        Paragraph("a | b"),
        Listing(("x", "y")),
        Table(("", "n"), (("a|b", "1"),)),
    ]
    assert _document.from_markdown(_document.to_markdown(blocks, tmp_path)) == blocks


def test_a_cells_colour_is_never_all_that_says_it():
    near, below = (
        Cell("**30.4**", "30.5", "-0.1", "near"),
        Cell("**29.5**", "30.5", "-1.0", "below"),
    )
    html = _html.render([Table(("", "25"), (("a", near), ("b", below)))])
    assert '(30.5, <span class="near">-0.1</span>)' in html
    assert '(30.5, <span class="below">-1.0</span>)' in html


def test_comparisons_are_counted():
    counts = count(CELLS)
    assert (counts.compared, counts.absent) == (4, 1)
    assert counts.gaps == (-0.33, 0.25, 0.0)  # SSIM is in no dB
    # The paper has 30.43 and 30.50 within 0.5 %; against 28 both are apart, and one is ordered as there.
    other = _comparison.cell("Table 1: PSNR (dB), Set12", "third", "25", 30.5, 28.0)
    counts = count([*CELLS, other])
    assert (counts.pairs, counts.ordered) == (2, 1)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nowhere", "nowhere is no folder: --runs"),
        ("empty", "no experiment and no trained network: --runs"),
        ("broken", "config.json is not JSON"),
        ("columns", "comparison.csv lacks the column 'row'"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(tmp_path, name, message):
    for folder in ("empty", "broken/x", "columns/x"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "broken/x/config.json").write_text("{")
    results.write_json(provenance("x"), tmp_path / "columns/x/config.json")
    (tmp_path / "columns/x/comparison.csv").write_text("result,ours\na,1\n")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        main(Options(runs=tmp_path / name))
    assert not list(tmp_path.rglob("report.*"))
