"""The project as a whole: what importing it needs, what it offers, and whether its front door is whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import wne_jax as wne

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("PIL", "tifffile", "skimage", "matplotlib", "tqdm", "tyro", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "grain", "torch", "h5py", "safetensors"),
)


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


def test_the_core_imports_without_what_is_optional():
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))"
    use = "import wne_jax as w; w.wrap(abs); w.models.build('dncnn'); w.Denoiser; w.noise.NOISES"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; {use}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(hasattr(wne, name) for name in wne.__all__)


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
