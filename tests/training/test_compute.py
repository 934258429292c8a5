"""Three ways to run one step: on one device, on a mesh, by pmap; images on the device or on the host."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.data import build_corpus
from wne_jax.training import Compute, ModelConfig, OptimizerConfig, TrainConfig, create_state
from wne_jax.training import compute as compute_module
from wne_jax.training.compute import Runner, _fold
from wne_jax.training.step import draw_batch, make_train_step

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = TrainConfig(
    model=ModelConfig(backbone="fdncnn", options={"depth": 3, "features": 4}),
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, schedule="constant"),
    batch=4,
    patch=12,
    steps=10,
)


def corpus():
    rng = np.random.default_rng(0)
    return build_corpus([rng.integers(0, 256, (20, 30, 1)).astype(np.uint8) for _ in range(3)])


@pytest.fixture(scope="module")
def eight_devices():
    root = Path(__file__).parents[2]
    # Compiled as a user's programs are: that they agree bit for bit is a property of them.
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"PYTHONPATH": str(root), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).with_name("eight_devices.py")
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_device_a_mesh_and_pmap_agree_after_twenty_steps(eight_devices):
    ways = eight_devices["sgd"] | {
        f"bias-free, {name}": found for name, found in eight_devices["bias-free"].items()
    }
    assert len(ways) == 7
    for name, found in ways.items():
        assert found["steps"] == 20, name
        assert max(found["variables"], found["losses"], found["output"]) < 1e-5, name


def test_under_adam_losses_and_outputs_agree(eight_devices):
    """Parameters need not: those whose gradient is zero but for rounding move by its sign."""
    for name, found in eight_devices["adam"].items():
        assert found["losses"] < 1e-5 and found["output"] < 1e-4, name


def test_images_that_stream_give_the_same_run_bit_for_bit(eight_devices):
    assert eight_devices["sgd"]["single, streamed"]["variables"] == 0
    for way in ("mesh", "pmap"):
        on_device, streamed = (eight_devices["sgd"][n] for n in (way, f"{way}, streamed"))
        assert on_device["variables"] == streamed["variables"]


def test_a_batch_need_not_divide_among_the_devices_of_a_mesh(eight_devices):
    assert eight_devices["uneven"]["mesh"]["variables"] < 2e-6


def test_the_way_is_said_in_one_line(eight_devices):
    said = {name: found["how"] for name, found in eight_devices["sgd"].items()}
    assert said["mesh"].startswith("8 x cpu by jit over a mesh; corpus of 0.0 MB on the device")
    assert said["pmap, streamed"].startswith("8 x cpu by pmap; corpus of 0.0 MB streams")


def test_steps_folded_into_one_dispatch_are_the_same_steps():
    step = make_train_step(SMALL)
    images = jax.device_put(corpus())
    state, losses = create_state(SMALL), []
    for _ in range(5):
        state, metrics = jax.jit(step)(state, images)
        losses.append(metrics["loss"])
    folded, metrics = jax.jit(_fold(step, limit=8))(create_state(SMALL), images, jnp.int32(5))
    chex.assert_trees_all_close(folded, state, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], [*losses, 0, 0, 0], rtol=1e-5)
    np.testing.assert_array_equal(metrics["finite"], [True] * 5 + [False] * 3)


@pytest.mark.parametrize("parallel", ["single", "mesh"])
def test_a_runner_folds_up_to_its_limit_as_on_an_accelerator(monkeypatch, parallel):
    images, losses, states = corpus(), [], []
    for folds in (False, True):
        monkeypatch.setattr(Runner, "_folds", folds)
        runner = Runner(SMALL, images, Compute(parallel, folded=4))
        state, source, step, fetched = runner.place(create_state(SMALL)), runner.source(0), 0, []
        while step < SMALL.steps:
            state, done = runner.advance(state, next(source), SMALL.steps - step)
            step += done.steps
            fetched.append(done.fetch()["loss"])
        assert [len(some) for some in fetched] == ([4, 4, 2] if folds else [1] * 10)
        losses.append(np.concatenate(fetched))
        states.append(runner.canonical(state))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    chex.assert_trees_all_close(*states, rtol=1e-5, atol=1e-7)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Without batch normalization, whose statistics are those of a part."""
    images = jax.device_put(corpus())
    whole, parts = (
        jax.jit(make_train_step(dataclasses.replace(SMALL, accumulate=k)))(
            create_state(SMALL), images
        )
        for k in (1, 2)
    )
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_precision_changes_the_computation_and_not_the_parameters():
    images = jax.device_put(corpus())
    ran = {}
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(
            SMALL,
            precision=precision,
            model=ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne"),
        )
        step = jax.jit(make_train_step(config))
        text = step.lower(create_state(config), images).as_text()
        convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
        assert convolutions and all(
            ("bf16" in c) == (precision == "bfloat16") for c in convolutions
        )
        assert all(("HIGHEST" in c) == (precision == "float32") for c in convolutions)
        ran[precision] = step(create_state(config), images)
    chex.assert_trees_all_equal_dtypes(*ran.values())
    first, second = (state.params["conv_2"]["kernel"] for state, _ in ran.values())
    assert np.any(first != second)
    np.testing.assert_allclose(first, second, rtol=0.02, atol=0.02 * float(np.abs(first).max()))
    step = jax.jit(make_train_step(dataclasses.replace(SMALL, precision="tf32")))
    assert "HIGH>" in step.lower(create_state(SMALL), images).as_text().replace("HIGHEST", "")


def test_a_large_corpus_streams_by_itself_and_is_refused_on_the_device(monkeypatch):
    images = corpus()
    assert not Runner(SMALL, images, Compute("single")).streams
    monkeypatch.setattr(compute_module, "_memory_of", lambda device: 4 * images.pixels.nbytes - 1)
    assert Runner(SMALL, images, Compute("single")).streams
    assert not Runner(SMALL, images, Compute("single", "device")).streams
    monkeypatch.setattr(compute_module, "MAX_ELEMENTS", images.pixels.size - 1)
    with pytest.raises(ValueError, match=r"1,800 elements.*let it stream"):
        Runner(SMALL, images, Compute("single", "device"))
    monkeypatch.setattr(compute_module, "_memory_of", lambda device: float("inf"))
    runner = Runner(SMALL, images, Compute("single"))
    assert runner.streams and "streams from the host" in str(runner)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"parallel": "xmap"}, "auto, single, mesh, pmap; not 'xmap'"),
        ({"corpus": "disk"}, "auto, device, host; not 'disk'"),
        ({"folded": 0}, "1 or more"),
    ],
)
def test_ways_that_do_not_exist_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Compute(**values)


def test_a_streamed_batch_is_the_one_drawn_on_the_device_at_any_step():
    images = corpus()
    runner = Runner(SMALL, images, Compute("single", "host"))
    for step, crops in zip((7, 8, 9), runner.source(7), strict=True):
        expected = draw_batch(SMALL, images, jnp.int32(step))
        chex.assert_trees_all_equal(draw_batch(SMALL, crops, jnp.int32(step)), expected)
