import jax.numpy as jnp
import pytest

from experiments import plug_and_play
from experiments.plug_and_play import TASKS, Options, main, require_equivariance
from wne_jax.data import load_images
from wne_jax.evaluation.records import mean_over, read_records
from wne_jax.inference.plug_and_play import Restoration
from wne_jax.operators import Identity


def test_a_denoiser_as_prior_restores_better_than_classical_filters(tmp_path, monkeypatch):
    one = load_images("embedded", split="test")[1:2]
    monkeypatch.setattr(plug_and_play, "load_sets", lambda *_, **__: {"embedded": one})
    options = Options(workdir=tmp_path / "results", size=48, test_sigmas_255=(7.65,))
    main(options)
    records = read_records(tmp_path / "results/records.csv")
    psnr = mean_over([r for r in records if r.metric == "psnr"], by=["degradation", "arm"])
    for task in TASKS:
        assert psnr[task, "packaged"] > psnr[task, "input"] + 1
    for task in ("blur", "motion"):
        assert psnr[task, "packaged"] > max(psnr[task, "Wiener"], psnr[task, "Richardson-Lucy"])
    assert not any(r.value for r in records if r.metric == "diverged" and r.arm == "packaged")
    assert {p.name for p in (tmp_path / "results").iterdir()} >= {"table.md", "panel-embedded.png"}


def test_a_violated_equivariance_raises_before_anything_is_written():
    def solve(y, operator, sigma):
        return Restoration(jnp.tanh(y), *(None,) * 5)

    with pytest.raises(AssertionError, match="the restoration is not equivariant"):
        require_equivariance(solve, Identity(), jnp.ones((1, 4, 4, 1)), 0.1)


def test_an_indivisible_size_is_rejected():
    with pytest.raises(ValueError, match="size must be a multiple of 6"):
        main(Options(size=50))
