r"""The method: normalize, process, denormalize.

A map commutes with every $y \mapsto a y + b$ ($a > 0$) exactly when it has the form

$$f(y) = s(y)\, g\!\left(\frac{y - \mu(y)}{s(y)}\right) + \mu(y)$$

(Saied & Fleuret 2026, characterization of normalization equivariance). `wrap` gives a function this form;
`wne_jax.WNE` does the same for a Linen module. Both apply the three functions of this file in order.

Outputs that are not images in the input's units follow the input in other ways; see `wne_jax.outputs`.

NaN and infinite pixels raise an error in eager code. Under `jit`, `vmap` and `grad` values cannot be
inspected: a NaN or an infinity then spreads, through the statistics, over its own instance but not to others.
In float32, deviations from the mean must be between about 1e-18 and 1e18, so that their squares neither
underflow nor overflow.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from wne_jax import protocol
from wne_jax._internal.layout import Layout, laid_out
from wne_jax._internal.padding import crop, pad_to_multiple
from wne_jax.outputs import (
    VALUE,
    Kind,
    Output,
    kinds,
    map_outputs,
    require_output,
    require_shape,
    restore,
)
from wne_jax.statistics import Statistic, Statistics, mean_std, prepare
from wne_jax.statistics.base import require_statistic, require_value
from wne_jax.statistics.gain import ratio, stabilized

Prediction = Literal["direct", "residual"]


class Anchor(NamedTuple):
    """The coordinates of a backbone: the location and the scale of its input.

    A backbone trained on normalized data uses the default, 0 and 1. A network trained elsewhere expects the
    location and the scale of its training images, measured by *the statistic in use*.
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

    A statistic with a gain makes this map nonlinear; see `wne_jax.statistics.gain`.

    Args:
        y: Real array `[B, ..., C]` in any range: vectors, images, volumes, video. Integers are cast to
            float32, never rescaled.
        statistics: The statistic to remove; see `wne_jax.statistics`.
        axes: Axes to pool (default: all but the batch). They determine the symmetry: pooling only over
            space makes the map commute with separate changes of each channel.
        where: Boolean mask that broadcasts to `y`, True where an entry is valid. Masked entries, including
            NaN, are ignored and are 0 in `z`.

    Returns:
        `z`, in float32 (float64 for float64), and the statistics that `denormalize` takes.

    Raises:
        ValueError: Valid entries are NaN or infinite, or squared deviations overflow (in eager code); a
            shape, axes or mask is invalid.
        TypeError: The data are complex, the mask is not boolean, or the statistic is not a function or does
            not return `Statistics`.

    Example:
        >>> z, stats = normalize(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
        >>> print(stats.location, jnp.square(stats.scale))
        [[4.]] [[5.]]
    """
    require_statistic(statistics)
    y, axes, where = prepare(y, axes, where)
    if not _finite(y):
        raise ValueError(
            "y has NaN or infinite entries: replace them, or mask them with where=jnp.isfinite(y)"
        )
    stats = require_value(statistics(y, axes=axes, where=where))
    if not all(map(_finite, jax.tree.leaves(stats))):
        raise ValueError(
            f"the statistics overflow {y.dtype}, y reaches {float(jnp.max(jnp.abs(y))):.3g}: divide it by a "
            "power of two first, so that deviations from the mean stay below 1e18"
        )
    z = in_coordinates(y, stats)
    return z if where is None else jnp.where(where, z, 0), stats


def require_anchor(anchor: Any) -> None:
    """Reject anything but an `Anchor` that can be undone.

    Raises:
        TypeError: The anchor is not an `Anchor`.
        ValueError: The scale is not positive, or a number is not finite.
    """
    if not isinstance(anchor, Anchor):
        raise TypeError(f"anchor must be Anchor(location, scale), not {anchor!r}")
    traced = any(isinstance(value, jax.core.Tracer) for value in anchor)
    if not traced and not (anchor.scale > 0 and np.isfinite(anchor).all()):
        raise ValueError(f"anchor must be a location and a positive scale, not {anchor}")


def in_coordinates(y: Array, stats: Statistics) -> Array:
    """An array normalized by given statistics; 0 where the scale is 0."""
    varies = stats.scale > 0
    u = jnp.where(varies, (y - stats.location) / jnp.where(varies, stats.scale, 1), 0)
    return u if stats.gain is None else stabilized(u, ratio(stats))


def process(
    backbone: Callable[..., Any],
    z: Array,
    *args: Any,
    stats: Statistics | None = None,
    sigma: ArrayLike | None = None,
    where: ArrayLike | None = None,
    output: Output = "value",
    prediction: Prediction = "direct",
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    multiple: int = 1,
    dtype: DTypeLike | None = None,
    noise_argument: str = "sigma",
    mask_argument: str | None = None,
    with_y: Sequence[str] = (),
    **kwargs: Any,
) -> Any:
    """Run a backbone on normalized data, and return its outputs in the same coordinates.

    Args:
        backbone: A map of arrays `[B, ..., C]`; it may return a pytree.
        z: Normalized data.
        *args: Further arguments of the backbone, passed unchanged.
        stats: The removed statistics; needed for `sigma` and `with_y`.
        sigma: Noise level in the units of the original data, a scalar or `[B]`. The backbone receives
            `anchor.scale * sigma / stats.scale`, shaped `[B, 1, ..., 1]`, by the keyword `noise_argument` (0
            for a constant instance, whose estimate does not depend on it). With a gain, noise has variance
            1: the backbone receives `anchor.scale`, and giving a level is an error.
        where: Mask of valid entries, passed by the keyword `mask_argument`.
        output: How the outputs follow the input: a kind, or a pytree of kinds; see `wne_jax.outputs`.
        prediction: "direct" if the backbone returns the estimate, "residual" if it returns the difference to
            subtract from its input. It applies to outputs of the kind "value".
        anchor: The coordinates that the backbone expects.
        multiple: Every spatial size is padded up to a multiple of this, by reflection, and the outputs are
            cropped; outputs of another size are cropped in proportion. Sides of 1, and outputs with another
            rank than `z`, are not changed.
        dtype: Precision of the backbone's input, for example bfloat16; outputs have that of `z`.
        noise_argument: Keyword by which the backbone takes the noise level. A level passed by that name is
            also converted to the backbone's coordinates.
        mask_argument: Keyword by which the backbone takes the mask, None if it takes none.
        with_y: Names of keyword arguments in the units of y, `[B, ..., C]`, such as a guide or a second
            frame; they are normalized with the statistics of y.
        **kwargs: Further keyword arguments of the backbone.

    Returns:
        The outputs, in normalized coordinates and in the dtype of `z`.

    Raises:
        ValueError: The prediction or kind is unknown, `multiple` is below 1, an output does not match the
            statistics or cannot be cropped, a residual has another shape, or `sigma` is invalid.
        TypeError: A positional argument would have to be converted to normalized coordinates, or the backbone
            has no argument of a given name.
    """
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be 'direct' or 'residual', not {prediction!r}")
    with_y = (with_y,) if isinstance(with_y, str) else with_y
    _reject_positional(backbone, args, (noise_argument, *with_y))
    if noise_argument != "sigma" or mask_argument is not None or with_y:
        _require_names(backbone, noise_argument, mask_argument, with_y)
    if noise_argument in kwargs:
        if sigma is not None:
            raise ValueError(f"sigma and {noise_argument} both give the noise level: pass one")
        sigma = kwargs.pop(noise_argument)
    if stats is not None and stats.gain is not None:
        if sigma is not None:
            raise ValueError(
                "sigma is one level, but this statistic has a gain (a level for each intensity): leave it "
                "out, or use the statistic fixed_noise(alpha=, beta=)"
            )
        if protocol.requires(backbone, noise_argument):
            kwargs[noise_argument] = jnp.full(
                (z.shape[0],) + (1,) * (z.ndim - 1), anchor.scale, z.dtype
            )
    elif sigma is not None:
        kwargs[noise_argument] = _relative_sigma(sigma, stats, anchor)
    for name in with_y:
        if kwargs.get(name) is not None:
            other = jax.tree.map(
                lambda x, name=name: _in_units_of_y(x, z, stats, name), kwargs[name]
            )
            kwargs[name] = jax.tree.map(lambda x: _enter(x, anchor, multiple, dtype), other)
    if mask_argument is not None and where is not None:
        where = jnp.broadcast_to(where, z.shape)
        kwargs[mask_argument] = pad_to_multiple(where, multiple)
    x = _enter(z, anchor, multiple, dtype)
    h = backbone(x, *args, **kwargs)
    if not jax.tree.leaves(h):
        raise ValueError(
            f"the backbone returned {h!r}: it must return an array, or a pytree of arrays"
        )
    if prediction == "residual" and VALUE not in kinds(output, h):
        raise ValueError("prediction='residual' needs an output of kind 'value'")

    def leaf(h: Array, kind: Kind, path: str) -> Array:
        if not kind.any_shape and not jnp.issubdtype(h.dtype, jnp.inexact):
            raise ValueError(
                f"the output{path} has dtype {h.dtype}, which cannot follow a y + b: declare "
                "output='invariant'"
            )
        if jnp.issubdtype(h.dtype, jnp.complexfloating):
            h = h.astype(jnp.complex128 if z.dtype == jnp.float64 else jnp.complex64)
        elif jnp.issubdtype(h.dtype, jnp.floating):
            h = h.astype(z.dtype)
        h = crop(h, x.shape, z.shape)
        spread = (z.shape[0],) + (1,) * (z.ndim - 1)
        require_shape(h.shape, spread, kind, batch=z.shape[0], name=f"the output{path}")
        if prediction == "direct" or kind != VALUE:
            return h if anchor == Anchor() else kind.inverse(h, anchor.scale, anchor.location)
        if h.shape != z.shape:
            raise ValueError(
                f"a residual must have the shape of its input: {h.shape} for {z.shape}"
            )
        return z - h / anchor.scale

    return map_outputs(leaf, h, output)


def denormalize(
    h: Any,
    stats: Statistics,
    *,
    output: Output = "value",
    z: Array | None = None,
    unbiased: bool = False,
) -> Any:
    r"""Restore location and scale: $s\,h + \mu$ for values, and the corresponding change for other kinds.

    Args:
        h: Array in normalized coordinates, with the rank and batch of the statistics; or a pytree.
        stats: The statistics returned by `normalize`.
        output: How the outputs follow the input; see `wne_jax.outputs`.
        z: The normalized input. With a gain, outputs other than values use the slope at z.
        unbiased: Whether to correct the bias of values with a gain. They are means of z, and the square of a
            mean is less than the mean of squares; the difference is g / 4 for noise of variance 1.

    Returns:
        The outputs in the original units.

    Raises:
        ValueError: The statistics do not broadcast to the shape of an output.

    Example:
        >>> z, stats = normalize(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
        >>> print(denormalize(0 * z + 1, stats, output="variance"))
        [[5. 5. 5. 5.]]
    """
    return restore(h, stats, output, z=z, unbiased=unbiased)


def wrap(
    backbone: Callable[..., Any],
    *,
    statistics: Statistic = mean_std,
    axes: Sequence[int] | None = None,
    output: Output = "value",
    prediction: Prediction = "direct",
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    multiple: int | None = None,
    dtype: DTypeLike | None = None,
    noise_argument: str = "sigma",
    mask_argument: str | None = None,
    with_y: Sequence[str] = (),
    unbiased: bool = False,
    batch_axes: Sequence[int] = (0,),
    channel_axis: int = -1,
) -> Callable[..., Any]:
    r"""Make any function of arrays normalization-equivariant: $f(a y + b) = a f(y) + b$, $a > 0$.

    A constant instance is returned unchanged. A conditioned backbone gives
    $f(a y + b, a \sigma) = a f(y, \sigma) + b$. For outputs of other kinds see `output`.

    Args:
        backbone: A map of arrays `[B, ..., C]`: a function, a bound Linen module, an NNX module.
        statistics: The statistic; see `normalize`.
        axes: Axes to pool; see `normalize`.
        output: Kind of the backbone's output: "value", "difference", "variance", "invariant", or a pytree of
            these; see `wne_jax.outputs`.
        prediction: Whether values are estimates or residuals; see `process`.
        anchor: The coordinates that the backbone expects; see `process`.
        multiple: Spatial sizes are padded to a multiple of this (default: that of the backbone, else 1);
            see `process`.
        dtype: Precision of the backbone's input; see `process`.
        noise_argument: Keyword by which the backbone takes the noise level; see `process`.
        mask_argument: Keyword by which the backbone takes `where`; see `process`.
        with_y: Keyword arguments in the units of y; see `process`.
        unbiased: With a gain, for a backbone that was trained on Gaussian noise; see `denormalize`.
        batch_axes: Axes of the batch in `y` and in the backbone's inputs and outputs: () for a network of one
            image without a batch, whose statistics are then those of the whole array.
        channel_axis: Axis of the channels; for a network of `[C, H, W]`, use 0 and no batch axes.

    Returns:
        `f(y, *args, sigma=None, where=None, **kwargs)`, which is differentiable and works under all
        transformations of JAX. Its results have the dtype of the statistics: float32 or float64.

    Example:
        >>> f = wrap(jnp.tanh)
        >>> y = jnp.array([[0.0, 1.0, 4.0]])
        >>> bool(jnp.all(f(8 * y) == 8 * f(y)))
        True

        A Gaussian likelihood, whose second output is a variance:

        >>> f = wrap(lambda z: (jnp.tanh(z), jnp.exp(z)), output=("value", "variance"))
        >>> mean, variance = f(y)
        >>> bool(jnp.all(f(8 * y + 1)[1] == 64 * variance))
        True
    """
    _require_map(backbone)
    require_statistic(statistics)
    require_anchor(anchor)
    require_output(output)
    with_y = (with_y,) if isinstance(with_y, str) else tuple(with_y)
    if not isinstance(batch_axes, Sequence):
        raise TypeError(f"batch_axes must be axes such as (0,), or () for none, not {batch_axes!r}")
    multiple = protocol.multiple(backbone) if multiple is None else multiple
    layout = Layout(tuple(batch_axes), channel_axis)
    if layout != Layout():
        canonical = partial(
            wrap, statistics=statistics, output=output, prediction=prediction, anchor=anchor,
            multiple=multiple, dtype=dtype, noise_argument=noise_argument,
            mask_argument=mask_argument, with_y=with_y, unbiased=unbiased,
        )  # fmt: skip
        given = [name for name in (noise_argument, mask_argument, *with_y) if name is not None]
        other: Any = laid_out(
            canonical, backbone, layout, axes=axes, in_layout=given, units_of_y=with_y
        )
        other.wraps = (other, backbone, {"batch_axes": batch_axes, "channel_axis": channel_axis})
        return other

    def wrapped(
        y: ArrayLike,
        *args: Any,
        sigma: ArrayLike | None = None,
        where: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Any:
        z, stats = normalize(y, statistics=statistics, axes=axes, where=where)
        h = process(backbone, z, *args, stats=stats, sigma=sigma, where=where, output=output,
                    prediction=prediction, anchor=anchor, multiple=multiple, dtype=dtype,
                    noise_argument=noise_argument, mask_argument=mask_argument, with_y=with_y,
                    **kwargs)  # fmt: skip
        return denormalize(h, stats, output=output, z=z, unbiased=unbiased)

    declared: Any = wrapped  # read by `wne_jax.wrappers.as_linen`
    declared.wraps = (wrapped, backbone, {
        "statistics": statistics, "axes": axes, "output": output, "prediction": prediction,
        "anchor": anchor, "multiple": multiple, "dtype": dtype,
        "noise_argument": None if noise_argument == "sigma" else noise_argument,
        "mask_argument": mask_argument, "with_y": with_y, "unbiased": unbiased,
    })  # fmt: skip
    return wrapped


def _require_map(backbone: Any) -> None:
    """Reject anything but a map of arrays, and suggest what to use."""
    name = getattr(backbone, "__name__", type(backbone).__name__)
    owner = getattr(backbone, "__self__", None)
    if name == "apply" and getattr(owner, "scope", owner) is None and owner is not None:
        net = type(owner).__name__
        raise TypeError(
            f"{net}.apply takes variables before y: use WNE({net}(...)), or "
            "wrap(lambda y: net.apply(variables, y))"
        )
    if not callable(backbone) and hasattr(backbone, "apply"):
        raise TypeError(
            f"wrap takes a function, not {name!r}: close over the parameters, "
            "lambda y: net.apply(params, ..., y)"
        )
    if isinstance(backbone, type) or not callable(backbone):
        raise TypeError(
            f"wrap takes a function or a module, not {name!r}: pass an instance of a class"
        )
    if hasattr(backbone, "apply") and getattr(backbone, "scope", backbone) is None:
        raise TypeError(
            f"{name} is a Linen module without variables: use WNE({name}(...)), or wrap a function that "
            "applies it"
        )


def _finite(y: Array) -> bool:
    """Whether all entries are finite; True for traced arrays."""
    finite = jnp.all(jnp.isfinite(y))
    return isinstance(finite, jax.core.Tracer) or bool(finite)


def _reject_positional(
    backbone: Callable[..., Any], args: Sequence[Any], names: Sequence[str]
) -> None:
    """Reject positional arguments whose values would have to be rescaled."""
    positional = list(_parameters(backbone))[1 : 1 + len(args)] if args else []
    for name in names:
        if name in positional:
            raise TypeError(
                f"pass {name} by keyword: only then is it converted to the backbone's units"
            )


def _require_names(
    backbone: Callable[..., Any], noise: str, mask: str | None, with_y: Sequence[str]
) -> None:
    """Reject names that the backbone has no argument for: its own argument would not be rescaled."""
    parameters = _parameters(backbone)
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    named = [("with_y", name) for name in with_y] + [("mask_argument", mask)]
    named += [("noise_argument", noise)] if noise != "sigma" else []
    for option, name in named:
        if name is not None and name not in parameters:
            raise TypeError(
                f"{option} names {name!r}, but the backbone takes {', '.join(parameters)}"
            )


def _parameters(backbone: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of the innermost backbone; none for a callable without a signature."""
    while isinstance(backbone, partial):
        backbone = backbone.func
    model = getattr(backbone, "__self__", backbone)
    while (inside := getattr(model, "forwards_to", None)) is not None:
        model = backbone = inside  # a wrapper passes its arguments on
    try:
        return inspect.signature(backbone).parameters
    except (TypeError, ValueError):
        return {}


def _enter(z: Array, anchor: Anchor, multiple: int, dtype: DTypeLike | None) -> Array:
    """The backbone's input for normalized data."""
    x = z if anchor == Anchor() else anchor.scale * z + anchor.location
    x = pad_to_multiple(x, multiple)
    return x if dtype is None else x.astype(dtype)


def _in_units_of_y(other: ArrayLike, z: Array, stats: Statistics | None, name: str) -> Array:
    """A further input in the normalized coordinates of y."""
    if stats is None:
        raise ValueError(f"process needs stats to convert {name} to normalized coordinates")
    other = jnp.asarray(other).astype(z.dtype)
    require_shape(
        other.shape, stats.scale.shape, VALUE, batch=z.shape[0], name=f"the input {name}",
        advice="it must be [B, ..., C] with the rank and batch of y",
    )  # fmt: skip
    return in_coordinates(other, stats)


def _relative_sigma(sigma: ArrayLike, stats: Statistics | None, anchor: Anchor) -> Array:
    """The noise level in the backbone's coordinates, `[B, 1, ..., 1]`."""
    if stats is None:
        raise ValueError("process needs stats to convert sigma to normalized coordinates")
    scale = stats.scale
    if scale.size != scale.shape[0]:
        raise ValueError(
            f"sigma needs one scale per instance, but axes give statistics of shape {scale.shape}"
        )
    sigma = jnp.asarray(sigma, scale.dtype)
    if sigma.size not in (1, scale.size):
        raise ValueError(f"sigma must be a scalar or [B] = [{scale.size}], not {sigma.shape}")
    sigma = jnp.broadcast_to(jnp.reshape(sigma, (-1,) + (1,) * (scale.ndim - 1)), scale.shape)
    varies = scale > 0
    return jnp.where(varies, anchor.scale * sigma / jnp.where(varies, scale, 1), 0)
