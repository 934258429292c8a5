r"""How a group acts on images.

An action is a callable object: `Affine(a=2.0, b=0.1)(y)`. Actions compose with `@` (right to left, like the
maps that they are) and invert with `.inverse()`. Parameters are scalars or `[B]`, one for each instance, and
may be traced. All are pytrees.

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

Parameter = Array | np.ndarray | float
"""A scalar, or `[B]` for one value an instance."""


class Action:
    """A transformation of images `[B, ..., C]`."""

    def __call__(self, y: ArrayLike) -> Array:
        """Act on `y`; shape is kept."""
        raise TypeError("Action is a base class: use Affine, Shift or Translation")

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Action":
        """The inverse action, on arrays of `shape` where that matters.

        Raises:
            ValueError: The action has no inverse.
        """
        raise TypeError("Action is a base class: use Affine, Shift or Translation")

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """The `a` and `b` by which values change, 1 and 0 where only their places do."""
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

    def inverse(self, shape: tuple[int, ...] | None = None) -> Action:
        """The inverses in the opposite order."""
        return self.inner.inverse(shape) @ self.outer.inverse(shape)

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """Those of the two, composed."""
        (a1, b1), (a2, b2) = (part.contrast_and_brightness() for part in (self.outer, self.inner))
        return a1 * a2, a1 * b2 + b1


@struct.dataclass
class Affine(Action):
    """Contrast and brightness: a y + b.

    Attributes:
        a: Contrast, positive: scalar or `[B]`.
        b: Brightness, in the units of `y`: scalar or `[B]`.

    Example:
        >>> T = Affine(2.0, 1.0) @ Affine(3.0, 0.5)
        >>> T.a, T.b
        (6.0, 2.0)
        >>> float(T.inverse()(T(jnp.array([[5.0]])))[0, 0])
        5.0
    """

    a: Parameter = 1.0
    b: Parameter = 0.0

    def __call__(self, y: ArrayLike) -> Array:
        """Return a y + b."""
        _require(self.a, lambda a: a > 0, "a must be positive")
        y = jnp.asarray(y)
        return _per_instance(self.a, y) * y + _per_instance(self.b, y)

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Affine":
        """Affine(1 / a, -b / a)."""
        return Affine(1 / self.a, -self.b / self.a)

    def contrast_and_brightness(self) -> tuple[Parameter, Parameter]:
        """`(a, b)`."""
        return self.a, self.b

    def __matmul__(self, other: Action) -> Action:
        """Two affine actions make one."""
        if isinstance(other, Affine):
            return Affine(self.a * other.a, self.a * other.b + self.b)
        return super().__matmul__(other)


def Scale(a: Parameter) -> Affine:
    """Contrast alone: a y."""
    return Affine(a, 0.0)


def Offset(b: Parameter) -> Affine:
    """Brightness alone: y + b."""
    return Affine(1.0, b)


@struct.dataclass
class Shift(Action):
    """Circular shift by whole pixels, down by `dy` and right by `dx`; any size is taken modulo the map's.

    Attributes:
        dy: Rows, integer: scalar or `[B]`.
        dx: Columns, integer: scalar or `[B]`.
    """

    dy: Parameter = 0
    dx: Parameter = 0

    def __call__(self, y: ArrayLike) -> Array:
        """Return the shifted array."""
        y = _spatial(y)
        for name, value in (("dy", self.dy), ("dx", self.dx)):
            if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
                raise TypeError(f"Shift moves by whole pixels, {name} = {value}: use Translation")

        def roll(image: Array, dy: Array, dx: Array) -> Array:
            return jnp.roll(jnp.roll(image, dy, axis=-3), dx, axis=-2)

        return jax.vmap(roll)(y, _batch(self.dy, y), _batch(self.dx, y))

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Shift":
        """The shift back."""
        return Shift(-self.dy, -self.dx)

    def __matmul__(self, other: Action) -> Action:
        """Two shifts make one."""
        if isinstance(other, Shift):
            return Shift(self.dy + other.dy, self.dx + other.dx)
        return super().__matmul__(other)


@struct.dataclass
class Translation(Action):
    r"""Circular translation by any distance: sinc interpolation, a phase ramp on the spectrum.

    At frequency $\omega$ (radians a pixel) the factor is $e^{-i \omega d}$. A real map of *even* size has one
    frequency, Nyquist's, whose phase no real map can carry: there the result is real-valued and the factor
    is $\cos(\pi d)$. A sub-pixel translation of an even size is therefore not invertible, nor do
    two of them compose to one; on odd sizes, and for whole pixels on any, translations form a group.

    Attributes:
        dy: Rows, real: scalar or `[B]`.
        dx: Columns, real: scalar or `[B]`.

    References:
        Scanvic, Barthélemy & Tachella 2025, section 2.
    """

    dy: Parameter = 0.0
    dx: Parameter = 0.0

    def __call__(self, y: ArrayLike) -> Array:
        """Return the translated array, in floating point (float32, or float64 for float64)."""
        y = _spatial(y)
        y = y.astype(at_least_float32(y.dtype))
        return _translate(_translate(y, self.dy, axis=y.ndim - 3), self.dx, axis=y.ndim - 2)

    def inverse(self, shape: tuple[int, ...] | None = None) -> "Translation":
        """The translation back, where there is one.

        Args:
            shape: Shape `[B, ..., H, W, C]` of the arrays; not needed for whole pixels.

        Raises:
            ValueError: A sub-pixel distance along an axis of even size, or of unknown size.
        """
        for name, distance, axis in (("dy", self.dy, -3), ("dx", self.dx, -2)):
            whole = not isinstance(distance, jax.core.Tracer) and np.all(np.mod(distance, 1) == 0)
            if whole:
                continue
            if shape is None:
                raise ValueError(
                    f"give the shape: a sub-pixel {name} = {distance} has an inverse on odd sizes only"
                )
            if shape[axis] % 2 == 0:
                raise ValueError(
                    f"Translation with sub-pixel {name} = {distance} has no inverse on the even size "
                    f"{shape[axis]}: its Nyquist bin is damped by cos(pi d)"
                )
        return Translation(-self.dy, -self.dx)


def _translate(y: Array, distance: Parameter, *, axis: int) -> Array:
    """Translate along one axis by a scalar or `[B]` distance."""
    size = y.shape[axis]
    spectrum = jnp.fft.rfft(y, axis=axis)
    bins = np.arange(size // 2 + 1).reshape([-1 if i == axis else 1 for i in range(y.ndim)])
    whole_turns_removed = jnp.mod(_per_instance(distance, y), size)
    angle = whole_turns_removed * jnp.asarray(2 * np.pi / size * bins, y.dtype)
    phase = jax.lax.complex(jnp.cos(angle), -jnp.sin(angle))
    # irfft drops the imaginary part of the Nyquist bin, which leaves cos(pi d) there.
    return jnp.fft.irfft(spectrum * phase, n=size, axis=axis)


def _batch(parameter: Parameter, y: Array) -> Array:
    """A scalar or `[B]` parameter as `[B]`."""
    parameter = jnp.asarray(parameter)
    if parameter.shape not in ((), (1,), (y.shape[0],)):
        raise ValueError(
            f"a parameter must be a scalar or [B] = [{y.shape[0]}], not of shape {parameter.shape}"
        )
    return jnp.broadcast_to(parameter, y.shape[:1])


def _per_instance(parameter: Parameter, y: Array) -> Array:
    """A scalar or `[B]` parameter, shaped to multiply `y`, in floating point."""
    dtype = y.dtype if jnp.issubdtype(y.dtype, jnp.floating) else jnp.float32
    return _batch(parameter, y).astype(dtype).reshape((-1,) + (1,) * (y.ndim - 1))


def _spatial(y: ArrayLike) -> Array:
    """`y` as an array `[B, ..., H, W, C]`, or an error."""
    y = jnp.asarray(y)
    if y.ndim < 4:
        raise ValueError(
            f"this action moves along H and W of [B, ..., H, W, C]; got shape {y.shape}"
        )
    return y


def _require(value: Parameter, condition, message: str) -> None:
    """Check a concrete parameter; a traced one passes."""
    if not isinstance(value, jax.core.Tracer) and not np.all(condition(np.asarray(value))):
        raise ValueError(f"{message}; got {value}")
