"""Images of which a part is valid."""

import functools

import numpy as np
import pytest
import tifffile

import wne_jax as wne
from wne_jax import statistics as S
from wne_jax.cli.main import main
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.masks import as_mask, fill_from_nearest
from wne_jax.testing import random_variables, tiny


@pytest.fixture(scope="module")
def denoise():
    model = wne.WNE(tiny("dncnn"), S.noise_level)
    return Denoiser(model, random_variables(model, np.ones((1, 8, 8, 1), np.float32)))


def image(shape=(40, 50)):
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


def holes(shape=(40, 50)):
    where = np.ones(shape, bool)
    where[:, :12] = where[30:, 35:] = False
    return where


def test_holes_take_the_nearest_valid_value():
    y, where = image(), holes()
    filled = fill_from_nearest(y, where)
    np.testing.assert_array_equal(filled[where], y[where])
    np.testing.assert_array_equal(filled[5, :12], y[5, 12])
    assert np.isfinite(fill_from_nearest(np.where(where, y, np.nan), where)).all()


@pytest.mark.parametrize("tile", [None, 24])
def test_what_is_masked_influences_nothing_and_comes_back(denoise, tile):
    y, where = image(), holes()
    results = []
    for value in (np.nan, np.inf, -1e30, 7.0):
        bad = np.where(where, y, np.float32(value))
        x = denoise(bad, where=where, tile=tile)
        np.testing.assert_array_equal(x[~where], bad[~where])
        results.append(x[where])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert np.abs(results[0] - y[where]).max() > 1


def test_tiles_agree_with_the_whole(denoise):
    y, where = image(), holes()
    np.testing.assert_allclose(denoise(y, where=where, tile=24), denoise(y, where=where), rtol=1e-4)


def test_far_from_the_holes_the_result_is_that_without(denoise):
    y, where = image((64, 64)), np.ones((64, 64), bool)
    where[:3, :3] = False
    sigma = 20.0  # a given level, so that statistics differ by the mean alone
    x, full = denoise(y, sigma, where=where), denoise(y, sigma)
    np.testing.assert_allclose(x[30:, 30:], full[30:, 30:], atol=0.05)


def test_it_is_normalization_equivariant(denoise):
    y, where = image(), holes()
    x = denoise(y, where=where)
    np.testing.assert_array_equal(denoise(4 * y, where=where), 4 * x)
    np.testing.assert_allclose(denoise(3 * y + 50, where=where), 3 * x + 50, rtol=1e-4)


def test_colours_have_masks_of_their_own_and_whole_images_may_lack(denoise):
    y, where = image((2, 20, 20, 3)), np.ones((2, 20, 20, 3), bool)
    where[0, :5, :, 1] = where[1, ..., 2] = False
    x = denoise(y, where=where)
    np.testing.assert_array_equal(x[1, ..., 2], y[1, ..., 2])
    np.testing.assert_allclose(x[0, ..., 0], denoise(y[0, ..., 0]), rtol=1e-5)
    np.testing.assert_allclose(
        x[0, ..., 1], denoise(y[0, ..., 1], where=where[0, ..., 1]), rtol=1e-5
    )
    np.testing.assert_array_equal(denoise(y, where=np.ones((2, 20, 20), bool)), denoise(y))


