"""Rows of images divided over eight devices that XLA makes of one CPU, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.inference.denoiser import Denoiser

PLAIN = {"depth": 3, "features": 6}
UNET = {"features": [4, 4, 6, 8], "blocks": 1}
NE = {"mode": "normalization-equivariant"}

CASES = {  # a model, a shape, whether to average over turns
    "zeros beyond the border": (ModelConfig("dncnn", PLAIN), (1, 64, 20, 1), False),
    "an odd height": (ModelConfig("dncnn", PLAIN), (2, 37, 20, 1), False),
    "devices without a row": (ModelConfig("dncnn", PLAIN), (1, 9, 20, 1), False),
    "reflection and sort pooling": (ModelConfig("fdncnn", PLAIN | NE), (2, 37, 20, 1), False),
    "moments, turned": (ModelConfig("dncnn", PLAIN, wrapper="wne"), (2, 21, 18, 1), True),
    "medians": (
        ModelConfig("dncnn", PLAIN, wrapper=WrapperConfig("wne", "haar_mad")), (2, 37, 20, 1), False
    ),
    "flat blocks": (
        ModelConfig("dncnn", PLAIN, wrapper=WrapperConfig("wne", "noise_level")), (2, 37, 20, 1), False
    ),
    "a circular high-pass": (
        ModelConfig("dncnn", PLAIN, wrapper=WrapperConfig("wne", "high_pass")), (2, 37, 21, 1), False
    ),
    "told the level": (
        ModelConfig("fdncnn", PLAIN | {"conditioned": True}, wrapper="wne"), (2, 37, 21, 1), False
    ),
    "windows that straddle devices": (
        ModelConfig("swinir", {"groups": 1, "blocks": 2, "features": 8, "heads": 2}, wrapper="wne"),
        (2, 37, 20, 1), False,
    ),
    "attention over the whole image": (
        ModelConfig("restormer", {"dim": 4, "blocks": [1, 1], "heads": [1, 2],
                                  "refinement_blocks": 0}),
        (1, 41, 16, 3), False,
    ),
    "levels of fewer rows than devices": (
        ModelConfig("drunet", UNET, wrapper="wne"), (2, 37, 21, 1), False
    ),
}  # fmt: skip


def make(config: ModelConfig, channels: int) -> Denoiser:
    """A denoiser of random positive variables, made on the host: nothing is compiled."""
    condition = {"sigma": jnp.ones(1)} if config.takes_sigma else {}
    example, rng = jnp.zeros((1, 16, 16, channels)), np.random.default_rng(1)
    shapes = jax.eval_shape(
        lambda key: config.build().init(key, example, **condition), jax.random.key(0)
    )

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        inputs = max(1, int(np.prod(leaf.shape[:-1])))
        return (np.abs(rng.normal(size=leaf.shape)) / inputs).astype(leaf.dtype)

    return Denoiser(config.build(), jax.tree.map(draw, shapes), config)


def compare() -> dict[str, dict[str, float]]:
    """For each case, how far the divided result is from the whole one, and the latter from its input."""
    found = {}
    for name, (config, shape, turned) in CASES.items():
        whole = make(config, shape[-1])
        y = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
        options = {"sigma": 0.1 if config.takes_sigma else None, "self_ensemble": turned}
        expected, x = (np.asarray(d.function(y, **options)) for d in (whole, whole.sharded()))
        found[name] = {
            "error": float(np.abs(x - expected).max() / np.abs(expected).max()),
            "change": float(np.abs(expected - y).max()),
        }
    return found


def look() -> dict[str, object]:
    """What one denoiser is compiled to, how often, and what it refuses."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **about: (
            compiled.append(about.get("fun_name"))
            if event == "/jax/core/compile/backend_compile_duration"
            else None
        )
    )
    config, shape, _ = CASES["zeros beyond the border"]
    divided = make(config, 1).sharded()
    y = jnp.zeros(shape)
    for image in (y, y + 1, y[:, :40], np.asarray(y)):
        divided.function(image)
    program = jax.jit(divided.function).lower(y).compile().as_text()
    few = jax.devices()[:3]
    try:
        divided(np.zeros((7, 20), np.float32))
    except ValueError as error:
        refusal = str(error)
    return {
        "compiled": compiled.count("jit(denoise)"),
        "exchanges": program.count(" collective-permute("),
        "gathered": re.findall(r"= f32\[([\d,]+)\]\S* all-gather", program),
        "shapes": sorted(set(re.findall(r"f32\[([\d,]+)\]", program))),
        "refusal": refusal,
        "few": np.ptp(divided.sharded(few)(np.ones((7, 20), np.float32))).item(),
    }


@pytest.fixture(scope="module")
def found():
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    child = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_divided_equals_whole_to_rounding(found, name):
    case = found["compare"][name]
    assert case["error"] < 1e-6 and case["change"] > 0.01


def test_no_device_holds_a_whole_feature_map(found):
    program = found["look"]
    _, rows, columns, _ = CASES["zeros beyond the border"][1]
    assert program["exchanges"] >= 2 * PLAIN["depth"]  # up and down for every convolution
    assert program["gathered"] == [f"1,{rows},{columns},1"]  # the result
    sizes = [np.prod([int(side) for side in shape.split(",")]) for shape in program["shapes"]]
    assert max(sizes) == rows * columns


def test_one_compilation_for_each_shape(found):
    assert found["look"]["compiled"] == 2


def test_too_few_rows_are_refused_and_fewer_devices_serve_them(found):
    assert "7 rows are too few to divide among 8 devices" in found["look"]["refusal"]
    assert found["look"]["few"] > 0


class ElsewhereDevice(NamedTuple):
    process_index: int


def test_devices_that_cannot_serve_are_refused():
    denoise = make(ModelConfig("dncnn", PLAIN), 1)
    ours, others = jax.devices()[0], ElsewhereDevice(1)
    for devices, reason in (([], "one or more"), ([ours, ours], "each once"),
                            ([ours, others], "belong to another")):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            denoise.sharded(devices)


if __name__ == "__main__":
    # All that costs time here is to compile what runs once.
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps({"compare": compare(), "look": look()}))
