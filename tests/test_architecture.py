"""Imports between the packages of the project follow the order in docs/architecture.md.

Every import counts, including those inside functions and under `if TYPE_CHECKING:`.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("wne_jax", "experiments")


def picture() -> list[list[str]]:
    """The levels of docs/architecture.md with their packages, lowest level first."""
    text = (ROOT / "docs/architecture.md").read_text()
    block = re.search(r"## Import order\n.*?```text\n(.*?)```", text, re.DOTALL)
    assert block, "docs/architecture.md has no picture under 'Import order'"
    lines = [line.split("  #")[0].split() for line in block[1].splitlines()]
    return [line for line in reversed(lines) if line]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The files of the project by module name."""
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {".".join(f.relative_to(root).with_suffix("").parts): f for f in files}


def imports(source: str, known: Iterable[str]) -> Iterator[str]:
    """The project's modules that a source text imports; a package counts as its `__init__`."""
    known = set(known)

    def module(name: str) -> str | None:
        return next((m for m in (name, f"{name}.__init__") if m in known), None)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [(str(node.module), alias.name) for alias in node.names]
        else:
            continue
        for base, name in names:
            if base.split(".")[0] in PACKAGES:
                found = module(f"{base}.{name}") or module(base)
                assert found, f"there is no module {base}"
                yield found


def edges() -> dict[str, set[str]]:
    """For every module of the project, the modules of the project that it imports."""
    files = modules()
    return {m: set(imports(path.read_text(), files)) - {m} for m, path in files.items()}


def package_of(module: str) -> str:
    """The package of a module, by its name in the picture."""
    package, *parts = module.split(".")
    if package == "experiments":
        if parts == ["__init__"]:
            return "experiments/harness"  # it is empty
        return "/".join([package, *parts[:1]]) if parts[1:] else package
    if parts == ["__init__"]:
        return "wne_jax"
    return {"__main__": "cli", "_version": "_internal"}.get(parts[0], parts[0])


def upward(edges: Mapping[str, set[str]], levels: list[list[str]]) -> set[tuple[str, str]]:
    """The imports from another package that is not on a lower level."""
    level = {name: i for i, names in enumerate(levels) for name in names}
    return {
        (module, other)
        for module, others in edges.items()
        for other in others
        if package_of(module) != package_of(other)
        and level[package_of(other)] >= level[package_of(module)]
    }


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The modules of a circular import; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_package_is_in_the_picture():
    drawn = [name for level in picture() for name in level]
    assert len(set(drawn)) == len(drawn)
    assert {package_of(module) for module in modules()} == set(drawn)


def test_every_package_of_the_picture_is_described():
    text = (ROOT / "docs/architecture.md").read_text()
    paths = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    packages = ("wne_jax/__init__.py", "experiments/", "tests/", "notebooks/")
    described = {re.sub(r"^wne_jax/|\.py$|/$", "", path) for path in paths if path not in packages}
    drawn = {name for level in picture() for name in level} - {"wne_jax", "experiments"}
    assert described == drawn


def test_imports_go_to_lower_levels():
    assert upward(edges(), picture()) == set()


def test_there_are_no_circular_imports():
    found = circle(edges())
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "from wne_jax.training import loop",
        "import wne_jax.training.loop",
        "def f():\n    from wne_jax.training.loop import fit",
        "if TYPE_CHECKING:\n    from wne_jax.training.loop import fit",
    ],
)
def test_imports_are_found_at_any_position(text):
    found = set(imports(text, modules()))
    assert found == {"wne_jax.training.loop"}
    assert upward({"wne_jax.inference.denoiser": found}, picture())
    assert not upward({"wne_jax.cli.train": found}, picture())


def test_circular_imports_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
