"""Optional packages, as extras of pyproject.toml."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, purpose: str = "") -> Iterator[None]:
    """Name the extra that installs a missing package imported inside.

    Args:
        name: The extra.
        purpose: What needs the package, as a plural subject for the message (default: none).

    Raises:
        ImportError: A package is missing; the message has the command that installs it.

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
