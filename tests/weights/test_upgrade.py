"""Files of version 1 can be loaded, and their models have the same output as before.

The folder `version_1` was written by the last revision of the package with that format. For each kind of
model it holds a weight file and the configuration of a run, and `expected.npz` holds an image and what each
model made of it.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import protocol
from wne_jax.config import ModelConfig, OneLevel, Rescaled, SmoothBase, WrapperConfig
from wne_jax.training import TrainConfig, load_config, save_config
from wne_jax.weights import load_model, read_metadata, save
from wne_jax.weights.upgrade import upgrade_model

FOLDER = Path(__file__).with_name("version_1")
SMALL = {"depth": 3, "features": 2}
ANCHOR = (0.45, 0.2)

CONFIGS = {
    "bare": ModelConfig("dncnn", SMALL),
    "wne": ModelConfig("dncnn", SMALL, WrapperConfig("wne", "mean_std", ANCHOR)),
    "scale": ModelConfig("dncnn", SMALL, "scale"),
    "input": ModelConfig("dncnn", SMALL, "input"),
    "noise_level": ModelConfig(
        "fdncnn", SMALL | {"conditioned": True}, WrapperConfig("wne", "haar_mad")
    ),
    "detail": ModelConfig("dncnn", SMALL, "wne", SmoothBase(1.5)),
    "cap": ModelConfig(
        "dncnn", SMALL, WrapperConfig("wne", "haar_mad"), SmoothBase(1.5, wiener_cap=1.3)
    ),
    "blend": ModelConfig("dncnn", SMALL, "wne", Rescaled("blend")),
    "canonical": ModelConfig("dncnn", SMALL, "wne", Rescaled("learned")),
    "frozen": ModelConfig("dncnn", SMALL, WrapperConfig("wne", "mean_std", ANCHOR), OneLevel(25.0)),
}
"""The content of each file, in the current form."""


def test_there_is_a_file_of_every_kind():
    names = {path.stem for path in FOLDER.iterdir()}
    assert names == {*CONFIGS, "expected"}
    assert {type(config.inside) for config in CONFIGS.values()} == {
        type(None), SmoothBase, Rescaled, OneLevel,
    }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_an_old_weight_file_gives_the_same_output(name, tmp_path):
    path = FOLDER / f"{name}.safetensors"
    assert read_metadata(path)["wne_jax.format"] == "1"
    config, variables = load_model(path)
    assert config == CONFIGS[name]
    expected = np.load(FOLDER / "expected.npz")
    model = config.build()
    condition = protocol.condition(model, jnp.full(1, 0.1))
    found = jax.jit(model.apply)(variables, expected["y"], **condition)
    np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5)
    save(tmp_path / "again.safetensors", config, variables)
    assert read_metadata(tmp_path / "again.safetensors")["wne_jax.format"] == "2"
    assert load_model(tmp_path / "again.safetensors")[0] == config


@pytest.mark.parametrize("name", CONFIGS)
def test_an_old_configuration_is_loaded_and_written_in_the_current_form(name, tmp_path):
    config = load_config(FOLDER / f"{name}.json")
    assert config == TrainConfig(model=CONFIGS[name])
    save_config(config, tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["version"] == 2
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize("name", CONFIGS)
def test_current_values_are_not_changed(name):
    values = dataclasses.asdict(CONFIGS[name])
    assert upgrade_model(values) == values


def test_a_run_of_a_later_version_is_rejected(tmp_path):
    values = dataclasses.asdict(TrainConfig()) | {"version": 3}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="of version 3; this one reads up to 2"):
        load_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistics": "mean_std"}, "a statistic whose scale is the noise level"),
        ({"wrapper": "none"}, "a statistic whose scale is the noise level"),
        ({"detail": -1.0}, "sigma_px must be positive"),
        ({"width": 3}, "unknown keys"),
    ],
)
def test_incompatible_values_are_also_rejected_in_old_files(tmp_path, change, message):
    values = json.loads((FOLDER / "cap.json").read_text())
    values["model"] |= change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "config.json")
