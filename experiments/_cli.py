"""What every experiment does at its two ends: read options, and end a mistake in one line."""

import dataclasses
import json
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from wne_jax.cli import train_options
from wne_jax.cli.commands import MISTAKES, say
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation.records import provenance, write_json
from wne_jax.training import Diverged, is_lead
from wne_jax.training.config import flatten
from wne_jax.training.processes import wait_for_all

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where prepared datasets lie; a base of options."""

    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME."""


@dataclass(frozen=True, kw_only=True)
class Machine(Data, train_options.Machine):
    """What a run is computed on; a base of options."""


_REPLACEABLE = ("resume", "stage", "workdir", *(f.name for f in dataclasses.fields(Machine)))


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`; mistakes exit with code 2."""
    _cache_compilations()
    warnings.showwarning = lambda message, *_, **__: say("note", message)
    parsed = tyro.cli(options, description=description)
    try:
        main(parsed)
    except (*MISTAKES, AssertionError, Diverged) as error:
        say("error", error)
        sys.exit(2)


def _cache_compilations() -> None:
    """Keep compiled programs on disk, for this machine alone: another's CPU may not run them."""
    if jax.config.jax_compilation_cache_dir is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "wne_jax" / platform.node()
        jax.config.update("jax_compilation_cache_dir", str(folder))


def set_name(spec: str) -> str:
    """What a source of test images is called in tables: the last part of its name.

    Example:
        >>> set_name("folder:data/Set12"), set_name("tfds:bsd68:1.0.0"), set_name("embedded")
        ('Set12', 'bsd68', 'embedded')
    """
    return Path(re.sub(r":[\d.]+$", "", spec).rpartition(":")[2]).name


def load_sets(
    specs: Sequence[str], *, data_dir: Path | None = None, channels: int = 1
) -> dict[str, list[NamedImage]]:
    """Test images of several sources, by their names.

    Raises:
        ValueError: Two sets of one name.
    """
    names = [set_name(spec) for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"test sets must have different names, not {', '.join(names)}")
    return {
        name: load_images(spec, split="test", data_dir=data_dir, channels=channels)
        for name, spec in zip(names, specs)
    }


def claim(
    workdir: Path,
    config: Any,
    *,
    resume: bool,
    replaceable: Sequence[str] = _REPLACEABLE,
) -> dict[str, Any]:
    """The provenance of an experiment: written to a new folder, or read and checked in an old one.

    Call it when everything that can be refused has been: a mistake must not claim the folder. Of several
    processes, all call it.

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
    if path.exists():
        source = _check(path, source, workdir, resume=resume, replaceable=replaceable)
    wait_for_all("the folder is checked")
    if is_lead() and not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(source, path)
    wait_for_all("the folder is claimed")
    return source


def _check(
    path: Path,
    source: dict[str, Any],
    workdir: Path,
    *,
    resume: bool,
    replaceable: Sequence[str],
) -> dict[str, Any]:
    """The provenance of a folder that holds results already."""
    if not resume:
        continues = "--resume continues them, " if "resume" in source["config"] else ""
        raise FileExistsError(
            f"{workdir} holds results already: {continues}--workdir names another folder"
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
