"""What every experiment does at its two ends: read options, and end a mistake in one line."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from wne_jax.results import provenance, write_json
from wne_jax.training import Diverged

Options = TypeVar("Options")


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`; mistakes exit with code 2."""
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    parsed = tyro.cli(options, description=description)
    try:
        main(parsed)
    except (ValueError, TypeError, OSError, Diverged) as error:
        sys.exit(_line(error))


def _line(error: BaseException) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return 2


def claim(workdir: Path, config: object, *, resume: bool) -> dict:
    """Make the folder of an experiment, write `config.json`, and return the provenance.

    Raises:
        FileExistsError: The folder holds results and `resume` is not set.
    """
    path = workdir / "config.json"
    if path.exists() and not resume:
        raise FileExistsError(
            f"{workdir} holds results already: --resume continues them, --workdir names another folder"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    source = provenance(config)
    write_json(source, path)
    return source
