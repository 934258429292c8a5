r"""A report on one model: every identity of a normalization-equivariant map, measured.

The measures are in `wne_jax.symmetry.equivariance`. Here they are evaluated over decades of contrast and
brightness, and compared with the symmetry that the model claims and with the rounding tolerance.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from wne_jax.protocol import Symmetry
from wne_jax.symmetry import equivariance
from wne_jax.symmetry.actions import Affine
from wne_jax.symmetry.equivariance import Map, relative_l2
from wne_jax.symmetry.rounding import ROUNDING_CONSTANT, rounding_tolerance

CONTRASTS = (1e-3, 1e-2, 0.1, 3.0, 30.0, 1e3)
"""The values of a to test."""

OFFSETS = (-10.0, -1.0, -0.1, 0.01, 0.3, 3.0)
"""The values of b to test, in standard deviations of the transformed image."""

_ORDER = ("none", "scale", "normalization")
_SIGMA = 25 / 255


@dataclass(frozen=True)
class Defects:
    """Relative L2 defects over images and actions, and the largest one divided by its rounding tolerance."""

    mean: float
    worst: float
    excess: float

    @property
    def holds(self) -> bool:
        """Whether all defects are within the rounding tolerance."""
        return self.excess <= 1


@dataclass(frozen=True)
class Report:
    """The results of `measure`.

    Attributes:
        claim: The symmetry that the model claims.
        scale: Defects of f(a y) = a f(y).
        offset: Defects of f(y + b) = f(y) + b.
        affine: Defects of f(a y + b) = a f(y) + b.
        powers_of_two: Whether f(2^k y) = 2^k f(y), bit for bit.
        constants: Whether f(c) = c for constant images c.
        euler: ||f(y) - J(y) y|| / ||f(y)|| for the worst image; 0 for a scale-equivariant model.
        row_sums: The largest distance of a row sum of J(y) from 1; 0 for a normalization-equivariant model.
    """

    claim: Symmetry
    scale: Defects
    offset: Defects
    affine: Defects
    powers_of_two: bool
    constants: bool
    euler: float
    row_sums: float

    @property
    def found(self) -> Symmetry:
        """The symmetry that the defects show."""
        if not self.scale.holds:
            return "none"
        return "normalization" if self.offset.holds and self.affine.holds else "scale"

    @property
    def kept(self) -> bool:
        """Whether the model has the symmetry that it claims."""
        return _ORDER.index(self.found) >= _ORDER.index(self.claim)

    def __str__(self) -> str:
        """A table and the verdict."""
        rows = [
            ("f(a y) = a f(y)", self.scale),
            ("f(y + b) = f(y) + b", self.offset),
            ("f(a y + b) = a f(y) + b", self.affine),
        ]
        lines = [f"{'identity':<28}{'mean':>10}{'worst':>10}   holds to rounding"]
        for name, defects in rows:
            numbers = f"{defects.mean:>10.1e}{defects.worst:>10.1e}"
            lines.append(f"{name:<28}{numbers}   {_yes(defects.holds)}")
        lines += [
            f"{'||f - J y|| / ||f||':<28}{'':>10}{self.euler:>10.1e}",
            f"{'|row sums of J - 1|':<28}{'':>10}{self.row_sums:>10.1e}",
            f"{'powers of two, bit for bit':<28}{'':>20}   {_yes(self.powers_of_two)}",
            f"{'constants are kept':<28}{'':>20}   {_yes(self.constants)}",
            f"claims {self.claim}, measured {self.found}: {'kept' if self.kept else 'broken'}",
        ]
        return "\n".join(lines)


def measure(
    f: Callable[..., Array],
    *,
    claim: Symmetry,
    channels: int = 1,
    conditioned: bool = False,
    ndim: int = 2,
    size: int = 64,
    seed: int = 0,
    compute_dtype: DTypeLike = jnp.float32,
) -> Report:
    r"""Measure the identities of a model on two noisy test images.

    Defects are compared with `rounding_tolerance`, whose gain is estimated from how much the model changes an
    image. Matrix products use full float32 precision, also on accelerators.

    Args:
        f: A map f32[B, H, W, C] -> the same; called as `f(y, sigma)`, sigma f32[B], if it is conditioned.
        claim: The symmetry that the model claims: "normalization", "scale" or "none".
        channels: Number of channels of its input.
        conditioned: Whether it takes the noise level. If so, sigma is scaled with the contrast of the images,
            and the identity is f(a y + b, a sigma) = a f(y, sigma) + b.
        ndim: Number of spatial axes of the test images: 2, or 3 for volumes f32[B, D, H, W, C].
        size: Sides of the test images.
        seed: Seed of the test images.
        compute_dtype: Dtype of the model's arithmetic, if coarser than float32.

    Returns:
        The report; printing it gives a table.

    Raises:
        ValueError: An unknown claim, a size below 1, or an f that does not keep the shape.

    Example:
        >>> print(measure(lambda y: y / 2, claim="normalization").found)
        scale
    """
    if claim not in _ORDER:
        raise ValueError(f"claim must be one of {', '.join(_ORDER)}, not {claim!r}")
    if size < 1:
        raise ValueError(f"size must be 1 or more, not {size}")
    y = _test_images((size,) * ndim, channels, seed)
    g = jax.jit(_following(f, y) if conditioned else f)
    with jax.default_matmul_precision("highest"):
        value = g(y)
        if value.shape != y.shape:
            raise ValueError(
                f"f must keep the shape of images: it returned {value.shape} for {y.shape}"
            )
        spread = np.std(y, axis=tuple(range(1, y.ndim)), keepdims=True)
        gain = float(4 + np.max(np.abs(value - y) / np.maximum(spread, 1e-6)))

        def defects(actions: Iterable[Affine]) -> Defects:
            return _defects(g, list(actions), y, gain, compute_dtype)

        s = jnp.asarray(spread.ravel())
        norm = jnp.linalg.norm(value.reshape(2, -1), axis=1)
        residual = jnp.linalg.norm(equivariance.euler_residual(g, y).reshape(2, -1), axis=1)
        return Report(
            claim=claim,
            scale=defects(Affine(a, 0.0) for a in CONTRASTS),
            offset=defects(Affine(1.0, b * s) for b in OFFSETS),
            affine=defects(Affine(a, b * a * s) for a, b in zip(CONTRASTS, OFFSETS)),
            powers_of_two=_exact_under_powers_of_two(g, y),
            constants=_keeps_constants(g, y, gain),
            euler=float(jnp.max(residual / (norm + 1e-6))),
            row_sums=float(jnp.max(jnp.abs(equivariance.row_sums(g, y) - 1))),
        )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _test_images(sides: tuple[int, ...], channels: int, seed: int) -> Array:
    """Two smooth random images in unit range with noise, f32[2, *sides, channels]."""
    rng = np.random.default_rng(seed)
    smooth = rng.uniform(0.1, 0.9, (2, *(-(-side // 8) for side in sides), channels))
    for axis, side in enumerate(sides, start=1):
        smooth = smooth.repeat(8, axis=axis).take(range(side), axis=axis)
    return jnp.asarray(smooth + rng.normal(0, _SIGMA, smooth.shape), jnp.float32)


def _following(f: Callable[..., Array], y: Array) -> Map:
    """A conditioned map as a map of the image only, with sigma proportional to the image's range."""

    def contrast(image: Array) -> Array:
        return jnp.ptp(image, axis=tuple(range(1, image.ndim)))

    reference = contrast(y)
    return lambda image: f(image, _SIGMA * contrast(image) / reference)


def _defects(
    f: Map, actions: list[Affine], y: Array, gain: float, compute_dtype: DTypeLike
) -> Defects:
    relative, excess = [], []
    value = f(y)
    for action in actions:
        actual, expected = f(action(y)), action(value)
        allowed = rounding_tolerance(action, y, gain=gain, compute_dtype=compute_dtype)
        relative.append(np.asarray(relative_l2(actual, expected)))
        excess.append(np.max(np.abs(actual - expected) / allowed))
    return Defects(float(np.mean(relative)), float(np.max(relative)), float(np.max(excess)))


def _exact_under_powers_of_two(f: Map, y: Array) -> bool:
    try:
        equivariance.assert_exact_under_powers_of_two(f, y, exponents=(-20, -7, -1, 1, 8, 20))
    except AssertionError:
        return False
    return True


def _keeps_constants(f: Map, y: Array, gain: float) -> bool:
    eps = float(np.finfo(np.float32).eps)
    for c in (0.0, 0.3, -7.0, 1000.0):
        allowed = ROUNDING_CONSTANT * gain * eps * abs(c)
        if not np.max(np.abs(f(jnp.full_like(y, c)) - np.float32(c))) <= allowed:
            return False
    return True
