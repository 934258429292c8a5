r"""Restoration with a denoiser as prior: plug and play, for any linear operator and any denoiser.

The observation of an image x is $y = A x + n$, with white noise n of standard deviation $\sigma$. Two
iterations alternate between the data and a denoiser D, at levels $\sigma_1 > \dots > \sigma_K = \sigma$ that
decrease geometrically:

*Half-quadratic splitting* solves a regularized least-squares problem exactly, then denoises,

$$x_k = \arg\min_x \|A x - y\|^2 + \alpha_k \|x - z_{k-1}\|^2, \quad \alpha_k = \lambda \sigma^2 / \sigma_k^2,
\qquad z_k = D(x_k, \sigma_k).$$

*Proximal gradient descent* takes a gradient step instead, $x_k = z_{k-1} - \eta A^\top (A z_{k-1} - y)$.

The levels are in the units of y. They start at the standard deviation of the first estimate and end at the
given or estimated noise level. So if D is normalization-equivariant, the whole restoration is, too: for an
operator that preserves constants, if y gives x, then $a y + b$ gives $a x + b$.

References:
    Zhang, Li, Zuo, Zhang, Van Gool & Timofte, "Plug-and-play image restoration with deep denoiser prior",
    IEEE TPAMI 2021 (half-quadratic splitting, $\lambda$ = 0.23); Venkatakrishnan, Bouman & Wohlberg,
    "Plug-and-play priors for model based reconstruction", 2013.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.sparse.linalg import cg
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.images import metrics
from wne_jax.operators import Operator
from wne_jax.statistics import estimate_sigma

Denoise = Callable[[Array, Array], Array]
"""A denoiser that takes images `[B, H, W, C]` and their noise levels `[B]`.

