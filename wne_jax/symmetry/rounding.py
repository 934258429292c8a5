r"""A rounding-error model: by how much f(T y) and T f(y) may differ through rounding only.

Rounding a y + b causes an error in the coordinates z in which an instance has location 0 and scale 1:
$\delta = C\,[\epsilon\,(1 + \max |y| / s + |b| / (a s)) + \epsilon_{\text{compute}}]$. A map of gain L
amplifies it to $L\,\delta$. Converting the output to its units multiplies it by a s for a value or a
difference, by $(a s)^2$ for a variance, and by 1 for an invariant output (`wne_jax.outputs`).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.outputs import VALUE, Kind, kind
from wne_jax.statistics import mean_std
from wne_jax.symmetry.actions import Action, broadcast

ROUNDING_CONSTANT = 32.0
"""The factor C of the rounding model: how many rounding errors may add up."""

RELATIVE_ROUNDING = 1e-5
"""Violations below this share of the output may also be rounding, in a map with large amplification."""

LOOKS_LIKE_ROUNDING = 1e3
"""Violations below this many times the tolerance may be rounding that the model does not include."""


def floating(y: ArrayLike) -> Array:
    """The array in float32 or float64, since a coarser dtype would round T y itself.

    Raises:
        ValueError: `y` is a tuple, a list or a dictionary.
    """
    if isinstance(y, tuple | list | dict):
        raise ValueError(f"y must be one array [B, ..., C], not a {type(y).__name__}")
    y = jnp.asarray(y)
    return y.astype(at_least_float32(y.dtype))


def spread(y: Array, axes: Sequence[int] | None = None) -> Array:
    """The standard deviation of each instance, keeping axes, without overflow for any finite values."""
    return _sizes(y, axes if axes is None else tuple(axes))[0]


@partial(jax.jit, static_argnames="axes")
def _sizes(y: Array, axes: tuple[int, ...] | None) -> tuple[Array, Array]:
    """The standard deviation and the largest absolute value of each instance, keeping axes."""
    exponent = jnp.max(jnp.frexp(y)[1], axis=tuple(range(1, y.ndim)), keepdims=True)
    half = exponent // 2  # a power of two may itself overflow
    small = jnp.ldexp(jnp.ldexp(y, -half), half - exponent)
    deviation = jnp.ldexp(jnp.ldexp(mean_std(small, axes=axes).scale, half), exponent - half)
    pooled = tuple(range(1, y.ndim)) if axes is None else axes
    return deviation, jnp.max(jnp.abs(y), axis=pooled, keepdims=True)


def rounding_tolerance(
    action: Action,
    y: ArrayLike,
    *,
    output: str | Kind = "value",
    output_action: Action | None = None,
    axes: Sequence[int] | None = None,
    gain: float = 1.0,
    compute_dtype: DTypeLike = jnp.float32,
) -> Array:
    r"""By how much f(T y) and T f(y) may differ through rounding only, in the units of T f(y).

    For values it is

    $$a\,s \cdot C \cdot \text{gain} \cdot \left[\epsilon \left(1 + \frac{\max |y|}{s}
    + \frac{|b|}{a s}\right) + \epsilon_{\text{compute}}\right]$$

    where $s$ is the standard deviation of the instance, $\epsilon$ the rounding unit of float32 (float64 if
    `y` is float64), and $\epsilon_{\text{compute}}$ that of the backbone's arithmetic if it is coarser. The
    bracket is the error in normalized coordinates from rounding a y + b.

    Args:
        action: The transformation T.
        y: Array `[B, ..., C]`.
        output: How the output follows the input; see `wne_jax.outputs`.
        output_action: The action on the output, if it is not T.
        axes: Axes over which s and the maximum are taken (default: all but the batch).
        gain: By how much the map amplifies small errors in normalized coordinates (its Lipschitz constant).
        compute_dtype: Dtype of the backbone's arithmetic; for TF32 pass float16, which is as precise.

    Returns:
        Absolute tolerance, `[B, 1, ..., 1]`; axes that are not in `axes` keep their size.

    Raises:
        ValueError: `gain` is not positive, or infinite.
    """
    if not isinstance(gain, jax.core.Tracer) and not 0 < gain < math.inf:
        raise ValueError(f"gain must be positive and finite, not {gain}")
    y = floating(y)
    a, b = (broadcast(part, y).astype(y.dtype) for part in action.contrast_and_brightness())
    s, largest = _sizes(y, axes if axes is None else tuple(axes))
    eps = float(jnp.finfo(y.dtype).eps)
    eps_compute = float(jnp.finfo(compute_dtype).eps)
    coarse = eps_compute if eps_compute > eps else 0.0
    of_values = (
        ROUNDING_CONSTANT * gain * (eps * (a * s + a * largest + jnp.abs(b)) + coarse * a * s)
    )
    if kind(output) == VALUE and output_action is None:
        return of_values
    varies = a * s > 0
    delta = jnp.where(varies, of_values / jnp.where(varies, a * s, 1), 0)
    if output_action is not None:
        a = broadcast(output_action.contrast_and_brightness()[0], y).astype(y.dtype)
    act = kind(output).act
    return act(delta, a * s, 0.0) - act(0 * delta, a * s, 0.0)


def explanation(
    f: Callable[[Array], Any],
    y: Array,
    *,
    excess: float,
    gain: float,
    exact: bool,
    relative: float = 1.0,
) -> str:
    """The likely cause of a violation, for an assertion's message; "" if it is too large for rounding.

    Args:
        f: The map.
        y: The array on which it was checked.
        excess: The violation divided by its tolerance.
        gain: The gain in the tolerance.
        exact: Whether f(2 y) = 2 f(y) holds bit for bit. It does if the violation is due to rounding only.
        relative: The violation divided by the largest value of the output.
    """
    amplified = exact and relative < RELATIVE_ROUNDING and excess < math.inf
    if not (excess < LOOKS_LIKE_ROUNDING or amplified):
        return ""
    if not exact:
        return (
            f"\nThis is {excess:.2g} times what rounding allows, and it is not rounding: f(2 y) also differs "
            "from 2 f(y), although doubling causes no rounding"
        )
    coarse = computes_in(f, y)
    if coarse is None:
        remedy = f"gain={_rounded_up(excess * gain):g} would allow it"
    else:
        remedy = f"the map computes in {coarse}, which compute_dtype=jnp.{coarse} would allow"
    return f"\nThis looks like rounding, {excess:.3g} times what is allowed: {remedy}"


def computes_in(f: Callable[[Array], Any], y: Array) -> str | None:
    """The coarsest floating-point type in the program of a map, if it is coarser than float32."""
    try:
        program = str(jax.make_jaxpr(f)(y))
    except Exception:  # unknown for a map that cannot be traced
        return None
    if ":bf16[" in program:
        return "bfloat16"
    # By default accelerators multiply float32 matrices in TF32 or bfloat16.
    multiplies = "conv_general_dilated" in program or "dot_general" in program
    rounded = multiplies and jax.default_backend() != "cpu"
    return "float16" if ":f16[" in program or rounded else None


def _rounded_up(number: float) -> float:
    """Round up to one significant digit."""
    power = 10.0 ** int(jnp.floor(jnp.log10(number)))
    return float(jnp.ceil(number / power) * power)
