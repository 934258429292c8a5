"""Mean, noise level there, and gain, of noise as sensors make it: from one noisy image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax.statistics.base import Statistic, Statistics, compiled, prepare
from wne_jax.statistics.blocks import Blocks
from wne_jax.statistics.fixed import fixed_noise
from wne_jax.statistics.flat_blocks import FOOTPRINT
from wne_jax.statistics.flat_grid import grid_of
from wne_jax.statistics.gain import of_line
from wne_jax.statistics.haar_mad import haar_sigma_over_blocks
from wne_jax.statistics.mean_std import mean_std
from wne_jax.statistics.noise import least_scale, noise_of
from wne_jax.statistics.noise_curve import NoiseCurve, curve_of, curve_over_blocks

LARGEST = 6.25
"""Variance of correlated noise over that of the flattest blocks, at most, unless an image is homogeneous."""


@dataclass(frozen=True)
class Photon:
    """Mean, noise level at the mean, and gain, as `noise_curve` finds them.

    Behind it the noise of photons and of reading has variance 1 at every intensity; see
    `wne_jax.statistics.gain`. Where the curve shows no significant slope, the gain is 0 and the scale that of
    `noise_level`; from there it grows continuously. Noise counts as white.
    """

    name: ClassVar[str] = "photon"
    unit_noise: ClassVar[bool] = True
    has_gain: ClassVar[bool] = True

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A block counts if all its pixels are valid."""
        y, axes, where = prepare(y, axes, where)
        mean, std, _ = mean_std(y, axes=axes, where=where)
        grid = grid_of(y, axes, where)
        sigma = noise_of(y, axes, where, grid)
        if grid is None:
            return Statistics(mean, jnp.maximum(sigma, least_scale(std)), 0 * std)
        curve = curve_of(grid, axes, mean)
        found = self.line(curve, jnp.squeeze(sigma, axis=axes))
        return _from_line(mean, std, *(jnp.expand_dims(part, axes) for part in found))

    def over_blocks(self, blocks: Blocks) -> tuple[float, ...]:
        """Two passes for the energies of all blocks, and one for the moments."""
        mean, std = mean_std.over_blocks(blocks)
        if min(blocks.shape[:2]) < FOOTPRINT:
            return mean, max(haar_sigma_over_blocks(blocks), least_scale(std)), 0.0
        curve, sigma = curve_over_blocks(blocks, mean)
        line = self.line(curve, jnp.float32(sigma))
        stats = _from_line(jnp.float32(mean), jnp.float32(std), *line)
        return tuple(float(part) for part in jax.tree.leaves(stats))

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """The known level, at all intensities, in place of the estimate."""
        return fixed_noise(sigma)

    def line(self, curve: NoiseCurve, sigma: Array) -> tuple[Array, Array]:
        """Variance at the mean, and slope: those of the curve as far as it is trusted."""
        variance = (1 - curve.trust) * jnp.square(sigma) + curve.trust * curve.at_mean
        return variance, curve.trust * curve.slope


class AdaptiveNoise(Photon):
    """As `photon`, at the level that a network meets: typical of all intensities, in the band of the noise.

    `noise_level` reads the flattest places, which may be the darkest, and the corner of the spectrum. Real
    noise may be weak there. Where the evidence is that all intensities show noise, not structure (see
    `wne_jax.statistics.noise_curve`), the level is the median of all of them; where neighbours are correlated
    besides, it is the level of the low frequencies. On white noise all three are one.
    """

    name: ClassVar[str] = "adaptive_noise"

    def line(self, curve: NoiseCurve, sigma: Array) -> tuple[Array, Array]:
        """Variance at the mean, and slope."""
        level = (1 - curve.evidence) * jnp.square(sigma) + curve.evidence * curve.typical
        variance = (1 - curve.trust) * level + curve.trust * curve.at_mean
        # Texture raises both, and the factor of the band would multiply that.
        most = jnp.minimum(variance, LARGEST * jnp.square(sigma))
        most = curve.homogeneous * variance + (1 - curve.homogeneous) * most
        bounded = (1 - curve.coloured) * variance + curve.coloured * most
        less = jnp.where(variance > 0, bounded / jnp.where(variance > 0, variance, 1), 1)
        return curve.of_band * bounded, curve.of_band * less * curve.trust * curve.slope


photon, adaptive_noise = Photon(), AdaptiveNoise()


def _from_line(mean: Array, std: Array, variance: Array, slope: Array) -> Statistics:
    """The statistics of a line, with the least scale."""
    stats = of_line(mean, std, variance, slope)
    return stats._replace(scale=jnp.maximum(stats.scale, least_scale(std)))
