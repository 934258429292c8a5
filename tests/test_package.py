"""The project as a whole: what importing it needs, what it offers, and whether its front door is whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wne_jax as wne

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("PIL", "grain", "h5py", "matplotlib", "optax", "orbax", "skimage", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "tifffile", "torch", "tqdm", "tyro"),
)
"""What only reading images, training, plotting and the command line need."""

BROUGHT_BY_FLAX = {"optax"}

LAZY = {"data", "evaluation", "training"}
"""Public rooms that need more than the core does."""

TABLES = {
    "mismatch/table.md": "## PSNR",
    "alias_free/table.md": "## PSNR",
    "overhead/overhead.md": "",
    "frozen/table.md": "## PSNR",
    "large_images/table.md": "",
    "translation/tables.md": "## Table 2",
    "regret/table.md": "## All pairs",
    "robustness/table.md": "## PSNR (dB), Set12, dncnn trained at 25",
    "robustness-swinir/table.md": "## PSNR (dB), Set12, swinir trained at 25",
    "regret_range/table.md": "## Regret (dB), trained at 2 to 55",
    "regret_seeds/table.md": "## All pairs",
    "defects/table.md": "## PSNR",
    "noise2noise/table.md": "## Table 11",
}
"""Files of results, and the heading of the section whose rows the README has."""


def run(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_needs_nothing_that_is_optional():
    names = [name for name in wne.__all__ if name not in LAZY]
    use = f"import wne_jax; [getattr(wne_jax, name) for name in {names}]"
    loaded = run(f"{use}; import sys; print(*(n for n in {OPTIONAL} if n in sys.modules))")
    assert set(loaded.split()) <= BROUGHT_BY_FLAX
    blocked = set(OPTIONAL) - BROUGHT_BY_FLAX
    apply = "wne_jax.wrap(abs)(jax.numpy.ones((1, 2, 2, 1))); wne_jax.models.build('dncnn')"
    run(f"import sys; sys.modules.update(dict.fromkeys({blocked})); {use}; import jax; {apply}")


def test_importing_the_package_imports_nothing_yet():
    assert run("import sys, wne_jax; print(*({'jax', 'flax', 'numpy'} & {*sys.modules}))") == "\n"


def test_the_public_names_are_those_of_all():
    assert dir(wne) == sorted(wne.__all__)
    assert all(hasattr(wne, name) for name in wne.__all__)
    with pytest.raises(AttributeError, match="'wne_jax' has no attribute 'build'"):
        _ = wne.build


def test_the_readme_has_its_pictures_links_and_tables():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert len(links) >= 3 and all((ROOT / link).exists() for link in links)
    assert not re.search(r"[A-Z]+_TABLE", text)


def test_the_numbers_of_the_readme_are_those_of_the_results():
    readme = (ROOT / "README.md").read_text().splitlines()
    for table, heading in TABLES.items():
        text = (ROOT / "experiments/results" / table).read_text()
        section = text[text.index(heading) + len(heading) :].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| ")]
        assert len(rows) >= 3 and all(row in readme for row in rows)


def test_notebooks_are_stored_without_output():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert cells and not any(c["outputs"] or c["execution_count"] for c in cells)
