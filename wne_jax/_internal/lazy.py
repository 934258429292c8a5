"""Packages whose names are imported when they are first used."""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_demand(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its public names only when they are used.

    The package lists its names in `__all__`, and imports them under `if TYPE_CHECKING:`. Type checkers read
    there where each of them is defined, and so does this function.

    Args:
        package: `__name__` of the package.

    Returns:
        The two functions, for the package to take as its own.

    Example:
        >>> import wne_jax
        >>> "Denoiser" in dir(wne_jax)
        True
        >>> wne_jax.Denoiser.__module__
        'wne_jax.inference.denoiser'
    """
    module = sys.modules[package]
    homes: dict[str, str] = {}

    def __getattr__(name: str) -> Any:
        if name not in module.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not homes:
            homes.update(_homes(Path(str(module.__file__)).read_text()))
        home = homes[name]
        if home == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(home), name)
        setattr(module, name, value)
        return value

    def __dir__() -> list[str]:
        return sorted(module.__all__)

    return __getattr__, __dir__


def _homes(source: str) -> dict[str, str]:
    """The module that each name is imported from, in the text of a package."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
