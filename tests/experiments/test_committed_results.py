"""Committed results are those of the commands that they name."""

import dataclasses
import importlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
import tyro

from experiments.harness.folders import CONFIG, RECORDS, REPLACEABLE
from experiments.harness.networks import WEIGHTS
from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import read_records
from wne_jax.training import load_config
from wne_jax.training.config import flatten

RESULTS = Path(__file__).parents[2] / "experiments/results"
FOLDERS = sorted(
    str(path.parent.relative_to(RESULTS))
    for path in RESULTS.rglob(CONFIG)
    if (path.parent / RECORDS).is_file()
)


def parsed(folder):
    """The module and the options of the command of a folder, and its `config.json`."""
    source = json.loads((RESULTS / folder / CONFIG).read_text())
    _, _, name, *arguments = shlex.split(source["command"])
    module = importlib.import_module(name)
    return module, tyro.cli(module.Options, args=arguments), source


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_command_reproduces_the_options_of_the_results(folder):
    _, options, source = parsed(folder)
    now = flatten(json.loads(json.dumps(dataclasses.asdict(options), default=str)))
    before = flatten(source["config"])
    for name in now:
        if name.partition(".")[0] not in REPLACEABLE:
            assert before.get(name) == now[name], name  # None if the option did not exist yet


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_listed_in_the_configuration_and_records_are_of_the_experiment(folder):
    module, _, source = parsed(folder)
    there = {path.name for path in (RESULTS / folder).iterdir() if path.is_file()}
    assert there == {CONFIG, *source["files"]}
    records = read_records(RESULTS / folder / RECORDS)
    assert {record.experiment for record in records} == {module.Options.NAME}


@pytest.mark.parametrize("folder", FOLDERS)
def test_tables_are_rendered_from_the_records(folder, tmp_path, monkeypatch, request):
    module, options, _ = parsed(folder)
    if not hasattr(options, "stage"):
        pytest.skip("it has no report of its own")
    if module.Options.NAME in ("difficulty", "filters"):  # these read an image even for the report
        request.getfixturevalue("wne_data")
    shutil.copytree(RESULTS / folder, tmp_path / "again")
    monkeypatch.setattr(plotting, "save", lambda *_, **__: None)
    changes = {"workdir": tmp_path / "again", "stage": "report", "overwrite": False}
    changes |= {"resume": False} if hasattr(options, "resume") else {}
    module.main(dataclasses.replace(options, **changes))
    assert (tmp_path / "again/table.md").read_text() == (RESULTS / folder / "table.md").read_text()


def test_committed_networks_are_complete_and_small():
    networks = [path.parent for path in (RESULTS / "networks").rglob(CONFIG)]
    assert networks
    for folder in networks:
        load_config(folder / CONFIG)
        assert (folder / WEIGHTS).is_file(), folder
    files = [path for folder in networks for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 25e6
