"""Checks and preparation of arguments that all models share."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.upsample import pixel_shuffle
from wne_jax.protocol import Symmetry

_SYMMETRIES: dict[str, Symmetry] = {
    "scale-equivariant": "scale",
    "normalization-equivariant": "normalization",
}


class Declared:
    """The declarations of `wne_jax.protocol` that follow from the options `conditioned` and `mode`."""

    conditioned: Any = False
    masked: Any = False
    mode: Any = "ordinary"

    @property
    def noise_argument(self) -> str | None:
        """The keyword for the noise level; None for a blind model."""
        return "sigma" if self.conditioned else None

    @property
    def mask_argument(self) -> str | None:
        """The keyword for the mask; None for a model without one."""
        return "where" if self.masked else None

    @property
    def symmetry(self) -> Symmetry:
        """The equivariance of the model by construction."""
        return _SYMMETRIES.get(self.mode, "none")


def check_choice(name: str, value: str, known: Sequence[str], *, hint: str = "") -> None:
    """Reject a value that is not among the known ones."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; not {value!r}{hint}")


def check_depth(depth: int) -> None:
    """Reject a depth below 2, the first and the last layer."""
    if depth < 2:
        raise ValueError(f"depth, the number of convolutions, must be 2 or more, not {depth}")


def check_ndim(ndim: int) -> None:
    """Reject a number of spatial axes other than 2 or 3."""
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2, for images, or 3, for volumes; not {ndim}")


def check_upscale(upscale: int, out_channels: int | None, *, ndim: int = 2) -> None:
    """Reject factors below 1, no output channels, and volumes of another size."""
    if upscale < 1:
        raise ValueError(f"upscale must be 1 or more, not {upscale}")
    if out_channels is not None and out_channels < 1:
        raise ValueError(f"out_channels must be 1 or more, or None, not {out_channels}")
    if ndim == 3 and (upscale > 1 or out_channels is not None):
        raise ValueError("upscale and out_channels are for images: ndim=3 needs their defaults")


def as_images(y: ArrayLike, ndim: int = 2) -> Array:
    """The input as floating-point images or volumes. Integers are cast but not rescaled.

    Args:
        y: `[B, H, W, C]`, or `[B, D, H, W, C]` if `ndim` is 3.
        ndim: Number of spatial axes.
    """
    y = jnp.asarray(y)
    if y.ndim != ndim + 2:
        space = "H, W" if ndim == 2 else "D, H, W"
        raise ValueError(
            f"y must be [B, {space}, C], of rank {ndim + 2}; its shape is {y.shape}"
            " (y[None] adds a batch, y[..., None] adds a channel)"
        )
    return y if jnp.issubdtype(y.dtype, jnp.floating) else y.astype(jnp.float32)


def with_noise_map(y: Array, sigma: ArrayLike | None, *, conditioned: bool) -> Array:
    """Append the noise level to a conditioned model's input, as a constant last channel.

    Args:
        y: Images `[B, ..., C]`.
        sigma: Noise level in the units of `y`: a scalar, `[B]`, or an array that reshapes to
            `[B, 1, ..., 1]`.
        conditioned: Whether the model takes a noise level.

    Returns:
        Images `[B, ..., C + 1]`, or `y` itself for a blind model.

    Raises:
        ValueError: A conditioned model without sigma, a blind model with sigma, or a sigma of another shape.
    """
    if not conditioned:
        if sigma is not None:
            raise ValueError(
                "sigma was given to a blind model: build it with conditioned=True, or omit sigma"
            )
        return y
    if sigma is None:
        raise ValueError(
            "a model with conditioned=True needs sigma, the noise level in the units of y"
        )
    level = jnp.asarray(sigma, y.dtype)
    if level.size not in (1, y.shape[0]):
        raise ValueError(
            f"sigma must be a scalar or [B] = [{y.shape[0]}]; its shape is {level.shape}"
        )
    level = jnp.reshape(level, (-1,) + (1,) * (y.ndim - 1))
    plane = jnp.broadcast_to(level, (*y.shape[:-1], 1))
    return jnp.concatenate([y, plane], axis=-1)


def with_mask(h: Array, where: ArrayLike | None, *, masked: bool) -> Array:
    """Append the mask to the input of a model that takes one, as a last channel of ones and zeros.

    Args:
        h: Images `[B, ..., C]`.
        where: Boolean mask that broadcasts to `[B, ..., 1]` or `[B, ..., C]`; a pixel is known if all its
            channels are. None for no missing pixel.
        masked: Whether the model takes a mask.

    Raises:
        ValueError: A mask for a model that takes none.
    """
    if not masked:
        if where is not None:
            raise ValueError("where was given to a model without a mask: build it with masked=True")
        return h
    known = jnp.ones((1,) * h.ndim, bool) if where is None else jnp.asarray(where)
    known = jnp.all(known, axis=-1, keepdims=True)
    plane = jnp.broadcast_to(known, (*h.shape[:-1], 1)).astype(h.dtype)
    return jnp.concatenate([h, plane], axis=-1)


def to_output(h: Array, y: Array, *, upscale: int, out_channels: int | None) -> Array:
    """The output of a residual network with a pixel-shuffle tail: `y`, enlarged, plus the residual `h`.

    Every pixel of `y` is repeated, or the mean of its channels where `out_channels` are given. So the output
    follows a y + b as `y` does, whatever the network.

    Args:
        h: `[B, H, W, C' * upscale**2]`.
        y: The input, `[B, H, W, C]`.
        upscale: Factor of the sides.
        out_channels: C', or None for C.
    """
    if out_channels is not None:
        y = jnp.repeat(jnp.mean(y, axis=-1, keepdims=True), out_channels, axis=-1)
    if upscale == 1:
        return y + h
    return pixel_shuffle(jnp.repeat(y, upscale**2, axis=-1) + h, upscale)
