import numpy as np

from wne_jax import statistics as S


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


def test_mean_std_equals_numpy():
    y = image()
    location, scale, *_ = S.mean_std(y)
    np.testing.assert_allclose(location[:, 0, 0, 0], y.mean((1, 2, 3), np.float64), rtol=1e-6)
    np.testing.assert_allclose(scale[:, 0, 0, 0], y.std((1, 2, 3), np.float64), rtol=1e-6)


def test_a_small_contrast_on_a_large_offset_keeps_its_digits():
    y = image((1, 64, 64, 1)).astype(np.float64) * 0.01 + 10
    y32 = y.astype(np.float32)
    np.testing.assert_allclose(
        S.mean_std(y32).scale.item(), y32.astype(np.float64).std(), rtol=1e-5
    )


def test_robust_scales_never_fall_below_the_floor():
    y = np.zeros((1, 32, 32, 1), np.float32)
    y[:, 8, 8] = 1.0  # the medians are all 0
    std = y.std()
    for statistic in (S.haar_mad, S.median_mad):
        np.testing.assert_allclose(statistic(y).scale.item(), S.FLOOR * std, rtol=1e-6)
    assert S.haar_sigma(y)[0] == 0
