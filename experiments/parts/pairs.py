"""Small networks trained on pairs of arrays, and tables of their errors with the spread over seeds.

Shared by `series` and `fields`. Their networks train in seconds and are not stored.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array
from matplotlib.axes import Axes

from wne_jax.evaluation import plotting
from wne_jax.evaluation.records import Record, split_by
from wne_jax.evaluation.tables import label, markdown_table

SEEDS = 3
"""Number of networks of each arm."""

AUGMENTED_SCALES = (0.1, 10.0)
"""The scales of the augmented arm, log-uniform."""

AUGMENTED_OFFSET = 1.0
"""The largest offset of the augmented arm, uniform, of both signs."""


class Pairs(NamedTuple):
    """A batch: inputs and targets `[B, ..., C]`, and the unit of the loss, `[B, 1, ..., 1]`."""

    x: Array
    y: Array
    unit: Array


def pairs_of(x: Array, y: Array) -> Pairs:
    """A batch with the unit 1."""
    return Pairs(x, y, jnp.ones((x.shape[0],) + (1,) * (x.ndim - 1)))


Draw = Callable[[Array], Pairs]
"""A batch as a function of a random key."""


def augmented(draw: Draw, key: Array) -> Pairs:
    """A batch at random scales and offsets (soft equivariance), with the loss in the original units."""
    key_pairs, key_a, key_b = jax.random.split(key, 3)
    x, y, _ = draw(key_pairs)
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    low, high = map(float, np.log(AUGMENTED_SCALES))
    a = jnp.exp(jax.random.uniform(key_a, shape, minval=low, maxval=high))
    b = jax.random.uniform(key_b, shape, minval=-AUGMENTED_OFFSET, maxval=AUGMENTED_OFFSET)
    return Pairs(a * x + b, a * y + b, a)


def train(
    model: nn.Module, draw: Draw, *, seeds: Sequence[int], steps: int, rate: float = 3e-3
) -> list[Callable[[Array], Array]]:
    """Train a network for each seed on the mean squared error, all at once.

    The batch of step t depends only on `draw`, the seed and t, so all arms with one `draw` see the same data.

    Args:
        model: The network.
        draw: The batches.
        seeds: Seeds of the parameters and of the batches.
        steps: Number of steps of Adam, with a cosine decay of the learning rate.
        rate: The first learning rate.

    Returns:
        The trained networks as functions of arrays.
    """
    schedule = optax.cosine_decay_schedule(rate, steps)
    rule = optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)))

    def loss(variables: Any, batch: Pairs) -> Array:
        return jnp.mean(jnp.square((model.apply(variables, batch.x) - batch.y) / batch.unit))

    def start(key: Array, batch: Pairs) -> tuple[Any, Any]:
        variables = model.init(key, batch.x)
        return variables, rule.init(variables)

    def step(variables: Any, state: Any, batch: Pairs) -> tuple[Any, Any]:
        updates, state = rule.update(jax.grad(loss)(variables, batch), state)
        return optax.apply_updates(variables, updates), state

    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    batch_of = jax.jit(jax.vmap(lambda key, t: draw(jax.random.fold_in(key, t)), (0, None)))
    variables, state = jax.jit(jax.vmap(start))(keys, batch_of(keys, steps))
    step_of_all = jax.jit(jax.vmap(step))
    for t in range(steps):
        variables, state = step_of_all(variables, state, batch_of(keys, t))
    each = [jax.tree.map(lambda v, i=i: v[i], variables) for i in range(len(seeds))]
    return [partial(_apply, model, one) for one in each]


@partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: Any, x: Array) -> Array:
    return model.apply(variables, x)


def relative_error(actual: Array, expected: Array, reference: Array) -> float:
    """The root mean square error over that of a reference answer, which broadcasts to the expected one.

    Example:
        >>> one = jnp.ones((2, 3))
        >>> relative_error(0.5 * one, one, 0 * one)
        0.5
    """
    actual, expected, reference = (
        np.asarray(part, np.float64) for part in (actual, expected, reference)
    )
    error, scale = (np.mean(np.square(part - expected)) for part in (actual, reference))
    return float(np.sqrt(error / scale))


def table_with_spread(records: Iterable[Record], column: str = "level") -> str:
    """A Markdown table with a row for each arm: mean and standard deviation over the seeds.

    Example:
        >>> place = dict(experiment="e", metric="error", arm="wne", level=10)
        >>> print(table_with_spread([Record(seed=i, value=v, **place) for i, v in enumerate((0.2, 0.3))]))
        | | 10 |
        |---|---|
        | wne | 0.25 ± 0.05 |
    """
    cells = {
        place: [record.value for record in of if record.value is not None]
        for place, of in split_by(records, ["arm", column]).items()
    }
    columns = list(dict.fromkeys(at for _, at in cells))
    body = [
        [arm, *(_mean_and_spread(cells[arm, at]) for at in columns)]
        for arm in dict.fromkeys(arm for arm, _ in cells)
    ]
    return markdown_table(["", *map(label, columns)], body)


def _mean_and_spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2g} ± {np.std(values):.1g}" if np.ptp(values) else f"{values[0]:.2g}"


def draw_curves(axes: Axes, records: Iterable[Record], title: str) -> None:
    """Draw the error over the level, with a curve for each arm and a band from the best to the worst seed."""
    by_arm = split_by(records, ["arm"])
    for colour, ((arm,), of) in zip(plotting.COLOURS, by_arm.items()):
        found = split_by(of, ["level"])
        levels = [level for (level,) in found]
        values = np.array([[record.value for record in group] for group in found.values()])
        axes.plot(levels, values.mean(axis=1), "o-", color=colour, label=arm, ms=3)
        axes.fill_between(
            levels, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, lw=0
        )
    axes.set(yscale="log", title=title)
    axes.spines[["top", "right"]].set_visible(False)
