r"""Mean, and the noise level around every pixel: a scale that is an image.

Where a sensor warms up at one side, or a picture is put together from several, noise has another strength in
every part. The blocks of `wne_jax.statistics.flat_blocks` then give a level each: V, the energy of the corner
of the spectrum. The level around a pixel is the weighted mean of V over a Gaussian window; the weight of a
block is $1 / (e + v)^2$, of its energy e in a lower band and the variance v of the flattest blocks of the
image. Flat blocks count, and those with edges or texture nearly not.

Location and scale still follow y -> a y + b at every pixel, so that f is normalization-equivariant exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax.layers.gaussian_blur import gaussian_blur
from wne_jax.statistics.base import Statistic, Statistics, compiled, prepare, sqrt_from_zero
from wne_jax.statistics.fixed import fixed_noise
from wne_jax.statistics.flat_blocks import block_energies
from wne_jax.statistics.flat_grid import Grid, grid_of
from wne_jax.statistics.mean_std import mean_std
from wne_jax.statistics.noise import least_scale, noise_of

WINDOW = 24.0
"""Standard deviation of the window, in pixels."""

LEAST = 0.25
"""The level around a pixel is never below this share of the level of the flattest blocks of the image."""


@dataclass(frozen=True)
class LocalNoise:
    """Mean, and the noise level around every pixel, for images `[B, H, W, C]`.

    It has no passes over blocks: an image is read as a whole for it.
    """

    name: ClassVar[str] = "local_noise"
    unit_noise: ClassVar[bool] = True

    @compiled
    def __call__(
        self, y: ArrayLike, *, axes: Sequence[int] | None = None, where: ArrayLike | None = None
    ) -> Statistics:
        """A block counts if all its pixels are valid."""
        y, axes, where = prepare(y, axes, where)
        if y.ndim != 4:
            raise ValueError(f"local_noise is for images [B, H, W, C], not for {y.shape}")
        mean, std, _ = mean_std(y, axes=axes, where=where)
        grid = grid_of(y, axes, where)
        sigma = noise_of(y, axes, where, grid)
        least = jnp.maximum(LEAST * sigma, least_scale(std))
        if grid is None:
            return Statistics(mean, jnp.maximum(sigma, least))
        return Statistics(mean, jnp.maximum(_around(grid, axes, sigma, y.shape[1:3]), least))

    def with_noise(self, sigma: ArrayLike) -> Statistic:
        """The known level, the same everywhere."""
        return fixed_noise(sigma)


local_noise = LocalNoise()


def _around(grid: Grid, axes: tuple[int, ...], sigma: Array, shape: tuple[int, ...]) -> Array:
    """The level around every pixel; sigma where no block is near."""
    measured, chosen_by = grid.measure(block_energies)
    variance = lax.stop_gradient(jnp.square(sigma))
    size = lax.stop_gradient(chosen_by) + variance
    weight = jnp.where(size > 0, jnp.square(variance / jnp.where(size > 0, size, 1)), 1)
    weight = jnp.where(grid.usable, weight, 0)
    channels = tuple(axis for axis in axes if axis == 3)
    total, number = (
        gaussian_blur(
            jnp.sum(part, axis=channels, keepdims=True), WINDOW / (grid.stride * grid.every)
        )
        for part in (weight * measured, weight)
    )
    near = number > 0
    level = jnp.where(near, total / jnp.where(near, number, 1), variance)
    pixels = jax.image.resize(level, (level.shape[0], *shape, level.shape[3]), "linear")
    return sqrt_from_zero(pixels)
