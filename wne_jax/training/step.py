"""One training step: draw noisy crops, take the loss, update. A pure function of state and corpus."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import Array, lax

from wne_jax import protocol
from wne_jax.data.corpus import Batch, Corpus, corrupt_crops, draw_examples
from wne_jax.data.mixtures import parse_mixture
from wne_jax.images.degradations import NOISES, Noise, mixed
from wne_jax.models import option_defaults
from wne_jax.training.config import Precision, TrainConfig
from wne_jax.training.objectives import OBJECTIVES
from wne_jax.training.optimizer import make_optimizer
from wne_jax.training.tasks import Task

LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "l1": lambda estimate, clean: jnp.mean(jnp.abs(estimate - clean)),
    "mse": lambda estimate, clean: jnp.mean(jnp.square(estimate - clean)),
}

MATMUL_PRECISION: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "tensorfloat32",
    "bfloat16": "bfloat16",
}
"""JAX's name of what products of float32 are computed in, by the precision of a run."""


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


Metrics = dict[str, Array]
"""`loss`, and `finite`: whether loss, gradient and update were."""


def _key(config: TrainConfig, purpose: int) -> Array:
    """Independent keys for initial parameters (0), data (1) and dropout (2)."""
    return jax.random.fold_in(jax.random.key(config.seed), purpose)


def data_key(config: TrainConfig) -> Array:
    """The key of crops and noise; that of step t is `fold_in(key, t)`."""
    return _key(config, 1)


def create_state(config: TrainConfig, variables: Any = None) -> TrainState:
    """The state before the first step.

    Args:
        config: The run. Random variables are a function of it alone.
        variables: The model's variables to start from, in place of random ones.
    """
    if variables is None:
        example = jnp.zeros(Task.parse(config.task).input_shape(config.patch, config.channels))
        model: Any = config.model.build()
        init = jax.jit(partial(model.init, **protocol.mode(model, train=False)))
        variables = init(_key(config, 0), example, **protocol.condition(model, jnp.ones(1)))
    collections = dict(jax.tree.map(jnp.asarray, variables))
    params = collections.pop("params", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=collections,
        opt_state=make_optimizer(config.optimizer, steps=config.steps).init(params),
        ema=None if config.optimizer.ema is None else jax.tree.map(jnp.copy, params),
    )


def noise_of(config: TrainConfig) -> Noise:
    """The noise of a configuration: one by its name, or one drawn for each example from `NAME@SHARE,...`.

    Raises:
        ValueError: An unknown noise, or shares that `wne_jax.data.parse_mixture` refuses.

    Example:
        >>> noise_of(TrainConfig(noise="gaussian")).__name__
        'gaussian'
    """
    parts = parse_mixture(config.noise, argument="noise")
    for part in parts:
        if part.spec not in NOISES:
            raise ValueError(f"noise must be one of {sorted(NOISES)}, not {part.spec!r}")
    kinds = [NOISES[part.spec] for part in parts]
    if len(kinds) == 1:
        return kinds[0]
    return mixed(kinds, [part.weight or 1.0 for part in parts])


def draw_batch(
    config: TrainConfig, source: Corpus | Array, step: Array, indices: Array | None = None
) -> Batch:
    """The examples of a step: a function of (corpus, seed, step) alone.

    Args:
        config: The run.
        source: The corpus, or the crops of this step that `stream_crops` has cut from it.
        step: Number of the step.
        indices: i32[B], the wanted examples (default: the whole batch).
    """
    task = Task.parse(config.task)
    objective = OBJECTIVES[config.objective]
    corrupt = partial(objective, noise=noise_of(config), level=config.level, task=task)
    key = jax.random.fold_in(data_key(config), step)
    indices = jnp.arange(config.batch) if indices is None else indices
    if isinstance(source, Corpus):
        return draw_examples(
            key, source, indices, size=config.patch, corrupt=corrupt, factor=config.factor
        )
    return corrupt_crops(key, source, indices, corrupt=corrupt, factor=config.factor)


def make_train_step(
    config: TrainConfig,
    *,
    axis_name: str | None = None,
    constrain: Callable[[Any], Any] = lambda batch: batch,
) -> Callable[[TrainState, Corpus | Array], tuple[TrainState, Metrics]]:
    """The function `(state, source) -> (state, metrics)`, to be compiled by the caller.

    Args:
        config: The run.
        axis_name: Axis of `jax.pmap`: each device then draws and computes its share of the batch.
        constrain: Applied to what has one row an example; under `jit` over a mesh it says which device
            holds which.

    Raises:
        ValueError: An unknown loss or noise, or a model that does not suit the task.
    """
    update = make_update(config, axis_name=axis_name)

    def train_step(state: TrainState, source: Corpus | Array) -> tuple[TrainState, Metrics]:
        indices = constrain(_indices(config, axis_name))
        return update(state, constrain(draw_batch(config, source, state.step, indices)))

    return train_step


