"""Statistics on other noise than networks were trained on, at the smallest size."""

import numpy as np
import pytest

from experiments import noise_types
from wne_jax.evaluation import mean_over, read_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise_types")
    options = noise_types.Options(
        workdir=root / "results", networks=root / "networks", test=("embedded",), data="embedded", steps=2,
        arms=("baseline", "wne-noise"), types=("gaussian", "poisson"), estimates=("noise_level", "photon"),
        test_sigmas_255=(25.0,), size=48, images=2,
    )  # fmt: skip
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
