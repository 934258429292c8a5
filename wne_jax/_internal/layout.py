"""Arrays with another layout than `[B, ..., C]`."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Layout(NamedTuple):
    """The positions of the batch and channel axes of an array.

    Attributes:
        batch_axes: Axes of the batch: (0,) for a leading batch axis, () for an array that is one instance.
        channel_axis: Axis of the channels.

    Example:
        >>> Layout((), 0).enter(np.zeros((3, 8, 9))).shape  # an image [C, H, W]
        (1, 8, 9, 3)
    """

    batch_axes: tuple[int, ...] = (0,)
    channel_axis: int = -1

    def order(self, rank: int) -> tuple[int, ...]:
        """The axes of an array in the order `[batch, ..., C]`.

        Raises:
            ValueError: An axis does not exist, or occurs twice.
        """
        named = (*self.batch_axes, self.channel_axis)
        if not all(-rank <= axis < rank for axis in named):
            raise ValueError(f"batch_axes and channel_axis {named} do not all exist in rank {rank}")
        *batch, channels = (axis % rank for axis in named)
        if len({*batch, channels}) != len(named):
            raise ValueError(f"batch_axes and channel_axis {named} must not repeat an axis")
        space = [axis for axis in range(rank) if axis not in {*batch, channels}]
        return (*batch, *space, channels)

    def batch(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """The sizes of the batch axes of a shape."""
        return tuple(shape[axis] for axis in self.order(len(shape))[: len(self.batch_axes)])

    def enter(self, x: Any) -> Any:
        """The array as `[B, ..., C]`, with all batch axes merged into one."""
        moved = x.transpose(self.order(x.ndim))
        number = len(self.batch_axes)
        return moved.reshape((math.prod(moved.shape[:number]), *moved.shape[number:]))

    def leave(self, x: Any, batch: Sequence[Any]) -> Any:
        """The inverse of `enter`, for an array whose batch axes had the sizes `batch`."""
        if x.shape[0] == 1:  # the same value for all instances
            batch = (1,) * len(batch)
        moved = x.reshape((*batch, *x.shape[1:]))
        return moved.transpose(np.argsort(self.order(moved.ndim)))

    def pooled(self, axes: Sequence[int] | None, rank: int) -> tuple[int, ...] | None:
        """The positions in `[B, ..., C]` of axes of the array."""
        if axes is None:
            return None
        order, shift = self.order(rank), 1 - len(self.batch_axes)
        return tuple(max(order.index(axis % rank) + shift, 0) for axis in axes)


def laid_out(
    wrap: Callable[..., Callable],
    backbone: Callable[..., Any],
    layout: Layout,
    *,
    axes: Sequence[int] | None,
    in_layout: Sequence[str],
    units_of_y: Sequence[str],
) -> Callable[..., Any]:
    """A wrapped function whose arrays, and those of its backbone, have another layout.

    Args:
        wrap: Makes the wrapped function of arrays `[B, ..., C]` from a backbone and `axes`.
        backbone: A map of arrays in the layout.
        layout: The positions of the batch and channel axes.
        axes: Axes to pool, in the layout.
        in_layout: Keyword arguments that the backbone receives in the layout.
        units_of_y: Those of `in_layout` that the caller also passes in the layout.
    """

    def wrapped(y: Any, *args: Any, where: Any = None, **kwargs: Any) -> Any:
        y = y if hasattr(y, "transpose") else np.asarray(y)
        batch, shape = layout.batch(y.shape), y.shape
        entered: list[bool] = []

        @functools.wraps(backbone)
        def inside(x: Any, *args: Any, **kwargs: Any) -> Any:
            for name in set(in_layout) & kwargs.keys():
                kwargs[name] = jax.tree.map(lambda h: layout.leave(h, batch), kwargs[name])
            leaves, structure = jax.tree.flatten(backbone(layout.leave(x, batch), *args, **kwargs))
            entered[:] = [
                jnp.ndim(h) == len(shape) and layout.batch(jnp.shape(h)) == batch for h in leaves
            ]
            leaves = [layout.enter(h) if fits else h for h, fits in zip(leaves, entered)]
            return jax.tree.unflatten(structure, leaves)

        for name in set(units_of_y) & kwargs.keys():
            kwargs[name] = jax.tree.map(lambda h: layout.enter(jnp.asarray(h)), kwargs[name])
        if where is not None:
            where = layout.enter(jnp.broadcast_to(where, shape))
        run = wrap(inside, axes=layout.pooled(axes, len(shape)))
        leaves, structure = jax.tree.flatten(run(layout.enter(y), *args, where=where, **kwargs))
        leaves = [layout.leave(h, batch) if fits else h for h, fits in zip(leaves, entered)]
        return jax.tree.unflatten(structure, leaves)

    return wrapped
