"""What every reader raises, and how."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class WeightsError(ValueError):
    """Weights cannot be read, written or fitted to a model; one line: the file, then the reason."""


class WeightsNote(UserWarning):
    """What a reader of a weight file should know, since the file does not tell it."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises for a damaged or foreign file into one line."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        if isinstance(error, LookupError):  # whose text is a mere key
            reason = f"{type(error).__name__} {reason}"
        raise WeightsError(f"{path}: damaged, or not a {kind} file: {reason}") from error


def some(names: Iterable[str], limit: int = 4) -> str:
    """A handful of names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
