"""What is said of the noise of an image, against noise that is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import camera

from wne_jax import statistics as S
from wne_jax.images import degradations
from wne_jax.inference.denoiser import Denoiser


def photograph(size=256):
    return camera()[128 : 128 + size, 128 : 128 + size].astype(float)


def correlated(shape, sigma, width=0.8, seed=0):
    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), width)
    return noise * (sigma / noise.std())


@pytest.mark.parametrize("sigma", [5.0, 15.0])
def test_white_noise_is_called_white(sigma):
    y = photograph() + np.random.default_rng(0).normal(0, sigma, (256, 256))
    report = S.noise_report(y)
    assert report.white and report.alpha == 0 == report.clipped
    assert abs(report.sigma / sigma - 1) < 0.07 and report.level == pytest.approx(report.sigma)
    assert str(report) == f"noise {report.sigma:.3g}"


@pytest.mark.parametrize("width", [0.7, 0.8])
def test_correlated_noise_is_named_and_its_strength_found(width):
    y = photograph() + correlated((256, 256), 15.0, width)
    report = S.noise_report(y)
    assert not report.white and report.ratio > 2
    assert 12 < report.sigma < 18 < report.level
    assert "correlated between neighbours" in str(report)
    assert S.estimate_sigma(y[None, ..., None].astype(np.float32)) < 6  # the corner of the spectrum


def test_photons_are_named_with_their_line():
    rng = np.random.default_rng(0)
    x = photograph()
    for offset in (0.0, 1000.0):
        y = 2.0 * rng.poisson(x / 2.0) + rng.normal(0, 3.0, x.shape) + offset
        report = S.noise_report(y)
        assert abs(report.alpha / 2 - 1) < 0.15
        at_100 = report.alpha * (100 + offset) + report.beta
        assert abs(at_100 / (200 + 9) - 1) < 0.12
        assert "grows with intensity" in str(report)


def test_units_of_the_file_do_not_matter():
    y = photograph() + correlated((256, 256), 10.0)
    first, second = S.noise_report(y), S.noise_report(2.0**40 * y)
    assert second.sigma == 2.0**40 * first.sigma and second.ratio == first.ratio
    whole = S.noise_report(np.uint16((y + 100).round() * 64))
    assert abs(whole.sigma / 64 / first.sigma - 1) < 0.15


def test_clipped_and_missing_pixels_are_left_out():
    y = 1.6 * photograph() + np.random.default_rng(0).normal(0, 20, (256, 256))
    report = S.noise_report(y.clip(0, 255))
    assert 0.1 < report.clipped < 0.5 and "clipped" in str(report)
    assert 17 < report.sigma < 24
    hole = photograph() + np.random.default_rng(0).normal(0, 8, (256, 256))
    hole[50:120, 60:200] = np.nan
    assert abs(S.noise_report(hole).sigma / 8 - 1) < 0.06
    assert S.noise_report(np.full((20, 20), np.nan)).sigma == 0
    with pytest.raises(ValueError, match="no block of 12 x 12"):
        S.noise_report(np.zeros((11, 50)))


def test_colour_is_pooled():
    y = np.stack([photograph()] * 3, -1) + np.random.default_rng(0).normal(0, 9, (256, 256, 3))
    assert abs(S.noise_report(y).sigma / 9 - 1) < 0.05


def flat_rms(y, clean):
    """The noise where a photograph is flat, low frequencies left out."""
    slope = np.hypot(*np.gradient(gaussian_filter(clean, 2)))
    return (y - clean)[slope < np.quantile(slope, 0.2)].std()


def test_the_packaged_denoiser_removes_correlated_noise_without_an_option():
    clean = photograph()
    y = np.float32(clean + correlated((256, 256), 15.0))
    x = Denoiser.pretrained("gray").with_noise("auto")(y)
    white = Denoiser.pretrained("gray").with_noise("white")(y)
    assert flat_rms(x, clean) < 0.5 * flat_rms(y, clean)
    assert flat_rms(white, clean) > 0.9 * flat_rms(y, clean)
    assert np.mean((x - clean) ** 2) < 0.5 * np.mean((y - clean) ** 2)


def test_the_level_of_a_camera_is_that_of_its_band(key):
    """A Bayer mosaic correlates neighbours: the level is above that of flat blocks, and near the truth."""
    clean = np.float32(photograph()[None, ..., None] / 255)
    y = np.asarray(degradations.camera(key, clean, 0.1))[0, ..., 0]
    report = S.noise_report(y)
    truth = (y - clean[0, ..., 0]).std()
    assert not report.white and 0.75 < report.sigma / truth < 1.35 and report.level > report.sigma
