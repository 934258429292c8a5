"""Import paths "package.module:Name", for classes and functions of users."""

import importlib
import warnings
from typing import Any


def is_import_path(name: str) -> bool:
    """Whether a name is an import path rather than one of the library's own names."""
    return ":" in name


def import_object(path: str) -> Any:
    """Import the object of an import path, which runs the code of its module.

    Args:
        path: "package.module:Name"; the name may have dots.

    Raises:
        ValueError: The form is wrong, or the module or the name does not exist.

    Example:
        >>> import_object("collections.abc:Mapping").__name__
        'Mapping'
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"{path!r} must be of the form package.module:Name")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path!r}: there is no module {error.name}; install it, or run in its directory"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{path!r}: {module} has no {name}")
        found = getattr(found, part)
    return found


def import_path(thing: Any) -> str:
    """The import path of a class or a function.

    Raises:
        ValueError: It cannot be imported by its name.

    Warns:
        UserWarning: It is defined in a script or notebook, which no other process can import.

    Example:
        >>> from collections import Counter
        >>> import_path(Counter)
        'collections:Counter'
    """
    module, name = getattr(thing, "__module__", "?"), getattr(thing, "__qualname__", "?")
    if module == "__main__":
        warnings.warn(
            f"{name} is defined in a script or notebook, and a file that names it can be loaded only there: "
            "move it to a module, or use Denoiser(...).export",
            stacklevel=3,
        )
    path = f"{module}:{name}"
    try:
        found = import_object(path)
    except ValueError:
        found = None
    if found is not thing:
        raise ValueError(
            f"{path} cannot be imported by its name: define it at the top level of a module"
        )
    return path
