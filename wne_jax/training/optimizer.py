"""Optimizers and learning-rate schedules from their configuration."""

import optax

from wne_jax.training.config import OptimizerConfig


def make_schedule(config: OptimizerConfig, *, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        config: Names the schedule; a warm-up precedes it.
        steps: Length of the run, at which the cosine reaches 0.

    Returns:
        An optax schedule.

    Raises:
        ValueError: An unknown schedule, or a warm-up as long as the run.

    Example:
        >>> schedule = make_schedule(OptimizerConfig(schedule="halved", halve_every=10), steps=30)
        >>> [f"{schedule(step):.5f}" for step in (0, 9, 10, 20)]
        ['0.00100', '0.00100', '0.00050', '0.00025']
    """
    rate, remaining = config.learning_rate, steps - config.warmup
    if remaining < 1:
        raise ValueError(f"warmup = {config.warmup} leaves none of the {steps} steps")
    if config.schedule == "constant":
        main = optax.constant_schedule(rate)
    elif config.schedule == "halved":
        main = optax.exponential_decay(rate, config.halve_every, 0.5, staircase=True)
    elif config.schedule == "cosine":
        main = optax.cosine_decay_schedule(rate, remaining)
    else:
        raise ValueError(f"schedule must be constant, halved or cosine, not {config.schedule!r}")
    if not config.warmup:
        return main
    warmup = optax.linear_schedule(0.0, rate, config.warmup)
    return optax.join_schedules([warmup, main], [config.warmup])


def make_optimizer(config: OptimizerConfig, *, steps: int) -> optax.GradientTransformation:
    """The optimizer, with clipping of the global gradient norm before it where that is wanted.

    Raises:
        ValueError: An unknown optimizer.
    """
    schedule = make_schedule(config, steps=steps)
    if config.name == "adam":
        optimizer = optax.adam(schedule)
    elif config.name == "adamw":
        optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)
    elif config.name == "sgd":
        optimizer = optax.sgd(schedule)
    else:
        raise ValueError(f"optimizer must be adam, adamw or sgd, not {config.name!r}")
    if config.clip is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip), optimizer)
