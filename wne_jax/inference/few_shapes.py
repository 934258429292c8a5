r"""Images of many sizes through few compiled programs, with the result of each size by itself.

A program is compiled for one size of its input. An image is therefore laid into the corner of an array whose
sides are among a few, about $2^{k/3}$, and continued by reflection. Beyond its own borders a convolution must
still see zeros: each layer of a network gives values there, so the input of every `layers.Conv`, and of
`layers.DoubleLinear`, is set to zero outside the image first.
For a network that declares `pads_zeros` (see `wne_jax.protocol`) the result inside is that of the image
alone, to rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax.layers.conv import Conv
from wne_jax.layers.upsample import DoubleLinear

_STEPS = 3
"""Sides between two powers of two."""

_GRAIN = 16
"""Sides are multiples of this, and of what the network needs."""


def shared_side(size: int, multiple: int = 1) -> int:
    """The side of the array that an image of this size is laid into.

    Args:
        size: Of the image, at least 1.
        multiple: What sides must be multiples of.

    Example:
        >>> [shared_side(size) for size in (1, 300, 321, 512, 513)]
        [16, 336, 336, 512, 656]
    """
    grain = int(np.lcm(_GRAIN, multiple))
    power = grain
    while power < size:
        power *= 2
    between = (power / 2 ** (k / _STEPS) for k in range(_STEPS - 1, -1, -1))
    sides = (-(-round(side) // grain) * grain for side in between)
    return next(side for side in sides if side >= size)


def at_shared_size(
    function: Callable[..., Any], y: np.ndarray, *rest: Any, multiple: int = 1, **options: Any
) -> np.ndarray:
    """Apply a function of images and of their `size` to images laid into a larger array.

    Args:
        function: `(y, *rest, size=i32[2], **options)`, which leaves all beyond `size` out of account.
        y: Images `[B, H, W, C]`, whose sides are multiples of `multiple`.
        *rest: Handed on.
        multiple: See `shared_side`.
        **options: Handed on.
    """
    height, width = y.shape[1:3]
    below, right = (shared_side(n, multiple) - n for n in (height, width))
    larger = np.pad(y, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    size = np.array([height, width], np.int32)
    return np.asarray(function(larger, *rest, size=size, **options))[:, :height, :width]


def zeros_beyond(size: Array, height: int) -> Callable[..., Any]:
    """An interceptor of Linen that sets the input of every such layer to zero outside the image.

    Args:
        size: i32[2], height and width of the image.
        height: Of the array that it lies in; a layer on a coarser grid has fewer rows, and the image too.
    """

    def intercept(
        layer: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        sees_zeros = isinstance(context.module, Conv | DoubleLinear)
        if not sees_zeros or context.method_name != "__call__":
            return layer(*args, **kwargs)
        x, *rest = args
        factor = height // x.shape[1]
        rows = jnp.arange(x.shape[1]) < size[0] // factor
        columns = jnp.arange(x.shape[2]) < size[1] // factor
        inside = jnp.reshape(rows, (1, -1, 1, 1)) & jnp.reshape(columns, (1, 1, -1, 1))
        return layer(jnp.where(inside, x, 0), *rest, **kwargs)

    return intercept
