"""Images of any size in one flat buffer, and training crops as a pure function of it.

The buffer stays in its own dtype (uint8, uint16 or float32) on the device. A crop is one gather whose
indices carry the position, the flips and the rotation, so that drawing a batch costs next to nothing
inside a compiled step. Nothing is stateful: the example `i` of step `t` depends on the corpus, the key,
`t` and `i` alone, on any number of devices.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from wne_jax.units import full_scale, to_unit

MAX_ELEMENTS = 2**31 - 1
"""Beyond this an int32 index would wrap."""


@struct.dataclass
class Corpus:
    """Images end to end.

    Attributes:
        pixels: Flat buffer of all images, each in row-major [H, W, C] order.
        offsets: i32[N], where each image begins.
        heights: i32[N], rows of each image.
        widths: i32[N], columns of each image.
        channels: Channels of every image.
    """

    pixels: Array | np.ndarray
    offsets: Array | np.ndarray
    heights: Array | np.ndarray
    widths: Array | np.ndarray
    channels: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        """The number of images."""
        return self.offsets.shape[0]


def build_corpus(images: Sequence[np.ndarray]) -> Corpus:
    """Lay images out in one buffer.

    Args:
        images: Arrays [H, W, C] with one number of channels. If all share one dtype it is kept; a
            mixture becomes float32 in unit range.

    Returns:
        The corpus, on the host: `jax.device_put` brings it to a device.

    Raises:
        ValueError: No images, different numbers of channels, or more than 2^31 - 1 elements.

    Example:
        >>> corpus = build_corpus([np.zeros((5, 7, 1), np.uint8), np.ones((3, 4, 1), np.uint8)])
        >>> len(corpus), corpus.pixels.dtype.name, corpus.offsets.tolist()
        (2, 'uint8', [0, 35])
    """
    if not images:
        raise ValueError("a corpus needs at least one image")
    channels = {image.shape[-1] for image in images}
    if len(channels) > 1:
        raise ValueError(
            f"all images must have one number of channels; these have {sorted(channels)}"
        )
    if len({image.dtype for image in images}) > 1:
        images = [to_unit(image) for image in images]
    sizes = np.array([image.size for image in images], np.int64)
    if sizes.sum() > MAX_ELEMENTS:
        raise ValueError(
            f"the corpus has {sizes.sum():,} elements, more than an index of 32 bits can reach "
            f"({MAX_ELEMENTS:,}): use fewer or smaller images"
        )
    return Corpus(
        pixels=np.concatenate([image.ravel() for image in images]),
        offsets=(np.cumsum(sizes) - sizes).astype(np.int32),
        heights=np.array([image.shape[0] for image in images], np.int32),
        widths=np.array([image.shape[1] for image in images], np.int32),
        channels=channels.pop(),
    )


def draw_crop(key: Array, corpus: Corpus, *, size: int) -> Array:
    """A random crop of a random image, randomly flipped and rotated by a multiple of 90 degrees.

    Args:
        key: Random key.
        corpus: Images, none smaller than `size` on a side.
        size: Side of the crop, in pixels.

    Returns:
        f32[size, size, C], unit range.
    """
    corpus = jax.tree.map(jnp.asarray, corpus)
    key_image, key_row, key_column, key_orientation = jax.random.split(key, 4)
    image = jax.random.randint(key_image, (), 0, len(corpus))
    height, width = corpus.heights[image], corpus.widths[image]
    top = jax.random.randint(key_row, (), 0, height - size + 1)
    left = jax.random.randint(key_column, (), 0, width - size + 1)

    flip_rows, flip_columns, transpose = jax.random.bernoulli(key_orientation, shape=(3,))
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    rows = jnp.where(flip_rows, size - 1 - rows, rows)
    columns = jnp.where(flip_columns, size - 1 - columns, columns)
    rows, columns = jnp.where(transpose, columns, rows), jnp.where(transpose, rows, columns)

    pixel = (top + rows) * width + left + columns
    index = (
        corpus.offsets[image]
        + pixel[..., None] * corpus.channels
        + jnp.arange(corpus.channels).reshape(1, 1, -1)
    )
    return corpus.pixels[index].astype(jnp.float32) / full_scale(corpus.pixels.dtype)


class Batch(NamedTuple):
    """Training examples: noisy and clean crops f32[B, P, P, C], and the noise level f32[B] of each."""

    noisy: Array
    clean: Array
    sigma: Array


def draw_examples(
    key: Array,
    corpus: Corpus,
    indices: Array,
    *,
    size: int,
    corrupt: Callable[[Array, Array], tuple[Array, Array]],
) -> Batch:
    """Noisy and clean crops, keyed for each example by itself.

    Args:
        key: Key of the batch, `fold_in(data_key, step)`.
        corpus: Images.
        indices: i32[B], global indices of the wanted examples: a device asks for its own share.
        size: Side of the crops, in pixels.
        corrupt: `(key, clean f32[H, W, C]) -> (noisy, sigma)`.

    Returns:
        The examples, in the order of `indices`.
    """

    def one(index: Array) -> Batch:
        key_crop, key_noise = jax.random.split(jax.random.fold_in(key, index))
        clean = draw_crop(key_crop, corpus, size=size)
        noisy, sigma = corrupt(key_noise, clean)
        return Batch(noisy, clean, sigma)

    return jax.vmap(one)(indices)
