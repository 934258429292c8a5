"""Harm done to a run: nothing that was saved is lost, and one line says what is wrong."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from wne_jax.data import build_corpus
from wne_jax.training import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    create_state,
    fit,
    load_config,
    save_config,
)
from wne_jax.training.checkpoints import Checkpoints, load_run
from wne_jax.training.claim import Identity, locked
from wne_jax.training.log import Log
from wne_jax.weights import WeightsError, save

pytestmark = [
    pytest.mark.usefixtures("standard_promotion"),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # Orbax's threads
]

CONFIG = TrainConfig(
    model=ModelConfig(options={"depth": 3, "features": 24}),
    optimizer=OptimizerConfig(schedule="constant"),
    patch=12,
    batch=2,
    steps=6,
    log_every=1,
    save_every=2,
    keep=3,
)

KILLED_WHEN_ALL_BUT_THE_RENAMING_IS_DONE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from orbax.checkpoint.path import atomicity
from wne_jax.data import build_corpus
from wne_jax.training import fit, load_config

finalize = atomicity.AtomicRenameTemporaryPath.finalize

async def killed(self, *arguments, **options):
    if self.get_final().name == "4":
        os.kill(os.getpid(), signal.SIGKILL)
    return await finalize(self, *arguments, **options)

atomicity.AtomicRenameTemporaryPath.finalize = killed
images = build_corpus(list(np.load(sys.argv[2])))
config = load_config(Path(sys.argv[1], "config.json"))
fit(config, sys.argv[1], resume=True, corpus=images, progress=False)
"""


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 1)).astype(np.uint8)


def corpus():
    return build_corpus(list(IMAGES))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"):
        workdir = tmp_path_factory.mktemp("reliability") / "run"
        return fit(CONFIG, workdir, corpus=corpus(), progress=False), workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run, whose last checkpoints a test may damage."""
    shutil.copytree(finished[1], tmp_path / "run")
    return tmp_path / "run"


def resume(run, **options):
    return fit(CONFIG, run, **{"resume": True, "corpus": corpus(), "progress": False} | options)


def steps_saved(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@contextmanager
def no_file_larger_than(size):
    """Stands for a full disk: writes beyond fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def cut(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[:100])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def metadata(text):
    return lambda folder: (folder / "_CHECKPOINT_METADATA").write_text(text)


@pytest.mark.parametrize(
    "damages",
    [
        (metadata("[1, 2]"), metadata(20_000 * "[")),
        (metadata('{"custom_metadata": "x"}'), metadata('{"commit_timestamp_nsecs": "x"}')),
        (cut, lambda folder: largest_file(folder).unlink()),
        (lambda folder: shutil.rmtree(folder / "default"), empty),  # a copy that was interrupted
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_resumed(run, finished, damages):
    for step, damage in zip(("4", "6"), damages, strict=True):
        damage(run / "checkpoints" / step)
    with pytest.warns(UserWarning, match=r"step 6 .* damaged .*step 4 .* going on from step 2$"):
        assert load_run(run)[2] == 2
    assert steps_saved(run) == ["2", "4", "6"]  # a reader leaves them
    with pytest.warns(UserWarning, match=r"step 6 .* damaged .*step 4 .* going on from step 2$"):
        state = resume(run)
    chex.assert_trees_all_equal(state, finished[0])
    assert steps_saved(run) == ["2", "4", "4.damaged", "6", "6.damaged"]


@pytest.mark.parametrize("kept", [[1], {"config": [1], "images": {}}, {"config": {}}])
def test_a_checkpoint_that_says_nonsense_of_its_run_is_like_one_that_says_nothing(run, kept):
    path = run / "checkpoints" / "6" / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {"run": kept}}))
    assert load_run(run)[2] == 6 and int(resume(run).step) == 6


def test_without_an_intact_checkpoint_nothing_is_touched(run):
    for step in ("2", "4", "6"):
        largest_file(run / "checkpoints" / step).unlink()
    with pytest.raises(ValueError, match=r"no checkpoint can be read.*step 6.*step 4.*step 2"):
        resume(run)
    assert steps_saved(run) == ["2", "4", "6"]


