r"""How certain a denoiser is of every pixel: the standard deviation of the posterior.

Let y = x + n, with white Gaussian noise n of level s, and let f be the mean of x given y. Then

$$\operatorname{Cov}(x \mid y) = s^2 J(y),$$

where J is the Jacobian of f (Miyasawa 1961, Tweedie's formula of second order), so the variance of a pixel is
s^2 times an entry of the diagonal of J. A trained network is not exactly the posterior mean: one factor for
each model, fitted on clean images, corrects the size.

**Probes.** For signs v that are independent and uniform on -1 and 1, v * (J v) has the mean diag J
(Hutchinson 1990). Its error is the sum of other entries of the row, with random signs. Nearby pixels have the
largest ones, so each of the K probes here is 0 except on a lattice of one pixel in K, whose points are as far
apart as possible (5.1 pixels for K = 24). Every pixel is in one of them. The sum over the probes has the mean
diag J, too, and it is exact if no output depends on two points of a lattice.

**Local means.** The estimates are noisy, and some are negative, although a variance is not. They are averaged
over 3 x 3 pixels, negative averages become 0, and the result is averaged over 11 x 11 pixels. In this order,
a flat region whose estimates are mostly noise still has a positive variance. Both windows were chosen on
photographs of BSD400 and scikit-image.

None of these steps depends on the units of the image. J does not change under y -> a y + b and s follows a,
so the standard deviation follows a, and b changes nothing.

References:
    Miyasawa, "An empirical Bayes estimator of the mean of a normal population", 1961.
    Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990.
    Manor & Michaeli, "On the posterior distribution in denoising", 2024.
"""

import functools
import math

import numpy as np

_NEAR, _AROUND = 3, 11
"""Sides of the windows of the local means, in pixels."""

_FAR = 4
"""Lattices are compared by their vectors up to this many times the mean distance of their points."""


@functools.cache
def lattice(probes: int, channels: int = 1) -> tuple[int, int]:
    """Steps from probe to probe by a column and by a channel; a row is a step of one.

    Pixel (i, j) of channel c belongs to the probe `(i + columns j + channels c) mod probes`.

    Args:
        probes: Number of probes.
        channels: Number of channels; entries of two channels at one pixel are as close as can be.

    Returns:
        The steps for which the entries of one probe are farthest apart.

    Example:
        >>> lattice(24)
        (5, 0)
    """
    far = _FAR * math.ceil(math.sqrt(probes))
    rows, columns = np.mgrid[-far : far + 1, -far : far + 1]
    distance = rows**2 + columns**2
    best = (-1, 0, 0)
    for step in range(probes):
        place = rows + step * columns
        within = np.min(distance, where=(place % probes == 0) & (distance > 0), initial=far**2)
        for other in range(probes) if channels > 1 else (0,):
            between = [
                np.min(distance, where=(place + other * c) % probes == 0, initial=far**2)
                for c in range(1, channels)
            ]
            best = max(best, (int(min([within, *between])), -step, -other))
    return -best[1], -best[2]


def probe_signs(shape: tuple[int, ...], probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The signs of all entries of an image, and the probe that each belongs to.

    Args:
        shape: `(H, W, C)`.
        probes: Number of probes.
        seed: Random seed of the signs.

    Returns:
        Signs f32[H, W, C], and numbers of probes f32[H, W, C].
    """
    if probes < 1 or probes != int(probes):
        raise ValueError(f"probes must be a whole number, 1 or more, not {probes}")
    column, channel = lattice(probes, shape[-1])
    i, j, c = np.ogrid[tuple(slice(size) for size in shape)]
    number = (i + column * j + channel * c) % probes
    signs = np.random.default_rng(seed).integers(0, 2, shape, np.int8)
    return (2 * signs - 1).astype(np.float32), number.astype(np.float32)


def smoothed(diagonal: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Estimates of the diagonal, averaged so that they are not negative.

    Args:
        diagonal: `[H, W, C]`; images are continued by reflection.
        where: True where a pixel is valid: the means are of valid pixels.

    Example:
        >>> smoothed(np.full((4, 4, 1), 0.25))[2, 2, 0].item()
        0.25
    """
    return _local_mean(np.maximum(_local_mean(diagonal, _NEAR, where), 0), _AROUND, where)


def _local_mean(x: np.ndarray, window: int, where: np.ndarray | None) -> np.ndarray:
    """The mean of the valid pixels in a window around every valid pixel; 0 for the others."""
    from scipy.ndimage import uniform_filter  # slow to import

    sides = (window, window, 1)
    if where is None:
        return uniform_filter(x, sides)
    share = uniform_filter(where.astype(np.float64), sides)
    total = uniform_filter(np.where(where, x, 0).astype(np.float64), sides)
    return np.where(where, total / np.maximum(share, 1 / window**2), 0).astype(x.dtype)
