"""Noise that is not Gaussian, with identity networks, whose figures are those of the noise."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.harness import folders, published
from experiments.harness.networks import WEIGHTS, folder_of
from experiments.non_gaussian import Options, main, wanted
from wne_jax.evaluation.records import INPUT, read_records
from wne_jax.evaluation.tables import pivot
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import create_state
from wne_jax.training.config import save_config

LEVELS = (5.0, 17.0, 50.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two images called Set12, the identity as `baseline`, and no other networks."""
    place = tmp_path_factory.mktemp("non_gaussian")
    rows, columns = np.mgrid[:96, :96] / 96
    (place / "Set12").mkdir()
    for i in (1, 2):
        wave = 128 + 60 * np.sin(7 * i * rows) * np.cos(9 * columns)
        write_image(place / f"Set12/{i:02d}.png", np.uint8(wave)[..., None])
    options = Options(
        noises=("uniform", "rayleigh", "jpeg"), arms=("baseline", "wne"), stage="eval",
        test=(f"folder:{place / 'Set12'}",), test_sigmas_255=LEVELS, qualities=(5, 45, 85),
        networks=place / "networks", workdir=place / "run",
    )  # fmt: skip
    for arm, config in wanted(options).values():
        if arm == "baseline":
            folder = folder_of(options, arm, config)
            folder.mkdir(parents=True)
            save_config(config, folder / "config.json")
            shapes = jax.eval_shape(lambda config=config: create_state(config).variables())
            nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
            Denoiser(config.model.build(), nothing, config.model).save(folder / WEIGHTS)
    main(options)
    return options


def test_networks_are_trained_on_each_noise_at_the_papers_level():
    configs = {label: config for label, (_, config) in wanted(Options(arms=("wne",))).items()}
    trained = {label: (c.noise, c.sigma_255) for label, c in configs.items()}
    assert trained == {
        ("uniform", "wne"): ("uniform", (14.0,)),
        ("laplace", "wne"): ("laplace", (20.0,)),
        ("rayleigh", "wne"): ("rayleigh", (17.0,)),
    }


def found(run, **columns):
    records = read_records(run.workdir / folders.RECORDS)
    return [r for r in records if all(r[name] == value for name, value in columns.items())]


def test_the_identity_keeps_the_mean_of_rayleigh_noise(run):
    records = found(run, degradation="rayleigh", metric="offset")
    assert {r.arm for r in records} == {INPUT, "baseline"}
    for record in records:
        mean = record.level * np.sqrt(np.pi / (4 - np.pi))
        error = 5 * record.level / 96  # five standard errors
        if record.arm == INPUT or record.level == 5:  # without clipping
            assert abs(record.value - mean) < error


def test_input_and_published_curves_are_recorded(run):
    rayleigh = pivot(
        found(run, degradation="rayleigh", metric="psnr"), rows=["arm"], columns=["level"]
    )
    # E n^2 = sigma^2 + m^2 for every image, ours and the published one.
    for level in LEVELS:
        cell = rayleigh.cells[(INPUT,), (level,)]
        power = (level / 255) ** 2 * (1 + np.pi / (4 - np.pi))
        np.testing.assert_allclose([cell.value, cell.published], -10 * np.log10(power), atol=0.15)
    jpeg = pivot(found(run, degradation="jpeg", metric="psnr"), rows=["arm"], columns=["level"])
    sweep = published.sweep("jpeg_qf_from_uniform")
    assert jpeg.cells[("wne",), (45,)].published == published.at_level(sweep, "wne", 45)
    assert jpeg.cells[("wne",), (45,)].value is None
    for quality in (5, 45, 85):  # clipping does not change an 8-bit image
        same = [jpeg.cells[(arm,), (quality,)].value for arm in (INPUT, "baseline")]
        assert same[0] == pytest.approx(same[1], abs=1e-5)


def test_tables_and_figures_state_what_was_run(run):
    table = (run.workdir / "table.md").read_text()
    assert "| wne | not run (" in table and "| baseline | **" in table and "revision" in table
    assert "## Offset (of 255), rayleigh, trained on rayleigh, trained at 17, Set12" in table
    assert "uniform baseline" in table and "750 steps" in table
    for noise in run.noises:
        with Image.open(run.workdir / f"{noise}-Set12.png") as figure:
            assert min(figure.size) > 300


def test_results_are_not_overwritten_without_the_option(run):
    with pytest.raises(FileExistsError, match="with --resume, replace them with --overwrite"):
        main(run)


def test_results_of_deleted_networks_are_kept(run, tmp_path):
    shutil.copytree(run.workdir, tmp_path / "run")
    (tmp_path / "none").mkdir()
    again = dataclasses.replace(run, networks=tmp_path / "none", workdir=tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(FileNotFoundError, match="holds none of"):
        main(dataclasses.replace(again, overwrite=True))
    main(dataclasses.replace(again, resume=True))
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert after == before


def test_invalid_jpeg_qualities_raise_before_training(tmp_path):
    for qualities, given in (((0, 5), "0, 5"), ((101,), "101"), ((), "nothing")):
        options = Options(qualities=qualities, networks=tmp_path / "nets", workdir=tmp_path / "run")
        with pytest.raises(ValueError, match=f"qualities must be from 1 to 100, not {given}"):
            main(options)
    assert not any(tmp_path.iterdir())
