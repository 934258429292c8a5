import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from wne_jax.config import WrapperConfig
from wne_jax.images import draw_level
from wne_jax.statistics import haar_mad
from wne_jax.training import ModelConfig, OptimizerConfig, TrainConfig, load_config, save_config
from wne_jax.training.config import differences
from wne_jax.training.optimizer import make_optimizer, make_schedule
from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant


def test_a_configuration_survives_the_disk(tmp_path):
    config = TrainConfig(
        model=ModelConfig(wrapper=WrapperConfig("wne", "haar_mad")),
        optimizer=OptimizerConfig(name="adamw", clip=1.0, ema=0.99),
        sigma_255=(0, 55),
    )
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
    assert config.level == (0, 55 / 255)


def test_unknown_keys_and_broken_files_are_refused(tmp_path):
    path = tmp_path / "config.json"
    for change in ({"stepz": 3}, {"model": {"depth": 3}}, {"optimizer": {"lr": 1}}):
        path.write_text(json.dumps(dataclasses.asdict(TrainConfig()) | change))
        with pytest.raises(ValueError, match=r"config.json .*unknown keys"):
            load_config(path)
    for broken in (
        '{"steps": ',
        "[1]",
        '{"model": 3}',
        '{"steps": "many"}',
        '{"sigma_255": "x"}',
        '{"model": {"options": null}}',
    ):
        path.write_text(broken)
        with pytest.raises(
            ValueError, match=r"config.json is (not a training configuration|damaged)"
        ):
            load_config(path)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"sigma_255": (25, 5)}, "low and a high"),
        ({"sigma_255": (1, 2, 3)}, "low and a high"),
        ({"sigma_255": (-1,)}, "negative"),
        ({"sigma_distribution": "normal"}, "uniform, log-uniform"),
        ({"sigma_255": (0, 55), "sigma_distribution": "log-uniform"}, "above 0"),
        ({"sigma_255": (float("nan"),)}, "low and a high|finite"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"accumulate": 3}, "accumulate = 3 does not divide batch = 16"),
        ({"precision": "fp8"}, "float32, tf32, bfloat16; not 'fp8'"),
        ({"channels": 2}, "channels"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**values)


def test_a_module_in_place_of_a_configuration_is_refused():
    with pytest.raises(TypeError, match=r"use fit\(config, workdir, model=module\)"):
        TrainConfig(model=nn.Dense(1))


@pytest.mark.parametrize(
    "values",
    [{"learning_rate": -1.0}, {"warmup": -5}, {"halve_every": 0}, {"clip": -1.0}, {"ema": 1.5}],
)
def test_optimizers_that_cannot_be_meant_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimizerConfig(**values)


def test_one_level_may_be_a_number():
    assert TrainConfig(sigma_255=25).sigma_255 == (25.0,)


def test_low_levels_may_be_drawn_more_often():
    config = TrainConfig(sigma_255=(1, 64), sigma_distribution="log-uniform")
    levels = 255 * draw_level(jax.random.key(0), config.level, (1000,))
    assert abs(np.mean(levels < 8) - 0.5) < 0.05


def test_differences_are_named_by_dotted_keys():
    other = TrainConfig(model=ModelConfig(options={"depth": 6, "features": 8, "use_bias": False}))
    assert differences(TrainConfig(), other) == ["model.options.features", "model.options.use_bias"]
    assert differences(TrainConfig(), TrainConfig()) == []


def test_models_are_built_as_named():
    built = ModelConfig(wrapper=WrapperConfig("wne", "haar_mad")).build()
    assert type(built) is WNE and built.statistics is haar_mad and built.backbone.depth == 6
    assert type(ModelConfig(wrapper="scale").build()) is ScaleEquivariant
    assert type(ModelConfig(wrapper="input").build()) is InputNormalized
    for wrong, options in (
        (WrapperConfig, {"kind": "twice"}),
        (ModelConfig, {"wrapper": "twice"}),
        (ModelConfig, {"wrapper": WrapperConfig("wne", "mode")}),
        (ModelConfig, {"backbone": "vgg"}),
    ):
        with pytest.raises(ValueError, match=r"must be|there is no"):
            wrong(**options)


def test_schedules_have_their_formulas():
    constant = make_schedule(OptimizerConfig(schedule="constant"), steps=100)
    assert constant(0) == constant(99) == 1e-3
    cosine = make_schedule(OptimizerConfig(schedule="cosine"), steps=100)
    for step in (0, 25, 50, 100):
        np.testing.assert_allclose(
            cosine(step), 1e-3 * (1 + np.cos(np.pi * step / 100)) / 2, atol=1e-9
        )
    warm = make_schedule(OptimizerConfig(schedule="cosine", warmup=20), steps=100)
    np.testing.assert_allclose(
        [warm(0), warm(10), warm(20), warm(100)], [0, 5e-4, 1e-3, 0], atol=1e-9
    )
    with pytest.raises(ValueError, match="warmup"):
        make_schedule(OptimizerConfig(warmup=100), steps=100)
    with pytest.raises(ValueError, match="schedule"):
        make_schedule(OptimizerConfig(schedule="linear"), steps=100)


def test_clipping_bounds_the_gradient_that_the_optimizer_sees(standard_promotion):
    clipped = make_optimizer(OptimizerConfig(clip=1.0), steps=10)
    gradient = {"w": jax.numpy.array([300.0, 400.0])}
    _, state = clipped.update(gradient, clipped.init(gradient), gradient)
    first_moment = optax.tree.get(state, "mu")["w"]
    np.testing.assert_allclose(first_moment, [0.06, 0.08], rtol=1e-5)  # (1 - 0.9) times (0.6, 0.8)
    with pytest.raises(ValueError, match="optimizer"):
        make_optimizer(OptimizerConfig(name="lion"), steps=10)
