"""Errors and warnings of all readers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class WeightsError(ValueError):
    """Weights cannot be read, written or fitted to a model; one line: the file, then the reason."""


class WeightsNote(UserWarning):
    """A warning about properties that a weight file does not contain."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Convert any error of a library on a damaged or foreign file to one line."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        if isinstance(error, LookupError):  # its text is only a key
            reason = f"{type(error).__name__} {reason}"
        raise WeightsError(f"{path}: damaged, or not a {kind} file: {reason}") from error


def abbreviate(names: Iterable[str], limit: int = 4) -> str:
    """The first few names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
