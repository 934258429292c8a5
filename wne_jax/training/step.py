"""One training step: draw noisy crops, take the loss, update. A pure function of state and corpus."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import Array

from wne_jax.data.corpus import Batch, Corpus, draw_examples
from wne_jax.noise import NOISES, draw_level
from wne_jax.training.config import TrainConfig
from wne_jax.training.optimizer import make_optimizer

LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "l1": lambda estimate, clean: jnp.mean(jnp.abs(estimate - clean)),
    "mse": lambda estimate, clean: jnp.mean(jnp.square(estimate - clean)),
}


@struct.dataclass
class TrainState:
    """All that changes from step to step.

    Attributes:
        step: i32[], updates done.
        params: Parameters.
        collections: The other collections of the model, such as `batch_stats`.
        opt_state: State of the optimizer.
        ema: Moving average of the parameters, or None.
    """

    step: Array
    params: Any
    collections: Any
    opt_state: Any
    ema: Any

    def variables(self) -> dict[str, Any]:
        """What evaluation uses: the averaged parameters where there are any."""
        return {"params": self.params if self.ema is None else self.ema, **self.collections}


def _key(config: TrainConfig, purpose: int) -> Array:
    """Independent keys for initial parameters (0), data (1) and dropout (2)."""
    return jax.random.fold_in(jax.random.key(config.seed), purpose)


def create_state(config: TrainConfig) -> TrainState:
    """The state before the first step, a function of the configuration alone."""
    example = jnp.zeros((1, config.patch, config.patch, config.channels))
    condition = {"sigma": jnp.ones(1)} if config.model.conditioned else {}
    variables = dict(jax.jit(config.model.build().init)(_key(config, 0), example, **condition))
    params = variables.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=variables,
        opt_state=make_optimizer(config.optimizer, steps=config.steps).init(params),
        ema=None if config.optimizer.ema is None else jax.tree.map(jnp.copy, params),
    )


def draw_batch(config: TrainConfig, corpus: Corpus, step: Array) -> Batch:
    """The examples of a step: a function of (corpus, seed, step) alone."""

    def corrupt(key: Array, clean: Array) -> tuple[Array, Array]:
        key_level, key_noise = jax.random.split(key)
        sigma = draw_level(key_level, config.level)
        return NOISES[config.noise](key_noise, clean, sigma), sigma

    key = jax.random.fold_in(_key(config, 1), step)
    return draw_examples(key, corpus, jnp.arange(config.batch), size=config.patch, corrupt=corrupt)


def make_train_step(
    config: TrainConfig,
) -> Callable[[TrainState, Corpus], tuple[TrainState, dict[str, Array]]]:
    """The function `(state, corpus) -> (state, metrics)`, to be compiled by the caller.

    The metrics are `loss`, and `finite`: whether loss, gradient and update were.

    Raises:
        ValueError: An unknown loss or noise.
    """
    for name, known in (("loss", LOSSES), ("noise", NOISES)):
        if getattr(config, name) not in known:
            raise ValueError(
                f"{name} must be one of {sorted(known)}, not {getattr(config, name)!r}"
            )
    model: nn.Module = config.model.build()
    optimizer = make_optimizer(config.optimizer, steps=config.steps)

    def train_step(state: TrainState, corpus: Corpus) -> tuple[TrainState, dict[str, Array]]:
        batch = draw_batch(config, corpus, state.step)
        condition: dict[str, Any] = {"sigma": batch.sigma} if config.model.conditioned else {}

        def loss_of(params: Any) -> tuple[Array, Any]:
            estimate, collections = model.apply(
                {"params": params, **state.collections},
                batch.noisy,
                train=True,
                mutable=list(state.collections),
                **condition,
                rngs={"dropout": jax.random.fold_in(_key(config, 2), state.step)},
            )
            return LOSSES[config.loss](estimate, batch.clean), collections

        (loss, collections), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.optimizer.ema is not None:
            ema = optax.incremental_update(params, ema, 1 - config.optimizer.ema)
        norms = jnp.stack([loss, optax.tree.norm(gradient), optax.tree.norm(updates)])
        state = TrainState(state.step + 1, params, collections, opt_state, ema)
        return state, {"loss": loss, "finite": jnp.all(jnp.isfinite(norms))}

    return train_step
