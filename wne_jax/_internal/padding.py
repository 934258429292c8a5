"""Padding the sides of images to a multiple, and cropping outputs back."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax.numpy as jnp
from jax import Array


def pad_to_multiple(z: Array, multiple: int) -> Array:
    """Pad every spatial axis at its end by reflection, up to the next multiple."""
    if not isinstance(multiple, Integral):
        raise TypeError(f"multiple must be one whole number for all sides, not {multiple!r}")
    if multiple < 1:
        raise ValueError(f"multiple must be 1 or more, not {multiple}")
    spatial = z.shape[1:-1]
    if not all(isinstance(size, int) for size in spatial):
        for axis in range(1, z.ndim - 1):
            z = _reflect_symbolic(z, multiple, axis)
        return z
    missing = [(0, -size % multiple) for size in spatial]
    if not any(after for _, after in missing):
        return z
    return jnp.pad(z, [(0, 0), *missing, (0, 0)], mode="reflect")


def _reflect_symbolic(z: Array, multiple: int, axis: int) -> Array:
    """One axis of `pad_to_multiple` for symbolic sizes in `jax.export`, which `jnp.pad` does not accept."""
    size = z.shape[axis]
    padded = (size + multiple - 1) // multiple * multiple
    if padded == size:
        return z
    last = jnp.asarray(size, jnp.int32) - 1
    place = jnp.arange(padded) % jnp.maximum(2 * last, 1)
    return jnp.take(z, jnp.minimum(place, 2 * last - place), axis=axis)


def crop(h: Array, padded: Sequence[Any], original: Sequence[Any]) -> Array:
    """Undo `pad_to_multiple` on an output, in proportion if it has another size."""
    if tuple(padded) == tuple(original) or h.ndim != len(padded):
        return h
    sizes = []
    for now, after, before in zip(h.shape[1:-1], padded[1:-1], original[1:-1]):
        ratio = now // after
        size, rest = (before * ratio, 0) if now == ratio * after else divmod(before * now, after)
        if now == 1:
            size, rest = 1, 0
        if rest != 0:
            raise ValueError(
                f"multiple= pads {tuple(original)} to {tuple(padded)}, but an output of shape {h.shape} "
                "cannot be cropped in proportion: pad before the call"
            )
        sizes.append(size)
    return h[(slice(None), *(slice(size) for size in sizes))]
