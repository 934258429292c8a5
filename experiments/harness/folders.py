"""Result folders: new results are computed in a temporary folder, which replaces the workdir when complete.

Only `--overwrite` removes results, and only after the new ones are complete:

- neither option: a folder that holds results raises an error,
- `--resume`: the options must equal those of the folder; existing results stay, missing ones are added,
- `--overwrite`: new results replace the old files.

A failed or interrupted run leaves the folder unchanged. Files not written by an experiment are always kept:
`config.json` lists the files that an experiment wrote.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from experiments.harness.options import Results
from wne_jax.evaluation.origin import provenance, write_json
from wne_jax.evaluation.records import COLUMNS, Record, read_records, write_records
from wne_jax.training.config import flatten

CONFIG = "config.json"
RECORDS = "records.csv"

REPLACEABLE = {
    *("workdir", "overwrite", "resume", "stage", "networks"),
    *("data_dir", "parallel", "corpus", "coordinator", "processes", "process_id"),
}
"""Options that do not affect the results."""


@dataclass(frozen=True)
class Folder:
    """The folder that an experiment writes into.

    Attributes:
        path: Temporary folder beside the workdir, to write into.
        workdir: The final folder, for messages.
        source: Origin of the results (command, versions, device), for tables and figures.
        continues: Whether `path` started as a copy of earlier results.
    """

    path: Path
    workdir: Path
    source: dict[str, Any]
    continues: bool = False

    def write(self, records: Iterable[Record]) -> None:
        """Write `records.csv`."""
        write_records(records, self.path / RECORDS)


def check_workdir(options: Results) -> None:
    """Check that an experiment may write into its workdir.

    Raises:
        FileExistsError: The folder holds results, and neither `resume` nor `overwrite` is set; or it holds
            other files, or the results of another experiment.
        FileNotFoundError: The stage is "report", and there are no records.
        ValueError: The results to resume were made with other options; or both options are set.
    """
    workdir, stage = options.folder, getattr(options, "stage", "all")
    resume = getattr(options, "resume", False)
    if resume and options.overwrite:
        raise ValueError("--resume keeps results and --overwrite replaces them: give only one")
    if stage == "train":
        return
    there = (workdir / CONFIG).is_file()
    if stage == "report" and not there:
        raise FileNotFoundError(f"{workdir} holds no results: compute them with --stage all")
    if not there and workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise FileExistsError(
            f"{workdir} exists but holds no results: choose a new folder with --workdir"
        )
    if there and (other := _other_owner(workdir, options.NAME)):
        raise FileExistsError(
            f"{workdir} holds {other}, not results of {options.NAME}: "
            "choose another folder with --workdir"
        )
    if there and _continues(options):
        _check_options(workdir, options)
    elif there and not options.overwrite:
        resume = "add to them with --resume, " if hasattr(options, "resume") else ""
        raise FileExistsError(
            f"{workdir} already holds results: {resume}replace them with --overwrite, "
            "or choose another folder with --workdir"
        )


def earlier_records(options: Results) -> list[Record]:
    """The records of a resumed experiment; empty for a new one."""
    path = options.folder / RECORDS
    if not (_continues(options) and path.is_file()):
        return []
    return [record for record in read_records(path) if record.value is not None]


def together(*parts: Iterable[Record]) -> list[Record]:
    """Concatenate records without duplicates: the first record of each table cell is kept."""
    found: dict[str, Record] = {}
    for record in chain(*parts):
        place = [record[name] for name in COLUMNS if name not in ("value", "published")]
        found.setdefault(f"{place} {record.value is None}", record)
    return list(found.values())


@contextmanager
def results_folder(options: Results, **more: Any) -> Iterator[Folder]:
    """A folder to write results into, which becomes the workdir when the block ends without an error.

    Args:
        options: The options of the experiment.
        **more: Further entries of `config.json`.

    Yields:
        The folder; see `Folder`.

    Raises:
        OSError: As `check_workdir`, or the folder cannot be written.
        ValueError: As `check_workdir`.
    """
    check_workdir(options)
    workdir = options.folder.resolve()
    there = (workdir / CONFIG).is_file()
    continues = there and _continues(options)
    workdir.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{workdir.name}.", dir=workdir.parent))
    aside.chmod(0o755)
    try:
        old = set(_written(workdir)) if there else set()
        source = {"experiment": options.NAME} | provenance(dataclasses.asdict(options) | more)
        if continues:
            source = json.loads((workdir / CONFIG).read_text())
            for name in old:
                _copy(workdir / name, aside / name)
        yield Folder(aside, options.folder, source, continues)
        new = {str(p.relative_to(aside)) for p in aside.rglob("*") if p.is_file()} - {CONFIG}
        write_json(source | {"files": sorted(new)}, aside / CONFIG)
        _put_in_place(aside, workdir, old | {CONFIG})
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _continues(options: Results) -> bool:
    """Whether earlier results are kept, to extend or to redraw them."""
    return getattr(options, "resume", False) or getattr(options, "stage", "all") == "report"


def _other_owner(workdir: Path, name: str) -> str:
    """What a folder with a `config.json` holds, if it is not the results of an experiment; "" if it is.

    Results without a name in `config.json` have one in their records.
    """
    source = json.loads((workdir / CONFIG).read_text())
    if not isinstance(source, dict) or "config" not in source:
        return "a training run or other files"
    records = workdir / RECORDS
    first = read_records(records)[:1] if "experiment" not in source and records.is_file() else []
    owner = source.get("experiment", first[0].experiment if first else name)
    return "" if owner == name else f"results of {owner}"


def _check_options(workdir: Path, options: Results) -> None:
    """Raise if the results to resume were made with other options."""
    found = json.loads((workdir / CONFIG).read_text())["config"]
    now = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    before, now = flatten(found), flatten(now)
    names = [name for name in now if name.partition(".")[0] not in REPLACEABLE]
    if changed := sorted(name for name in names if before.get(name) != now[name]):
        raise ValueError(f"{workdir} was made with different values of {', '.join(changed)}")


def _written(workdir: Path) -> list[str]:
    """The files that an experiment wrote into its folder, as listed in its `config.json`."""
    names = json.loads((workdir / CONFIG).read_text()).get("files", [])
    inside = [name for name in names if (workdir / name).resolve().is_relative_to(workdir)]
    return [name for name in inside if (workdir / name).is_file()]


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, to)


def _put_in_place(new: Path, workdir: Path, old: set[str]) -> None:
    """Rename a folder to the workdir, and keep the workdir's files that are not results.

    Args:
        new: The complete new results.
        workdir: The folder that they replace, if it exists.
        old: Names of the old result files, which are dropped.
    """
    if not workdir.exists():
        os.rename(new, workdir)
        return
    behind = Path(tempfile.mkdtemp(prefix=f".{workdir.name}.", dir=workdir.parent))
    os.rename(workdir, behind)  # an empty target is replaced
    try:
        os.rename(new, workdir)
    except BaseException:
        os.rename(behind, workdir)
        raise
    for path in sorted(behind.rglob("*")):
        name = path.relative_to(behind)
        if (path.is_file() or path.is_symlink()) and str(name) not in old:
            to = workdir / name
            to.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, to.with_name(f"{to.name}.kept") if to.exists() else to)
    shutil.rmtree(behind)
