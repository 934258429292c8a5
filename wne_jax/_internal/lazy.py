"""Packages that import their names on first use."""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_demand(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its public names on first use.

    The package lists its names in `__all__`, and imports them under `if TYPE_CHECKING:`. This function and
    type checkers read from those imports where each name is defined.

    Args:
        package: `__name__` of the package.

    Returns:
        The two functions, which the package assigns to these names.

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
    """The module from which each name is imported, according to the source of a package."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
