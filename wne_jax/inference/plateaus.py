"""What a program has written into an image, kept as it is: bars, frames, saturated places."""

import numpy as np

from wne_jax.statistics.flat_blocks import PLATEAU, plateaus

_AT_ONCE = 2**20
"""Values that are looked at, at a time."""


def keep_plateaus(image: np.ndarray, estimate: np.ndarray, value: float | None = None) -> None:
    """Give an estimate the image's own values where 8 x 8 equal ones are: there is no noise to remove.

    A denoiser sees the noise beyond the edge of such a place, and would carry it in.

    Args:
        image: `[H, W, C]`, an array or a memory map; each channel by itself.
        estimate: Of the same shape, which is changed.
        value: What to write there in place of the image's own values.

    Example:
        >>> x = np.zeros((9, 8, 1))
        >>> x[0] = 1
        >>> estimate = x + 0.5
        >>> keep_plateaus(x, estimate)
        >>> estimate[:3, 0, 0].tolist()
        [1.5, 0.0, 0.0]
    """
    height, width, channels = image.shape
    if min(height, width) < PLATEAU:
        return
    step, margin = max(_AT_ONCE // (width * channels), PLATEAU), PLATEAU - 1
    for start in range(0, height, step):
        stop, low = min(start + step, height), max(start - margin, 0)
        block = np.asarray(image[low : stop + margin])
        own = np.s_[start - low : stop - low]
        inside = plateaus(block, 0, 1, np.pad)[own]
        estimate[start:stop][inside] = block[own][inside] if value is None else value
