"""What every model here does with its arguments before its first layer."""

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
    """What the options `conditioned` and `mode` of a model say in the words of `wne_jax.protocol`."""

    conditioned: Any = False
    mode: Any = "ordinary"

    @property
    def noise_argument(self) -> str | None:
        """The keyword of the noise level; None for a blind model."""
        return "sigma" if self.conditioned else None

    @property
    def symmetry(self) -> Symmetry:
        """What the model is equivariant to by construction."""
        return _SYMMETRIES.get(self.mode, "none")


def check_choice(name: str, value: str, known: Sequence[str], *, hint: str = "") -> None:
    """Refuse a value that is not among the known ones, and name them."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; not {value!r}{hint}")


def check_depth(depth: int) -> None:
    """Refuse a plain network without a first and a last layer."""
    if depth < 2:
        raise ValueError(
            f"depth counts the convolutions, first and last included: 2 or more, not {depth}"
        )


def check_ndim(ndim: int) -> None:
    """Refuse another number of spatial axes than that of images and of volumes."""
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2, for images, or 3, for volumes; not {ndim}")


def as_images(y: ArrayLike, ndim: int = 2) -> Array:
    """The input as floating-point images or volumes; integers are cast, never rescaled.

    Args:
        y: `[B, H, W, C]`, or `[B, D, H, W, C]` where `ndim` is 3.
        ndim: Spatial axes.
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
        sigma: Noise level in the units of `y`: a scalar, `[B]`, or what reshapes to `[B, 1, ..., 1]`.
        conditioned: Whether the model takes one.

    Returns:
        Images `[B, ..., C + 1]`, or `y` itself for a blind model.

    Raises:
        ValueError: A conditioned model without sigma, a blind one with it, or a sigma that does not fit.
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
