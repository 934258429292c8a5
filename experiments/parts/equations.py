r"""The heat equation and Burgers' equation on a circle, by finite differences, and their surrogates.

$$u_t = \nu\, u_{xx}, \qquad u_t + u\,u_x = \nu\, u_{xx}, \qquad x \in [0, 2\pi) \text{, periodic}$$

Fields are maps of one row, `[B, 1, N, 1]`, so that the actions of `wne_jax.symmetry` apply to them. N is odd:
only then do translations by fractions of the spacing form a group.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments.parts.pairs import AUGMENTED_OFFSET, Draw, Pairs, pairs_of
from wne_jax.statistics import mean_std
from wne_jax.symmetry import Action, Offset, Translation

LENGTH = 2 * np.pi
POINTS = 81
"""Points of the grid of the surrogates, odd."""

REFINEMENT = 3
"""The grid of the solver has this many times the points, odd."""

VISCOSITY = 0.1
TIME = 1.0
"""The time after which the field is predicted."""

STEPS = 400
"""Time steps of the solver. They are stable for fields below 20."""

WAVES = 4
"""The shortest wave of an initial field is this fraction of the circle."""


def heat(u: Array, spacing: float, viscosity: float) -> Array:
    """The time derivative of the heat equation, with central differences of order 4."""
    one, two = (jnp.roll(u, n, -2) + jnp.roll(u, -n, -2) for n in (1, 2))
    return viscosity * (16 * one - two - 30 * u) / (12 * spacing**2)


def burgers(u: Array, spacing: float, viscosity: float) -> Array:
    """The time derivative of Burgers' equation, with central differences of order 4."""
    flux = jnp.square(u) / 2
    one, two = (jnp.roll(flux, -n, -2) - jnp.roll(flux, n, -2) for n in (1, 2))
    return heat(u, spacing, viscosity) - (8 * one - two) / (12 * spacing)


Equation = Callable[[Array, float, float], Array]

EQUATIONS: dict[str, Equation] = {"heat": heat, "Burgers": burgers}


@partial(jax.jit, static_argnums=0, static_argnames="steps")
def solve(
    equation: Equation, u: Array, *, viscosity: float, time: float, steps: int = STEPS
) -> Array:
    """The field at a later time, by the Runge-Kutta method of order 4.

    Args:
        equation: The time derivative.
        u: The initial fields, `[..., N, 1]` on the points 2 pi i / N.
        viscosity: The coefficient of the second derivative.
        time: The later time.
        steps: Number of time steps.
    """
    dt, spacing = time / steps, LENGTH / u.shape[-2]

    def step(u: Array, _: None) -> tuple[Array, None]:
        rate = partial(equation, spacing=spacing, viscosity=viscosity)
        k1 = rate(u)
        k2 = rate(u + dt / 2 * k1)
        k3 = rate(u + dt / 2 * k2)
        k4 = rate(u + dt * k3)
        return u + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jax.lax.scan(step, u, None, length=steps)[0]


def initial_fields(key: Array, number: int) -> Array:
    """Random fields of mean 0 on the solver's grid, whose strength varies from 0.5 to 1.5."""
    key_waves, key_strength = jax.random.split(key)
    x = LENGTH * np.arange(POINTS * REFINEMENT) / (POINTS * REFINEMENT)
    angles = np.arange(1, WAVES + 1)[:, None] * x
    basis = jnp.asarray(np.concatenate([np.cos(angles), np.sin(angles)]), jnp.float32)
    waves = jax.random.normal(key_waves, (number, 2 * WAVES)) / np.sqrt(WAVES)
    strength = jax.random.uniform(key_strength, (number, 1), minval=0.5, maxval=1.5)
    return (strength * waves @ basis)[:, None, :, None]


def solved(equation: Equation, u: Array) -> Pairs:
    """Initial fields of the solver's grid and their later fields, on the surrogates' grid."""
    later = solve(equation, u, viscosity=VISCOSITY, time=TIME)
    return pairs_of(u[:, :, ::REFINEMENT], later[:, :, ::REFINEMENT])


def random_fields(fields: Pairs, *, batch: int = 32) -> Draw:
    """Batches of solved fields."""

    def draw(key: Array) -> Pairs:
        chosen = (jax.random.uniform(key, (batch,)) * len(fields.x)).astype(jnp.int32)
        return pairs_of(fields.x[chosen], fields.y[chosen])

    return draw


def boost(speed: Array | float) -> Action:
    """The action on the later field when a speed is added to the initial field of Burgers' equation.

    The later field moves with this speed, and has it added: u(x - c t, t) + c.

    Args:
        speed: The speed c, a scalar or `[B]`.
    """
    return Offset(speed) @ Translation(dx=speed * (TIME * POINTS / LENGTH))


def boosted(draw: Draw, key: Array) -> Pairs:
    """A batch at random speeds: the augmentation by the Galilean group."""
    key_pairs, key_speed = jax.random.split(key)
    x, y, _ = draw(key_pairs)
    speed = jax.random.uniform(
        key_speed, x.shape[:1], minval=-AUGMENTED_OFFSET, maxval=AUGMENTED_OFFSET
    )
    return pairs_of(Offset(speed)(x), boost(speed)(y))


class Galilean(nn.Module):
    """A surrogate of Burgers' equation that commutes with Galilean boosts: f(u + c) = boost(c)(f(u)).

    The backbone works in the frame in which the mean speed is 0.

    Attributes:
        backbone: The module inside.
    """

    backbone: nn.Module

    @nn.compact
    def __call__(self, u: Array) -> Array:
        """Remove the mean, predict, and restore it by a boost."""
        mean = mean_std(u).location[:, 0, 0, 0]
        return boost(mean)(self.backbone(Offset(-mean)(u)))


class FourierOperator(nn.Module):
    """A small Fourier neural operator on fields `[B, 1, N, C]`.

    It commutes with shifts by whole points, since it does not know the coordinates.

    Attributes:
        depth: Number of layers.
        features: Number of channels inside.
        modes: Number of frequencies that a layer mixes.

    References:
        Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", 2021.
    """

    depth: int = 3
    features: int = 16
    modes: int = 12

    @nn.compact
    def __call__(self, u: Array) -> Array:
        """Predict the later field."""
        h = nn.Dense(self.features)(u)
        for i in range(self.depth):
            h = h + nn.gelu(nn.Dense(self.features)(h) + self._spectral(h, f"spectral_{i}"))
        return u + nn.Dense(u.shape[-1], kernel_init=nn.initializers.zeros)(h)

    def _spectral(self, h: Array, name: str) -> Array:
        """Multiply the lowest frequencies by learned complex matrices."""
        shape = (2, self.modes, self.features, self.features)
        real, imaginary = self.param(name, nn.initializers.normal(1 / self.features), shape)
        points = h.shape[2]
        angles = 2 * np.pi / points * np.outer(np.arange(points), np.arange(self.modes))
        cosine, sine = (jnp.asarray(part, h.dtype) for part in (np.cos(angles), np.sin(angles)))
        a, b = (jnp.einsum("bhni,nk->bhki", h, part) / points for part in (cosine, sine))
        mix = partial(jnp.einsum, "bhki,kio->bhko")
        even, odd = mix(a, real) + mix(b, imaginary), mix(b, real) - mix(a, imaginary)
        restore = partial(jnp.einsum, "bhko,nk->bhno")
        return restore(even, cosine) + restore(odd, sine)