@pytest.mark.parametrize(
    "where, error, match",
    [
        (np.ones((4, 4)), TypeError, "boolean"),
        (np.ones((3, 4), bool), ValueError, r"\(3, 4\) does not fit \(4, 4\)"),
        (np.ones((4, 4), bool), ValueError, r"1 valid pixels .* first at \(1, 2\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(where, error, match):
    y = np.ones((4, 4), np.float32)
    y[1, 2] = np.nan
    with pytest.raises(error, match=match):
        as_mask(where, y)


@pytest.fixture(scope="module", autouse=True)
def commands_share_one_packaged_denoiser():
    """Which saves compiling it anew for every command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoiser, "default", functools.cache(Denoiser.default))
        yield


def run(*words):
    return main(["denoise", *map(str, words)])


def no_data(path, y, text):
    tifffile.imwrite(
        path, y, photometric="minisblack", metadata=None, extratags=[(42113, "s", 0, text, True)]
    )


@pytest.mark.parametrize(
    "dtype, value, text",
    [
        (np.float32, -9999.0, "-9999"),
        (np.float32, -3.4028234663852886e38, "-3.4028234663852886e+38"),
        (np.float32, np.nan, "nan"),
        (np.uint16, 0, "0"),
        (np.int16, -32768, "-32768"),
    ],
)
def test_files_keep_their_pixels_of_no_data(tmp_path, dtype, value, text):
    full, where = (2 + image()).astype(dtype), holes()
    full[20, 20] = 1  # a valid pixel near the value of no data
    y = np.where(where, full, dtype(value))
    no_data(tmp_path / "y.tif", y, text)
    no_data(tmp_path / "full.tif", full, text)
    assert run(tmp_path / "y.tif", tmp_path / "full.tif", "-o", tmp_path / "out/") == 0
    x = tifffile.imread(tmp_path / "out/y.tif")
    same = np.isnan(x) if np.isnan(value) else x == dtype(value)
    np.testing.assert_array_equal(same, ~where)
    other = tifffile.imread(tmp_path / "out/full.tif").astype(float)
    inner = np.s_[4:26, 16:46]
    assert np.abs(x.astype(float) - other)[inner].std() < 0.25 * (other - full)[inner].std()
    with tifffile.TiffFile(tmp_path / "out/y.tif") as file:
        assert file.pages[0].tags.valueof(42113) == text


@pytest.mark.parametrize(
    "text, note", [("none", "is not a number"), ("-1", "is not a value of uint16")]
)
def test_a_value_that_cannot_be_is_a_note(tmp_path, capsys, text, note):
    no_data(tmp_path / "y.tif", image().astype(np.uint16), text)
    assert run(tmp_path / "y.tif", "-o", tmp_path / "x.tif") == 0
    assert note in capsys.readouterr().err


def test_nan_is_refused_with_its_place_or_masked(tmp_path, capsys):
    y = np.where(holes(), image(), np.nan).astype(np.float32)
    np.save(tmp_path / "y.npy", y)
    assert run(tmp_path / "y.npy", "-o", tmp_path / "x.npy") == 2
    error = capsys.readouterr().err
    assert "plane 0" in error and "the first at 0, 0" in error and "--mask-nan" in error
    assert run(tmp_path / "y.npy", "-o", tmp_path / "x.npy", "--mask-nan") == 0
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "x.npy")), ~holes())


def test_a_file_without_a_valid_pixel_comes_back_as_it_is(tmp_path):
    no_data(tmp_path / "y.tif", np.zeros((20, 30), np.uint16), "0")
    assert run(tmp_path / "y.tif", "-o", tmp_path / "x.tif") == 0
    assert not tifffile.imread(tmp_path / "x.tif").any()


def test_the_command_says_what_the_noise_is(tmp_path, capsys):
    y = image((64, 64))
    np.save(tmp_path / "y.npy", y)
    for option in ([], ["--noise", "white"], ["--noise", "photon"], ["--noise-curve", "2", "30"]):
        out = tmp_path / f"x{len(option)}{option[-1:]}.npy"
        assert run(tmp_path / "y.npy", "-o", out, *option) == 0
        assert "y.npy: noise " in capsys.readouterr().out
    assert run(tmp_path / "y.npy", "-o", tmp_path / "s.npy", "--sigma-255", "20") == 0
    assert "noise" not in capsys.readouterr().out
    assert (
        run(tmp_path / "y.npy", "-o", tmp_path / "t.npy", "--sigma-255", "2", "--noise", "auto")
        == 2
    )
    assert "leave out --noise" in capsys.readouterr().err


def test_a_known_line_is_moved_with_the_image():
    model = wne.WNE(tiny("dncnn"), S.haar_mad)
    denoise = Denoiser(model, random_variables(model, np.ones((1, 8, 8, 1), np.float32)))
    y = image()
    x = denoise.with_noise((2.0, 30.0))(y)
    moved = denoise.with_noise((8.0, 16 * 30.0 - 4 * 2.0 * 64))(4 * y + 64)
    np.testing.assert_allclose(moved, 4 * x + 64, rtol=1e-5)
    tiled = denoise.with_noise((2.0, 30.0))(y, tile=24)
    np.testing.assert_allclose(tiled, x, rtol=1e-5)
    with pytest.raises(ValueError, match="one of auto, white, photon"):
        denoise.with_noise("pink")
    with pytest.raises(ValueError, match="behind a noise level"):
        Denoiser(lambda y: y).with_noise("white")
