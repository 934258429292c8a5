"""Images of any size in one flat buffer, and training crops as a pure function of it.

The buffer keeps the dtype of the images (uint8, uint16 or float32). `draw_window` draws the position of a
crop from a key. `cut` gathers the crop on the device inside a compiled step; `cut_on_host` slices the same
pixels from a memory map. There is no state: example `i` of step `t` depends only on the corpus, the key, `t`
and `i`, for any number of devices and any location of the pixels.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import IO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from wne_jax.data.sources import Kind
from wne_jax.images.units import full_scale, to_unit

MAX_ELEMENTS = 2**31 - 1
"""Above this number, an int32 index would overflow."""

_CHUNK = 2**24  # number of elements to convert or hash at a time


@struct.dataclass
class Corpus:
    """Concatenated images.

    Attributes:
        pixels: Flat buffer of all images, each in row-major [shots, H, W, C] order.
        offsets: i32[N] on a device, i64[N] on the host: index of each image's first element.
        heights: i32[N], number of rows of each image.
        widths: i32[N], number of columns of each image.
        shots: i32[N], number of exposures: 1 for clean images, 2 for (noisy, clean), 2 or more for repeats.
        ends: i32[G], index after the last image of each of G sources.
        shares: f32[G], the probability of drawing from this source or an earlier one.
        channels: Number of channels of every image.
        kind: "clean", "pairs" or "repeats".
    """

    pixels: Array | np.ndarray
    offsets: Array | np.ndarray
    heights: Array | np.ndarray
    widths: Array | np.ndarray
    shots: Array | np.ndarray
    ends: Array | np.ndarray
    shares: Array | np.ndarray
    channels: int = struct.field(pytree_node=False)
    kind: Kind = struct.field(pytree_node=False, default="clean")

    def __len__(self) -> int:
        """The number of images."""
        return self.heights.shape[0]


def build_corpus(
    *sources: Iterable[np.ndarray],
    kind: Kind = "clean",
    weights: Sequence[float] | None = None,
) -> Corpus:
    """Write images to one buffer, a memory-mapped temporary file that is deleted with the corpus.

    The images are read one by one, and never held in memory together. The file is in the folder of
    `tempfile`, which the environment variable `TMPDIR` sets.

    Args:
        *sources: Arrays [H, W, C], or [shots, H, W, C] for pairs and repeats, with equal numbers of channels.
            If all are uint8, all uint16, or all floating, the buffer is uint8, uint16 or float32; a mixture
            becomes float32 in unit range.
        kind: The kind of the images; see `Corpus`.
        weights: How often to draw from each source, relative to the others (default: every image equally
            often).

    Returns:
        The corpus on the host. `jax.device_put` copies a corpus of at most `MAX_ELEMENTS` to a device.

    Raises:
        ValueError: No images, or different numbers of channels.
        TypeError: A dtype without a full scale.
        OSError: The disk is full.

    Example:
        >>> corpus = build_corpus([np.zeros((5, 7, 1), np.uint8), np.ones((3, 4, 1), np.uint8)])
        >>> len(corpus), corpus.pixels.dtype.name, corpus.offsets.tolist()
        (2, 'uint8', [0, 35])
    """
    shapes: list[tuple[int, ...]] = []
    ends: list[int] = []
    with ExitStack() as files:
        file, dtype = files.enter_context(tempfile.TemporaryFile(buffering=0)), None
        for source in sources:
            for image in source:
                if image.dtype not in (np.uint8, np.uint16, np.float32):
                    image = to_unit(image)  # other floats; rejects a dtype without a full scale
                if dtype is not None and dtype != image.dtype:
                    if dtype != np.float32:
                        floats = files.enter_context(tempfile.TemporaryFile(buffering=0))
                        _write_as_float(file, dtype, floats)
                        file, dtype = floats, np.dtype(np.float32)
                    image = to_unit(image)
                dtype = image.dtype
                _write(file, image)
                shapes.append(image.shape if image.ndim == 4 else (1, *image.shape))
            ends.append(len(shapes))
        if dtype is None or 0 in np.diff([0, *ends]):
            raise ValueError("a corpus needs at least one image from every source")
        pixels = np.memmap(file, dtype, mode="r")
    shots, heights, widths, channels = np.array(shapes, np.int64).T
    if len(set(channels)) > 1:
        raise ValueError(
            f"all images must have the same number of channels; these have {sorted(set(channels.tolist()))}"
        )
    sizes = np.prod(shapes, axis=1, dtype=np.int64)
    shares = np.cumsum(np.ones(1) if weights is None else np.array(weights) / np.sum(weights))
    return Corpus(
        pixels=pixels,
        offsets=np.cumsum(sizes) - sizes,
        heights=heights.astype(np.int32),
        widths=widths.astype(np.int32),
        shots=shots.astype(np.int32),
        ends=np.array(ends[-1:] if weights is None else ends, np.int32),
        shares=shares.astype(np.float32),
        channels=int(channels[0]),
        kind=kind,
    )


def fingerprint(corpus: Corpus) -> str:
    """A hash of pixels, shapes, order and weights."""
    digest = hashlib.sha256(f"{corpus.channels} {corpus.kind} {corpus.pixels.dtype}".encode())
    for field in (corpus.heights, corpus.widths, corpus.shots, corpus.ends, corpus.shares):
        digest.update(np.asarray(field).tobytes())
    pixels = np.asarray(corpus.pixels)
    for start in range(0, pixels.size, _CHUNK):
        digest.update(np.ascontiguousarray(pixels[start : start + _CHUNK]).data)
    return digest.hexdigest()


def extremes(corpus: Corpus) -> tuple[float, float]:
    """The smallest and the largest value of all images, ignoring NaN.

    Example:
        >>> extremes(build_corpus([np.array([[[3], [200]]], np.uint8)]))
        (3.0, 200.0)
    """
    pixels = np.asarray(corpus.pixels)
    parts = [pixels[start : start + _CHUNK] for start in range(0, pixels.size, _CHUNK)]
    low = np.fmin.reduce([np.fmin.reduce(part) for part in parts])
    high = np.fmax.reduce([np.fmax.reduce(part) for part in parts])
    return float(low), float(high)


class Window(NamedTuple):
    """The position and orientation of a crop, as scalars i32 and bool, and its shots i32[S].

    S is 1 for a clean image, and 2 (input and target) otherwise. The crop is transposed first, then flipped.
    """

    image: Array
    shots: Array
    top: Array
    left: Array
    flip_rows: Array
    flip_columns: Array
    transpose: Array


def draw_window(key: Array, corpus: Corpus, *, size: int, factor: int = 1) -> Window:
    """A random window of a random image, with a random flip and rotation by a multiple of 90 degrees.

    Args:
        key: Random key.
        corpus: Images with sides of at least `size`; their pixels are not read.
        size: Side of the crop, in pixels.
        factor: Windows start at multiples of this number.

    Returns:
        The window. For repeats, input and target are two different shots.
    """
    key_image, key_row, key_column, key_orientation = jax.random.split(key, 4)
    image = _draw_image(key_image, corpus)
    height, width = jnp.asarray(corpus.heights)[image], jnp.asarray(corpus.widths)[image]
    top = factor * jax.random.randint(key_row, (), 0, (height - size) // factor + 1)
    left = factor * jax.random.randint(key_column, (), 0, (width - size) // factor + 1)
    shots = jnp.arange(1 if corpus.kind == "clean" else 2)
    if corpus.kind == "repeats":
        number = jnp.asarray(corpus.shots)[image]
        key_first, key_step = jax.random.split(jax.random.fold_in(key_image, 2))
        first = jax.random.randint(key_first, (), 0, number)
        shots = jnp.stack([first, (first + jax.random.randint(key_step, (), 1, number)) % number])
    return Window(image, shots, top, left, *jax.random.bernoulli(key_orientation, shape=(3,)))


def draw_windows(
    key: Array, corpus: Corpus, indices: Array, *, size: int, factor: int = 1
) -> Window:
    """The windows of some examples of a batch, equal to those of `draw_examples`."""
    keys = jax.vmap(lambda index: _example_keys(key, index)[0])(indices)
    return jax.vmap(lambda key: draw_window(key, corpus, size=size, factor=factor))(keys)


def cut(corpus: Corpus, window: Window, *, size: int) -> Array:
    """Gather the pixels of a window, `[S, size, size, C]` in the dtype of the corpus.

    Example:
        >>> corpus = build_corpus([np.arange(12, dtype=np.uint8).reshape(3, 4, 1)])
        >>> window = Window(0, jnp.arange(1), 1, 2, False, True, False)
        >>> cut(corpus, window, size=2)[0, ..., 0].tolist()
        [[7, 6], [11, 10]]
    """
    corpus = jax.tree.map(jnp.asarray, corpus)
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    rows = jnp.where(window.flip_rows, size - 1 - rows, rows)
    columns = jnp.where(window.flip_columns, size - 1 - columns, columns)
    transpose = window.transpose
    rows, columns = jnp.where(transpose, columns, rows), jnp.where(transpose, rows, columns)

    height, width = corpus.heights[window.image], corpus.widths[window.image]
    row = (window.shots * height)[:, None, None] + (window.top + rows)[None]
    pixel = row * width + (window.left + columns)[None]
    index = (
        corpus.offsets[window.image]
        + pixel[..., None] * corpus.channels
        + jnp.arange(corpus.channels).reshape(1, 1, 1, -1)
    )
    return corpus.pixels[index]


def cut_on_host(corpus: Corpus, windows: Window, *, size: int) -> np.ndarray:
    """Slice the pixels of a batch of windows, `[B, S, size, size, C]`, from a corpus on the host.

    The result equals that of `cut`. The corpus may have any number of elements.
    """
    crops = []
    for image, shots, top, left, flip_rows, flip_columns, transpose in zip(*windows):
        shape = (
            int(corpus.shots[image]),
            int(corpus.heights[image]),
            int(corpus.widths[image]),
            corpus.channels,
        )
        start = int(corpus.offsets[image])
        scene = corpus.pixels[start : start + np.prod(shape)].reshape(shape)
        crop = scene[:, top : top + size, left : left + size][shots]
        if transpose:
            crop = crop.swapaxes(1, 2)
        crops.append(crop[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
    return np.stack(crops)


def draw_crop(key: Array, corpus: Corpus, *, size: int) -> Array:
    """A random crop of a random clean image, f32[size, size, C] in unit range; see `draw_window`."""
    return _as_unit(cut(corpus, draw_window(key, corpus, size=size), size=size))[0]


class Batch(NamedTuple):
    """Training examples: input and target f32[B, P, P, C], and their noise levels f32[B].

    The target is the clean image, or another noisy image of the same scene. The level of real camera noise is
    NaN. In some tasks the input has another size than the target, and a mask `where` of its known pixels.
    """

    noisy: Array
    clean: Array
    sigma: Array
    where: Array | None = None


def draw_examples(
    key: Array,
    corpus: Corpus,
    indices: Array,
    *,
    size: int,
    corrupt: Callable[[Array, Array], Batch],
    factor: int = 1,
) -> Batch:
    """Noisy and clean crops, with a separate key for each example.

    Args:
        key: Key of the batch, `fold_in(data_key, step)`.
        corpus: Images.
        indices: i32[B], global indices of the examples; each device passes those of its own share.
        size: Side of the crops, in pixels.
        corrupt: `(key, clean f32[H, W, C]) -> Batch`, one example; not called for pairs and repeats.
        factor: The input of a pair is smaller by this factor, and stored with repeated pixels.

    Returns:
        The examples, in the order of `indices`.
    """
    windows = draw_windows(key, corpus, indices, size=size, factor=factor)
    crops = jax.vmap(lambda window: cut(corpus, window, size=size))(windows)
    return corrupt_crops(key, crops, indices, corrupt=corrupt, factor=factor)


def corrupt_crops(
    key: Array,
    crops: Array,
    indices: Array,
    *,
    corrupt: Callable[[Array, Array], Batch],
    factor: int = 1,
) -> Batch:
    """The second half of `draw_examples`: make examples from crops `[B, S, P, P, C]` of the corpus."""

    def one(index: Array, crop: Array) -> Batch:
        images = _as_unit(crop)
        if len(images) == 2:
            return Batch(images[0, ::factor, ::factor], images[1], jnp.float32(jnp.nan))
        return corrupt(_example_keys(key, index)[1], images[0])

    return jax.vmap(one)(indices, crops)


def _example_keys(key: Array, index: Array) -> Array:
    """One key for the window of an example, and one for its noise."""
    return jax.random.split(jax.random.fold_in(key, index))


def _draw_image(key: Array, corpus: Corpus) -> Array:
    """Draw the index of an image: first a source by weight, then one of its images uniformly."""
    if len(corpus.shares) == 1:
        return jax.random.randint(key, (), 0, len(corpus))
    key_source, key_image = jax.random.split(jax.random.fold_in(key, 1))
    shares, ends = jnp.asarray(corpus.shares), jnp.asarray(corpus.ends)
    # The last share is 1 up to rounding, so a uniform number may be above it.
    source = jnp.sum(jax.random.uniform(key_source) >= shares[:-1], dtype=jnp.int32)
    start = jnp.where(source == 0, 0, ends[source - 1])
    return jax.random.randint(key_image, (), start, ends[source])


def _as_unit(crop: Array) -> Array:
    return crop.astype(jnp.float32) / full_scale(crop.dtype)


def _write_as_float(file: IO[bytes], dtype: np.dtype, floats: IO[bytes]) -> None:
    """Copy the pixels of one file to another, as float32 in unit range."""
    pixels = np.memmap(file, dtype, mode="r")
    for start in range(0, pixels.size, _CHUNK):
        _write(floats, to_unit(pixels[start : start + _CHUNK]))


def _write(file: IO[bytes], pixels: np.ndarray) -> None:
    """Append pixels to an unbuffered file."""
    left = np.ascontiguousarray(pixels).data.cast("B")
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise OSError(
            f"the images do not fit into {tempfile.gettempdir()} ({error.strerror}): set the environment "
            "variable TMPDIR to another folder"
        ) from error
