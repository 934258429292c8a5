"""Order statistics of floating-point arrays, exactly and without a sort.

The bit patterns of floats, with the negative ones flipped, are ordered like the floats themselves.
The k-th smallest entry is then found one bit at a time: each step counts the entries below a
candidate, so that 32 passes (64 in double precision) replace a sort. On a CPU this is several times
faster than `jnp.median` on image-sized data, and the result is the same to the last bit.
"""

import jax.numpy as jnp
from jax import Array, lax


def _ordered_bits(x: Array) -> Array:
    """Unsigned integers in the order of the floats `x` (f32 -> u32, f64 -> u64)."""
    width = x.dtype.itemsize * 8
    unsigned = jnp.dtype(f"uint{width}")
    bits = lax.bitcast_convert_type(x, unsigned)
    sign = jnp.array(1 << (width - 1), unsigned)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _floats(bits: Array, dtype: jnp.dtype) -> Array:
    """The inverse of `_ordered_bits`."""
    sign = jnp.array(1 << (bits.dtype.itemsize * 8 - 1), bits.dtype)
    return lax.bitcast_convert_type(jnp.where(bits >= sign, bits ^ sign, ~bits), dtype)


def _select(x: Array, rank: Array, *, axes: tuple[int, ...], where: Array | None) -> Array:
    """The entry of zero-based `rank` in increasing order over `axes` (kept as axes of size one)."""
    bits = _ordered_bits(x)
    highest = bits.dtype.itemsize * 8 - 1
    if where is not None:
        bits = jnp.where(where, bits, jnp.array(jnp.iinfo(bits.dtype).max, bits.dtype))

    def set_next_bit(step, found):
        candidate = found | (jnp.array(1, bits.dtype) << (highest - step).astype(bits.dtype))
        below = jnp.sum(bits < candidate, axis=axes, keepdims=True, dtype=jnp.int32)
        return jnp.where(below <= rank, candidate, found)

    start = jnp.zeros_like(rank, dtype=bits.dtype)
    return _floats(lax.fori_loop(0, highest + 1, set_next_bit, start), x.dtype)


def median(x: Array, *, axes: tuple[int, ...], where: Array | None = None) -> Array:
    """The median over `axes`: the mean of the two middle entries where their number is even.

    Differentiable almost everywhere: the gradient goes to the middle entries, in equal parts where
    several tie. NaN counts as larger than infinity.

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
    valid = jnp.ones(x.shape, bool) if where is None else where
    count = jnp.sum(valid, axis=axes, keepdims=True, dtype=jnp.int32)
    rank = jnp.maximum(count - 1, 0) // 2
    lower = lax.stop_gradient(_select(lax.stop_gradient(x), rank, axes=axes, where=where))

    # `lower` came from bits and has no gradient: add x - x over the entries that equal it.
    tied = valid & (x == lower)
    number = jnp.maximum(jnp.sum(tied, axis=axes, keepdims=True, dtype=x.dtype), 1)
    differentiable = lower + (
        jnp.sum(jnp.where(tied, x - lower, 0), axis=axes, keepdims=True) / number
    )

    above = jnp.min(x, axis=axes, keepdims=True, initial=jnp.inf, where=valid & (x > lower))
    below = jnp.sum(valid & (x <= lower), axis=axes, keepdims=True, dtype=jnp.int32)
    upper = jnp.where(below > count // 2, differentiable, above)
    return jnp.where(count > 0, (differentiable + upper) / 2, 0)
