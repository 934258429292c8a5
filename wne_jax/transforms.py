r"""The method: normalize, process, denormalize.

A map commutes with every $y \mapsto a y + b$ ($a > 0$) exactly when it has the form

$$f(y) = s(y)\, g\!\left(\frac{y - \mu(y)}{s(y)}\right) + \mu(y)$$

(Saied & Fleuret 2026, characterization of normalization equivariance). `wrap` gives a function that form;
`wne_jax.WNE` does the same for a Linen module. Both are the three functions of this file, in order.

NaN and infinite pixels are refused in eager code. Under `jit`, `vmap` and `grad` values cannot be inspected:
a NaN or an infinity then spreads over its own instance, through the statistics, and over no other. In float32
an instance must keep its deviations from the mean within about 1e-18 to 1e18, where squares neither vanish
nor overflow.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from wne_jax.statistics import Statistic, Statistics, mean_std, prepare

Prediction = Literal["direct", "residual"]


class Anchor(NamedTuple):
    """The coordinates that a backbone works in: what it takes for location and for scale.

    A backbone trained on normalized data has the default, 0 and 1. A network trained elsewhere expects
    the location that its training images had, and the scale that *the statistic in use* had on them.
    """

    location: float = 0.0
    scale: float = 1.0


def normalize(
    y: ArrayLike,
    *,
    statistics: Statistic = mean_std,
    axes: Sequence[int] | None = None,
    where: ArrayLike | None = None,
) -> tuple[Array, Statistics]:
    r"""Remove location and scale: $z = (y - \mu(y)) / s(y)$, and $z = 0$ where $s(y) = 0$.

    Args:
        y: Real array `[B, ..., C]` in any range: vectors, images, volumes, video. Integers are cast to
            float32, never rescaled.
        statistics: The pair to remove; see `wne_jax.statistics`.
        axes: Axes to pool (default: all but the batch). They are part of the symmetry: pooling over
            space alone makes the map commute with a change of each channel by itself.
        where: Boolean mask that broadcasts to `y`, True where an entry is valid. Masked entries, NaN
            included, influence nothing, and are 0 in `z`.

    Returns:
        `z`, in float32 (float64 for float64), and the statistics that `denormalize` takes.

    Raises:
        ValueError: NaN or infinite valid entries (in eager code), a bad shape, axes or mask.
        TypeError: Complex data, or a mask that is not boolean.

    Example:
        >>> z, stats = normalize(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
        >>> print(stats.location, jnp.square(stats.scale))
        [[4.]] [[5.]]
    """
    y, axes, where = prepare(y, axes, where)
    finite = jnp.all(jnp.isfinite(y))
    if not isinstance(finite, jax.core.Tracer) and not bool(finite):
        raise ValueError(
            "y has NaN or infinite entries: mend them, or mask them with where=jnp.isfinite(y)"
        )
    stats = statistics(y, axes=axes, where=where)
    z = in_coordinates(y, stats)
    return z if where is None else jnp.where(where, z, 0), stats


def in_coordinates(y: Array, stats: Statistics) -> Array:
    """An array in normalized coordinates, its own or another's: 0 where the scale is 0."""
    varies = stats.scale > 0
    return jnp.where(varies, (y - stats.location) / jnp.where(varies, stats.scale, 1), 0)


def process(
    backbone: Callable[..., Array],
    z: Array,
    *args: Any,
    stats: Statistics | None = None,
    sigma: ArrayLike | None = None,
    prediction: Prediction = "direct",
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    multiple: int = 1,
    dtype: DTypeLike | None = None,
    **kwargs: Any,
) -> Array:
    """Run a backbone on normalized data, and return its estimate in the same coordinates.

    Args:
        backbone: A map of arrays `[B, ..., C]`.
        z: Normalized data.
        *args: Further arguments of the backbone.
        stats: The statistics that were removed; needed for a backbone conditioned on `sigma`.
        sigma: Noise level in the units of the original data, a scalar or `[B]`. The backbone receives
            `anchor.scale * sigma / stats.scale`, shaped `[B, 1, ..., 1]`, by the keyword `sigma` (0 for a
            constant instance, whose result does not depend on it).
        prediction: "direct" if the backbone returns the estimate, "residual" if it returns what is to be
            subtracted from its input.
        anchor: The coordinates that the backbone expects.
        multiple: Every spatial size is padded up to a multiple of this, by reflection, and the result
            cropped back.
        dtype: Precision of the backbone's input (bfloat16, say); the result comes back in that of `z`.
        **kwargs: Further keyword arguments of the backbone.

    Returns:
        The estimate, in normalized coordinates and in the dtype of `z`.

    Raises:
        ValueError: An unknown prediction, a `multiple` below 1, a residual of another shape, or a `sigma`
            whose shape or statistics do not fit.
    """
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be 'direct' or 'residual', not {prediction!r}")
    if sigma is not None:
        kwargs["sigma"] = _relative_sigma(sigma, stats, anchor)
    x = _pad_to_multiple(_to_anchor(z, anchor), multiple)
    h = backbone(x if dtype is None else x.astype(dtype), *args, **kwargs).astype(z.dtype)
    if x.shape != z.shape:
        h = _crop(h, x.shape, z.shape)
    if prediction == "direct":
        return _from_anchor(h, anchor)
    if h.shape != z.shape:
        raise ValueError(f"a residual must have the shape of its input: {h.shape} for {z.shape}")
    return z - h / anchor.scale


def denormalize(h: Array, stats: Statistics) -> Array:
    r"""Put location and scale back: $s\,h + \mu$.

    Args:
        h: Array in normalized coordinates, broadcastable against the statistics.
        stats: What `normalize` returned.

    Returns:
        The array in the original units.
    """
    return stats.scale * h + stats.location


def wrap(
    backbone: Callable[..., Array],
    *,
    statistics: Statistic = mean_std,
    axes: Sequence[int] | None = None,
    prediction: Prediction = "direct",
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    multiple: int = 1,
    dtype: DTypeLike | None = None,
) -> Callable[..., Array]:
    r"""Make any function of arrays normalization-equivariant: $f(a y + b) = a f(y) + b$, $a > 0$.

    A constant instance is returned as it is. A conditioned backbone gives
    $f(a y + b, a \sigma) = a f(y, \sigma) + b$.

    Args:
        backbone: A map of arrays `[B, ..., C]`: a function, a bound Linen module, an NNX module.
        statistics: The pair of statistics; see `normalize`.
        axes: Axes to pool; see `normalize`.
        prediction: What the backbone returns; see `process`.
        anchor: The coordinates that the backbone expects; see `process`.
        multiple: Spatial sizes are padded to a multiple of this; see `process`.
        dtype: Precision of the backbone's input; see `process`.

    Returns:
        `f(y, *args, sigma=None, where=None, **kwargs)`, differentiable, for use under any
        transformation of JAX. Its result has the dtype of the statistics: float32, or float64.

    Example:
        >>> f = wrap(jnp.tanh)
        >>> y = jnp.array([[0.0, 1.0, 4.0]])
        >>> bool(jnp.all(f(8 * y) == 8 * f(y)))
        True
    """

    def wrapped(
        y: ArrayLike,
        *args: Any,
        sigma: ArrayLike | None = None,
        where: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Array:
        z, stats = normalize(y, statistics=statistics, axes=axes, where=where)
        h = process(backbone, z, *args, stats=stats, sigma=sigma, prediction=prediction,
                    anchor=anchor, multiple=multiple, dtype=dtype, **kwargs)  # fmt: skip
        return denormalize(h, stats)

    return wrapped


def _to_anchor(z: Array, anchor: Anchor) -> Array:
    """Coordinates of the backbone from normalized ones."""
    return z if anchor == Anchor() else anchor.scale * z + anchor.location


def _from_anchor(h: Array, anchor: Anchor) -> Array:
    """The inverse of `_to_anchor`."""
    return h if anchor == Anchor() else (h - anchor.location) / anchor.scale


def _relative_sigma(sigma: ArrayLike, stats: Statistics | None, anchor: Anchor) -> Array:
    """The noise level in the backbone's coordinates, `[B, 1, ..., 1]`."""
    if stats is None:
        raise ValueError("process needs stats to bring sigma into normalized coordinates")
    scale = stats.scale
    if scale.size != scale.shape[0]:
        raise ValueError(
            f"sigma needs one scale for each instance, but axes leave statistics of shape {scale.shape}"
        )
    sigma = jnp.asarray(sigma, scale.dtype)
    if sigma.size not in (1, scale.size):
        raise ValueError(f"sigma must be a scalar or [B] = [{scale.size}], not {sigma.shape}")
    sigma = jnp.broadcast_to(jnp.reshape(sigma, (-1,) + (1,) * (scale.ndim - 1)), scale.shape)
    varies = scale > 0
    return jnp.where(varies, anchor.scale * sigma / jnp.where(varies, scale, 1), 0)


def _pad_to_multiple(z: Array, multiple: int) -> Array:
    """Reflect every spatial axis at its end, up to the next multiple."""
    if multiple < 1:
        raise ValueError(f"multiple must be 1 or more, not {multiple}")
    spatial = z.shape[1:-1]
    missing = [(0, -size % multiple) for size in spatial]
    if not any(after for _, after in missing):
        return z
    return jnp.pad(z, [(0, 0), *missing, (0, 0)], mode="reflect")


def _crop(h: Array, padded: tuple[int, ...], original: tuple[int, ...]) -> Array:
    """Undo `_pad_to_multiple` on a result of the padded size."""
    if h.shape[:-1] != padded[:-1]:
        raise ValueError(
            f"a backbone behind multiple= must keep the spatial size: {h.shape} for {padded}"
        )
    return h[tuple(slice(size) for size in original[:-1])]
