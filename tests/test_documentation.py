"""What the pages of docs/ name exists."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(set(re.findall(r"`(wne_jax(?:\.\w+)+)`", (ROOT / "docs/papers.md").read_text())))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_page_on_the_papers_is_there(name):
    pkgutil.resolve_name(name)


def test_a_name_that_is_not_there_is_found_out():
    assert len(NAMES) > 20
    with pytest.raises(AttributeError):
        pkgutil.resolve_name("wne_jax.symmetry.no_such_name")


def test_files_and_experiments_of_the_page_are_there():
    page = (ROOT / "docs/papers.md").read_text()
    files = re.findall(r"`((?:tests|experiments)/[\w/.]+)`", page)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / file).exists()] == []
    scripts = re.findall(r"python -m experiments\.([a-z]\w*)", page)
    assert [s for s in scripts if not (ROOT / "experiments" / f"{s}.py").exists()] == []
