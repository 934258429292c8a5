import numpy as np

from wne_jax import statistics as S


def test_high_pass_equals_its_kernel_and_has_unit_noise_gain():
    from scipy.ndimage import convolve

    y = np.random.default_rng(0).normal(size=(256, 256))
    kernel = np.outer([-1, 2, -1], [-1, 2, -1]) / 6
    expected = np.sqrt(np.mean(convolve(y, kernel, mode="wrap") ** 2))
    scale = S.high_pass(y[None, ..., None].astype(np.float32)).scale.item()
    np.testing.assert_allclose(scale, expected, rtol=1e-5)
    np.testing.assert_allclose(scale, 1, rtol=0.02)
