"""The rooms of the project import each other in one direction: the picture in docs/architecture.md is true.

Every import counts, those inside functions and under `if TYPE_CHECKING:` included.
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
    """The floors of docs/architecture.md, the lowest first, each with its rooms."""
    text = (ROOT / "docs/architecture.md").read_text()
    block = re.search(r"## Import order\n.*?```text\n(.*?)```", text, re.DOTALL)
    assert block, "docs/architecture.md has no picture under 'Import order'"
    lines = [line.split("  #")[0].split() for line in block[1].splitlines()]
    return [line for line in reversed(lines) if line]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The files of the project by the names of their modules."""
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {".".join(f.relative_to(root).with_suffix("").parts): f for f in files}


def imports(source: str, known: Iterable[str]) -> Iterator[str]:
    """The project's own modules that a text imports: packages by their `__init__`."""
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
    """What every module of the project imports of the project."""
    files = modules()
    return {m: set(imports(path.read_text(), files)) - {m} for m, path in files.items()}


def room(module: str) -> str:
    """The room of a module, as the picture names it."""
    package, *parts = module.split(".")
    if package == "experiments":
        if parts == ["__init__"]:
            return "experiments/harness"  # it is empty
        return "/".join([package, *parts[:1]]) if parts[1:] else package
    if parts == ["__init__"]:
        return "wne_jax"
    return {"__main__": "cli", "_version": "_internal"}.get(parts[0], parts[0])


def upward(edges: Mapping[str, set[str]], floors: list[list[str]]) -> set[tuple[str, str]]:
    """The imports that leave their room and do not go down."""
    floor = {name: level for level, names in enumerate(floors) for name in names}
    return {
        (module, other)
        for module, others in edges.items()
        for other in others
        if room(module) != room(other) and floor[room(other)] >= floor[room(module)]
    }


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_is_in_the_picture():
    drawn = [name for floor in picture() for name in floor]
    assert len(set(drawn)) == len(drawn)
    assert {room(module) for module in modules()} == set(drawn)


def test_every_room_of_the_picture_is_described():
    text = (ROOT / "docs/architecture.md").read_text()
    paths = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    packages = ("wne_jax/__init__.py", "experiments/", "tests/", "notebooks/")
    described = {re.sub(r"^wne_jax/|\.py$|/$", "", path) for path in paths if path not in packages}
    drawn = {name for floor in picture() for name in floor} - {"wne_jax", "experiments"}
    assert described == drawn


def test_imports_point_downwards():
    assert upward(edges(), picture()) == set()


def test_no_module_imports_itself_through_others():
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
def test_an_import_is_seen_wherever_it_stands(text):
    found = set(imports(text, modules()))
    assert found == {"wne_jax.training.loop"}
    assert upward({"wne_jax.inference.denoiser": found}, picture())
    assert not upward({"wne_jax.cli.train": found}, picture())


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
