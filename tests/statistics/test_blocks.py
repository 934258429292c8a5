import numpy as np
import pytest

from wne_jax import statistics as S


@pytest.mark.parametrize("rows", [1, 2, 5, None])
@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_every_window_of_rows_lies_in_exactly_one_band(rows, size):
    y = np.arange(11.0).reshape(11, 1, 1)
    bands = [band.ravel() for band in S.Blocks(y, np.float32, rows).bands(size)]
    windows = [band[i : i + size] for band in bands for i in range(len(band) - size + 1)]
    np.testing.assert_array_equal(windows, [np.arange(i, i + size) for i in range(12 - size)])
