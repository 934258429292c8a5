"""README and docs/ are correct: names, files, links, numbers and code."""

import importlib
import os
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tyro

import wne_jax as wne
from wne_jax.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = sorted(set(re.findall(r"`(wne_jax(?:\.\w+)+)`", (ROOT / "docs/papers.md").read_text())))
RUNS = [
    *("README", "five_minutes", "statistics", "translations", "denoise", "restoration", "train"),
    *("series", "fields"),
]
"""Pages whose code runs unchanged; some other pages have separate tests."""


def code(page: str) -> str:
    """The Python code of a page, in order."""
    (path,) = (p for p in PAGES if p.stem == page)
    return "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))


@pytest.mark.parametrize("page", RUNS)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code(page), page, "exec"), names)
    assert len(names) > 2


def test_the_code_for_other_peoples_weights_runs(wne_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(wne_weights / "dncnn_gray_sigma25.matconvnet.mat", "dncnn_25.mat")
    image = np.random.default_rng(0).normal(90, 10, (40, 40)).astype(np.float32)
    names = {"image": image}
    exec(code("weights"), names)
    assert np.std(names["x"]) < np.std(image)


COMMANDS = sorted(
    {
        line.partition(" -m ")[2].partition("  #")[0]
        for page in [*PAGES, ROOT / "experiments/README.md"]
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        for line in re.split(r"\n|&&", block)
        if re.search(r"python -m (wne_jax|experiments)", line) and not re.search(r"\.\.\. -", line)
    }
)
"""The commands of all pages; those with dots for further options are left out."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_exist(command, monkeypatch):
    module, *arguments = shlex.split(command)
    if module == "wne_jax":
        ran = []
        monkeypatch.setattr(main, "run_command", lambda command: ran.append(command) or 0)
        assert main.main(arguments) == 0 and ran
    else:
        name = f"{module}.__main__" if module == "experiments.report" else module
        options = importlib.import_module(name).Options
        assert isinstance(tyro.cli(options, args=arguments), options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_pictures_and_included_files_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    links += re.findall(r"^```\{include\} (\S+)$", text, re.MULTILINE)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs/index.md").read_text()
    pages = {page.stem for page in PAGES} - {"README", "index"}
    assert [
        page for page in sorted(pages) if not re.search(rf"^{page}$", index, re.MULTILINE)
    ] == []


def test_every_public_package_has_an_api_page():
    pages = {p.stem for p in (ROOT / "docs/api").glob("*.md")} - {"index", "wne_jax"}
    packages = {name for name in wne.__all__ if hasattr(getattr(wne, name), "__file__")}
    assert packages == pages
    listed = (ROOT / "docs/api/index.md").read_text().splitlines()
    assert pages <= set(listed)


@pytest.mark.parametrize(
    ("wanted", "page"),
    [
        ("unknown noise level", "statistics"),
        ("TIFF files of 16 bit", "denoise"),
        ("tile", "denoise"),
        ("Restormer and SwinIR weights", "weights"),
    ],
)
def test_common_search_terms_are_on_their_pages(wanted, page):
    assert re.search(wanted, (ROOT / f"docs/{page}.md").read_text(), re.IGNORECASE)


def test_the_readme_is_short_and_its_numbers_equal_the_results():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 130
    rows = [line for line in readme.splitlines() if re.match(r"\| \w", line)]
    table = (ROOT / "experiments/results/mismatch/table.md").read_text()
    assert len(rows) >= 4 and all(row in table for row in rows)
    gray = (ROOT / "wne_jax/weights/default/table.md").read_text()
    colour = (ROOT / "experiments/results/peers_colour/table.md").read_text()
    for tables, name in ((gray, "packaged"), (colour, "packaged"), (colour, "bm3d")):
        header, reached = (
            re.search(rf"^\| {row}\|(.*)\|$", tables.split("## ")[1], re.MULTILINE)[1].split("|")
            for row in ("", f"{name} ")
        )
        psnr = dict(zip((cell.strip() for cell in header), (cell.strip() for cell in reached)))
        assert f"{psnr['15']} / {psnr['25']} / {psnr['50']}" in readme


@pytest.mark.parametrize("name", NAMES)
def test_names_on_the_papers_page_exist(name):
    pkgutil.resolve_name(name)


def test_a_missing_name_is_found():
    assert len(NAMES) > 20
    with pytest.raises(AttributeError):
        pkgutil.resolve_name("wne_jax.symmetry.no_such_name")


def test_files_and_experiments_on_the_papers_page_exist():
    page = (ROOT / "docs/papers.md").read_text()
    files = re.findall(r"`((?:tests|experiments)/[\w/.]+)`", page)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / file).exists()] == []
    scripts = re.findall(r"python -m experiments\.([a-z]\w*)", page)
    assert [s for s in scripts if not (ROOT / "experiments" / f"{s}.py").exists()] == []
