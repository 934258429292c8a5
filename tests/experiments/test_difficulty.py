import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import difficulty
from experiments.harness import Folder, networks, published
from experiments.parts import coverage, normalized_error
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation.origin import provenance
from wne_jax.evaluation.records import read_records
from wne_jax.images.reading import write_image
from wne_jax.images.units import to_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.symmetry import analysis
from wne_jax.training.config import save_config

LEVELS = (50.0, 40.0, 30.0, 20.0, 10.0)


def table(drawn):
    return coverage.coverages(drawn, dataset="made up", arm="mean_std")


def rows(records):
    return np.reshape([record.value for record in records], (5, 5))


def published_rows():
    covered = published.coverage()
    return np.array([[covered[train, test] for test in LEVELS] for train in LEVELS])


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 230, (12, 11, 1)).repeat(8, axis=0).repeat(8, axis=1)
    return NamedImage("blocks", (coarse + rng.normal(0, 9, coarse.shape)).astype(np.uint8))


def test_contrasts_are_standard_deviations_of_windows(image):
    windows = np.lib.stride_tricks.sliding_window_view(to_unit(image.pixels)[..., 0], (70, 70))
    drawn = coverage.contrasts([image], 20_000, 70, np.random.default_rng(0))
    expected = np.unique(windows.std(axis=(2, 3)).astype(np.float64))
    np.testing.assert_allclose(np.unique(drawn).min(), expected.min(), rtol=1e-4)
    np.testing.assert_allclose(np.mean(drawn), windows.std(axis=(2, 3)).mean(), rtol=1e-3)


def test_coverage_of_a_known_contrast_agrees_with_its_distribution(key):
    # With a single contrast, levels do not overlap; with contrast 0, they are equal.
    apart = coverage.draw_by_law(np.full(4000, 0.2, np.float32), LEVELS, 4900, key)
    np.testing.assert_allclose(rows(table(apart)), 95 * np.eye(5), atol=0.1)
    alike = coverage.draw_by_law(np.zeros(4000, np.float32), LEVELS, 4900, key)
    np.testing.assert_allclose(rows(table(alike)), 95, atol=2)


def test_the_published_table_determines_the_share_of_flat_patches():
    points = coverage.published_contrasts(4900)
    stds, shares = np.transpose(points)
    assert len(points) == 8 and (np.diff(stds) > 0).all() and (np.diff(shares) > 0).all()
    # By hand, for (50, 10): Delta = 37.5982 is SNR 2.4663, hence std 15.70; 19.06 % are below.
    np.testing.assert_allclose(points[4], (15.704, 0.1906), rtol=1e-3)


def test_bsd400_with_flat_patches_has_the_published_coverage(wne_data, key):
    images = load_images(f"folder:{wne_data / 'BSD400'}", min_size=70)
    stds = coverage.contrasts(images, 60_000, 70, np.random.default_rng(0))
    law = coverage.draw_by_law(stds, LEVELS, 4900, key)
    found = rows(table(law))
    np.testing.assert_allclose(found[0], (95, 86, 68, 40, 13), atol=2)
    np.testing.assert_allclose(found[-1], (69, 78, 86, 92, 95), atol=1.5)
    assert found[-1, 0] < published_rows()[-1, 0] - 15

    flat = np.linspace(0, 6 / 255, len(stds), dtype=np.float32)
    flat = np.random.default_rng(1).permutation(flat)
    mixed = coverage.draw_by_law(
        np.where(np.arange(len(stds)) % 100 < 8, flat, stds), LEVELS, 4900, key
    )
    np.testing.assert_allclose(rows(table(mixed)), published_rows(), atol=2)


def test_the_excess_is_the_effect_of_the_level_at_equal_difficulty():
    rng = np.random.default_rng(0)
    delta = rng.uniform(0, 70, 4000)
    level = rng.choice([10.0, 50.0], 4000)
    for added in (0.0, 3.0):
        error = -20 - 0.1 * np.floor(delta / 70 * normalized_error.BINS) + added * (level == 50)
        records = [
            {"difficulty": d, "level": s, "error": e} for d, s, e in zip(delta, level, error)
        ]
        # The levels are shifted by half of it above and below their common value.
        assert normalized_error.excess(records, 4900) <= added
        assert normalized_error.excess(records, 4900) >= added / 2 - 0.1


