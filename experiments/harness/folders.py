"""Folders of results: new ones are computed aside and take their place when they are whole.

Nothing here removes a result but `--overwrite`, and that only when the new ones lie beside it:

- neither option: a folder that holds results is refused,
- `--resume`: the options must be those that made the folder; what it holds stays, what is missing is added,
- `--overwrite`: the files of the old results give way to the new ones.

A failed or interrupted run leaves the folder as it was. Files that no experiment has written always stay:
`config.json` lists those that one has.
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
"""Options on which results do not depend."""


@dataclass(frozen=True)
class Folder:
    """Where an experiment writes.

    Attributes:
        path: The folder beside the workdir, to write into.
        workdir: Where its files will lie in the end, to be named in messages.
        source: Where the results come from, for tables and figures.
        continues: Whether `path` began as a copy of earlier results.
    """

    path: Path
    workdir: Path
    source: dict[str, Any]
    continues: bool = False

    def write(self, records: Iterable[Record]) -> None:
        """Write `records.csv`."""
        write_records(records, self.path / RECORDS)


def refuse_results(options: Results) -> None:
    """Check that an experiment may write where it will.

    Raises:
        FileExistsError: The folder holds results, and neither `resume` nor `overwrite` is set; or it holds
            other files and no results.
        FileNotFoundError: Tables are wanted from records, and there are none.
        ValueError: The results that shall be continued were made with other options; or both options are set.
    """
    workdir, stage = options.folder, getattr(options, "stage", "all")
    resume = getattr(options, "resume", False)
    if resume and options.overwrite:
        raise ValueError("--resume keeps results and --overwrite replaces them: give one of them")
    if stage == "train":
        return
    there = (workdir / CONFIG).is_file()
    if stage == "report" and not there:
        raise FileNotFoundError(f"{workdir} holds no results: --stage all computes them")
    if not there and workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise FileExistsError(
            f"{workdir} is there and holds no results: --workdir names a new folder"
        )
    if there and _continues(options):
        _check_options(workdir, options)
    elif there and not options.overwrite:
        goes_on = "--resume continues them, " if hasattr(options, "resume") else ""
        raise FileExistsError(
            f"{workdir} holds results already: {goes_on}--overwrite replaces them, "
            "--workdir names another folder"
        )


def earlier_records(options: Results) -> list[Record]:
    """What an experiment that is continued has measured already; nothing for a new one."""
    path = options.folder / RECORDS
    if not (_continues(options) and path.is_file()):
        return []
    return [record for record in read_records(path) if record.value is not None]


def together(*parts: Iterable[Record]) -> list[Record]:
    """Records of several parts, each place once: the first that has it counts."""
    found: dict[str, Record] = {}
    for record in chain(*parts):
        place = [record[name] for name in COLUMNS if name not in ("value", "published")]
        found.setdefault(f"{place} {record.value is None}", record)
    return list(found.values())


@contextmanager
def results_folder(options: Results, **more: Any) -> Iterator[Folder]:
    """A folder to write results into, which becomes the workdir when the block ends well.

    Args:
        options: The options of the experiment.
        **more: What else shall stand beside the options in `config.json`.

    Yields:
        The folder; see `Folder`.

    Raises:
        OSError: As `refuse_results`, or the folder cannot be written.
        ValueError: As `refuse_results`.
    """
    refuse_results(options)
    workdir = options.folder.resolve()
    there = (workdir / CONFIG).is_file()
    continues = there and _continues(options)
    workdir.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{workdir.name}.", dir=workdir.parent))
    aside.chmod(0o755)
    try:
        old = set(_written(workdir)) if there else set()
        source = provenance(dataclasses.asdict(options) | more)
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
    """Whether earlier results stay: to add to them, or to draw them anew."""
    return getattr(options, "resume", False) or getattr(options, "stage", "all") == "report"


def _check_options(workdir: Path, options: Results) -> None:
    """Refuse to continue results of other options."""
    found = json.loads((workdir / CONFIG).read_text())["config"]
    now = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    before, now = flatten(found), flatten(now)
    names = [name for name in now if name.partition(".")[0] not in REPLACEABLE]
    if changed := sorted(name for name in names if before.get(name) != now[name]):
        raise ValueError(f"{workdir} was made with other values of {', '.join(changed)}")


def _written(workdir: Path) -> list[str]:
    """The files that an experiment has written into its folder, as its `config.json` lists them."""
    names = json.loads((workdir / CONFIG).read_text()).get("files", [])
    inside = [name for name in names if (workdir / name).resolve().is_relative_to(workdir)]
    return [name for name in inside if (workdir / name).is_file()]


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, to)


def _put_in_place(new: Path, workdir: Path, old: set[str]) -> None:
    """Give the workdir's name to a folder, and take over the files that are not results.

    Args:
        new: The whole new results.
        workdir: The folder that they replace, if it is there.
        old: Names of the old results in it, which go.
    """
    if not workdir.exists():
        os.rename(new, workdir)
        return
    behind = Path(tempfile.mkdtemp(prefix=f".{workdir.name}.", dir=workdir.parent))
    os.rename(workdir, behind)  # an empty folder gives way
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
