"""`denoise --uncertainty`: names, types and places of the files of standard deviations."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import wne_jax as wne
from wne_jax import statistics as S
from wne_jax.cli.main import main
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables, tiny

RNG = np.random.default_rng(0)
SHAPE = (16, 20)


@pytest.fixture(scope="module")
def denoiser():
    model = wne.WNE(tiny("dncnn"), S.noise_level)
    found = Denoiser(model, random_variables(model, np.ones((1, 8, 8, 1), np.float32)))
    found.calibration = 1.5
    return found


@pytest.fixture(autouse=True)
def packaged(denoiser, monkeypatch):
    monkeypatch.setattr(Denoiser, "default", lambda name="gray": denoiser)


def run(*arguments):
    return main(["denoise", *map(str, arguments)])


def test_a_stack_of_16_bits_has_floats_in_its_units(tmp_path, denoiser, capsys):
    stack = RNG.normal(4000, 257, (2, *SHAPE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    out, std = tmp_path / "y.tif", tmp_path / "std.tif"
    level = ("--sigma-255", 1)
    assert run(tmp_path / "x.tif", "-o", out, "--uncertainty", std, *level) == 0
    found = tifffile.imread(std)
    assert found.dtype == np.float32
    for plane, expected in zip(stack, found):
        np.testing.assert_array_equal(denoiser.uncertainty(plane, 257.0), expected)
    assert tifffile.imread(out).dtype == np.uint16
    assert "note" not in capsys.readouterr().err


def test_a_folder_has_a_folder(tmp_path, denoiser, capsys):
    source, deep = tmp_path / "in", tmp_path / "deep" / "std"
    source.mkdir()
    colour = RNG.integers(0, 256, (*SHAPE, 4), dtype=np.uint8)
    Image.fromarray(colour).save(source / "a.png")
    np.save(source / "b.npy", RNG.normal(size=SHAPE))
    assert run(source, "-o", tmp_path / "out", "--uncertainty", deep) == 0
    assert sorted(path.name for path in deep.iterdir()) == ["a.tif", "b.npy"]
    found = tifffile.imread(deep / "a.tif")
    np.testing.assert_allclose(found, denoiser.uncertainty(colour[..., :3]), rtol=1e-5)
    assert np.load(deep / "b.npy").dtype == np.float32
    assert run(source, "-o", tmp_path / "again", "--uncertainty", deep) == 2
    assert "already exists" in capsys.readouterr().err
    assert not list((tmp_path / "again").iterdir())


def test_what_is_masked_is_nan_and_a_given_level_is_used(tmp_path, denoiser):
    y = RNG.normal(0.5, 0.1, SHAPE).astype(np.float32)
    y[:4] = np.nan
    np.save(tmp_path / "x.npy", y)
    options = ("--mask-nan", "--sigma-255", 51)
    std = tmp_path / "std.npy"
    assert run(tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--uncertainty", std, *options) == 0
    expected = denoiser.uncertainty(y, 0.2, where=np.isfinite(y))
    np.testing.assert_array_equal(np.load(std), expected)
    assert np.isnan(expected[:4]).all()


def test_an_uncalibrated_model_is_noted(tmp_path, denoiser, monkeypatch, capsys):
    monkeypatch.setattr(denoiser, "calibration", None)
    np.save(tmp_path / "x.npy", RNG.normal(size=SHAPE))
    options = ("--uncertainty", tmp_path / "s.npy", "--sigma-255", 51)
    assert run(tmp_path / "x.npy", "-o", tmp_path / "y.npy", *options) == 0
    assert "uncertainty of this model is not calibrated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x.npy", "--uncertainty", "s.png"), "its suffix must be one of .npy, .tif, .tiff"),
        (("x.npy", "--uncertainty", "y.npy"), "would both be written to"),
        (("x.npy", "--uncertainty", "x.npy", "--overwrite"), "would replace the input"),
        (("x.npy", "--uncertainty", "s.npy", "--strength", "0.5"), "leave out --strength"),
        (("x.npy", "--uncertainty", "s.npy", "--self-ensemble"), "leave out --strength"),
        (("x.npy", "x.tif", "--uncertainty", "x.tif"), "several images need a folder"),
    ],
)
def test_invalid_options_are_errors_before_any_work(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    image = RNG.normal(size=SHAPE)
    np.save("x.npy", image)
    tifffile.imwrite("x.tif", image)
    out = "out" if "x.tif" in arguments[1] else "y.npy"
    assert run(*arguments, "-o", out) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "x.tif"]
    np.testing.assert_array_equal(np.load("x.npy"), image)
