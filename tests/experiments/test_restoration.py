import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import restoration
from experiments.harness import PRESETS
from experiments.parts.deconvolution import deconvolved
from experiments.restoration import Options, check_identities, classical, main, observe, wanted
from wne_jax.data import NamedImage
from wne_jax.evaluation.records import mean_over, read_records
from wne_jax.images import metrics
from wne_jax.inference.denoiser import Denoiser
from wne_jax.operators import Blur, gaussian_kernel
from wne_jax.training.config import differences
from wne_jax.training.tasks import Task


def ramp(channels=1):
    """A photograph-like image that interpolation restores exactly inside."""
    rows, columns = np.mgrid[:48, :48] / 48
    smooth = (0.2 + 0.3 * rows + 0.2 * columns).astype(np.float32)
    return NamedImage("ramp", smooth[..., None].repeat(channels, -1))


def test_arms_differ_in_the_wrapper_or_the_objective():
    runs = wanted(Options())
    for (task, arm), (_, config) in runs.items():
        changed = set(differences(runs[task, "baseline"][1], config))
        assert changed <= ({"objective"} if arm == "soft-ne" else {"model.wrapper"})
        assert config.task == task


@pytest.mark.parametrize("name", ["superres:2", "demosaic", "inpaint"])
def test_interpolation_is_exact_on_a_ramp(name):
    task = Task.parse(name)
    seen, clean = observe(task, ramp(3 if name == "demosaic" else 1), 0.0, 0)
    (estimate,) = classical(task, seen).values()
    inside = np.s_[:, 4:-4, 4:-4]
    tolerance = 0.02 if name == "inpaint" else 2e-3  # neighbours of a gap are not symmetric
    np.testing.assert_allclose(estimate[inside], clean[inside], atol=tolerance)


def test_deconvolution_sharpens_what_was_blurred_with_a_mirrored_border():
    x = jnp.asarray(np.random.default_rng(0).random((1, 6, 6, 1)).repeat(8, 1).repeat(8, 2))
    x = x.astype(jnp.float32)
    blur = Blur(gaussian_kernel(1.6), "reflect")
    blurred = blur(x)
    for estimate in deconvolved(blurred, blur).values():
        assert metrics.psnr(estimate, x)[0] > metrics.psnr(blurred, x)[0] + 1


def test_a_wrapped_network_that_is_not_equivariant_raises_before_anything_is_written():
    denoiser = Denoiser(lambda y: jnp.tanh(y))
    denoiser.symmetry = "normalization"
    with pytest.raises(AssertionError, match="not equivariant"):
        check_identities({("denoise", "wne"): denoiser}, {1: ramp()}, 0)


def test_a_tiny_run_writes_records_table_and_figure(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS["tiny"].networks, "dncnn", {"depth": 2, "features": 4})
    monkeypatch.setattr(
        restoration, "load_sets", lambda *_, channels, **__: {"embedded": [ramp(channels)]}
    )
    options = Options(
        workdir=tmp_path / "results", networks=tmp_path / "networks", steps=2, size=48,
        tasks=("inpaint",), arms=("baseline", "wne"), test_sigmas_255=(20.0,),
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        main(options)
    records = read_records(tmp_path / "results/records.csv")
    psnr = mean_over(
        [r for r in records if r.metric == "psnr"], by=["degradation", "arm", "level", "exposure"]
    )
    there = [psnr["inpaint:0.5", "wne", 10.0, e] for e in restoration.EXPOSURES]
    np.testing.assert_allclose(there, there[0], atol=2e-3)
    others = [psnr["inpaint:0.5", "baseline", 10.0, e] for e in restoration.EXPOSURES]
    assert max(others) - min(others) > 0.01
    defect = mean_over([r for r in records if r.metric == "defect"], by=["arm"])
    assert defect["wne",] < 1e-5 < defect["baseline",]
    table = (tmp_path / "results/table.md").read_text()
    assert "over the exposure, noise 10" in table and "task inpaint:0.5" in table
    assert (tmp_path / "results/psnr.png").is_file()
