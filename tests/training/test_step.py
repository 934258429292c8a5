import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wne_jax.data import build_corpus
from wne_jax.training import (
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    create_state,
    draw_batch,
    make_train_step,
)
from wne_jax.training.step import LOSSES, average_decay

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = ModelConfig(options={"depth": 3, "features": 4})


def corpus():
    rng = np.random.default_rng(0)
    return build_corpus([rng.integers(0, 256, (24, 30, 1)).astype(np.uint8) for _ in range(3)])


def small(**changes):
    return TrainConfig(**{"model": SMALL, "patch": 12, "batch": 4, "steps": 20} | changes)


def drawn(config, step):
    return jax.jit(functools.partial(draw_batch, config))(corpus(), jnp.int32(step))


def test_losses_have_their_formulas():
    a, b = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])
    assert LOSSES["l1"](a, b) == 1.5 and LOSSES["mse"](a, b) == 2.5


def test_a_batch_is_a_function_of_seed_and_step_and_the_same_for_every_arm():
    config = small(sigma_255=(0.0, 55.0))
    wrapped = small(sigma_255=(0.0, 55.0), model=ModelConfig(wrapper="wne", options=SMALL.options))
    first = drawn(config, 3)
    chex.assert_trees_all_equal(first, drawn(wrapped, 3))
    assert not np.array_equal(first.noisy, drawn(config, 4).noisy)
    assert not np.array_equal(first.noisy, drawn(small(seed=1), 3).noisy)
    assert len(set(np.asarray(first.sigma).tolist())) == 4
    assert first.sigma.min() >= 0 and first.sigma.max() <= 55 / 255


def test_the_noise_of_a_batch_has_its_level():
    batch = drawn(small(batch=64, sigma_255=(50,)), 0)
    np.testing.assert_allclose(jnp.std(batch.noisy - batch.clean), 50 / 255, rtol=0.03)


def test_every_example_draws_its_kind_of_noise_from_a_mixture():
    config = small(batch=64, noise="gaussian@3,salt_and_pepper@1", sigma_255=(51,))
    batch, again = drawn(config, 5), drawn(config, 5)
    for one, other in zip(batch, again):
        np.testing.assert_array_equal(one, other)
    unchanged = np.mean(np.asarray(batch.noisy == batch.clean), axis=(1, 2, 3))
    impulses = (
        unchanged > 0.5
    )  # a level of 0.2 replaces a fifth of the pixels; Gaussian noise moves all
    assert np.all(impulses | (unchanged < 0.05)) and 5 <= impulses.sum() <= 30
    with pytest.raises(ValueError, match="not 'pink'"):
        make_train_step(small(noise="gaussian,pink"))


def test_a_step_is_the_optimizer_on_the_gradient_of_the_loss():
    config = small(optimizer=OptimizerConfig(schedule="constant", learning_rate=0.01, ema=0.5))
    state = create_state(config)
    after, metrics = jax.jit(make_train_step(config))(state, corpus())
    batch, model = drawn(config, 0), config.model.build()

    def loss(params):
        variables = {"params": params, **state.collections}
        estimate, _ = model.apply(variables, batch.noisy, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(estimate - batch.clean))

    @jax.jit
    def adam_step(params):
        value, gradient = jax.value_and_grad(loss)(params)
        adam = optax.adam(0.01)
        updates, _ = adam.update(gradient, adam.init(params))
        return value, optax.apply_updates(params, updates)

    value, expected = adam_step(state.params)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    # The gradient of a bias before BatchNorm is zero but for rounding, which Adam magnifies.
    kernels = lambda tree: {k: v["kernel"] for k, v in tree.items() if "kernel" in v}  # noqa: E731
    chex.assert_trees_all_close(kernels(after.params), kernels(expected), atol=1e-4)
    chex.assert_trees_all_close(  # the average begins with a decay of 1 / 10
        after.ema,
        jax.tree.map(lambda p, q: (p + 9 * q) / 10, state.params, after.params),
        atol=1e-6,
    )
    assert after.step == 1 and bool(metrics["finite"])
    changed = jax.tree.map(lambda p, q: bool(jnp.any(p != q)), state.collections, after.collections)
    assert all(jax.tree.leaves(changed))
    chex.assert_trees_all_equal(after.variables()["params"], after.ema)


def test_the_average_forgets_the_first_parameters_and_reaches_its_limit():
    decays = np.asarray([average_decay(0.999, jnp.int32(t)) for t in range(40)])
    left = [math.factorial(n) * math.factorial(9) / math.factorial(n + 9) for n in range(1, 41)]
    np.testing.assert_allclose(np.cumprod(decays, dtype=float), left, rtol=1e-5)
    assert left[-1] < 1e-9 < 0.9 < 0.999**40  # of the first parameters, and with a constant decay
    assert average_decay(0.9999, jnp.int32(10**6)) == np.float32(0.9999)
    assert average_decay(0.5, jnp.int32(30)) == 0.5


@pytest.mark.parametrize("wrapper, optimizer", [(None, "adam"), ("wne", "adamw")])
def test_training_lowers_the_loss(wrapper, optimizer):
    model = ModelConfig(wrapper=wrapper, options=SMALL.options)
    config = small(
        model=model, optimizer=OptimizerConfig(name=optimizer, warmup=5, clip=1.0), steps=60
    )
    ramp = np.tile(np.linspace(0, 255, 30), (24, 1)).astype(np.uint8)[..., None]
    images, step, state = (
        build_corpus([ramp]),
        jax.jit(make_train_step(config)),
        create_state(config),
    )
    losses = []
    for _ in range(60):
        state, metrics = step(state, images)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_a_conditioned_model_is_told_its_level():
    options = SMALL.options | {"conditioned": True}
    config = small(model=ModelConfig(backbone="fdncnn", options=options), sigma_255=(5, 50))
    state, metrics = jax.jit(make_train_step(config))(create_state(config), corpus())
    assert state.params["conv_0"]["kernel"].shape == (3, 3, 2, 4) and np.isfinite(metrics["loss"])


@pytest.mark.parametrize("wrong", [{"loss": "l2"}, {"noise": "pink"}])
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="must be one of"):
        make_train_step(small(**wrong))
