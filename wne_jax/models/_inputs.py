"""Checks and preparation of arguments that all models share."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax.protocol import Symmetry

_SYMMETRIES: dict[str, Symmetry] = {
    "scale-equivariant": "scale",
    "normalization-equivariant": "normalization",
}


class Declared:
    """The declarations of `wne_jax.protocol` that follow from the options `conditioned` and `mode`."""

    conditioned: Any = False
    mode: Any = "ordinary"

    @property
    def noise_argument(self) -> str | None:
        """The keyword for the noise level; None for a blind model."""
        return "sigma" if self.conditioned else None

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
