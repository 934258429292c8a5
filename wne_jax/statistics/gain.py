r"""Noise that grows with intensity: the normal form in which it has one strength everywhere.

The variance of a sensor's noise is a line over intensity, $\alpha x + \beta$: photons and reading. Beside
location m and scale s, let a statistic have a gain $g \ge 0$, with $g(a y + b) = a\,g(y)$. In the coordinates
$u = (y - m) / s$ the ratio $k = g / s$ is a pure number, which no y -> a y + b changes, and so is

$$z = \frac{2 u}{1 + \sqrt{1 + k u}}, \qquad u = z + \frac{k z^2}{4}, \qquad y = m + s u.$$

Around these three the map f is normalization-equivariant exactly as around u alone, for every equivariant
(m, s, g). With $g = \alpha$ and $s^2 = \alpha m + \beta + 3 \alpha^2 / 8$ the coordinates are the
generalized Anscombe transform (Starck, Murtagh & Bijaoui 1998) minus its value at m, without the cancellation
of two large roots where $\alpha$ is small: noise of variance $\alpha x + \beta$ has variance 1 at every
intensity.

The parabola folds back at z = -2 / k. Where $1 + k u < r^2$, r = 1/8, both directions continue as straight
lines from $u_0 = (r^2 - 1) / k$ and $z_0 = -2 (1 - r) / k$, so that both are increasing, and each is the
other's inverse on all real numbers.
"""

import jax.numpy as jnp
from jax import Array

from wne_jax.statistics.base import Statistics, sqrt_from_zero

KNEE = 0.125
"""r: the slope at which the root is continued as a line."""


def of_line(mean: Array, std: Array, variance: Array, alpha: Array) -> Statistics:
    """The statistics behind which the noise of a line has variance 1.

    Args:
        mean: m, the mean of the image.
        std: The image's standard deviation: where it is 0, scale and gain are 0.
        variance: Of the noise at m, 0 or more.
        alpha: Slope of the line, 0 or more.
    """
    varies = std > 0
    scale = sqrt_from_zero(variance + 0.375 * jnp.square(alpha))
    return Statistics(mean, jnp.where(varies, scale, 0), jnp.where(varies, alpha, 0))


def stabilized(u: Array, k: Array) -> Array:
    """The coordinates z of u; z = u where k is 0.

    Args:
        u: Location and scale removed.
        k: Gain over scale, 0 or more, broadcastable to u.

    Example:
        >>> stabilized(jnp.array([-2.0, 0.0, 3.0]), jnp.array([1.0])).tolist()
        [-9.875, 0.0, 2.0]
    """
    grows, u_0, z_0 = _knee(k)
    inside = 1 + k * u
    root = jnp.sqrt(jnp.maximum(inside, KNEE**2))
    z = 2 * u / (1 + root)
    return jnp.where(grows & (inside < KNEE**2), z_0 + (u - u_0) / KNEE, z)


def unstabilized(z: Array, k: Array) -> Array:
    """The inverse of `stabilized`.

    Example:
        >>> unstabilized(jnp.array([-9.875, 0.0, 2.0]), jnp.array([1.0])).tolist()
        [-2.0, 0.0, 3.0]
    """
    grows, u_0, z_0 = _knee(k)
    return jnp.where(grows & (z < z_0), u_0 + KNEE * (z - z_0), z + k * jnp.square(z) / 4)


def ratio(stats: Statistics) -> Array:
    """k, gain over scale; 0 where the scale is 0."""
    assert stats.gain is not None
    varies = stats.scale > 0
    return jnp.where(varies, stats.gain / jnp.where(varies, stats.scale, 1), 0)


def slope(z: Array, stats: Statistics) -> Array:
    """The slope dy / dz at an input's own coordinates z: s + g z / 2, or r s on the line below."""
    k = ratio(stats)
    grows, _, z_0 = _knee(k)
    return stats.scale * jnp.where(grows & (z < z_0), KNEE, 1 + k * z / 2)


def _knee(k: Array) -> tuple[Array, Array, Array]:
    """Whether there is a knee, and where, in u and in z."""
    grows = k > 0
    safe = jnp.where(grows, k, 1)
    return grows, (KNEE**2 - 1) / safe, -2 * (1 - KNEE) / safe
