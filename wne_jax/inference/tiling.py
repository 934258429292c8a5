"""A function of images, run on overlapping tiles of one size: memory no longer grows with the image.

For a function whose every output depends on its input no further than `halo` pixels away, the result is
that of the whole image, to rounding: the border of a tile is also the image's, or at least `halo` away from
what is kept. A function that looks further (attention over the whole image, global pooling) gives tiles that
differ a little where they overlap; `blend=True` fades one into the next. A small Restormer of random weights
misses the result of the whole by 4 % of what it changes with tiles of 64, by 1 % with tiles of 128 (a test
measures it). SwinIR, whose windows bound what it sees, is exact.

Padding by zeros or by reflection is exact, since border tiles are flush with the edge. Circular padding is
not: what lies beyond an edge is then at the other end of the image, in no tile.

Functions here work on the host with one image `[H, W, C]`, an array or a memory map.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from wne_jax._internal.progress import Progress
from wne_jax.statistics.blocks import release_pages


class Span(NamedTuple):
    """One axis of a tile: where the tile starts, and what is kept of it (start to stop, in the image)."""

    origin: int
    start: int
    stop: int


class Plan(NamedTuple):
    """Tiles as rows of tiles and columns of tiles: every pair of one of each is a tile."""

    size: tuple[int, int]
    rows: Sequence[Span]
    columns: Sequence[Span]


def plan(height: int, width: int, *, tile: int, halo: int, multiple: int = 1) -> Plan:
    """Cover an image by tiles of one size, neighbours overlapping by at least `2 * halo`.

    The image counts as padded at its ends up to `multiple`. Origins are multiples of it too, evenly spaced,
    the first at 0 and the last flush with the padded end. What is kept of two neighbours meets in the middle
    of their overlap.

    Args:
        height: Of the image.
        width: Of the image.
        tile: Side of a tile; where the padded image is smaller, the tile has its size.
        halo: Distance that is kept from a border of a tile that is none of the image's.
        multiple: What the sizes of the function's input must be multiples of.

    Raises:
        ValueError: Sizes below 1, a negative halo, or a tile that is no multiple or leaves nothing to keep.

    Example:
        >>> plan(10, 30, tile=16, halo=3, multiple=2).size
        (10, 16)
        >>> [tuple(span) for span in plan(10, 30, tile=16, halo=3, multiple=2).columns]
        [(0, 0, 11), (6, 11, 18), (14, 18, 30)]
    """
    if min(height, width, multiple) < 1 or halo < 0:
        raise ValueError(
            f"height, width and multiple must be 1 or more, and halo 0 or more: {height}, {width}, "
            f"{multiple}, {halo}"
        )
    if tile % multiple or tile < 2 * halo + multiple:
        smallest = -(-2 * halo // multiple) * multiple + multiple
        raise ValueError(
            f"tile must be a multiple of {multiple}, {smallest} or more, not {tile}: a pixel sees {halo} "
            "pixels to each side"
        )
    (rows, tall), (columns, wide) = (
        _spans(size, tile=tile, halo=halo, multiple=multiple) for size in (height, width)
    )
    return Plan((tall, wide), rows, columns)


def run_tiled(
    function: Callable[..., Any],
    image: np.ndarray,
    out: np.ndarray,
    *,
    tile: int,
    halo: int,
    to_model: Callable[[np.ndarray], np.ndarray],
    from_model: Callable[[np.ndarray], np.ndarray],
    beside: Sequence[np.ndarray] = (),
    multiple: int = 1,
    blend: bool = False,
    progress: Progress | None = None,
) -> None:
    """Apply a function tile by tile, from one array or memory map to another.

    The image is continued by reflection at its ends up to `multiple`, as `wne_jax.process` does it.

    Args:
        function: Map f32[1, T, T', C] -> the same shape, T and T' the same in every call: jit compiles once.
            Its further arguments are the tile's part of each array in `beside`, with a batch axis, too.
        image: `[H, W, C]`, read in blocks.
        out: `[H, W, C]`, written in blocks; not the memory of `image`.
        tile: Side of a tile; see `plan`.
        halo: Receptive radius of the function: outputs depend on inputs this far away, and no further. With
            `blend`, half of what neighbours overlap.
        to_model: Map from a block of `image` to float32, value by value.
        from_model: The way back, from float32 to the dtype of `out`.
        beside: Arrays `[H, W, C']` that belong to the pixels; sides of 1 hold for all rows or columns.
        multiple: What the sizes of the function's input must be multiples of.
        blend: Fade from tile to tile over their overlap, by weights that sum to one, in place of a cut in the
            middle. It keeps one row of tiles in float64.
        progress: Called with the number of tiles done, and of all tiles.

    Raises:
        ValueError: What `plan` refuses, shapes that do not fit, or `out` in the memory of `image`.

    Example:
        >>> image = np.arange(30, dtype=np.uint8).reshape(6, 5, 1)
        >>> out = np.zeros_like(image)
        >>> run_tiled(lambda y: y + 1, image, out, tile=4, halo=1, to_model=np.float32, from_model=np.uint8)
        >>> bool((out == image + 1).all())
        True
    """
    if image.ndim != 3 or out.shape != image.shape:
        raise ValueError(
            f"image and out must be [H, W, C], of one shape: {image.shape}, {out.shape}"
        )
    if np.may_share_memory(image, out):
        raise ValueError(
            "out must not be the memory of image: a tile reads what another has written"
        )
    tiles = plan(*image.shape[:2], tile=tile, halo=halo, multiple=multiple)
    estimates = _estimates(function, image, tiles, to_model, beside, progress)
    (_write_blended if blend else _write_cut)(estimates, tiles, out, from_model)


def _spans(size: int, *, tile: int, halo: int, multiple: int) -> tuple[list[Span], int]:
    """One axis of `plan`, and the tile's size on it."""
    padded = -(-size // multiple) * multiple
    if padded <= tile:
        return [Span(0, 0, size)], padded
    steps, longest = (padded - tile) // multiple, (tile - 2 * halo) // multiple
    last = -(-steps // longest)  # the number of the last tile
    origins = [multiple * (steps * k // last) for k in range(last + 1)]
    cuts = [(first + second + tile) // 2 for first, second in itertools.pairwise(origins)]
    return [Span(*span) for span in zip(origins, [0, *cuts], [*cuts, size])], tile


def _estimates(
    function: Callable[..., Any],
    image: np.ndarray,
    tiles: Plan,
    to_model: Callable[[np.ndarray], np.ndarray],
    beside: Sequence[np.ndarray],
    progress: Progress | None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row and column of every tile, row by row, and the function's result `[T, T', C]` on it."""
    (tall, wide), number = tiles.size, len(tiles.rows) * len(tiles.columns)
    rows = _reflected(image.shape[0], tiles.rows[-1].origin + tall)
    columns = _reflected(image.shape[1], tiles.columns[-1].origin + wide)
    for i, row in enumerate(tiles.rows):
        for j, column in enumerate(tiles.columns):
            place = rows[row.origin :][:tall], columns[column.origin :][:wide]
            y = to_model(_read(image, *place))[None]
            estimate = np.asarray(
                function(y, *(_read_beside(part, *place)[None] for part in beside))
            )
            if estimate.shape != y.shape:
                raise ValueError(
                    f"function must keep the shape of a tile, {y.shape}; it returned {estimate.shape}"
                )
            yield i, j, estimate[0]
            if progress is not None:
                progress(i * len(tiles.columns) + j + 1, number)
        release_pages(image)


def _reflected(size: int, padded: int) -> np.ndarray:
    """The rows (or columns) of an image continued at its end by reflection."""
    return np.pad(np.arange(size), (0, padded - size), mode="reflect")


def _read(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A copy of some rows and columns, which lie close together."""
    top, left = rows.min(), columns.min()
    block = image[top : rows.max() + 1, left : columns.max() + 1]
    return np.asarray(block)[np.ix_(rows - top, columns - left)]


def _read_beside(part: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same place of an array beside the image, where an axis of one stands for all of the image's."""
    height, width = part.shape[:2]
    return _read(
        part, rows if height > 1 else rows[:1] * 0, columns if width > 1 else columns[:1] * 0
    )


def _write_cut(
    estimates: Iterable[tuple[int, int, np.ndarray]],
    tiles: Plan,
    out: np.ndarray,
    from_model: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Keep of every tile what its spans say."""
    for i, j, estimate in estimates:
        row, column = tiles.rows[i], tiles.columns[j]
        kept = estimate[
            row.start - row.origin : row.stop - row.origin,
            column.start - column.origin : column.stop - column.origin,
        ]
        out[row.start : row.stop, column.start : column.stop] = from_model(kept)
        if column is tiles.columns[-1]:
            release_pages(out)


def _write_blended(
    estimates: Iterable[tuple[int, int, np.ndarray]],
    tiles: Plan,
    out: np.ndarray,
    from_model: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Sum weighted tiles in a band of rows, and write the rows that no later tile reaches."""
    (tall, wide), (height, width, channels) = tiles.size, out.shape
    down, across = _weights(tiles.rows, tall), _weights(tiles.columns, wide)
    band = np.zeros((tall, tiles.columns[-1].origin + wide, channels))
    tops = [row.origin for row in tiles.rows]
    for i, j, estimate in estimates:
        left = tiles.columns[j].origin
        weight = down[i][:, None, None] * across[j][:, None]
        band[:, left : left + wide] += weight * estimate
        if j == len(tiles.columns) - 1:
            top, below = tops[i], [*tops, height][i + 1]
            finished = below - top
            out[top:below] = from_model(band[:finished, :width].astype(np.float32))
            release_pages(out)
            band[: tall - finished] = band[finished:]
            band[tall - finished :] = 0


def _weights(spans: Sequence[Span], side: int) -> list[np.ndarray]:
    """Weights along one axis for every tile, f64[side], which sum to one over the tiles.

    They rise linearly from the borders that a tile does not share with the image, across the widest overlap.
    """
    origins = [span.origin for span in spans]
    overlap = max((side - (b - a) for a, b in itertools.pairwise(origins)), default=0)
    ramp = np.minimum(1, np.arange(1, side + 1) / (overlap + 1))
    weights = np.ones((len(spans), side))
    weights[1:] *= ramp
    weights[:-1] *= ramp[::-1]
    total = np.zeros(origins[-1] + side)
    for origin, weight in zip(origins, weights):
        total[origin : origin + side] += weight
    return [weight / total[origin : origin + side] for origin, weight in zip(origins, weights)]
