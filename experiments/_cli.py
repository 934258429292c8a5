"""What every experiment does at its two ends: read options, and end a mistake in one line."""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from wne_jax.results import provenance, write_json
from wne_jax.training import Diverged
from wne_jax.training.config import flatten

Options = TypeVar("Options")


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`; mistakes exit with code 2."""
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    parsed = tyro.cli(options, description=description)
    try:
        main(parsed)
    except (ValueError, TypeError, OSError, AssertionError, Diverged) as error:
        sys.exit(_line(error))


def _line(error: BaseException) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return 2


def claim(
    workdir: Path,
    config: Any,
    *,
    resume: bool,
    replaceable: Sequence[str] = ("resume", "stage", "workdir"),
) -> dict[str, Any]:
    """The provenance of an experiment: written to a new folder, or read and checked in an old one.

    Call it when everything that can be refused has been: a mistake must not claim the folder.

    Args:
        workdir: Folder of the experiment.
        config: Its options, a dataclass.
        resume: Whether the folder may hold results.
        replaceable: Options that may differ from those the folder was made with.

    Raises:
        FileExistsError: The folder holds results and `resume` is not set.
        ValueError: It holds results of other options.
    """
    path, source = workdir / "config.json", provenance(config)
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(source, path)
        return source
    if not resume:
        raise FileExistsError(
            f"{workdir} holds results already: --resume continues them, --workdir names another folder"
        )
    found = json.loads(path.read_text())
    before, now = (
        flatten(found["config"]),
        flatten(json.loads(json.dumps(source["config"], default=str))),
    )
    names = (before | now).keys() - set(replaceable)
    if changed := sorted(name for name in names if before.get(name) != now.get(name)):
        raise ValueError(f"{workdir} was made with other values of {', '.join(changed)}")
    return found
