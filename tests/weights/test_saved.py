import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.testing import random_variables
from wne_jax.weights import WeightsError, load_model, read_tensors, save

CONFIGS = [
    ModelConfig("dncnn", {"depth": 3, "features": 4}),
    ModelConfig(
        "dncnn",
        {"depth": 3, "features": 4, "mode": "scale-equivariant", "conditioned": True},
        wrapper=WrapperConfig("wne", "haar_mad", anchor=(0.45, 25 / 255)),
    ),
    ModelConfig("fdncnn", {"depth": 3, "features": 4, "mode": "normalization-equivariant"}),
]


def some_variables(config, channels=1):
    """Random numbers in the shapes of the model's variables."""
    y, sigma = jnp.zeros((1, 6, 5, channels)), {"sigma": 0.1} if config.takes_sigma else {}
    return random_variables(config.build(), y, **sigma)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path, config, channels):
    variables = some_variables(config, channels)
    save(tmp_path / "x.safetensors", config, variables)
    restored, loaded = load_model(tmp_path / "x.safetensors")
    assert restored == config
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    for one, other in zip(jax.tree.leaves(variables), jax.tree.leaves(loaded)):
        assert one.dtype == other.dtype and np.asarray(one).tobytes() == other.tobytes()


def test_every_dtype_and_every_memory_order_is_kept(tmp_path):
    config = CONFIGS[0]
    variables = jax.tree.map(np.asarray, some_variables(config))
    layer = variables["params"]["conv_1"]
    layer["kernel"] = np.asfortranarray(layer["kernel"].astype(np.float64)) / 3
    layer["bias"] = np.asarray(jnp.arange(4.0, dtype=jnp.bfloat16))[::-1]
    save(tmp_path / "x.safetensors", config, variables)
    loaded = load_model(tmp_path / "x.safetensors")[1]["params"]["conv_1"]
    for name, leaf in layer.items():
        assert loaded[name].dtype == leaf.dtype
        np.testing.assert_array_equal(loaded[name], leaf)


def test_the_file_is_plain_safetensors_with_a_readable_configuration(tmp_path):
    save(
        tmp_path / "x.safetensors", CONFIGS[0], some_variables(CONFIGS[0]), metadata={"log": "here"}
    )
    with safe_open(tmp_path / "x.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert metadata["log"] == "here" and '"backbone": "dncnn"' in metadata["wne_jax.model"]
    assert "batch_stats/norm_1/var" in read_tensors(tmp_path / "x.safetensors")


def test_saving_rejects_models_that_could_not_be_loaded(tmp_path):
    config, path = CONFIGS[0], tmp_path / "x.safetensors"
    variables = some_variables(config)
    with pytest.raises(WeightsError, match=r"x\.pth: the suffix of a model must be \.safetensors"):
        save(tmp_path / "x.pth", config, variables)
    deeper = dataclasses.replace(config, options={"depth": 4, "features": 4})
    with pytest.raises(
        WeightsError, match=r"does not fit dncnn; .* not filled: batch_stats/norm_2"
    ):
        save(path, deeper, variables)
    with pytest.raises(WeightsError, match="reserved names"):
        save(path, config, variables, metadata={"wne_jax.model": "{}"})
    coarse = dataclasses.replace(config, options={**config.options, "dtype": jnp.bfloat16})
    with pytest.raises(WeightsError, match="plain values"):
        save(path, coarse, variables)
    assert os.listdir(tmp_path) == []


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    config, path = CONFIGS[0], tmp_path / "x.safetensors"
    save(path, config, some_variables(config))
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be written: No space left"):
        save(path, config, some_variables(config))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.safetensors"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"wne_jax.format": "3"}, "has format 3; this version reads 1 and 2"),
        ({"wne_jax.model": "{"}, "damaged, or not a wne_jax model file"),
        ({"wne_jax.model": '{"backbone": "dncnn", "width": 3}'}, "unknown keys"),
        ({"wne_jax.model": '{"backbone": "vgg"}'}, "there is no model 'vgg'"),
        ({"wne_jax.model": '{"options": {"depth": 4, "features": 4}}'}, "does not fit dncnn"),
    ],
)
def test_a_modified_file_is_rejected_in_one_line(tmp_path, metadata, reason):
    path = tmp_path / "x.safetensors"
    save(path, CONFIGS[0], some_variables(CONFIGS[0]))
    with safe_open(path, framework="np") as file:
        kept = file.metadata()
    save_file(read_tensors(path), path, {**kept, **metadata})
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and reason in line and "\n" not in line


def test_a_truncated_file_is_rejected(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, CONFIGS[0], some_variables(CONFIGS[0]))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="damaged, or not a safetensors file"):
        load_model(path)


def test_published_safetensors_are_converted(tmp_path):
    shapes = {"model.0": (4, 1), "model.2": (4, 4), "model.4": (1, 4)}
    tensors = {f"{name}.weight": np.zeros((*s, 3, 3), np.float32) for name, s in shapes.items()}
    tensors |= {f"{name}.bias": np.zeros(s[0], np.float32) for name, s in shapes.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    config, _ = load_model(tmp_path / "x.safetensors")
    assert config.options == {"depth": 3, "features": 4, "batch_norm": False}
