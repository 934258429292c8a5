"""A map of images averaged over the symmetries of the square."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array


def self_ensembled(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Average a map of images over the eight symmetries of the square.

    The result commutes with flips and quarter turns exactly, up to the order of a sum, and with
    everything that `f` commutes with pixel by pixel.

    Args:
        f: A map of images `[B, H, W, C]`, or of volumes `[B, D, H, W, C]`, whose slices are turned together.

    Returns:
        A map of the same kind.

    Example:
        >>> f = self_ensembled(lambda y: jnp.roll(y, 1, axis=1))
        >>> y = jnp.arange(9.0).reshape(1, 3, 3, 1)
        >>> bool(jnp.all(f(y[:, ::-1]) == f(y)[:, ::-1]))
        True
    """

    def averaged(y: Array) -> Array:
        estimates = []
        for turns in range(4):
            for flip in (False, True):
                moved = jnp.rot90(y, turns, axes=(-3, -2))
                x = f(moved[..., ::-1, :, :] if flip else moved)
                estimates.append(
                    jnp.rot90(x[..., ::-1, :, :] if flip else x, -turns, axes=(-3, -2))
                )
        return sum(estimates[1:], start=estimates[0]) / 8

    return averaged
