r"""How a group acts on images.

An action is a callable pytree: `Affine(a=2.0, b=0.1)(y)`. Actions compose with `@`, from right to left, and
invert with `.inverse()`. Parameters are scalars or `[B]` (one value per instance), and may be traced.
Contrast and brightness may also be arrays that broadcast to `[B, 1, ..., C]` (one value per channel).

`T.on(h, "variance")` is the action of T on an output that follows its input as a variance; see
`wne_jax.outputs` for the kinds of outputs.

| action | acts on | formula |
|---|---|---|
| `Affine(a, b)` | `[B, ...]` | $a y + b$, $a > 0$ |
| `Scale(a)`, `Offset(b)` | `[B, ...]` | its subgroups $a y$ and $y + b$ |
| `Shift(dy, dx)` | `[B, ..., H, W, C]` | circular, by whole pixels |
| `Translation(dy, dx)` | `[B, ..., H, W, C]` | circular, by any distance: a phase ramp on the spectrum |
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.outputs import Kind, kind

Parameter = Array | np.ndarray | float
"""A scalar, or `[B]` for one value per instance; for contrast and brightness also `[B, 1, ..., C]`."""


class Action:
    """A transformation of images `[B, ..., C]`."""

    @property
    def moves(self) -> bool:
        """Whether it moves pixels, and does not only change their values."""
        return True

    def __call__(self, y: ArrayLike) -> Array:
        """Act on `y`, keeping its shape."""
        raise TypeError("Action is a base class: use Affine, Shift or Translation")

    def on(self, h: ArrayLike, output: str | Kind = "value") -> Array:
        """Act on an output of a kind of `wne_jax.outputs`."""
        return self(h)

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Action":
        """The inverse action on arrays of `shape`; only translations need the shape.

        Raises:
            ValueError: The action has no inverse.
        """
        raise TypeError("Action is a base class: use Affine, Shift or Translation")

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """The change of values, contrast `a` and brightness `b`; 1 and 0 if only pixels move."""
        return 1.0, 0.0

    def __matmul__(self, other: "Action") -> "Action":
        """The composition: `(self @ other)(y) = self(other(y))`."""
        return Composition(self, other)


@struct.dataclass
class Composition(Action):
    """`outer` after `inner`; written `outer @ inner`."""

    outer: Action
    inner: Action

    def __call__(self, y: ArrayLike) -> Array:
        """Act with `inner`, then with `outer`."""
        return self.outer(self.inner(y))

    def on(self, h: ArrayLike, output: str | Kind = "value") -> Array:
        """Act with `inner`, then with `outer`, on an output."""
        return self.outer.on(self.inner.on(h, output), output)

    @property
    def moves(self) -> bool:
        """Whether one of the two moves pixels."""
        return self.outer.moves or self.inner.moves

    def inverse(self, shape: tuple[int, ...] | None = None) -> Action:
        """The inverses in reverse order."""
        return self.inner.inverse(shape) @ self.outer.inverse(shape)

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """The composed contrast and brightness."""
        parts = (part.contrast_and_brightness() for part in (self.outer, self.inner))
        return _composed(*parts)


@struct.dataclass
class Affine(Action):
    """Contrast and brightness: a y + b.

    Attributes:
        a: Contrast, positive: a scalar, `[B]`, or an array of the rank of `y`, for example `[B, 1, ..., C]`.
        b: Brightness, in the units of `y`; shapes as for `a`.

    Example:
        >>> T = Affine(2.0, 1.0) @ Affine(3.0, 0.5)
        >>> T.a, T.b
        (6.0, 2.0)
        >>> float(T.inverse()(T(jnp.array([[5.0]])))[0, 0])
        5.0
    """

    a: Parameter = 1.0
    b: Parameter = 0.0

    moves = False

    def __call__(self, y: ArrayLike) -> Array:
        """Return a y + b."""
        return self.on(y)

    def on(self, h: ArrayLike, output: str | Kind = "value") -> Array:
        """Act on an output: a h + b for a value, a h for a difference, a^2 h for a variance.

        Example:
            >>> float(Affine(3.0, 1.0).on(jnp.ones((1, 1)), "variance")[0, 0])
            9.0
        """
        _require(self.a, lambda a: a > 0, "a must be positive")
        h = jnp.asarray(h)
        if kind(output).any_shape:
            return kind(output).act(h, self.a, self.b)
        return kind(output).act(h, broadcast(self.a, h), broadcast(self.b, h))

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Affine":
        """Affine(1 / a, -b / a)."""
        a, b = _aligned(self.a, self.b)
        return Affine(1 / self.a, -b / a)

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """`(a, b)`."""
        return self.a, self.b

    def __matmul__(self, other: Action) -> Action:
        """Compose; two affine actions make one."""
        if isinstance(other, Affine):
            return Affine(*_composed((self.a, self.b), (other.a, other.b)))
        return super().__matmul__(other)


def Scale(a: Parameter) -> Affine:
    """Contrast only: a y."""
    return Affine(a, 0.0)


def Offset(b: Parameter) -> Affine:
    """Brightness only: y + b."""
    return Affine(1.0, b)


@struct.dataclass
class Shift(Action):
    """Circular shift by whole pixels, down by `dy` and right by `dx`, modulo the size of the map.

    Attributes:
        dy: Number of rows, integer: a scalar or `[B]`.
        dx: Number of columns, integer: a scalar or `[B]`.
    """

    dy: Parameter = 0
    dx: Parameter = 0

    def __call__(self, y: ArrayLike) -> Array:
        """Return the shifted array."""
        y = _spatial(y)
        for name, value in (("dy", self.dy), ("dx", self.dx)):
            if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
                raise TypeError(f"Shift needs whole pixels, not {name} = {value}; use Translation")
        return _roll(y, self.dy, self.dx)

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Shift":
        """The opposite shift."""
        return Shift(-self.dy, -self.dx)

    def __matmul__(self, other: Action) -> Action:
        """Compose; two shifts make one."""
        if isinstance(other, Shift):
            return Shift(self.dy + other.dy, self.dx + other.dx)
        return super().__matmul__(other)


@struct.dataclass
class Translation(Action):
    r"""Circular translation by any distance, by sinc interpolation (a phase ramp on the spectrum).

    At frequency $\omega$ (radians per pixel) the factor is $e^{-i \omega d}$. A real map of *even* size
    cannot carry the phase of the Nyquist frequency; there the factor is the real part, $\cos(\pi d)$. So on
    even sizes, sub-pixel translations are not invertible, and two of them do not compose to one. Translations
    form a group on odd sizes, and for whole pixels on any size.

    Attributes:
        dy: Number of rows, real: a scalar or `[B]`.
        dx: Number of columns, real: a scalar or `[B]`.

    References:
        Scanvic, Barthélemy & Tachella 2025, section 2.
    """

    dy: Parameter = 0.0
    dx: Parameter = 0.0

    def __call__(self, y: ArrayLike) -> Array:
        """Return the translated array, in float32, or in float64 for float64."""
        y = _spatial(y)
        y = y.astype(at_least_float32(y.dtype))
        return _translate(y, self.dy, self.dx)

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Translation":
        """The opposite translation, if it is the inverse.

        Args:
            shape: Shape `[B, ..., H, W, C]` of the arrays; not needed for whole pixels.

        Raises:
            ValueError: A sub-pixel distance along an axis of even or unknown size.
        """
        for name, distance, axis in (("dy", self.dy, -3), ("dx", self.dx, -2)):
            whole = not isinstance(distance, jax.core.Tracer) and np.all(np.mod(distance, 1) == 0)
            if whole:
                continue
            if shape is None:
                raise ValueError(
                    f"pass shape: a sub-pixel {name} = {distance} has an inverse on odd sizes only"
                )
            if shape[axis] % 2 == 0:
                raise ValueError(
                    f"Translation with sub-pixel {name} = {distance} has no inverse on the even size "
                    f"{shape[axis]}: its Nyquist bin is damped by cos(pi d)"
                )
        return Translation(-self.dy, -self.dx)


@jax.jit
def _roll(y: Array, dy: Parameter, dx: Parameter) -> Array:
    """Shift each instance along H and W."""

    def roll(image: Array, dy: Array, dx: Array) -> Array:
        return jnp.roll(jnp.roll(image, dy, axis=-3), dx, axis=-2)

    return jax.vmap(roll)(y, _batch(dy, y), _batch(dx, y))


@jax.jit
def _translate(y: Array, dy: Parameter, dx: Parameter) -> Array:
    """Translate along H and W by scalar or `[B]` distances."""
    return _translate_along(_translate_along(y, dy, axis=y.ndim - 3), dx, axis=y.ndim - 2)


def _translate_along(y: Array, distance: Parameter, *, axis: int) -> Array:
    """Translate along one axis by a scalar or `[B]` distance."""
    size = y.shape[axis]
    spectrum = jnp.fft.rfft(y, axis=axis)
    bins = np.arange(size // 2 + 1).reshape([-1 if i == axis else 1 for i in range(y.ndim)])
    whole_turns_removed = jnp.mod(_per_instance(distance, y), size)
    angle = whole_turns_removed * jnp.asarray(2 * np.pi / size * bins, y.dtype)
    phase = jax.lax.complex(jnp.cos(angle), -jnp.sin(angle))
    # irfft drops the imaginary part of the Nyquist bin, so its factor is cos(pi d).
    return jnp.fft.irfft(spectrum * phase, n=size, axis=axis)


def broadcast(parameter: Parameter, y: Array) -> Array:
    """Reshape a contrast or brightness so that it broadcasts to `y`, in floating point.

    Args:
        parameter: A scalar, `[B]`, or an array of the rank of `y` that broadcasts to its shape.
        y: Array `[B, ..., C]`.

    Raises:
        ValueError: The parameter has another shape.
    """
    shape = jnp.shape(parameter)
    if len(shape) < 2:
        return _per_instance(parameter, y)
    if len(shape) != y.ndim or any(m not in (1, n) for m, n in zip(shape, y.shape)):
        raise ValueError(f"a parameter of shape {shape} does not broadcast to shape {y.shape}")
    return jnp.asarray(parameter).astype(_floating_dtype(y))


def _aligned(first: Parameter, second: Parameter) -> tuple[Parameter, Parameter]:
    """Reshape two parameters to broadcast against each other: `[B]` becomes `[B, 1, ..., 1]` if needed."""
    rank = max(jnp.ndim(first), jnp.ndim(second))

    def shaped(p: Parameter) -> Parameter:
        return jnp.reshape(p, (-1,) + (1,) * (rank - 1)) if jnp.ndim(p) == 1 < rank else p

    return shaped(first), shaped(second)


def _composed(
    outer: tuple[Parameter, Parameter], inner: tuple[Parameter, Parameter]
) -> tuple[Parameter, Parameter]:
    """Contrast and brightness of two affine changes, one after the other."""
    a, c = _aligned(outer[0], inner[0])
    e, d = _aligned(outer[0], inner[1])
    moved, b = _aligned(e * d, outer[1])
    return a * c, moved + b


def _floating_dtype(y: Array) -> jnp.dtype:
    """The dtype of `y`, or float32 for integers."""
    return y.dtype if jnp.issubdtype(y.dtype, jnp.floating) else jnp.dtype(jnp.float32)


def _batch(parameter: Parameter, y: Array) -> Array:
    """Broadcast a scalar or `[B]` parameter to `[B]`."""
    parameter = jnp.asarray(parameter)
    if parameter.shape not in ((), (1,), (y.shape[0],)):
        raise ValueError(
            f"a parameter must be a scalar or [B] = [{y.shape[0]}], not of shape {parameter.shape}"
        )
    return jnp.broadcast_to(parameter, y.shape[:1])


def _per_instance(parameter: Parameter, y: Array) -> Array:
    """Reshape a scalar or `[B]` parameter to multiply `y`, in floating point."""
    return _batch(parameter, y).astype(_floating_dtype(y)).reshape((-1,) + (1,) * (y.ndim - 1))


def _spatial(y: ArrayLike) -> Array:
    """Return `y` as an array `[B, ..., H, W, C]`, or raise an error."""
    y = jnp.asarray(y)
    if y.ndim < 4:
        raise ValueError(
            f"this action needs H and W: y must be [B, ..., H, W, C]; its shape is {y.shape}"
        )
    return y


def _require(value: Parameter, condition, message: str) -> None:
    """Check a concrete parameter; a traced one is not checked."""
    if not isinstance(value, jax.core.Tracer) and not np.all(condition(np.asarray(value))):
        raise ValueError(f"{message}; got {value}")
