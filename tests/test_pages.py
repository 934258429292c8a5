"""The code of docs/extending.md and docs/bring_your_own.md, files included, works as it stands there."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@contextmanager
def unpacked(page: str, root: Path) -> Iterator[list[str]]:
    """The files of a page in a folder on the path of imports; and the blocks that are no files."""
    loose = []
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        name, _, text = block.partition("\n")
        if not re.fullmatch(r"# [\w/]+\.py", name):
            loose.append(block)
            continue
        path = root / name.removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    sys.path.insert(0, str(root))
    yield loose
    sys.path.remove(str(root))
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_package", "nets")]:
        del sys.modules[name]


@pytest.mark.usefixtures("standard_promotion")
def test_the_page_on_networks_of_ones_own_runs(tmp_path, monkeypatch):
    pytest.importorskip("equinox", reason="equinox is not installed")
    pytest.importorskip("haiku", reason="dm-haiku is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with unpacked("bring_your_own.md", tmp_path) as blocks:
        for block in blocks:
            exec(block, names)
    assert {"model", "in_nnx", "denoise"} <= names.keys()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files and the other blocks of the page on extending."""
    root = tmp_path_factory.mktemp("extending")
    with unpacked("extending.md", root) as loose:
        (root / "my_package/__init__.py").touch()
        yield root, loose


def test_the_blocks_of_the_page_run_in_their_order(package):
    names: dict = {}
    for block in package[1]:
        exec(block, names)
    assert type(names["model"]).__name__ == "WNE"


@pytest.mark.parametrize("name", ["nets", "stats", "layouts", "blurred"])
def test_the_tests_of_the_page_pass(name, package, tmp_path):
    spec = importlib.util.spec_from_file_location(name, package[0] / f"tests/test_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (test,) = (f for key, f in vars(module).items() if key.startswith("test_"))
    test(**({"tmp_path": tmp_path} if "tmp_path" in inspect.signature(test).parameters else {}))


def test_every_file_of_the_page_has_its_test(package):
    files = {path.stem for path in (package[0] / "my_package").glob("*.py")} - {"__init__"}
    assert files == {p.stem.removeprefix("test_") for p in (package[0] / "tests").glob("*.py")}
    assert files == {"nets", "stats", "layouts", "blurred"}
