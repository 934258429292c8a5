import numpy as np
import pytest
from skimage.data import camera

from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.plateaus import keep_plateaus


def letterboxed():
    """A noisy photograph between bars of one value, and where it is noisy."""
    y = camera()[100:196, 100:196] + np.random.default_rng(0).normal(0, 25, (96, 96))
    y[:20] = y[-17:] = 16
    inside = np.zeros((96, 96), bool)
    inside[20:-17] = True
    return y.astype(np.float32), inside


@pytest.mark.parametrize("tile", [None, 64])
def test_bars_come_back_as_they_are(tile):
    y, inside = letterboxed()
    x = Denoiser.default()(y, tile=tile)
    np.testing.assert_array_equal(x[~inside], 16)
    truth = camera()[100:196, 100:196].astype(float)
    error = [np.sqrt(np.mean((z - truth)[inside] ** 2)) for z in (y, x)]
    assert error[1] < 0.5 * error[0]


def test_memory_is_read_in_parts_of_any_height(monkeypatch):
    """Windows across the borders of parts count, too; each channel has plateaus of its own."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (61, 30, 3))
    image[10:40, 5:20, 1] = image[3:12, 20:28, 0] = 7
    image[50:57, :, 2] = 9  # of 7 rows: too small
    expected = np.zeros(image.shape, bool)
    expected[10:40, 5:20, 1] = expected[3:12, 20:28, 0] = True
    for values in (90, 90 * 9, 90 * 13, 10**6):
        monkeypatch.setattr("wne_jax.inference.plateaus._AT_ONCE", values)
        estimate = np.full(image.shape, -1)
        keep_plateaus(image, estimate)
        np.testing.assert_array_equal(estimate, np.where(expected, image, -1))


def test_small_images_and_other_models_are_left_alone():
    estimate = np.ones((7, 40, 1))
    keep_plateaus(np.zeros((7, 40, 1)), estimate)
    assert estimate.all()
    halved = Denoiser(lambda y: y / 2)(np.full((20, 20), 1.0, np.float32))
    np.testing.assert_array_equal(halved, 0.5)
