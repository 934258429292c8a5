import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from wne_jax.data import build_corpus
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import (
    Compute,
    Diverged,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    draw_batch,
    fit,
    load_corpus,
    package,
)
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.training.log import Log
from wne_jax.weights import load_model

pytestmark = pytest.mark.usefixtures("standard_promotion")

CONFIG = TrainConfig(
    model=ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne"),
    optimizer=OptimizerConfig(ema=0.9),
    patch=12,
    batch=2,
    steps=120,
    log_every=1,
    save_every=7,
)

CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
from pathlib import Path
from wne_jax.training import fit, load_config
fit(load_config(Path(sys.argv[1])), sys.argv[2], resume=True, progress=False)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"):
        return fit(CONFIG, tmp_path_factory.mktemp("whole") / "run", progress=False)


def start_child_and_signal(workdir: Path, number: signal.Signals, *, after: int) -> int:
    """Train in another process, signal it after some steps, and return its exit code."""
    workdir.parent.mkdir(exist_ok=True)
    path = workdir.parent / "child.json"
    path.write_text(json.dumps(dataclasses.asdict(CONFIG)))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(workdir)], env=environment
    )
    log, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= after:
            child.send_signal(number)
            break
        time.sleep(0.005)
    return child.wait(60)


def test_killed_at_a_random_step_and_resumed_equals_uninterrupted(tmp_path, uninterrupted):
    after = int(np.random.default_rng().integers(10, 100))
    assert start_child_and_signal(tmp_path / "run", signal.SIGKILL, after=after) == -signal.SIGKILL
    resumed = fit(CONFIG, tmp_path / "run", resume=True, progress=False)
    chex.assert_trees_all_equal(resumed, uninterrupted)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").open()]
    assert steps == list(range(1, CONFIG.steps + 1))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_cleanly(tmp_path, uninterrupted, number, code):
    assert start_child_and_signal(tmp_path / "run", number, after=1) == code
    with Checkpoints(tmp_path / "run", keep=2) as checkpoints:
        last = checkpoints.latest
    logged = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").open()]
    assert last == logged[-1] < CONFIG.steps  # saved where it stopped, not at the last multiple
    chex.assert_trees_all_equal(
        fit(CONFIG, tmp_path / "run", resume=True, progress=False), uninterrupted
    )


def test_only_the_last_checkpoints_are_kept_and_the_last_is_the_state(tmp_path, uninterrupted):
    run = tmp_path / "run"
    state = fit(dataclasses.replace(CONFIG, steps=30), run, progress=False)
    assert sorted(int(p.name) for p in (run / "checkpoints").iterdir()) == [28, 30]
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    denoiser = Denoiser.load(run)
    chex.assert_trees_all_equal(denoiser.variables["params"], state.ema)
    image = np.random.default_rng(0).integers(0, 200, (20, 16), np.uint8)
    assert denoiser(image).shape == image.shape


