"""Names of the form "package.module:Name", for what a user brings along."""

import importlib
from typing import Any


def is_import_path(name: str) -> bool:
    """Whether a name is an import path, and not one of the library's own names."""
    return ":" in name


def import_object(path: str) -> Any:
    """What an import path names. It runs the code of the module.

    Args:
        path: "package.module:Name"; the name may have dots.

    Raises:
        ValueError: No such module, no such name in it, or another form.

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
            f"{path!r}: there is no module {error.name}; it must be installed, or in the working directory"
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

    Example:
        >>> from collections import Counter
        >>> import_path(Counter)
        'collections:Counter'
    """
    path = f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', '?')}"
    try:
        found = import_object(path)
    except ValueError:
        found = None
    if found is not thing:
        raise ValueError(
            f"{path} cannot be imported by its name: define it at the top level of a module"
        )
    return path