`Denoiser.function` is one if `Denoiser.takes_sigma` is set; for a blind f, pass `lambda x, sigma: f(x)`.
"""


class Restoration(NamedTuple):
    """The result of an iteration, for every image of the batch.

    Attributes:
        estimate: `[B, H, W, C]`, not clipped.
        sigma: The given or estimated noise level of the observation, `[B]`.
        residual: Root mean square of A z - y after 0, 1, ... steps, `[K + 1, B]`; in a successful iteration
            it decreases towards `sigma`.
        change: Root mean square of z_k - z_(k-1), `[K, B]`.
        diverged: Whether the final residual is not finite, or larger than both the first one and twice the
            noise level, `[B]`.
        psnr: PSNR of z_k in dB, clipped to [0, 1], `[K + 1, B]`; None without a reference.
    """

    estimate: Array
    sigma: np.ndarray
    residual: np.ndarray
    change: np.ndarray
    diverged: np.ndarray
    psnr: np.ndarray | None


def half_quadratic_splitting(
    denoise: Denoise,
    y: ArrayLike,
    operator: Operator,
    *,
    sigma: ArrayLike | None = None,
    steps: int = 8,
    weight: float = 0.23,
    reference: ArrayLike | None = None,
) -> Restoration:
    r"""Restore by alternating exact least squares and denoising.

    The least-squares problem is solved in Fourier space if the operator is a circular convolution, else by
    conjugate gradients.

    Args:
        denoise: D, called as `denoise(x, sigma)`.
        y: Observations `[B, H', W', C']`, in any units.
        operator: A.
        sigma: Standard deviation of the noise in the units of y, a scalar or `[B]` (default: estimated, see
            `wne_jax.statistics.estimate_sigma`; required for a mosaic or a mask).
        steps: K.
        weight: $\lambda$.
        reference: Clean images in unit range, for the PSNR of every step.

    Returns:
        The result and its history.

    Raises:
        ValueError: The observation is not `[B, H, W, C]`, or an option is out of range.

    Example:
        With the identity as denoiser, the gaps of a mask are filled with the mean of the kept pixels:

        >>> from wne_jax.operators import Mask
        >>> y = jnp.array([1.0, 0.0, 3.0, 0.0]).reshape(1, 2, 2, 1)
        >>> keep = jnp.array([True, False, True, False]).reshape(1, 2, 2, 1)
        >>> found = half_quadratic_splitting(lambda x, sigma: x, y, Mask(keep), sigma=0.1)
        >>> found.estimate.ravel().round(2).tolist()
        [1.0, 2.0, 3.0, 2.0]
    """
    if not weight > 0:
        raise ValueError(f"weight must be above 0, not {weight}")
    fit = partial(_least_squares, operator, jnp.asarray(weight, jnp.float32))
    return _alternate(denoise, y, operator, fit, sigma, steps, reference)


def proximal_gradient(
    denoise: Denoise,
    y: ArrayLike,
    operator: Operator,
    *,
    sigma: ArrayLike | None = None,
    steps: int = 30,
    step_size: float = 1.0,
    reference: ArrayLike | None = None,
) -> Restoration:
    r"""Restore by alternating gradient steps and denoising.

    Args:
        denoise: D, called as `denoise(x, sigma)`.
        y: Observations `[B, H', W', C']`, in any units.
        operator: A.
        sigma: As in `half_quadratic_splitting`.
        steps: K.
        step_size: $\eta$, less than 2 divided by the largest squared singular value of A, which is 1 for
            mosaics, masks, and blurs by positive kernels with sum one.
        reference: As in `half_quadratic_splitting`.

    Returns:
        The result and its history.

    Raises:
        ValueError: The observation is not `[B, H, W, C]`, or an option is out of range.
    """
    if not step_size > 0:
        raise ValueError(f"step_size must be above 0, not {step_size}")
    fit = partial(_gradient_step, operator, jnp.asarray(step_size, jnp.float32))
    return _alternate(denoise, y, operator, fit, sigma, steps, reference)


def _alternate(denoise, y, operator, fit, sigma, steps, reference) -> Restoration:
    """The iteration, a Python loop over compiled denoising and compiled data fits."""
    y = jnp.asarray(y)
    if y.ndim != 4:
        raise ValueError(f"y must be [B, H, W, C] (one image is y[None]), not {y.shape}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}")
    y = y.astype(at_least_float32(y.dtype))
    noise = jnp.reshape(estimate_sigma(y) if sigma is None else jnp.asarray(sigma, y.dtype), (-1,))
    noise = jnp.broadcast_to(noise, y.shape[:1])
    z = _first(operator, y)
    first = jnp.std(z, axis=(1, 2, 3))
    residual, change, psnr = [_rms(operator(z) - y)], [], [_psnr(z, reference)]
    for k in range(steps):
        # From the standard deviation of the first estimate to the noise level, which is kept above 0.
        part = jnp.asarray((k + 1) / steps, y.dtype)
        level = first * jnp.maximum(noise / jnp.where(first > 0, first, 1), 1e-3) ** part
        x = fit(y, z, noise, level)
        before, z = z, denoise(x, level)
        residual.append(_rms(operator(z) - y))
        change.append(_rms(z - before))
        psnr.append(_psnr(z, reference))
    last, allowed = residual[-1], np.maximum(residual[0], 2 * np.asarray(noise))
    return Restoration(
        z,
        np.asarray(noise),
        np.array(residual),
        np.array(change),
        ~np.isfinite(last) | (last > allowed),
        None if reference is None else np.array(psnr),
    )


@jax.jit
def _first(operator: Operator, y: Array) -> Array:
    """The weighted mean of the observations of each pixel; unobserved pixels get the mean of the others."""
    seen, weights = operator.adjoint(y), operator.adjoint(jnp.ones_like(y))
    enough = weights > 1e-3 * jnp.max(weights)
    axes = (1, 2, 3)
    total = jnp.sum(weights, axis=axes, keepdims=True)
    mean = jnp.sum(seen, axis=axes, keepdims=True) / total
    return jnp.where(enough, seen / jnp.where(enough, weights, 1), mean)


@jax.jit
def _least_squares(
    operator: Operator, weight: Array, y: Array, z: Array, noise: Array, level: Array
) -> Array:
    r"""The fit z + d, with $(A^\top A + \alpha)\,d = A^\top(y - A z)$, so an offset only affects z."""
    alpha = weight * jnp.square(jnp.maximum(noise / level, 1e-3))[:, None, None, None]
    right = operator.adjoint(y - operator(z))
    transfer = operator.transfer(z.shape)
    if transfer is not None:
        power = jnp.square(jnp.abs(transfer))[None, :, :, None] + alpha
        spectrum = jnp.fft.fft2(right, axes=(1, 2))
        return z + jnp.fft.ifft2(spectrum / power.astype(spectrum.dtype), axes=(1, 2)).real

    def normal(d: Array) -> Array:
        return operator.adjoint(operator(d)) + alpha * d

    d, _ = cg(normal, right, tol=1e-5, maxiter=50)
    return z + d


@jax.jit
def _gradient_step(
    operator: Operator, step_size: Array, y: Array, z: Array, noise: Array, level: Array
) -> Array:
    return z - step_size * operator.adjoint(operator(z) - y)


def _rms(x: Array) -> np.ndarray:
    return np.asarray(jnp.sqrt(jnp.mean(jnp.square(x), axis=(1, 2, 3))))


def _psnr(x: Array, reference: ArrayLike | None) -> np.ndarray | None:
    if reference is None:
        return None
    return np.asarray(metrics.psnr(jnp.clip(x, 0, 1), jnp.asarray(reference)))
