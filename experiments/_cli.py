"""What every experiment does at its two ends: read options, and end a mistake in one line."""

import dataclasses
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from wne_jax import train_command
from wne_jax.results import provenance, write_json
from wne_jax.training import Diverged
from wne_jax.training.config import flatten

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where prepared datasets lie; a base of options."""

    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME."""


@dataclass(frozen=True, kw_only=True)
class Machine(Data, train_command.Machine):
    """What a run is computed on; a base of options."""


_REPLACEABLE = ("resume", "stage", "workdir", *(f.name for f in dataclasses.fields(Machine)))


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`; mistakes exit with code 2."""
    _cache_compilations()
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    parsed = tyro.cli(options, description=description)
    try:
        main(parsed)
    except (ValueError, TypeError, OSError, AssertionError, Diverged) as error:
        sys.exit(_line(error))


def _cache_compilations() -> None:
    """Keep compiled programs on disk, for this machine alone: another's CPU may not run them."""
    if jax.config.jax_compilation_cache_dir is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "wne_jax" / platform.node()
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _line(error: BaseException) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return 2


def claim(
    workdir: Path,
    config: Any,
    *,
    resume: bool,
    replaceable: Sequence[str] = _REPLACEABLE,
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
