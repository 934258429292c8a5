"""A model and its variables as one compiled map of images."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax._internal.compiler import jit
from wne_jax.inference.ensemble import self_ensembled
from wne_jax.inference.few_shapes import zeros_beyond
from wne_jax.protocol import TakesSigma
from wne_jax.statistics import Statistics, fixed, haar_sigma

_TOGETHER = 4
"""Probes of a Jacobian at a time: they share the values of the network, and each needs its memory."""


class CompiledDenoiser:
    """The compiled map f32[B, H, W, C] -> f32[B, H, W, C], of one device, or of some that share the rows."""

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        *,
        conditioned: bool,
        devices: Sequence[jax.Device] = (),
    ):
        self.takes_sigma: TakesSigma | None = "required" if conditioned else None
        self._model = model
        self._number = len(devices)
        self._whole = self._rows = None
        if devices:
            mesh = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
            self._whole = NamedSharding(mesh, PartitionSpec())
            self._rows = NamedSharding(mesh, PartitionSpec(None, "rows"))
        self._variables = self._everywhere(jax.tree.map(jnp.asarray, variables))
        options: dict[str, Any] = {"static_argnames": "self_ensemble", "out_shardings": self._whole}
        self._apply, self._apply_within = (f(self.denoise, **options) for f in (jit, jax.jit))
        self._products = jit(self.jacobian_products, out_shardings=self._whole)

    def __call__(
        self,
        y: ArrayLike,
        sigma: ArrayLike | None = None,
        *,
        stats: Statistics | None = None,
        strength: float = 1.0,
        self_ensemble: bool = False,
        size: np.ndarray | None = None,
        where: ArrayLike | None = None,
    ) -> Array:
        """Denoise.

        Args:
            y: Images f32[B, H, W, C].
            sigma: Noise level in the units of `y`, a scalar or [B].
            stats: Location and scale to use in place of those of `y`.
            strength: Share of the difference to apply.
            self_ensemble: Average over flips and rotations.
            size: i32[2], height and width of the image in the corner of `y`, beyond which nothing counts; for
                a model that declares `pads_zeros`, with `stats` or without a wrapper, and no ensemble.
            where: Mask of known pixels, for a model that takes one; with no ensemble.

        Raises:
            ValueError: A level for a model that takes none, fewer rows than devices, or a model that does not
                return an image.
        """
        y = jnp.asarray(y)
        sides = y.shape[1:3] if self_ensemble else y.shape[1:2]  # an ensemble turns the image
        if any(side < self._number for side in sides):
            raise ValueError(
                f"{min(sides)} rows are too few to divide among {self._number} devices: use fewer"
            )
        sigma = None if sigma is None else jnp.asarray(sigma, jnp.float32)
        arguments = self._everywhere((y, sigma, stats, jnp.float32(strength), size, where))
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        apply = self._apply_within if traced else self._apply
        return apply(self._variables, *arguments, self_ensemble=self_ensemble)

    def denoise(
        self,
        variables: Any,
        y: Array,
        sigma: Array | None,
        stats: Statistics | None,
        strength: Array,
        size: Array | None = None,
        where: Array | None = None,
        *,
        self_ensemble: bool = False,
    ) -> Array:
        """What is compiled; compilers and profilers show its name."""
        y = self._divide(y)
        model: Any = self._model
        options: dict[str, Any] = protocol.mode(model, train=False)
        options |= protocol.masked(model, where)
        how, argument = protocol.takes_sigma(model), protocol.noise_argument(model) or "sigma"
        if sigma is not None and how is None:
            raise ValueError(
                "this model takes no sigma: it is blind; where denoise(x, sigma) is called, pass "
                "lambda x, sigma: f(x)"
            )
        if sigma is not None and how == "statistic":
            model = model.clone(statistics=model.statistics.with_noise(sigma))
        elif sigma is not None:
            options[argument] = sigma
        elif how == "optional":
            options[argument] = haar_sigma(y)  # of the image before it is padded
        if stats is not None:
            model = model.clone(statistics=fixed(stats, like=model.statistics))

        def f(y: Array) -> Array:
            beyond: AbstractContextManager[None] = nullcontext()
            if size is not None:
                beyond = nn.intercept_methods(zeros_beyond(size, y.shape[1]))
            with beyond:
                estimate = model.apply(variables, self._divide(y), **options)
            expected = protocol.output_shape(model, y.shape)
            if (shape := getattr(estimate, "shape", None)) != expected:
                what = f"a {type(estimate).__name__}" if shape is None else f"shape {shape}"
                like = "like its input" if expected == y.shape else "as it declares"
                raise ValueError(
                    f"a Denoiser needs a model that returns an image {like}, {expected}, and this one "
                    f"returned {what}: pick the image, Denoiser(lambda y: model(y)[0])"
                )
            return self._divide(estimate)

        x = self_ensembled(f)(y) if self_ensemble else f(y)
        if x.shape != y.shape:
            return x
        # At 1 the estimate itself, bit for bit.
        return jnp.where(strength == 1, x, y + strength * (x - y))

    def diagonal(
        self,
        y: ArrayLike,
        signs: ArrayLike,
        numbers: ArrayLike,
        sigma: ArrayLike | None = None,
        *,
        stats: Statistics | None = None,
        probes: int,
    ) -> Array:
        """Estimate the diagonal of the Jacobian at y; see `wne_jax.inference.uncertainty`.

        Args:
            y: Images f32[B, H, W, C].
            signs: Signs of the probes, of the same shape.
            numbers: The probe of every entry, of the same shape.
            sigma: As in `__call__`; it counts as a constant, and so do `stats`.
            stats: As in `__call__`.
            probes: Number of probes.
        """
        sigma = None if sigma is None else jnp.asarray(sigma, jnp.float32)
        arguments = self._everywhere(jax.tree.map(jnp.asarray, (y, signs, numbers, sigma, stats)))
        together = math.gcd(probes, _TOGETHER)
        total = jnp.zeros_like(arguments[0])
        for first in range(0, probes, together):  # in a loop of XLA, a CPU would use one thread
            some = self._everywhere(jnp.arange(first, first + together, dtype=jnp.float32))
            total += self._products(self._variables, *arguments, some)
        return total

    def jacobian_products(
        self,
        variables: Any,
        y: Array,
        signs: Array,
        numbers: Array,
        sigma: Array | None,
        stats: Statistics | None,
        some: Array,
    ) -> Array:
        """The sum of v * (J v) over some probes v; compiled."""

        def product(probe: Array) -> Array:
            v = jnp.where(numbers == probe, signs, 0)
            f = partial(self.denoise, variables, sigma=sigma, stats=stats, strength=jnp.float32(1))
            return v * jax.jvp(f, (y,), (v,))[1]

        return jnp.sum(jax.vmap(product)(some), axis=0)

    def _everywhere(self, tree: Any) -> Any:
        """Give every device of the mesh a copy."""
        return tree if self._whole is None else jax.device_put(tree, self._whole)

    def _divide(self, images: Array) -> Array:
        """Say that the rows of images lie on the devices, one part on each."""
        if self._rows is None:
            return images
        return lax.with_sharding_constraint(images, self._rows)
