"""Finds the contents of a results folder: runs with their records and figures, and trained networks."""

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
    """A run of an experiment: its origin, records and figures."""

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
        """The preset of the run; empty if it has none."""
        return str(self.source["config"].get("preset") or "")

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The tables of the run by title, in the views of its experiment."""
        tables: dict[str, Table] = {}
        for view in views_of(self.module):
            tables |= view.pivot(self.records)
        return tables

    @property
    def empty(self) -> bool:
        """Whether the run has no results yet."""
        return not (self.records or self.figures)


def views_of(name: str) -> tuple[View, ...]:
    """The views of an experiment: the `VIEWS` of its module, or its only `VIEW`.

    Args:
        name: Name of the module in `experiments`; unknown names have no views.
    """
    if not (Path(experiments.__file__).parent / f"{name}.py").is_file():
        return (View(),)
    module = importlib.import_module(f"experiments.{name}")
    return getattr(module, "VIEWS", None) or (getattr(module, "VIEW", View()),)


@dataclass(frozen=True)
class Network:
    """A network that is or was trained: its configuration and its log."""

    folder: Path
    config: TrainConfig
    log: list[dict[str, float]]

    @property
    def minutes(self) -> float:
        """Training time, from the rates in the log."""
        steps = [0, *(line["step"] for line in self.log)]
        rates = [line["steps_per_second"] for line in self.log]
        return sum((b - a) / rate for a, b, rate in zip(steps, steps[1:], rates) if rate > 0) / 60

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        state = jax.eval_shape(lambda: create_state(self.config))
        return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def find(folder: Path, networks: Path | None = None) -> tuple[list[Run], list[Network]]:
    """All runs and networks in a results folder, sorted by path.

    Args:
        folder: Folder that contains the results folders.
        networks: A further folder of trained networks.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: The folder holds no results, or a file has invalid content.
    """
    for named, option in ((folder, "--results"), (networks, "--networks")):
        if named is not None and not named.is_dir():
            raise FileNotFoundError(f"{option}: {named} is not a folder")
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
            f"{folder} holds no experiment and no trained network: "
            "--results must be a folder that contains results folders"
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
        figures=tuple(sorted(folder.glob("*.png"))),
    )


def _add_network(trained: dict[Path, Network], path: Path) -> None:
    folder = path.parent
    try:
        config = load_config(path)
    except ValueError as error:  # written by another version
        warnings.warn(f"left out: {error}", stacklevel=2)
        return
    log = folder / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.is_file() else []
    whole = [
        json.loads(line) for line in lines if line.endswith("\n")
    ]  # the last line may be incomplete
    trained[folder.resolve()] = Network(folder, config, whole)
