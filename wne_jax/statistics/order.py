"""Order statistics of floating-point arrays, exactly and without a sort.

The bit patterns of floats, with the negative ones flipped, are ordered like the floats themselves.
The k-th smallest entry is then found one bit at a time: each step counts the entries below a
candidate, so that 32 passes (64 in double precision) replace a sort. On a CPU this is several times
faster than `jnp.median` on image-sized data, and the result is the same to the last bit.

Nothing compares `x` with one of its own entries after the loop: a compiler may compute `x` anew for every
consumer and round it differently there, so that an entry would not find itself.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def _ordered_bits(x: Array) -> Array:
    """Unsigned integers in the order of the floats `x` (f32 -> u32, f64 -> u64), NaN of any sign last."""
    width = x.dtype.itemsize * 8
    unsigned = jnp.dtype(f"uint{width}")
    bits = lax.bitcast_convert_type(jnp.where(jnp.isnan(x), jnp.nan, x), unsigned)
    sign = jnp.array(1 << (width - 1), unsigned)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _floats(bits: Array, dtype: jnp.dtype) -> Array:
    """The inverse of `_ordered_bits`."""
    sign = jnp.array(1 << (bits.dtype.itemsize * 8 - 1), bits.dtype)
    return lax.bitcast_convert_type(jnp.where(bits >= sign, bits ^ sign, ~bits), dtype)


def entries_of_rank(
    x: Array, ranks: list[Array | int], axes: tuple[int, ...], where: Array | None
) -> list[Array]:
    """The entries of zero-based `ranks` in increasing order over `axes` (kept as axes of size one)."""
    bits = _ordered_bits(x)
    highest = bits.dtype.itemsize * 8 - 1
    if where is not None:
        bits = jnp.where(where, bits, jnp.array(jnp.iinfo(bits.dtype).max, bits.dtype))

    def set_next_bit(step, found):
        bit = jnp.array(1, bits.dtype) << jnp.asarray(highest - step, bits.dtype)

        def next_bit(entry, rank):
            below = jnp.sum(bits < (entry | bit), axis=axes, keepdims=True, dtype=jnp.int32)
            return jnp.where(below <= rank, entry | bit, entry)

        return [next_bit(entry, rank) for entry, rank in zip(found, ranks)]

    pooled = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    start = [jnp.zeros(pooled, bits.dtype) for _ in ranks]
    return [_floats(entry, x.dtype) for entry in lax.fori_loop(0, highest + 1, set_next_bit, start)]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _middle(x: Array, axes: tuple[int, ...], where: Array | None) -> list[Array]:
    """The middle entries over `axes`: one where their number is known to be odd, else two."""
    number = math.prod(x.shape[axis] for axis in axes)
    if where is None and isinstance(number, int):
        return entries_of_rank(x, sorted({(number - 1) // 2, number // 2}), axes, where)
    # A mask, or symbolic sizes.
    valid = jnp.ones(x.shape, bool) if where is None else where
    count = jnp.sum(valid, axis=axes, keepdims=True, dtype=jnp.int32)
    return entries_of_rank(x, [jnp.maximum(count - 1, 0) // 2, count // 2], axes, where)


@_middle.defjvp
def _middle_jvp(axes, primals, tangents):
    (x, where), (dx, _) = primals, tangents
    middle = _middle(x, axes, where)

    def flat(x):
        moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
        return moved.reshape(*moved.shape[: -len(axes)], -1)

    def tangent(entry):
        distance = jnp.where(x == entry, 0, jnp.abs(x - entry))
        known = ~jnp.isnan(distance) if where is None else ~jnp.isnan(distance) & where
        nearest = jnp.argmin(flat(jnp.where(known, distance, jnp.inf)), axis=-1, keepdims=True)
        return jnp.take_along_axis(flat(dx), nearest, axis=-1).reshape(entry.shape)

    return middle, [tangent(entry) for entry in middle]


def median(x: Array, *, axes: tuple[int, ...], where: Array | None = None) -> Array:
    """The median over `axes`: the mean of the two middle entries where their number is even.

    Differentiable almost everywhere: the gradient goes to the middle entries, to the first of several that
    tie. NaN counts as larger than infinity.

    Args:
        x: f32 or f64, any shape; fewer than 2^31 entries are pooled.
        axes: Axes to pool, non-negative; they remain as axes of size one.
        where: Boolean mask of `x.shape`, True where an entry counts.

    Returns:
        The medians, 0 where no entry counts.

    Example:
        >>> median(jnp.array([[5.0, 1.0, 2.0, 9.0]]), axes=(1,))
        Array([[3.5]], dtype=float32)
    """
    mean = jnp.stack(_middle(x, axes, where)).mean(axis=0)
    return mean if where is None else jnp.where(where.any(axes, keepdims=True), mean, 0)


def median_of_parts(make_pass: Callable[[], Iterator[np.ndarray]]) -> float:
    """The exact median of all float32 entries of some arrays, which are read twice and never held together.

    A histogram of the high 16 bits says in which bins the two middle entries lie; one of the low 16 bits in
    these bins says where.

    Args:
        make_pass: Starts a new pass over the arrays, the same ones each time.

    Example:
        >>> median_of_parts(lambda: iter([np.float32([5, 1]), np.float32([2, 9])]))
        3.5

    References:
        Munro & Paterson, "Selection and sorting with limited storage", 1980.
    """
    high = np.zeros(1 << 16, np.int64)
    for values in make_pass():
        high += _histogram(_ordered_bits_on_host(values) >> 16)
    upto = np.cumsum(high)
    ranks = np.array([(upto[-1] - 1) // 2, upto[-1] // 2])
    bins = np.searchsorted(upto, ranks, side="right")

    low = {int(b): np.zeros(1 << 16, np.int64) for b in bins}
    for values in make_pass():
        bits = _ordered_bits_on_host(values)
        for b, histogram in low.items():
            histogram += _histogram(bits[bits >> 16 == b] & 0xFFFF)
    within = ranks - (upto - high)[bins]
    found = [
        b << 16 | int(np.searchsorted(np.cumsum(low[b]), rank, side="right"))
        for b, rank in zip(map(int, bins), within)
    ]
    lower, upper = _floats_on_host(np.array(found, np.uint32))
    return float((lower + upper) / np.float32(2))


def _histogram(values: np.ndarray) -> np.ndarray:
    """How often each 16-bit number occurs."""
    return np.bincount(values.ravel(), minlength=1 << 16)


def _ordered_bits_on_host(x: np.ndarray) -> np.ndarray:
    """`_ordered_bits` of f32 without NaN, in NumPy."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits >= sign, ~bits, bits | sign)


def _floats_on_host(bits: np.ndarray) -> np.ndarray:
    """The inverse of `_ordered_bits_on_host`."""
    sign = np.uint32(1 << 31)
    return np.where(bits >= sign, bits ^ sign, ~bits).view(np.float32)
