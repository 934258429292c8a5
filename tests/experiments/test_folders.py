"""Results are never deleted unintentionally, even by interrupted runs."""

import ast
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import pytest

import experiments
from experiments.harness import Compared, check_workdir, results_folder, run
from experiments.harness.arms import run_config
from experiments.harness.folders import earlier_records, together
from wne_jax.evaluation.records import Record, write_records
from wne_jax.training import save_config

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg
)


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Options of an experiment that writes a word."""

    NAME = "word"

    word: str = "old"
    """The word."""


def write(options, files=("word.txt", "figures/word.png")):
    with results_folder(options) as out:
        for name in files:
            (out.path / name).parent.mkdir(exist_ok=True)
            (out.path / name).write_text(options.word)
        return out


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def workdir(tmp_path):
    """A folder of results that also contains a file of the user."""
    write(Options(workdir=tmp_path / "out"))
    (tmp_path / "out/mine.txt").write_text("mine")
    return tmp_path / "out"


def test_a_new_folder_contains_and_lists_the_files(tmp_path):
    out = write(Options(workdir=tmp_path / "deep/out", seed=3))
    assert out.workdir == tmp_path / "deep/out"
    assert contents(tmp_path / "deep").keys() == {
        "out/config.json", "out/word.txt", "out/figures/word.png",
    }  # fmt: skip
    source = json.loads((tmp_path / "deep/out/config.json").read_text())
    assert source["files"] == ["figures/word.png", "word.txt"] and source["config"]["seed"] == 3


def test_existing_results_raise(workdir):
    before = contents(workdir)
    with pytest.raises(FileExistsError, match="with --resume, replace them with --overwrite"):
        write(Options(workdir=workdir, word="new"))
    assert contents(workdir) == before


def test_overwrite_replaces_only_files_of_the_experiment(workdir):
    write(Options(workdir=workdir, word="new", overwrite=True), files=["word.txt"])
    after = contents(workdir.parent)
    assert after.keys() == {"out/config.json", "out/word.txt", "out/mine.txt"}
    assert after["out/word.txt"] == b"new" and after["out/mine.txt"] == b"mine"


def test_links_of_the_user_are_kept(workdir):
    (workdir.parent / "elsewhere").mkdir()
    (workdir / "link").symlink_to(workdir.parent / "elsewhere")
    write(Options(workdir=workdir, word="new", overwrite=True))
    assert (workdir / "link").is_symlink() and (workdir / "word.txt").read_text() == "new"


def test_a_file_of_the_user_is_kept_if_a_result_has_its_name(workdir):
    (workdir / "table.md").write_text("mine, too")
    write(Options(workdir=workdir, overwrite=True), files=["table.md"])
    assert (workdir / "table.md").read_text() == "old"
    assert (workdir / "table.md.kept").read_text() == "mine, too"


def test_resume_keeps_results_and_their_origin(workdir):
    before = json.loads((workdir / "config.json").read_text())
    write(Options(workdir=workdir, resume=True, networks=Path("elsewhere")), files=["more.txt"])
    after = json.loads((workdir / "config.json").read_text())
    assert contents(workdir).keys() == {
        "config.json", "figures/word.png", "mine.txt", "more.txt", "word.txt",
    }  # fmt: skip
    assert after.pop("files") == [*before.pop("files")[:1], "more.txt", "word.txt"]
    assert after == before


@pytest.mark.parametrize("how", [{"resume": True}, {"stage": "report"}])
def test_results_of_other_options_cannot_be_resumed(workdir, how):
    before = contents(workdir)
    with pytest.raises(ValueError, match="made with different values of train_sigmas_255, word"):
        write(Options(workdir=workdir, word="new", train_sigmas_255=((2.0, 55.0),), **how))
    assert contents(workdir) == before


@pytest.mark.parametrize("how", [{"resume": True}, {"stage": "report"}, {"overwrite": True}])
@pytest.mark.parametrize("named", [True, False])
def test_results_of_another_experiment_are_never_touched(workdir, how, named):
    source = json.loads((workdir / "config.json").read_text())
    assert source["experiment"] == "word"
    if named:
        source["experiment"] = "regret"
    else:  # only the records tell
        del source["experiment"]
        record = Record(experiment="regret", metric="psnr", unit="dB", value=1.0)
        write_records([record], workdir / "records.csv")
    (workdir / "config.json").write_text(json.dumps(source))
    before = contents(workdir)
    with pytest.raises(FileExistsError, match="out holds results of regret, not results of word"):
        write(Options(workdir=workdir, word="new" if "overwrite" in how else "old", **how))
    assert contents(workdir) == before


@pytest.mark.parametrize("how", [{"resume": True}, {"stage": "report"}, {"overwrite": True}])
def test_a_training_run_is_never_touched(tmp_path, how):
    save_config(run_config("wne", "tiny", 25.0), tmp_path / "config.json")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="holds a training run or other files"):
        write(Options(workdir=tmp_path, **how))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_only_the_old_results(workdir, error):
    before = contents(workdir.parent)
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(error), results_folder(Options(workdir=workdir, **how)) as out:
            (out.path / "word.txt").write_text("half")
            raise error
    with pytest.raises(error), results_folder(Options(workdir=workdir.parent / "new")) as out:
        (out.path / "word.txt").write_text("half")
        raise error
    assert contents(workdir.parent) == before
    assert [path.name for path in workdir.parent.iterdir()] == ["out"]


def test_old_results_are_restored_if_the_new_ones_cannot_replace_them(workdir, monkeypatch):
    before, rename = contents(workdir.parent), os.rename

    def broken(source, target):
        if Path(target) == workdir and (Path(source) / "word.txt").read_text() == "new":
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="no space"):
        write(Options(workdir=workdir, word="new", overwrite=True))
    assert contents(workdir) == {k.removeprefix("out/"): v for k, v in before.items()}


def test_a_killed_run_leaves_nothing(workdir):
    code = (
        "import time; from tests.experiments.test_folders import Options\n"
        "from experiments.harness import results_folder, run\n"
        "def main(options):\n"
        "    with results_folder(options):\n"
        "        print('inside', flush=True); time.sleep(60)\n"
        "run(main, Options, '')"
    )
    before = contents(workdir.parent)
    command = [sys.executable, "-c", code, "--workdir", workdir, "--overwrite"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert contents(workdir.parent) == before
    assert [path.name for path in workdir.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"resume": True, "overwrite": True}, ValueError, "give only one"),
        ({"workdir": Path("other"), "stage": "report"}, FileNotFoundError, "holds no results"),
        ({"workdir": Path("theirs")}, FileExistsError, "exists but holds no results"),
        ({"workdir": Path("theirs"), "overwrite": True}, FileExistsError, "holds no results"),
    ],
)
def test_invalid_options_raise_in_one_line(workdir, change, error, message):
    (workdir.parent / "theirs").mkdir()
    (workdir.parent / "theirs/notes.txt").touch()
    change = {k: workdir.parent / v if k == "workdir" else v for k, v in change.items()}
    with pytest.raises(error, match=message):
        check_workdir(Options(**{"workdir": workdir} | change))


def test_earlier_records_exist_only_for_a_resumed_run(tmp_path):
    options = Options(workdir=tmp_path / "out")
    record = Record(experiment="word", metric="psnr", level=5, value=30)
    with results_folder(options) as out:
        out.write([record, Record(experiment="word", metric="psnr", level=10)])
    assert earlier_records(options) == []
    assert earlier_records(Options(workdir=tmp_path / "out", resume=True)) == [record]


def test_each_cell_has_one_record():
    def at(level, value):
        return Record(experiment="word", metric="psnr", level=level, value=value)

    assert together([at(5, None), at(5, 1)], [at(5, 2), at(10, 3)]) == [
        at(5, None), at(5, 1), at(10, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_raises_on_existing_results_before_computing(name, workdir, capsys):
    module, config = importlib.import_module(f"experiments.{name}"), workdir / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"experiment": name}))
    before = contents(workdir)
    needed = [f.name for f in fields(module.Options) if f.default is f.default_factory is MISSING]
    arguments = [word for option in needed for word in (f"--{option}", "nowhere")]
    start = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [name, "--workdir", str(workdir), *arguments])
        patch.setattr("experiments.harness.command.keep_compiled", lambda: None)
        patch.setattr(signal, "signal", lambda *_: None)
        run(module.main, module.Options, module.__doc__)
    assert end.value.code == 2 and time.perf_counter() - start < 10
    assert "already holds results" in capsys.readouterr().err
    assert contents(workdir) == before


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_writes_only_by_results_folder(name):
    tree = ast.parse((ROOT / f"experiments/{name}.py").read_text())
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
    assert "results_folder" in called
    assert not called & {"unlink", "rmtree", "remove", "rename", "rmdir"}
