"""Training: configuration in, checkpoints out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wne_jax.config import ModelConfig
    from wne_jax.training.compute import Compute
    from wne_jax.training.config import OptimizerConfig, TrainConfig, load_config, save_config
    from wne_jax.training.joining import joined
    from wne_jax.training.loop import Diverged, fit, load_corpus
    from wne_jax.training.packaging import finished, package
    from wne_jax.training.processes import is_lead
    from wne_jax.training.step import (
        TrainState,
        create_state,
        draw_batch,
        make_train_step,
        make_update,
    )
    from wne_jax.training.stopping import Interrupted
    from wne_jax.training.tasks import Task
else:
    from wne_jax._internal.lazy import on_demand

    __getattr__, __dir__ = on_demand(__name__)
    del on_demand

__all__ = [
    "Compute",
    "Diverged",
    "Interrupted",
    "ModelConfig",
    "OptimizerConfig",
    "Task",
    "TrainConfig",
    "TrainState",
    "create_state",
    "draw_batch",
    "finished",
    "fit",
    "is_lead",
    "joined",
    "load_config",
    "load_corpus",
    "make_train_step",
    "make_update",
    "package",
    "save_config",
]
