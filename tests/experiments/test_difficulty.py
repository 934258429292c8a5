import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import _comparison, _coverage, _normalized_error, _published, difficulty
from experiments._runs import name_of
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import records as results
from wne_jax.images.reading import write_image
from wne_jax.images.units import to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry import analysis
from wne_jax.training.config import save_config

LEVELS = (50.0, 40.0, 30.0, 20.0, 10.0)


def rows(records):
    return np.reshape([record["coverage"] for record in records], (5, 5))


def published_rows():
    covered = _published.coverage()
    return np.array([[covered[train, test] for test in LEVELS] for train in LEVELS])


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 230, (12, 11, 1)).repeat(8, axis=0).repeat(8, axis=1)
    return NamedImage("blocks", (coarse + rng.normal(0, 9, coarse.shape)).astype(np.uint8))


def test_contrasts_are_the_deviations_of_all_windows(image):
    windows = np.lib.stride_tricks.sliding_window_view(to_unit(image.pixels)[..., 0], (70, 70))
    drawn = _coverage.contrasts([image], 20_000, 70, np.random.default_rng(0))
    expected = np.unique(windows.std(axis=(2, 3)).astype(np.float64))
    np.testing.assert_allclose(np.unique(drawn).min(), expected.min(), rtol=1e-4)
    np.testing.assert_allclose(np.mean(drawn), windows.std(axis=(2, 3)).mean(), rtol=1e-3)


def test_a_known_contrast_has_the_coverage_that_its_law_says(key):
    # Of one contrast alone, levels do not overlap; of none, they are alike.
    apart = _coverage.draw_by_law(np.full(4000, 0.2, np.float32), LEVELS, 4900, key)
    np.testing.assert_allclose(rows(_coverage.table(apart)), 95 * np.eye(5), atol=0.1)
    alike = _coverage.draw_by_law(np.zeros(4000, np.float32), LEVELS, 4900, key)
    np.testing.assert_allclose(rows(_coverage.table(alike)), 95, atol=2)


def test_the_published_table_says_how_flat_its_corpus_is():
    points = _coverage.published_contrasts(4900)
    stds, shares = np.transpose(points)
    assert len(points) == 8 and (np.diff(stds) > 0).all() and (np.diff(shares) > 0).all()
    # By hand, of (50, 10): Delta = 37.5982 is SNR 2.4663, hence std 15.70, below which are 19.06 %.
    np.testing.assert_allclose(points[4], (15.704, 0.1906), rtol=1e-3)


def test_bsd400_has_the_expected_coverage_and_with_flat_patches_the_published_one(wne_data, key):
    images = load_images(f"folder:{wne_data / 'BSD400'}", min_size=70)
    stds = _coverage.contrasts(images, 60_000, 70, np.random.default_rng(0))
    law = _coverage.draw_by_law(stds, LEVELS, 4900, key)
    found = rows(_coverage.table(law))
    np.testing.assert_allclose(found[0], (95, 86, 68, 40, 13), atol=2)
    np.testing.assert_allclose(found[-1], (69, 78, 86, 92, 95), atol=1.5)
    assert found[-1, 0] < published_rows()[-1, 0] - 15

    flat = np.linspace(0, 6 / 255, len(stds), dtype=np.float32)
    flat = np.random.default_rng(1).permutation(flat)
    mixed = _coverage.draw_by_law(
        np.where(np.arange(len(stds)) % 100 < 8, flat, stds), LEVELS, 4900, key
    )
    np.testing.assert_allclose(rows(_coverage.table(mixed)), published_rows(), atol=2)


def test_the_excess_is_what_a_level_adds_at_equal_difficulty():
    rng = np.random.default_rng(0)
    delta = rng.uniform(0, 70, 4000)
    level = rng.choice([10.0, 50.0], 4000)
    for added in (0.0, 3.0):
        error = -20 - 0.1 * np.floor(delta / 70 * _normalized_error.BINS) + added * (level == 50)
        records = [
            {"difficulty": d, "sigma_255": s, "error": e} for d, s, e in zip(delta, level, error)
        ]
        # Levels lie half of it above and below what both have in common, in the root mean square.
        assert _normalized_error.excess(records, 4900) <= added
        assert _normalized_error.excess(records, 4900) >= added / 2 - 0.1


def write_network(options, arm):
    """A network of random weights, where a trained one would be."""
    config = options.config(arm, 25.0)
    model, example = config.model.build(), jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), example)
    variables = jax.tree.map(lambda v: v + 0.02, variables)  # biases, too
    folder = options.runs / name_of(arm, config)
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    Denoiser(model, variables, config.model).save(folder / "denoiser.safetensors")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, image):
    """Both experiments, on one image, with networks of random weights."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "images").mkdir()
    write_image(folder / "images" / "blocks.png", image.pixels)
    images = f"folder:{folder / 'images'}"
    common = {"data": images, "train": False, "runs": folder / "trained"}
    of_difficulty = difficulty.Options(
        **common, test=(images,), samples=2000, batches=1, statistics=("haar_mad",),
        networks=True, arms=("baseline", "wne"), train_levels_255=(25.0, 50.0), test_patches=4,
        test_sigmas_255=(10.0, 50.0), workdir=folder / "difficulty",
    )  # fmt: skip
    for arm in ("baseline", "wne"):
        write_network(of_difficulty, arm)
    difficulty.main(of_difficulty)
    return folder


def test_difficulty_leaves_tables_figures_and_records(ran):
    workdir = ran / "difficulty"
    records = results.read_csv(workdir / "coverage.csv")
    assert {(r["statistics"], r["drawn"]) for r in records} == {
        ("mean_std", "law"), ("mean_std", "patches"), ("haar_mad", "patches"),
    }  # fmt: skip
    same = [r["coverage"] for r in records if r["train_sigma_255"] == r["test_sigma_255"]]
    np.testing.assert_allclose(same, 95, atol=1.1)
    cells = _comparison.read(workdir)
    first = [
        c
        for c in cells
        if c["result"].startswith("Table 3") and (c["row"], c["column"]) == ("50", "10")
    ]
    assert len(first) == 2 and all(c["published"] == 19.06 for c in first)
    assert len(results.read_csv(workdir / "flat.csv")) == 25 * len(difficulty.FLAT_SHARES)
    for name in ("histograms.png", "flat.png", "error.png"):
        with Image.open(workdir / name) as figure:
            assert min(figure.size) > 300
    table = (workdir / "table.md").read_text()
    assert "- baseline, trained at 25, wne, trained at 25: dncnn (depth 6" in table
    assert "| 25 | 50 |" in table and "| not run |" in table
    assert json.loads((workdir / "config.json").read_text())["config"]["samples"] == 2000


def test_the_normalized_error_of_a_network_is_its_psnr(ran):
    for record in results.read_csv(ran / "difficulty/error.csv"):
        psnr = analysis.psnr_from_error(record["error"], record["scale"], 4900)
        assert float(psnr) == pytest.approx(record["psnr"], abs=1e-3)


def test_what_does_not_fit_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images/small.png", np.zeros((96, 60, 1), np.uint8))
    small = f"folder:{tmp_path / 'images'}"
    folders = {"runs": tmp_path / "trained", "workdir": tmp_path / "run"}
    with pytest.raises(ValueError, match="patch is 70, but the test image small is 96x60"):
        difficulty.main(difficulty.Options(networks=True, test=(small,), **folders))
    assert not any(folder.exists() for folder in folders.values())
