"""Packages that only some of the library needs, as extras of pyproject.toml."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, purpose: str = "") -> Iterator[None]:
    """Name the extra that installs what is imported inside.

    Args:
        name: The extra.
        purpose: What needs it, the start of a sentence (default: the missing package is named alone).

    Raises:
        ImportError: A package is missing, in one line that says how to install it.

    Example:
        >>> with extra("plot", "figures"):
        ...     import no_such_package
        Traceback (most recent call last):
          ...
        ImportError: figures need no_such_package: pip install "wne-jax[plot]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        what = f"{purpose} need {package}" if purpose else f"{package} is needed"
        raise ImportError(f'{what}: pip install "wne-jax[{name}]"', name=package) from error