def make_update(
    config: TrainConfig, *, axis_name: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The second half of a step: `(state, batch) -> (state, metrics)`; arguments as in `make_train_step`."""
    noise_of(config)
    Task.parse(config.task).check(config.model)
    if config.loss not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)}, not {config.loss!r}")
    optimizer = make_optimizer(config.optimizer, steps=config.steps)
    gradient_of = _accumulated(_make_gradient(config, axis_name), parts=config.accumulate)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        (loss, collections), gradient = gradient_of(state, batch)
        if axis_name is not None:
            loss, gradient = lax.pmean((loss, gradient), axis_name)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.optimizer.ema is not None:
            decay = average_decay(config.optimizer.ema, state.step)
            ema = optax.incremental_update(params, ema, 1 - decay)
        norms = jnp.stack([loss, optax.tree.norm(gradient), optax.tree.norm(updates)])
        state = TrainState(state.step + 1, params, collections, opt_state, ema)
        return state, {"loss": loss, "finite": jnp.all(jnp.isfinite(norms))}

    return update


def average_decay(limit: float, step: Array) -> Array:
    """How much of the moving average an update keeps: (1 + t) / (10 + t) after t updates, up to a limit.

    The average so reaches over the last tenth of the updates, until it reaches over 1 / (1 - limit) of them.
    The initial parameters, which a constant decay would keep for that long, are gone at once.

    Example:
        >>> [f"{average_decay(0.999, jnp.int32(t)):.3f}" for t in (0, 90, 9_000)]
        ['0.100', '0.910', '0.999']
    """
    return jnp.minimum(limit, (1 + step) / (10 + step))


def make_average_loss(
    config: TrainConfig,
    *,
    axis_name: str | None = None,
    constrain: Callable[[Any], Any] = lambda batch: batch,
) -> Callable[[TrainState, Corpus | Array], Array]:
    """The function `(state, source) -> loss` of what a run saves, on the batch of the last step.

    Parameters are averaged, and batch normalization has its running statistics, as in inference. Arguments as
    in `make_train_step`.
    """
    model = config.model.build()

    def average_loss(state: TrainState, source: Corpus | Array) -> Array:
        indices = constrain(_indices(config, axis_name))
        batch = constrain(draw_batch(config, source, state.step - 1, indices))
        options = _arguments(model, batch, train=False)
        estimate: Any = model.apply(state.variables(), batch.noisy, **options)
        loss = LOSSES[config.loss](estimate, batch.clean)
        return loss if axis_name is None else lax.pmean(loss, axis_name)

    return average_loss


Gradient = Callable[[TrainState, Batch], tuple[tuple[Array, Any], Any]]
"""`(state, batch) -> ((loss, collections), gradient)`."""


def _make_gradient(config: TrainConfig, axis_name: str | None) -> Gradient:
    """The loss of a batch and its gradient, in the precision of the run."""
    model = _compute_model(config, axis_name)

    def gradient_of(state: TrainState, batch: Batch) -> tuple[tuple[Array, Any], Any]:
        options = _arguments(model, batch, train=True)
        key = jax.random.fold_in(_key(config, 2), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, lax.axis_index(axis_name))

        def loss_of(params: Any) -> tuple[Array, Any]:
            estimate, collections = model.apply(
                {"params": params, **state.collections},
                batch.noisy,
                mutable=list(state.collections),
                **options,
                rngs={"dropout": key},
            )
            shape = getattr(estimate, "shape", f"a {type(estimate).__name__}")
            if shape != batch.clean.shape:
                raise ValueError(
                    f"the model returns {shape} for {batch.noisy.shape}; task {config.task} needs one image "
                    f"of {batch.clean.shape}"
                )
            return LOSSES[config.loss](estimate, batch.clean), collections

        with jax.default_matmul_precision(MATMUL_PRECISION[config.precision]):
            return jax.value_and_grad(loss_of, has_aux=True)(state.params)

    return gradient_of


def _arguments(model: Any, batch: Batch, *, train: bool) -> dict[str, Any]:
    """The keyword arguments of the model for a batch."""
    return (
        protocol.condition(model, batch.sigma)
        | protocol.masked(model, batch.where)
        | protocol.mode(model, train=train)
    )


def _compute_model(config: TrainConfig, axis_name: str | None) -> nn.Module:
    """The model as the training step computes it."""
    changes: dict[str, Any] = {}
    known = option_defaults(config.model.backbone)
    if config.precision == "bfloat16":
        if "dtype" not in known:
            raise ValueError(
                f"precision 'bfloat16' needs an option dtype, which {config.model.backbone} has not: take "
                "'float32' or 'tf32'"
            )
        changes["dtype"] = jnp.bfloat16
    if axis_name is not None and "axis_name" in known:
        changes["axis_name"] = axis_name
    return config.model.build(**changes)


def _accumulated(gradient_of: Gradient, *, parts: int) -> Gradient:
    """The mean over parts of a batch, one after another.

    Part m holds the examples m, m + parts, ...: every device keeps its own.
    """
    if parts == 1:
        return gradient_of

    def accumulated(state: TrainState, batch: Batch) -> tuple[tuple[Array, Any], Any]:
        def body(carry: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], None]:
            collections, total = carry
            now = dataclasses.replace(state, collections=collections)
            (loss, collections), gradient = gradient_of(now, part)
            return (collections, jax.tree.map(jnp.add, total, (loss, gradient))), None

        split = jax.tree.map(
            lambda x: jnp.reshape(x, (-1, parts, *x.shape[1:])).swapaxes(0, 1), batch
        )
        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        # On CPU a convolution inside a loop runs on one thread.
        unroll = parts if jax.default_backend() == "cpu" else 1
        (collections, total), _ = lax.scan(body, (state.collections, zero), split, unroll=unroll)
        loss, gradient = jax.tree.map(lambda x: x / parts, total)
        return (loss, collections), gradient

    return accumulated


def _indices(config: TrainConfig, axis_name: str | None) -> Array:
    """The global indices of the examples that this device, or all under `jit`, compute."""
    if axis_name is None:
        return jnp.arange(config.batch)
    share = config.batch // lax.axis_size(axis_name)
    return lax.axis_index(axis_name) * share + jnp.arange(share)