def write_network(options, arm, level=25.0):
    """Write a network with random weights in place of a trained one."""
    config = options.config(arm, level)
    model, example = config.model.build(), jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), example)
    variables = jax.tree.map(lambda v: v + 0.02, variables)  # biases, too
    folder = networks.folder_of(options, arm, config)
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    Denoiser(model, variables, config.model).save(folder / "denoiser.safetensors")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, image):
    """The experiment on one image, with networks of random weights."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "images").mkdir()
    write_image(folder / "images" / "blocks.png", image.pixels)
    images = f"folder:{folder / 'images'}"
    common = {"data": images, "stage": "eval", "networks": folder / "networks", "test": (images,)}
    of_difficulty = difficulty.Options(
        **common, samples=2000, batches=1, further_statistics=("haar_mad",),
        errors=True, arms=("baseline", "wne"), train_sigmas_255=((25.0,), (50.0,)), test_patches=4,
        test_sigmas_255=(10.0, 50.0), workdir=folder / "difficulty",
    )  # fmt: skip
    for arm in ("baseline", "wne"):
        write_network(of_difficulty, arm)
    difficulty.main(of_difficulty)
    return folder


def test_difficulty_writes_tables_figures_and_records(ran):
    workdir = ran / "difficulty"
    records = read_records(workdir / "records.csv")
    covered = [r for r in records if r.unit == "%"]
    assert {(r.metric, r.arm) for r in covered} == {
        ("coverage", "mean_std"), ("coverage", "haar_mad"), ("coverage_of_drawn_patches", "mean_std"),
        ("coverage_with_flat_patches", "mean_std"),
    }  # fmt: skip
    same = [r.value for r in covered if r.trained == (r.level,) and not r["flat_share"]]
    np.testing.assert_allclose(same, 95, atol=1.1)
    corner = [
        r for r in covered if (r.trained, r.level, r.published is None) == ((50.0,), 10.0, False)
    ]
    # For the original corpus, and with the best share of flat patches.
    assert len(corner) == 2 and all(r.published == 19.06 for r in corner)
    shares = [r for r in covered if r.metric == "coverage_with_flat_patches"]
    assert len(shares) == 25 * len(difficulty.FLAT_SHARES)
    for name in ("histograms.png", "flat.png", "error.png"):
        with Image.open(workdir / name) as figure:
            assert min(figure.size) > 300
    table = (workdir / "table.md").read_text()
    assert "- baseline, trained at 25, wne, trained at 25: dncnn (depth 6" in table
    assert "| | 25 | 50 |" in table and "| not run |" in table
    assert json.loads((workdir / "config.json").read_text())["config"]["samples"] == 2000


def test_resume_adds_missing_results_and_keeps_existing_ones(ran, tmp_path):
    shutil.copytree(ran / "difficulty", tmp_path / "difficulty")
    shutil.copytree(ran / "networks", tmp_path / "networks")
    config = json.loads((ran / "difficulty/config.json").read_text())["config"]
    options = difficulty.Options(
        data=config["data"], test=(config["data"],), samples=2000, batches=1, stage="eval",
        further_statistics=("haar_mad",), errors=True, arms=("baseline", "wne"), test_patches=4,
        train_sigmas_255=((25.0,), (50.0,)), test_sigmas_255=(10.0, 50.0), resume=True,
        networks=tmp_path / "networks", workdir=tmp_path / "difficulty",
    )  # fmt: skip
    figure = (tmp_path / "difficulty/error.png").read_bytes()
    before = read_records(tmp_path / "difficulty/records.csv")
    write_network(options, "wne", level=50.0)
    difficulty.main(options)
    assert (
        tmp_path / "difficulty/error.png"
    ).read_bytes() == figure  # the figure has more than the new network
    after = read_records(tmp_path / "difficulty/records.csv")
    assert {repr(r) for r in before if r.value is not None} < {repr(r) for r in after}
    new = {
        (r.arm, r.trained) for r in after if r.metric == difficulty.EXCESS and r.value is not None
    }
    assert new == {("baseline", (25.0,)), ("wne", (25.0,)), ("wne", (50.0,))}


def test_the_normalized_error_of_a_network_is_its_psnr(image, key):
    clean = coverage.crops([image], 4, 70, np.random.default_rng(0))
    functions = {("half", (25.0,)): lambda y: 0.5 * y}
    rows = normalized_error.measure(functions, clean, (10.0, 50.0), key)
    assert len(rows) == 8
    for row in rows:
        psnr = analysis.psnr_from_error(row["error"], row["scale"], 4900)
        assert float(psnr) == pytest.approx(row["psnr"], abs=1e-3)


def test_errors_of_networks_have_a_figure_and_records(image, tmp_path, key):
    functions = {(arm, (25.0,)): lambda y: y for arm in ("baseline", "wne")}
    options = difficulty.Options(
        errors=True, arms=("baseline", "wne"), train_sigmas_255=((25.0,),), test_patches=4,
        test_sigmas_255=(10.0, 50.0),
    )  # fmt: skip
    out = Folder(tmp_path, tmp_path, provenance({}))
    rows = difficulty.measure_networks(options, functions, [image], key, out)
    records = difficulty.error_records(rows, functions, 4900, dataset="made up", model="none")
    with Image.open(tmp_path / "error.png") as figure:
        assert min(figure.size) > 300
    patches = [r["patches"] for r in records if r.metric == "median_normalized_error"]
    assert sum(patches) == 2 * 2 * 4  # arms, levels, patches
    one, other = (r.value for r in records if r.metric == difficulty.EXCESS)
    assert one == other


def test_invalid_options_raise_before_training(tmp_path):
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images/small.png", np.zeros((96, 60, 1), np.uint8))
    small = f"folder:{tmp_path / 'images'}"
    folders = {"networks": tmp_path / "networks", "workdir": tmp_path / "run"}
    with pytest.raises(ValueError, match="patch is 70, but the test image small is 96x60"):
        difficulty.main(difficulty.Options(errors=True, test=(small,), **folders))
    assert not any(folder.exists() for folder in folders.values())
