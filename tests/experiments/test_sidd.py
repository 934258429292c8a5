"""SIDD on made-up data: two scenes for training, and two scenes of three blocks for testing."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import io
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments.parts.sidd_blocks import CLEAN, NOISY, Blocks, load_blocks
from experiments.sidd import Options, cells, evaluate, main
from wne_jax.evaluation.records import INPUT, read_records

SHAPE = (2, 3, 16, 12, 3)


def made_up() -> Blocks:
    rng = np.random.default_rng(0)
    clean = rng.integers(40, 216, SHAPE)
    return Blocks(*(np.uint8(x) for x in (clean + rng.integers(-40, 41, SHAPE), clean)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidd")
    for name, array in zip((NOISY, CLEAN), made_up()):
        io.savemat(folder / f"{name}.mat", {name: array, "other": np.ones(3)}, do_compression=True)
    rng = np.random.default_rng(1)
    for number in ("0001", "0002"):
        scene = folder / f"SIDD_Medium_Srgb/Data/{number}_001_S6_00100_00060_3200_L"
        scene.mkdir(parents=True)
        for kind in ("NOISY", "GT"):
            pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(scene / f"{number}_{kind}_SRGB_010.PNG")
    return folder


@pytest.fixture(scope="module")
def run(place):
    options = Options(
        data=f"sidd:{place}", blocks=str(place), backbone="dncnn", arms=("wne",), steps=1,
        networks=place / "networks", workdir=place / "run", blocks_at_once=2,
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        main(options)
    return options


def test_networks_train_on_the_pairs_and_every_block_is_scored(run):
    assert (run.networks / "tiny/dncnn-wne-0-colour/denoiser.safetensors").is_file()
    records = [r for r in read_records(run.workdir / "records.csv") if r.value is not None]
    names = ["01-01", "01-02", "01-03", "02-01", "02-02", "02-03"]
    for arm in (INPUT, "wne"):
        for metric in ("psnr", "ssim"):
            assert [r.image for r in records if (r.arm, r.metric) == (arm, metric)] == names
    assert len(records) == 4 * len(names)
    table = (run.workdir / "table.md").read_text()
    assert "6 validation blocks" in table and "1 steps" in table and "revision" in table


def test_scores_of_every_block_agree_with_scikit_image():
    # Batches of two: the last one of a scene is padded.
    records = evaluate({"darker": lambda y: 0.8 * y + 0.01}, made_up(), at_once=2, model="none")
    found = {(r.image, r.arm, r.metric): r.value for r in records}
    assert len(found) == len(records) == 2 * 2 * 6
    for name in {r.image for r in records}:
        scene, block = (int(part) - 1 for part in name.split("-"))
        noisy, clean = (x[scene, block] / 255 for x in made_up())
        for arm, image in ((INPUT, noisy), ("darker", 0.8 * noisy + 0.01)):
            psnr = peak_signal_noise_ratio(clean, image, data_range=1)
            ssim = structural_similarity(
                clean, image, data_range=1, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False, channel_axis=-1,
            )  # fmt: skip
            np.testing.assert_allclose(found[name, arm, "psnr"], psnr, rtol=1e-5)
            np.testing.assert_allclose(found[name, arm, "ssim"], ssim, atol=1e-5)


def test_the_estimate_is_clipped():
    low = {"low": lambda y: 0 * y - 3, "black": lambda y: 0 * y}
    records = evaluate(low, made_up(), at_once=3, model="none")
    scores = {arm: [r.value for r in records if (r.arm, r.metric) == (arm, "psnr")] for arm in low}
    assert scores["low"] == scores["black"] and len(scores["low"]) == 6


def test_only_swinir_has_published_figures():
    shown = {
        backbone: {
            c.arm: c.published for c in cells(Options(backbone=backbone)) if c.metric == "ssim"
        }
        for backbone in ("swinir", "dncnn")
    }
    assert shown["swinir"] == {INPUT: None, "baseline": 0.9150, "wne": 0.9156}
    assert set(shown["dncnn"].values()) == {None}


def test_untrained_arms_are_marked_rows(run, place):
    options = Options(
        data=run.data, blocks=run.blocks, backbone="dncnn", arms=("baseline",), steps=1,
        networks=run.networks, stage="eval", workdir=place / "nothing",
    )  # fmt: skip
    with pytest.raises(FileNotFoundError, match="holds none of dncnn-baseline-0-colour"):
        main(options)
    both = dataclasses.replace(options, arms=("baseline", "wne"))
    with jax.numpy_dtype_promotion("standard"):
        main(both)
    records = read_records(both.workdir / "records.csv")
    assert all(r.value is None for r in records if r.arm == "baseline")
    assert "| dncnn baseline | not run | not run |" in (both.workdir / "table.md").read_text()


def test_the_reversed_axes_of_matlabs_hdf5_are_restored(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name, array in zip((NOISY, CLEAN), made_up()):
        with h5py.File(tmp_path / f"{name}.mat", "w", userblock_size=512) as file:
            file[name] = array.T
        with (tmp_path / f"{name}.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    for found, expected in zip(load_blocks(str(tmp_path)), made_up()):
        np.testing.assert_array_equal(found, expected)


def test_missing_or_invalid_blocks_give_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("WNE_DATA", str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"nowhere: no such folder; .*contain {NOISY}.mat and {CLEAN}"
    ):
        load_blocks("nowhere")
    folder = tmp_path / "SIDD"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=rf"{NOISY}.mat and {CLEAN}.mat"):
        load_blocks("SIDD")
    noisy, clean = folder / f"{NOISY}.mat", folder / f"{CLEAN}.mat"
    io.savemat(clean, {CLEAN: made_up().clean})
    for content, message in (
        ({"x": np.ones(3)}, f"it contains no array {NOISY}"),
        ({NOISY: np.ones((2, 3))}, rf"{NOISY} is double \(2, 3\), not uint8 \[scenes"),
        ({NOISY: np.array([{}], object)}, f"{NOISY} is cell"),
        ({NOISY: made_up().noisy[:1]}, r"\(1, 3, 16, 12, 3\) and clean \(2, .* differ"),
    ):
        io.savemat(noisy, content)
        with pytest.raises(ValueError, match=message):
            load_blocks("SIDD")
    for content in (b"no array", clean.read_bytes()[:300], b"MATLAB 7.3 MAT-file"):
        noisy.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{NOISY}\.mat: (damaged, or not|it contains no)"):
            load_blocks("SIDD")


def test_images_that_are_not_pairs_raise_before_reading(tmp_path):
    with pytest.raises(ValueError, match="data must be pairs"):
        main(Options(data="embedded", workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_objectives_without_pairs_raise(tmp_path):
    with pytest.raises(ValueError, match="arms: n2n, soft-ne draw their own noise or target"):
        main(Options(arms=("baseline", "n2n", "soft-ne"), workdir=tmp_path / "run"))
