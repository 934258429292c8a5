"""A trained network, wrapped and trained a little further."""

import dataclasses

import numpy as np
import pytest

from experiments.fine_tuned import WRAPPINGS, Options, main
from wne_jax.config import ModelConfig
from wne_jax.data import NamedImage
from wne_jax.evaluation import mean_over, read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables


@pytest.fixture
def options(tmp_path, monkeypatch):
    config = ModelConfig("dncnn", {"depth": 2, "features": 4}, wrapper=None)
    network = config.build()
    variables = random_variables(network, np.zeros((1, 8, 8, 1), np.float32))
    Denoiser(network, variables, config).save(tmp_path / "start.safetensors")
    photographs = [
        NamedImage("noise", np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8))
    ]
    monkeypatch.setattr("experiments.fine_tuned.load_sets", lambda *a, **k: {"Set12": photographs})
    return Options(
        weights=tmp_path / "start.safetensors", networks=tmp_path / "networks", workdir=tmp_path / "results",
        steps=2, test_sigmas_255=(25.0,),
    )  # fmt: skip


def test_every_arm_starts_from_the_same_weights_and_differs(options, standard_promotion):
    main(options)
    records = read_records(options.folder / "records.csv")
    psnr = mean_over([r for r in records if r.metric == "psnr"], by=["arm"])
    assert {arm for (arm,) in psnr} == {"input", "frozen", *WRAPPINGS}
    assert len(set(psnr.values())) == len(psnr)
    table = (options.folder / "table.md").read_text()
    assert "| ne-arch | not run (30.37) |" in table and "(30.43, " in table
    assert table.startswith("# Fine-tuned from start.safetensors at 25")

    with pytest.raises(
        ValueError, match=r"start\.safetensors-baseline is a network of other steps"
    ):
        main(dataclasses.replace(options, steps=3, stage="eval", overwrite=True))

    (options.folder / "table.md").unlink()
    main(dataclasses.replace(options, stage="report"))
    assert "(30.43, " in (options.folder / "table.md").read_text()
    assert read_records(options.folder / "records.csv") == records


def test_networks_that_are_missing_are_left_out(options):
    main(dataclasses.replace(options, stage="eval"))
    arms = {r.arm for r in read_records(options.folder / "records.csv") if r.value is not None}
    assert arms == {"input", "frozen"}

    before = read_records(options.folder / "records.csv")
    main(dataclasses.replace(options, stage="eval", resume=True))
    assert read_records(options.folder / "records.csv") == before
