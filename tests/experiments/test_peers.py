"""The packaged denoiser beside others, on small squares."""

import dataclasses
import sys

import numpy as np
import pytest

from experiments import default_denoiser, peers
from experiments.peers import Options, main
from wne_jax.config import ModelConfig
from wne_jax.evaluation import mean_over, read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables, tiny


def test_each_row_is_measured_on_the_same_noise(tmp_path):
    variables = random_variables(tiny("dncnn"), np.zeros((1, 8, 8, 1), np.float32))
    config = ModelConfig("dncnn", {"depth": 4, "features": 8})
    Denoiser(config.build(), variables, config).save(tmp_path / "other.safetensors")
    options = Options(
        workdir=tmp_path / "results", size=32, test_sigmas_255=(25.0,), degradations=("gaussian", "coloured"),
        classical=("nlm",), weights=tmp_path / "other.safetensors",
        before=tmp_path / "other.safetensors",
    )  # fmt: skip
    main(options)
    psnr = mean_over(read_records(tmp_path / "results/records.csv"), by=["arm", "degradation"])
    rows = {
        "input",
        "packaged",
        "packaged, white",
        "packaged before",
        "other.safetensors, one_level",
        "nlm",
    }
    assert {arm for arm, _ in psnr} == rows
    assert psnr["packaged", "gaussian"] > psnr["nlm", "gaussian"] > psnr["input", "gaussian"] + 3
    assert psnr["packaged", "gaussian"] > psnr["packaged", "coloured"]
    assert (tmp_path / "results/table.md").is_file()


def test_colour_images_are_also_denoised_channel_by_channel(tmp_path):
    options = Options(
        workdir=tmp_path / "results", size=48, test_sigmas_255=(25.0,), degradations=("gaussian",),
        classical=("nlm",), channels=3,
    )  # fmt: skip
    main(options)
    psnr = mean_over(read_records(tmp_path / "results/records.csv"), by=["arm"])
    assert psnr["packaged",] > psnr["packaged, channel by channel",] + 0.5
    with pytest.raises(ValueError, match="--weights and --before are gray"):
        peers.arms(dataclasses.replace(options, before=tmp_path))


def test_bm3d_that_is_not_installed_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ImportError, match="pip install bm3d"):
        peers.bm3d(np.zeros((8, 8)), 0.1)


def test_bm3d_removes_noise():
    pytest.importorskip("bm3d", reason="the classical method")
    noisy = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((32, 32))
    assert np.std(peers.bm3d(noisy, 0.1)) < 0.03


def test_a_merged_network_is_the_same_function():
    with_norm, without = (
        ModelConfig("dncnn", {"depth": 4, "features": 8, "batch_norm": norm}).build()
        for norm in (True, False)
    )
    y = np.random.default_rng(0).normal(size=(2, 12, 10, 1)).astype(np.float32)
    variables = random_variables(with_norm, y)
    output = without.apply(default_denoiser.merged(variables), y)
    np.testing.assert_allclose(output, with_norm.apply(variables, y), atol=1e-4)


def test_stages_of_the_packaged_denoiser_train_one_backbone(tmp_path):
    stages = list(default_denoiser.STAGES.values())
    assert {stage.model.backbone for stage in stages} == {"dncnn"}
    assert len({stage.seed for stage in stages}) == len(stages)  # no crop twice
    for name in default_denoiser.STAGES:
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in (*default_denoiser.LOGS, default_denoiser.WEIGHTS):
            (tmp_path / "runs" / name / file).write_text(f"{name} {file}")
    default_denoiser.package(tmp_path / "runs", tmp_path / "package")
    last = list(default_denoiser.STAGES)[-1]
    assert (tmp_path / "package/denoiser.safetensors").read_text().startswith(last)
    assert (tmp_path / "package" / last / "config.json").is_file()
