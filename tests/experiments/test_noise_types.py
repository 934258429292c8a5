"""Statistics on other noise than networks were trained on, at the smallest size."""

import dataclasses

import numpy as np
import pytest

from experiments import noise_types
from experiments.harness import networks, sizes
from wne_jax.evaluation import mean_over, read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables
from wne_jax.training.config import save_config


def write_network(options, arm, config):
    """A finished run, but for the training: all parameters are random."""
    folder, model = networks.folder_of(options, arm, config), config.model.build()
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    variables = random_variables(model, np.ones((1, 8, 8, 1), np.float32), spread=0.1)
    Denoiser(model, variables, config.model).save(folder / networks.WEIGHTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise_types")
    tiny = sizes.PRESETS["tiny"]
    backbones = tiny.networks | {"dncnn": {"depth": 3, "features": 4}}
    options = noise_types.Options(
        workdir=root / "results", networks=root / "networks", test=("embedded",), data="embedded",
        arms=("baseline", "wne-noise"), types=("gaussian", "poisson"), estimates=("noise_level", "photon"),
        test_sigmas_255=(25.0,), size=48, images=2, stage="eval",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.PRESETS, "tiny", dataclasses.replace(tiny, networks=backbones))
        for arm, config in noise_types.wanted(options).values():
            write_network(options, arm, config)
        noise_types.main(options)
    return root / "results"


def test_every_row_has_every_noise(folder):
    records = read_records(folder / "records.csv")
    rows = {(r.degradation, r.arm, r.metric) for r in records if r.value is not None}
    arms = ("input", "baseline", "wne-noise", "noise_level", "photon")
    noises = ("gaussian", "poisson")
    assert rows == {(n, a, m) for n in noises for a in arms for m in ("psnr", "ssim")}
    psnr = mean_over([r for r in records if r.metric == "psnr"], by=["degradation", "arm"])
    assert psnr["poisson", "input"] > psnr["gaussian", "input"] + 2  # sigma is that on white


def test_the_table_and_the_figure_are_of_these_records(folder):
    text = (folder / "table.md").read_text()
    assert "photon" in text and "PSNR (dB)" in text and "poisson" in text
    assert (folder / "embedded.png").stat().st_size > 1000


def test_few_images_are_evenly_spaced():
    options = noise_types.Options(test=("embedded",), images=2, size=32)
    found = options.sets()["embedded"]
    assert len(found) == 2 and all(np.shape(image.pixels) == (32, 32, 1) for image in found)
