r"""A backbone that gets no more contrast than in training, so that stars and hot pixels do little harm.

After `noise_level` and its like, contrast is measured in units of the noise. A network that was trained down
to level 1 (of 255) has seen contrasts up to 255. Stars and defective pixels reach thousands, and what the
network then gets wrong around them is more than the noise. So the backbone f gets a limited image c(z), and
the rest bypasses it:

$$z + f(c(z)) - c(z).$$

A pixel that exceeds all its eight neighbours by more than half the limit is an impulse. Beyond half the
limit, what it exceeds them by is reduced, from the limit on to nothing. Then all values are clipped to the
limit on both sides of the location. Both steps are continuous. Where c(z) = z, the result is f(z), bit for
bit. Between 0 and 255 no value is more than 255 / sigma from the location, noise aside; so with noise of 2 or
more, a limit of 128 is out of reach.

All of this is a function of the normalized input, and so exactly normalization-equivariant inside a wrapper.
`wne_jax.wrappers.two_scales` and `wne_jax.wrappers.opponent_colours` have it as an option.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from wne_jax.transforms import Anchor

LIMIT = 128.0
"""On 20 crops of BSD400 with noise of 1, this costs the packaged denoiser 0.01 dB; 64 costs 0.16 dB."""


def limited_contrast(
    backbone: Callable[..., Array],
    z: Array,
    *,
    limit: float,
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    **kwargs: Any,
) -> Array:
    """Apply a denoiser to an image of limited contrast; the rest of the image bypasses it.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`.
        z: Images `[B, H, W, C]`, in units of the noise.
        limit: Largest distance from the location, in units of the noise.
        anchor: Location and scale of the backbone's coordinates.
        **kwargs: Keyword arguments of the backbone.

    Returns:
        The estimate, of the shape of `z`.

    Example:
        >>> z = jnp.array([0.0, 1.0, 5000.0, -1.0]).reshape(1, 2, 2, 1)
        >>> limited_contrast(lambda c: c / 2, z, limit=100.0).ravel().tolist()
        [0.0, 0.5, 4999.5, -0.5]
    """
    limit = limit * anchor.scale
    c = jnp.clip(_without_impulses(z, limit / 2), anchor.location - limit, anchor.location + limit)
    x = backbone(c, **kwargs)
    return jnp.where(c == z, x, z + (x - c))


def _without_impulses(z: Array, most: float) -> Array:
    """Reduce what a pixel exceeds all its neighbours by, above and below, where it is more than `most`."""
    for sign in (1, -1):
        largest = _largest_neighbour(sign * z)
        excess = sign * z - largest
        reduced = sign * (largest + jnp.maximum(2 * most - excess, 0))
        z = jnp.where(excess > most, reduced, z)
    return z


def _largest_neighbour(z: Array) -> Array:
    """The largest of the eight neighbours of each pixel; beyond its borders an image is reflected."""
    height, width = z.shape[1:3]
    padded = jnp.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    offsets = (offset for offset in itertools.product(range(3), range(3)) if offset != (1, 1))
    return functools.reduce(
        jnp.maximum, (padded[:, i : i + height, j : j + width] for i, j in offsets)
    )
