"""The package as a whole: its imports, its public names, and the names that the docs use."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wne_jax as wne

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("PIL", "grain", "h5py", "matplotlib", "optax", "orbax", "skimage", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "tifffile", "torch", "tqdm", "tyro"),
)
"""Packages that only reading images, training, plotting and the command line need."""

BROUGHT_BY_FLAX = {"optax"}

LAZY = {"data", "evaluation", "training"}
"""Public packages that need more than the core."""

PUBLIC_PACKAGES = [name for name in wne.__all__ if hasattr(getattr(wne, name), "__path__")]


def run(code: str) -> str:
    """Run code in a new interpreter, and return its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_needs_no_optional_packages():
    names = [name for name in wne.__all__ if name not in LAZY]
    use = f"import wne_jax; [getattr(wne_jax, name) for name in {names}]"
    loaded = run(f"{use}; import sys; print(*(n for n in {OPTIONAL} if n in sys.modules))")
    assert set(loaded.split()) <= BROUGHT_BY_FLAX
    blocked = set(OPTIONAL) - BROUGHT_BY_FLAX
    apply = "wne_jax.wrap(abs)(jax.numpy.ones((1, 2, 2, 1))); wne_jax.models.build('dncnn')"
    run(f"import sys; sys.modules.update(dict.fromkeys({blocked})); {use}; import jax; {apply}")


def test_importing_the_package_imports_nothing_else():
    assert run("import sys, wne_jax; print(*({'jax', 'flax', 'numpy'} & {*sys.modules}))") == "\n"


def test_the_public_names_equal_all():
    assert dir(wne) == sorted(wne.__all__)
    assert all(hasattr(wne, name) for name in wne.__all__)
    with pytest.raises(AttributeError, match="'wne_jax' has no attribute 'build'"):
        _ = wne.build


@pytest.mark.parametrize("package", PUBLIC_PACKAGES)
def test_a_package_has_the_names_of_its_all(package):
    module = getattr(wne, package)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def examples() -> str:
    """The code of the README, the docs and the notebooks."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages if page.stem != "extending")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        blocks += ["".join(c["source"]) + "\n" for c in cells if c["cell_type"] == "code"]
    return re.sub(r"^%.*$", "", "".join(blocks), flags=re.MULTILINE)


def test_names_in_readme_docs_and_notebooks_are_public():
    """Other modules are for developers of the library."""
    typed = {
        (f"wne_jax.{package}", name)
        for package, name in re.findall(r"\bwne\.([a-z]+)\.(\w+)", examples())
    }
    for node in ast.walk(ast.parse(examples())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("wne_jax"):
            typed |= {(node.module, alias.name) for alias in node.names}
            *parents, last = node.module.split(".")
            typed |= {(".".join(parents), last)} if parents else set()
    assert len(typed) > 20
    public = {"wne_jax": wne.__all__} | {
        f"wne_jax.{package}": getattr(wne, package).__all__ for package in PUBLIC_PACKAGES
    }
    assert [
        (package, name)
        for package, name in sorted(typed)
        if package in public and name not in public[package]
    ] == []


@pytest.mark.parametrize(
    ("missing", "use", "extra"),
    [
        ("PIL", "wne_jax.images.read_image", "images"),
        ("matplotlib", "wne_jax.evaluation.plotting", "plot"),
        ("orbax", "wne_jax.training.fit", "train"),
        ("grain", "next(wne_jax.data.stream_crops(*(None,) * 3, size=1, start=0, stop=1))", "data"),
    ],
)
def test_a_missing_extra_is_named(missing, use, extra):
    code = f"import sys; sys.modules[{missing!r}] = None\nimport wne_jax\n{use}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert said.startswith("ImportError: ") and said.endswith(f'pip install "wne-jax[{extra}]"')


def test_the_commands_name_their_extra():
    code = "import sys, runpy; sys.modules['tyro'] = None; runpy.run_module('wne_jax', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'error: commands need tyro: pip install "wne-jax[cli]"\n'


def test_requirements_pin_the_packages_of_every_extra():
    """All extras except docs, which the tests do not build, and torch, which is large."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {
        name_of(line)
        for extra in [
            project["dependencies"],
            *(extras[e] for e in extras.keys() - {"docs", "torch"}),
        ]
        for line in extra
    }
    pinned = [
        name_of(line)
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    ]
    assert set(pinned) == needed - {"wne-jax"}


def name_of(requirement: str) -> str:
    """The normalized package name of a requirement."""
    return re.split(r"[\[<>=;]", requirement)[0].strip().lower().replace("_", "-")


def test_notebooks_are_saved_after_one_complete_run():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not any(output["output_type"] == "error" for output in outputs)
        assert not any(output.get("name") == "stderr" for output in outputs)
