import jax
import numpy as np
import pytest

from experiments import uncertainty
from experiments.uncertainty import RATIO, Options, calibrate, grouped, main, require_equivariance
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.data import load_images
from wne_jax.evaluation.records import read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables
from wne_jax.weights import load_model, read_calibration


def test_it_measures_the_packaged_denoiser(tmp_path, monkeypatch, capsys):
    two = load_images("embedded", split="test")[1:3]
    monkeypatch.setattr(uncertainty, "load_sets", lambda *_, **__: {"embedded": two})
    monkeypatch.setattr(Denoiser, "default", Denoiser.pretrained)  # whose statistic compiles sooner
    main(Options(workdir=tmp_path / "results", size=32, test_sigmas_255=(25.0,)))
    records = read_records(tmp_path / "results/records.csv")
    ratios = [r.value for r in records if r.metric == RATIO and r.arm == "packaged"]
    assert len(ratios) == 5 and min(ratios) > 0.5 and max(ratios) < 2
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names >= {"table.md", "panel-embedded.png", "embedded.png"}
    assert "embedded, noise 25: ratios from" in capsys.readouterr().out


def test_normal_errors_of_the_predicted_size_are_calibrated():
    rng = np.random.default_rng(0)
    std = rng.uniform(1, 4, 50_000)
    records = list(grouped(std * rng.normal(size=std.size), std, experiment="uncertainty"))
    value = {(r.metric, r.arm, r["group"]): r.value for r in records}
    for group in range(1, 6):
        name = f"fifth {group}"
        assert value[RATIO, "packaged", name] == pytest.approx(1, abs=0.03)
        share = "share of errors within 1 standard deviation"
        assert value[share, "packaged", name] == pytest.approx(0.683, abs=0.02)
    assert value[RATIO, "one level for all", "fifth 1"] < 0.6
    assert value[RATIO, "one level for all", "fifth 5"] > 1.3


def test_a_violated_equivariance_raises_before_anything_is_written():
    class Absolute:
        def uncertainty(self, y):
            return np.abs(y)

    y = np.random.default_rng(0).normal(size=(8, 8, 1)).astype(np.float32)
    with pytest.raises(AssertionError, match="not equivariant"):
        require_equivariance(Absolute(), y)


def test_constants_are_written_into_the_weight_file(tmp_path, monkeypatch):
    config = ModelConfig("dncnn", {"depth": 3, "features": 4}, WrapperConfig("wne", "noise_level"))
    path = tmp_path / "model.safetensors"
    variables = random_variables(config.build(), np.ones((1, 8, 8, 1), np.float32))
    Denoiser(config.build(), variables, config).save(path)

    def fitted(self, images, levels, *, seed):
        found = Denoiser(self.model, self.variables, channels=self.channels)
        found.calibration = 0.5 * self.channels
        return found

    monkeypatch.setattr(Denoiser, "calibrated", fitted)
    calibrate(path, seed=0)
    assert read_calibration(path) == {1: 0.5, 3: 1.5}
    again = load_model(path)
    assert again[0] == config
    jax.tree.map(np.testing.assert_array_equal, again[1], variables)
    assert Denoiser.load(path).calibration == 0.5
