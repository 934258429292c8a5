"""What can be said of the noise of one image, for people."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.flat_blocks import FOOTPRINT, TIED
from wne_jax.statistics.noise_curve import curve_over_blocks
from wne_jax.statistics.photon import adaptive_noise


@dataclass(frozen=True)
class NoiseReport:
    """The noise of one image, in the units of its pixels. Printed, it is one line.

    Attributes:
        sigma: Standard deviation, at the typical intensity and over the whole spectrum.
        level: What `adaptive_noise` takes for scale: more than sigma where the noise is correlated.
        ratio: Standard deviation in the middle band over that in the corner of the spectrum, 1 if white.
        white: Whether neighbours count as independent.
        alpha: Slope of the variance over intensity; 0 where it is not significant.
        beta: Variance at intensity 0, from the line.
        clipped: Share of the pixels at the smallest or largest value, where that is one in 500 or more.
    """

    sigma: float
    level: float
    ratio: float
    white: bool
    alpha: float
    beta: float
    clipped: float

    @property
    def notes(self) -> list[str]:
        """What a user should know: a phrase each."""
        found = []
        if not self.white:
            found.append("it is correlated between neighbours")
        if self.alpha > 0:
            sign = "-" if self.beta < 0 else "+"
            line = f"{self.alpha:.3g} x {sign} {abs(self.beta):.3g}"
            found.append(f"its variance grows with intensity, {line}")
        if self.clipped > 0:
            found.append(f"{self.clipped:.1%} of the pixels are clipped")
        return found

    def __str__(self) -> str:
        """The strength, and the notes."""
        return "; ".join([f"noise {self.sigma:.3g}", *self.notes])


def noise_report(image: ArrayLike) -> NoiseReport:
    """Measure level, correlation, signal dependence and clipping of the noise of one image.

    Channels are pooled. The work is NumPy's, block by block: a memory map may be larger than memory.

    Args:
        image: `[H, W]` or `[H, W, C]`, real, of 12 x 12 pixels or more; NaN marks pixels that are not valid.

    Returns:
        The report; zeros where no pixel is valid.

    Raises:
        ValueError: A wrong rank, or an image in which no block fits.
        TypeError: Boolean or complex pixels.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 5, (64, 64))
        >>> print(noise_report(100 + noise))
        noise 5...
    """
    image = image if isinstance(image, np.ndarray) else np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    whole = Blocks(image, lambda block: np.asarray(block, np.float64))
    if min(whole.shape[:2]) < FOOTPRINT:
        raise ValueError(f"no block of 12 x 12 pixels fits into an image of {image.shape[:2]}")
    number, pivot, low, high = _survey(whole)
    if not number:
        return NoiseReport(0.0, 0.0, 1.0, True, 0.0, 0.0, 0.0)
    peak = float(max(high[0] - pivot, pivot - low[0]))
    factor = 2.0 ** int(np.frexp(peak)[1])  # so that float32 holds the squares
    near = lambda block: ((np.asarray(block, np.float64) - pivot) / factor).astype(np.float32)  # noqa: E731
    curve, sigma = curve_over_blocks(Blocks(image, near), 0.0)
    in_band, slope = map(float, adaptive_noise.line(curve, jnp.float32(sigma)))
    share = float(curve.of_all) / float(curve.of_band)
    variance = factor**2 * share * in_band
    alpha = factor * share * slope if float(curve.trust) > 0.5 else 0.0
    clipped = sum(n for _, n in (low, high) if n > TIED * number)
    return NoiseReport(
        sigma=float(np.sqrt(variance)),
        level=factor * float(np.sqrt(in_band)),
        ratio=float(curve.ratio),
        white=not float(curve.coloured) > 0,
        alpha=alpha,
        beta=variance - alpha * pivot if alpha else 0.0,
        clipped=min(clipped / number, 1.0),
    )


def _survey(blocks: Blocks) -> tuple[int, float, tuple[float, int], tuple[float, int]]:
    """Valid pixels, their mean, and the smallest and largest value with the number of pixels there."""
    number, total = 0, 0.0
    ends = [(np.inf, 0), (-np.inf, 0)]
    for block in blocks:
        valid = block[~np.isnan(block)]
        number, total = number + valid.size, total + float(valid.sum())
        for k, (reduce, sign) in enumerate(((np.min, 1), (np.max, -1))):
            if valid.size:
                own, (best, count) = float(reduce(valid)), ends[k]
                best, count = (own, 0) if sign * own < sign * best else (best, count)
                ends[k] = best, count + int(np.count_nonzero(valid == best))
    return number, total / max(number, 1), ends[0], ends[1]
