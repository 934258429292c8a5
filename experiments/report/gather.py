"""What lies in a folder of experiments: runs with their records and figures, and trained networks."""

import importlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

import experiments
from wne_jax.evaluation.records import Record, read_records
from wne_jax.evaluation.tables import Table, View
from wne_jax.training import TrainConfig, create_state, load_config

_DEPTH = 3  # DIR/precision/float32/baseline


@dataclass(frozen=True)
class Run:
    """An experiment that was run: where it comes from, and what it left."""

    folder: Path
    source: dict[str, Any]
    records: list[Record]
    figures: tuple[Path, ...]

    @property
    def module(self) -> str:
        """The experiment's name, from its command."""
        words = self.source["command"].split()
        named = [word for word in words if word.startswith("experiments.")]
        return named[0].split(".")[1] if named else self.folder.name

    @property
    def preset(self) -> str:
        """The size that it was made with; empty where it has none."""
        return str(self.source["config"].get("preset") or "")

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Its records in the views of its experiment, by the titles of the tables."""
        tables: dict[str, Table] = {}
        for view in views_of(self.module):
            tables |= view.pivot(self.records)
        return tables

    @property
    def empty(self) -> bool:
        """Whether it has left nothing yet."""
        return not (self.records or self.figures)


def views_of(name: str) -> tuple[View, ...]:
    """How an experiment shows its records: the `VIEWS` of its module, or its only `VIEW`.

    Args:
        name: The module in `experiments`; of another there is no module to ask.
    """
    if not (Path(experiments.__file__).parent / f"{name}.py").is_file():
        return (View(),)
    module = importlib.import_module(f"experiments.{name}")
    return getattr(module, "VIEWS", None) or (getattr(module, "VIEW", View()),)


@dataclass(frozen=True)
class Network:
    """A network that was trained, or is being trained: its configuration and its log."""

    folder: Path
    config: TrainConfig
    log: list[dict[str, float]]

    @property
    def minutes(self) -> float:
        """Time of training, from the rates in the log."""
        steps = [0, *(line["step"] for line in self.log)]
        rates = [line["steps_per_second"] for line in self.log]
        return sum((b - a) / rate for a, b, rate in zip(steps, steps[1:], rates) if rate > 0) / 60

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        state = jax.eval_shape(lambda: create_state(self.config))
        return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def find(folder: Path, networks: Path | None = None) -> tuple[list[Run], list[Network]]:
    """Everything in a folder of experiments, by path.

    Args:
        folder: Its subfolders are the experiments' folders.
        networks: A further folder of trained networks.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is nothing in it, or a file is not what it should be.
    """
    for named, option in ((folder, "--results"), (networks, "--networks")):
        if named is not None and not named.is_dir():
            raise FileNotFoundError(f"{named} is not a folder: {option} names one")
    configs = list(_configs(folder, _DEPTH))
    configs += [] if networks is None else list(_configs(networks, 2))
    runs, trained = [], {}
    for path in configs:
        values = _read_json(path)
        if "command" in values and "config" in values:
            runs.append(_run(path.parent, values))
        elif "model" in values and "steps" in values:
            _add_network(trained, path)
    if not runs and not trained:
        raise ValueError(
            f"{folder} holds no experiment and no trained network: --results names a folder of their folders"
        )
    return runs, list(trained.values())


def _configs(folder: Path, depth: int) -> Iterator[Path]:
    for parent in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (parent / "config.json").is_file():
            yield parent / "config.json"
        if depth > 1:
            yield from _configs(parent, depth - 1)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return values if isinstance(values, dict) else {}


def _run(folder: Path, source: dict[str, Any]) -> Run:
    path = folder / "records.csv"
    return Run(
        folder=folder,
        source=source,
        records=read_records(path) if path.is_file() else [],
        figures=tuple(sorted(p for p in folder.iterdir() if p.suffix in (".png", ".gif"))),
    )


def _add_network(trained: dict[Path, Network], path: Path) -> None:
    folder = path.parent
    try:
        config = load_config(path)
    except ValueError as error:  # of another version
        warnings.warn(f"left out: {error}", stacklevel=2)
        return
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.is_file() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]  # one may be on its way
    trained[folder.resolve()] = Network(folder, config, whole)
