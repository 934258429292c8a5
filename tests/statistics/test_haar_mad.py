import numpy as np
import pytest
from skimage.data import camera

from wne_jax import statistics as S


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [5 / 255, 25 / 255, 90 / 255])
def test_haar_sigma_finds_white_noise(sigma):
    noise = sigma * np.random.default_rng(0).normal(size=(1, 512, 512, 1))
    ramp = np.linspace(0, 3, 512).reshape(1, 1, 512, 1)
    estimate = S.haar_sigma((ramp + noise).astype(np.float32))
    assert estimate.shape == (1,)
    np.testing.assert_allclose(estimate, sigma, rtol=0.01)
    photograph = camera()[None, ..., None] / 255  # its texture adds to a small noise
    estimate = S.haar_sigma((photograph + noise).astype(np.float32))
    assert sigma < estimate < 1.3 * sigma


def test_haar_sigma_equals_its_formula():
    y = image((1, 8, 9, 2)).astype(np.float64)
    detail = (y[:, :-1, :-1] - y[:, 1:, :-1] - y[:, :-1, 1:] + y[:, 1:, 1:]) / 2
    expected = np.median(np.abs(detail)) / 0.6744897501960817
    np.testing.assert_allclose(S.haar_sigma(y.astype(np.float32))[0], expected, rtol=1e-6)
