"""Training: configuration in, checkpoints out."""

from wne_jax.training.config import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    load_config,
    save_config,
)
from wne_jax.training.loop import Diverged, Interrupted, finished, fit, load_corpus
from wne_jax.training.step import TrainState, create_state, draw_batch, make_train_step

__all__ = [
    "Diverged",
    "Interrupted",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
    "TrainState",
    "create_state",
    "draw_batch",
    "finished",
    "fit",
    "load_config",
    "load_corpus",
    "make_train_step",
    "save_config",
]
