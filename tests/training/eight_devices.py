"""Run by test_compute.py with eight devices: trains every way, and prints what came of it as JSON."""

import dataclasses
import json
import sys

import jax
import numpy as np

from wne_jax.data import build_corpus
from wne_jax.training import Compute, ModelConfig, OptimizerConfig, TrainConfig, create_state
from wne_jax.training.compute import Runner

SGD = TrainConfig(
    model=ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne"),
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, schedule="constant"),
    sigma_255=(0, 50),
    batch=16,
    patch=12,
    steps=20,
)
ADAM = dataclasses.replace(SGD, optimizer=OptimizerConfig(learning_rate=1e-3))
BIAS_FREE = dataclasses.replace(
    SGD, model=ModelConfig(options=SGD.model.options | {"mode": "scale-equivariant"})
)
UNEVEN = dataclasses.replace(SGD, batch=12)
FIELDS = ("params", "collections")


def images(number=5):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20 + i, 30, 1)).astype(np.uint8) for i in range(number)]


def train(config, compute):
    corpus = build_corpus(images())
    runner = Runner(config, corpus, compute)
    state, source = runner.place(create_state(config)), runner.source(0)
    step, losses = 0, []
    while step < config.steps:
        state, done = runner.advance(state, next(source), config.steps - step)
        step += done.steps
        losses += done.fetch()["loss"].tolist()
    state = jax.device_get(runner.canonical(state))
    y = np.random.default_rng(1).random((2, 16, 16, 1), np.float32)
    output = np.asarray(config.model.build().apply(state.variables(), y))
    return {"state": state, "losses": np.array(losses), "output": output, "how": str(runner)}


def compare(config, *ways):
    """The largest differences from one device, and how far the losses fell."""
    reference = train(config, Compute("single"))
    found = {}
    for name, compute in ways:
        other = train(config, compute)
        trees = [
            jax.tree.leaves([getattr(r["state"], f) for f in FIELDS]) for r in (reference, other)
        ]
        found[name] = {
            "variables": max(float(np.max(np.abs(a - b))) for a, b in zip(*trees, strict=True)),
            "losses": float(np.max(np.abs(other["losses"] / reference["losses"] - 1))),
            "output": float(np.max(np.abs(other["output"] - reference["output"]))),
            "steps": len(other["losses"]),
            "how": other["how"],
        }
    return found


if __name__ == "__main__":
    # All that costs time here is to compile what runs twenty times.
    jax.config.update("jax_disable_most_optimizations", True)
    assert jax.device_count() == 8
    mesh, pmap = ("mesh", Compute("mesh")), ("pmap", Compute("pmap"))
    found = {
        "sgd": compare(
            SGD,
            ("single, streamed", Compute("single", "host")),
            mesh,
            ("mesh, streamed", Compute("mesh", "host")),
            pmap,
            ("pmap, streamed", Compute("pmap", "host")),
        ),
        "adam": compare(ADAM, mesh, pmap),
        "bias-free": compare(BIAS_FREE, mesh, pmap),
        "uneven": compare(UNEVEN, mesh),
    }
    json.dump(found, sys.stdout)