def test_killed_within_the_writing_of_a_checkpoint(run, finished, tmp_path):
    for step in ("4", "6"):
        shutil.rmtree(run / "checkpoints" / step)
    np.save(tmp_path / "images.npy", IMAGES)
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_WHEN_ALL_BUT_THE_RENAMING_IS_DONE,
            run,
            tmp_path / "images.npy",
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert any(name.startswith("4.") for name in steps_saved(run))
    with Checkpoints(run, keep=3, create=False) as checkpoints:
        assert checkpoints.latest == 2
    assert (run / "lock").exists()  # and holds nobody up
    chex.assert_trees_all_equal(resume(run), finished[0])
    assert steps_saved(run) == ["2", "4", "6"]


def test_a_full_disk_ends_the_run_with_the_checkpoint_before_intact(run, finished, capfd):
    shutil.rmtree(run / "checkpoints/6")
    images = corpus()
    with (
        no_file_larger_than(20_000),
        pytest.raises(OSError, match=r"cannot be written: .*File too large.*step 4 is intact$"),
    ):
        resume(run, corpus=images)
    assert "Traceback" not in capfd.readouterr().err
    with Checkpoints(run, keep=3, create=False) as checkpoints:
        assert checkpoints.latest == 4
    chex.assert_trees_all_equal(resume(run), finished[0])
    assert steps_saved(run) == ["2", "4", "6"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_told_by_the_file_that_does_not_fit(tmp_path, name):
    with (
        pytest.raises(OSError, match=rf"{name} cannot be written: .*File too large") as error,
        no_file_larger_than(1000),
        Log(tmp_path, start=0) as log,
    ):
        (tmp_path / "metrics.jsonl").write_bytes(b"" if name == "tensorboard" else b" " * 990)
        for step in range(1000):
            log.write(step, loss=1.0) if name == "metrics.jsonl" else log._board.write(step, a=1)
    assert "\n" not in str(error.value)
    identity = Identity.of(CONFIG, corpus())
    with no_file_larger_than(10), pytest.raises(OSError, match=r"File too large.*config\.json"):
        identity.write(tmp_path)


def test_images_that_do_not_fit_the_disk_are_said_to():
    with no_file_larger_than(1000), pytest.raises(OSError, match=r"do not fit into .*TMPDIR"):
        build_corpus([np.zeros((40, 40, 1), np.uint8)])


def test_other_images_are_refused_on_resuming(run):
    other = build_corpus([np.zeros((20, 24, 1), np.uint8)] * 4)
    with pytest.raises(ValueError, match="other images: 3 of 1,440 elements then, 4 of 1,920 now"):
        resume(run, corpus=other)


def test_another_configuration_is_refused_on_resuming(run):
    changed = dataclasses.replace(CONFIG, precision="bfloat16", accumulate=2)
    with pytest.raises(ValueError, match="other values of accumulate, precision"):
        fit(changed, run, resume=True, corpus=corpus(), progress=False)


@pytest.mark.parametrize("gone", ["config.json", "corpus.json"])
def test_checkpoints_of_another_run_do_not_pass_for_this_one(run, finished, gone):
    (run / gone).unlink()
    before = {path.name: path.stat() for path in run.iterdir()}
    other = dataclasses.replace(CONFIG, seed=1, sigma_255=(50,))
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(other, run, corpus=corpus(), progress=False)
    with pytest.raises(ValueError, match="other values of seed, sigma_255"):
        fit(other, run, resume=True, corpus=corpus(), progress=False)
    with pytest.raises(ValueError, match="other images: 3 of 1,440 elements then, 1 of 480 now"):
        resume(run, corpus=build_corpus(list(IMAGES[:1])))
    for step in steps_saved(run):  # as before checkpoints had an identity
        (run / "checkpoints" / step / "_CHECKPOINT_METADATA").rename(run / f"{step}.metadata")
    with pytest.raises(ValueError, match=f"but no {gone}, so that nothing says whose"):
        resume(run)
    assert {path.name for path in run.iterdir()} - before.keys() == {
        f"{step}.metadata" for step in steps_saved(run)
    }
    for step in steps_saved(run):
        (run / f"{step}.metadata").rename(run / "checkpoints" / step / "_CHECKPOINT_METADATA")
    chex.assert_trees_all_equal(resume(run), finished[0])  # the checkpoint says that it is its own
    assert (run / gone).is_file()


def test_a_configuration_beside_checkpoints_of_another_model_is_refused(run):
    model = ModelConfig(options=CONFIG.model.options, wrapper="scale")  # the same parameters
    save_config(dataclasses.replace(CONFIG, model=model), run / "config.json")
    with pytest.raises(ValueError, match=r"config\.json names another model"):
        load_run(run)


def test_what_changes_no_result_may_change(run, finished, tmp_path):
    """Rhythm of log and checkpoints, the place of the images, and more steps at a constant rate."""
    longer = dataclasses.replace(
        CONFIG, steps=9, save_every=5, log_every=4, keep=1, data="folder:moved"
    )
    whole = fit(longer, tmp_path / "whole", corpus=corpus(), progress=False)
    resumed = fit(longer, run, resume=True, corpus=corpus(), progress=False)
    chex.assert_trees_all_equal(resumed, whole)
    assert steps_saved(run) == ["9"] and load_config(run / "config.json") == longer
    with pytest.raises(ValueError, match="is at step 9 already, beyond 6"):
        resume(run)


def test_a_longer_cosine_is_another_run(tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, optimizer=OptimizerConfig(schedule="cosine"))
    fit(config, tmp_path / "run", corpus=corpus(), progress=False)
    with pytest.raises(ValueError, match=r"steps = 1, where its cosine .* new folder, with --init"):
        fit(
            dataclasses.replace(config, steps=9),
            tmp_path / "run",
            resume=True,
            corpus=corpus(),
            progress=False,
        )


def test_two_trainings_do_not_share_a_folder(run, finished):
    with locked(run):
        assert (run / "lock").exists()
        with pytest.raises(FileExistsError, match=f"being trained by process {os.getpid()} on "):
            resume(run)
    assert not (run / "lock").exists()
    chex.assert_trees_all_equal(resume(run), finished[0])
    assert not (run / "lock").exists()


@pytest.mark.parametrize("name", ["corpus.json", "config.json"])
@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[" * 100_000, b"[]", b"{", b'{"images": "x"}', b""]
)
def test_damaged_files_are_named(tmp_path, name, text):
    identity = Identity.of(CONFIG, corpus())
    identity.write(tmp_path)
    assert identity.check_files(tmp_path) == []
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError, match=rf"{name}") as error:
        identity.check_files(tmp_path)
    assert len(str(error.value)) < 1000


def test_training_starts_from_weights_of_a_file_or_of_a_run(run, finished, tmp_path):
    state, _ = finished
    save(tmp_path / "weights.safetensors", CONFIG.model, state.variables())
    still = OptimizerConfig(name="sgd", learning_rate=1e-30)
    for path in (tmp_path / "weights.safetensors", run):
        config = dataclasses.replace(CONFIG, init=str(path), optimizer=still, steps=1)
        started = fit(config, tmp_path / f"from-{path.name}", corpus=corpus(), progress=False)
        chex.assert_trees_all_equal(started.params, state.params)
    wider = dataclasses.replace(
        CONFIG,
        init=str(tmp_path / "weights.safetensors"),
        model=ModelConfig(options={"depth": 3, "features": 8}),
    )
    with pytest.raises(WeightsError, match="does not fit dncnn"):
        fit(wider, tmp_path / "wider", corpus=corpus(), progress=False)
    assert not (tmp_path / "wider").exists()


def test_noise_of_the_camera_trains_a_blind_network_and_no_conditioned_one(tmp_path):
    rng = np.random.default_rng(0)
    clean = rng.random((20, 24, 1), np.float32)
    shots = np.stack([clean + 0.1 * rng.standard_normal(clean.shape, np.float32) for _ in range(3)])
    for kind, scene in (("pairs", shots[:2]), ("repeats", shots)):
        scenes = build_corpus([scene], kind=kind)
        state = fit(CONFIG, tmp_path / kind, corpus=scenes, progress=False)
        before = create_state(CONFIG).params["conv_2"]["kernel"]
        assert np.any(state.params["conv_2"]["kernel"] != before)
        options = CONFIG.model.options | {"conditioned": True}
        told = dataclasses.replace(CONFIG, model=ModelConfig("fdncnn", options))
        with pytest.raises(ValueError, match=f"which {kind} of images do not have"):
            fit(told, tmp_path / "told", corpus=scenes, progress=False)
