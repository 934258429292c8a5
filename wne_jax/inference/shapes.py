"""The shapes that users have for images, and the batches that a model takes.

A model takes f32[B, ..., C] with `ndim` spatial axes and its own number of channels. A user has an image
without channels, an image with channels, or a batch. A model of one channel takes colour images channel by
channel.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from wne_jax import protocol
from wne_jax.weights.conversion import possible_channels


def as_batch(image: np.ndarray, ndim: int, channels: int) -> np.ndarray:
    """Bring an image or a batch into the form `[B, ..., channels]`.

    Args:
        image: Image `[...]`, `[..., C]` or `[B, ..., C]` with `ndim` spatial axes.
        ndim: Number of spatial axes.
        channels: Channels of the model; with 1, the channels of a colour image become a batch.

    Example:
        >>> as_batch(np.zeros((5, 7, 3)), ndim=2, channels=1).shape
        (3, 5, 7, 1)
    """
    batch = image[..., None] if image.ndim == ndim else image
    batch = batch if batch.ndim == ndim + 2 else batch[None]
    if batch.shape[-1] == channels:
        return batch
    return np.moveaxis(batch, -1, 1).reshape(-1, *batch.shape[1:-1], 1)


def from_batch(
    estimate: np.ndarray, shape: tuple[int, ...], ndim: int, channels: int
) -> np.ndarray:
    """Undo `as_batch` for an image of a shape."""
    if channels == 1 and len(shape) > ndim and shape[-1] == 3:
        planes = estimate.reshape(-1, 3, *estimate.shape[1:-1])
        return np.moveaxis(planes, 1, -1).reshape(shape)
    return estimate.reshape(shape)


def planes(*arrays: np.ndarray, ndim: int, channels: int) -> list[tuple[np.ndarray, ...]]:
    """Views `[..., channels]` of the parts of an image that are denoised separately.

    Args:
        *arrays: The image, and arrays of its shape; views of one part are returned together.
        ndim: Number of spatial axes.
        channels: Channels of the model.
    """
    if arrays[0].ndim == ndim:
        arrays = tuple(array[..., None] for array in arrays)
    images = list(zip(*arrays)) if arrays[0].ndim == ndim + 2 else [arrays]
    if arrays[0].shape[-1] == channels:
        return images
    return [tuple(a[..., c : c + 1] for a in image) for image in images for c in range(3)]


def check_shape(shape: tuple[int, ...], ndim: int, channels: int) -> None:
    """Check that a model can serve images of a shape.

    Raises:
        ValueError: The shape has no pixel, or another number of axes or channels.
    """
    if not ndim <= len(shape) <= ndim + 2 or 0 in shape:
        space = ", ".join("TDHW"[-ndim:])
        raise ValueError(
            f"image must be [{space}], [{space}, C] or [B, {space}, C], not of shape {shape}"
            + ("" if ndim > 2 else " (a model of volumes declares ndim = 3)")
        )
    found = 1 if len(shape) == ndim else shape[-1]
    if found != channels and (channels, found) != (1, 3):
        gray = " (a batch of gray images is [B, H, W, 1]; a model of volumes declares ndim = 3)"
        raise ValueError(
            f"image of shape {shape} has {found} channels and the model takes {channels}"
            + (gray if len(shape) == ndim + 1 == 3 else "")
        )


def find_channels(model: Any, variables: Any) -> int:
    """Find the number of channels whose shapes fit the variables: gray, colour, then others.

    Raises:
        ValueError: None fits.
    """
    options = protocol.condition(model, jnp.ones(1)) | protocol.mode(model, train=False)
    reason: Exception | None = None
    leaves = jax.tree.leaves(variables)
    for channels in possible_channels(map(np.shape, leaves)):
        shape = protocol.example_shape(model, channels)
        try:
            jax.eval_shape(
                lambda v, y: model.apply(v, y, **options),
                variables,
                jax.ShapeDtypeStruct(shape, jnp.float32),
            )
        except (FlaxError, TypeError, ValueError) as error:  # shapes that do not fit
            reason = reason or error
            continue
        return channels
    what = (
        "the variables do not fit the model, for gray, colour or other images"
        if leaves
        else f"the model takes no batch {protocol.example_shape(model, 1)}, nor one of 3 channels"
    )
    raise ValueError(f"{what}: {' '.join(str(reason).split())}") from reason