@pytest.mark.parametrize("corpus", ["device", "host"])
def test_the_log_has_the_loss_of_what_is_saved(tmp_path, corpus):
    ramp = np.tile(np.linspace(0, 255, 30), (24, 1)).astype(np.uint8)[..., None]
    images = build_corpus([ramp, ramp.swapaxes(0, 1)])
    config = dataclasses.replace(
        CONFIG, steps=60, log_every=20, save_every=20, optimizer=OptimizerConfig(ema=0.9999)
    )
    compute = Compute("single", corpus)
    fit(config, tmp_path / "run", corpus=images, compute=compute, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    model, variables = load_model(tmp_path / "run/denoiser.safetensors")
    batch = draw_batch(config, jax.device_put(images), np.int32(59))
    estimate = model.build().apply(variables, batch.noisy)
    expected = np.mean(np.square(estimate - batch.clean))
    np.testing.assert_allclose(lines[-1]["average_loss"], expected, rtol=1e-4)
    assert lines[-1]["average_loss"] < lines[0]["average_loss"]
    assert (
        lines[-1]["average_loss"] < 1.5 * lines[-1]["loss"]
    )  # a constant decay keeps the first state


@pytest.mark.parametrize("scale, dtype", [(255, np.float32), (4095, np.uint16)])
def test_images_far_from_full_scale_are_noted_and_white_mends_it(tmp_path, scale, dtype):
    unit = np.random.default_rng(0).random((20, 24, 1))
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos/a.tif", np.rint(unit * scale).astype(dtype))
    config = dataclasses.replace(CONFIG, data=f"folder:{tmp_path / 'photos'}", steps=1)
    with pytest.warns(UserWarning, match="set it with --white"):
        fit(config, tmp_path / "run", progress=False)
    config = dataclasses.replace(config, white=scale)
    corpus = load_corpus(config)
    np.testing.assert_array_equal(
        corpus.pixels, np.rint(unit * scale).astype(np.float32).ravel() / scale
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(config, tmp_path / "other", corpus=corpus, progress=False)
    with pytest.raises(ValueError, match="other values of white"):
        fit(
            dataclasses.replace(config, white=None), tmp_path / "other", resume=True, progress=False
        )


def test_a_finished_run_resumes_to_itself(tmp_path):
    config = dataclasses.replace(CONFIG, steps=9)
    state = fit(config, tmp_path / "run", progress=False)
    chex.assert_trees_all_equal(fit(config, tmp_path / "run", resume=True, progress=False), state)


def test_a_run_is_not_overwritten_nor_resumed_with_another_configuration(tmp_path):
    config = dataclasses.replace(CONFIG, steps=3)
    fit(config, tmp_path / "run", progress=False)
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(config, tmp_path / "run", progress=False)
    changed = dataclasses.replace(config, seed=1, optimizer=OptimizerConfig())
    with pytest.raises(ValueError, match=r"optimizer\.ema, seed"):
        fit(changed, tmp_path / "run", resume=True, progress=False)


def test_a_mistake_does_not_claim_the_folder(tmp_path):
    for wrong in ({"loss": "l2"}, {"data": "folder:nowhere"}, {"patch": 2000}):
        with pytest.raises(ValueError, match=r"l2|nowhere|usable|smaller"):
            fit(dataclasses.replace(CONFIG, **wrong), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    gray = build_corpus([np.zeros((8, 8, 1), np.uint8)])
    with pytest.raises(ValueError, match="larger than the smallest"):
        fit(CONFIG, tmp_path / "run", corpus=gray, progress=False)
    colour = build_corpus([np.zeros((20, 20, 3), np.uint8)])
    with pytest.raises(ValueError, match="3 channels"):
        fit(CONFIG, tmp_path / "run", corpus=colour, progress=False)


def test_the_log_survives_a_kill_before_its_first_new_line(tmp_path):
    with Log(tmp_path, start=0) as log:
        for step in (1, 2, 3):
            log.write(step, loss=1.0 / step)
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 4, "lo')  # cut short
    Log(tmp_path, start=2)  # neither closed nor written to
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    "garbled",
    [b"\xff\xfe", b'{"step": "2"}', b'{"step": null}', b"3", b"[" * 100_000, b'{"loss": 1}'],
)
def test_a_garbled_line_of_the_log_is_left_out_and_kept_aside(tmp_path, garbled):
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step": 1}', garbled, b'{"step": 3}', b'{"step": 4}', b""]
    path.write_bytes(b"\n".join(lines))
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: line 2 cannot be read.*jsonl\.damaged"):
        Log(tmp_path, start=3)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == b"\n".join(lines)


def test_tensorboard_reads_the_log(tmp_path):
    with Log(tmp_path, start=4) as log:
        log.write(5, loss=0.25)
        log.write(6, loss=0.125)
    (events,) = (tmp_path / "tensorboard").iterdir()
    found = [event_pb2.Event.FromString(record) for record in records_of(events.read_bytes())]
    assert found[0].file_version == "brain.Event:2"
    assert [event.step for event in found if event.HasField("session_log")] == [5]
    scalars = [
        (e.step, v.tag, v.simple_value or v.tensor.float_val[0])
        for e in found
        for v in e.summary.value
    ]
    assert scalars == [(5, "loss", 0.25), (6, "loss", 0.125)]


def records_of(content):
    """The records of a TFRecord file: length, checksum, data, checksum."""
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        yield content[12 : 12 + size]
        content = content[16 + size :]


def test_nan_stops_the_run_names_the_step_and_keeps_a_good_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.random((16, 16, 1), np.float32) for _ in range(60)]
    images[7][:] = np.nan
    with pytest.raises(Diverged, match="not finite at step") as error:
        fit(CONFIG, tmp_path / "run", corpus=build_corpus(images), progress=False)
    named = int(str(error.value).split("at step ")[1].split()[0])
    with Checkpoints(tmp_path / "run", keep=2) as checkpoints:
        assert checkpoints.latest == (named - 1) // 7 * 7 > 0
        state = checkpoints.restore(CONFIG)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_huge_learning_rate_is_a_divergence_too(tmp_path):
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e38))
    with pytest.raises(Diverged, match="learning rate"):
        fit(config, tmp_path / "run", progress=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads
def test_a_damaged_and_a_foreign_checkpoint_are_refused_in_one_line(tmp_path):
    config = dataclasses.replace(CONFIG, steps=3)
    fit(config, tmp_path / "run", progress=False)
    wider = dataclasses.replace(config, model=ModelConfig(options={"depth": 3, "features": 8}))
    with Checkpoints(tmp_path / "run", keep=2) as checkpoints:
        with pytest.raises(ValueError, match="another model") as error:
            checkpoints.restore(wider)
        assert "\n" not in str(error.value)
    for file in (tmp_path / "run/checkpoints/3").rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        package(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no training run"):
        package(tmp_path)
