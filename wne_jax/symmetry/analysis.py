r"""The normalized problem that a normalization-equivariant network solves: its difficulty, error and filters.

A backbone $g$ in $f(y) = s(y)\,g(T(y)) + \mu(y)$ sees only $T(y) = (y - \mu(y)) / s(y)$, and its target is
$\tilde x = (x - \mu(y)) / s(y)$. The distance between the two is the difficulty of an instance,

$$\Delta = \|T(y) - \tilde x\|_2, \qquad \mathbb E[\Delta^2] \approx \frac{d}{1 + \mathrm{SNR}}, \qquad
\mathrm{SNR} = \frac{\operatorname{std}(x)^2}{\sigma^2}$$

where the approximation is for white noise, d entries, and mean and standard deviation as the statistic.

**Proposition (the normalized problem depends on sigma only through the SNR).** Let $y = x + \sigma n$, and
let $(\mu, s)$ be any statistic. For $a > 0$ and any $b$, the instance $(a x + b,\, a \sigma)$ with the same
$n$ is $a y + b$. It has the same $T(y)$, $\tilde x$ and $\Delta$, and every normalization-equivariant $f$ has
the same error $\|g(T(y)) - \tilde x\|$. So all of these are functions of $(x - \mu(x)) / \sigma$ and $n$, in
other words of the normalized clean image, the SNR and $n$.
*Proof.* By the contract of the statistic, $T(a y + b) = T(y)$, and
$(a v + b - \mu(a y + b)) / s(a y + b) = (v - \mu(y)) / s(y)$ for any $v$; take $v = x$ for the target and
$v = f(y)$ for the estimate. For the last claim take $a = 1 / \sigma$ and $b = -\mu(x) / \sigma$.

With a gain beside location and scale (`wne_jax.statistics.gain`), T(y) and the target are in the curved
coordinates. The proposition and `normalized_error` hold as they stand; the loss identity and
`psnr_from_error`, by which errors in both coordinates are proportional, hold where the gain is 0 only.

Here networks are plain functions of arrays `[B, ..., C]`, and an instance is one entry of the batch.

References:
    Saied & Fleuret, "Normalization Equivariance for Arbitrary Backbones, with Application to Image
    Denoising", 2026: the loss identity, the difficulty (Table 3, Figures 6, 7 and 11), and the Jacobian as
    adaptive filters (Figure 5).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.statistics import Statistic, Statistics, mean_std
from wne_jax.symmetry.equivariance import Map, euler_residual
from wne_jax.transforms import in_coordinates, normalize


class Problem(NamedTuple):
    """A batch of instances in normalized coordinates.

    Attributes:
        z: The normalized noisy images T(y), `[B, ..., C]`.
        target: The clean images in the same coordinates, `[B, ..., C]`; 0 where the scale is 0.
        stats: Location and scale of the noisy images.
    """

    z: Array
    target: Array
    stats: Statistics


def normalized_problem(
    noisy: ArrayLike, clean: ArrayLike, *, statistics: Statistic = mean_std
) -> Problem:
    """The input and the target of the backbone in normalized coordinates.

    Args:
        noisy: y, `[B, ..., C]`.
        clean: x, of the same shape, in the same units.
        statistics: The statistic to normalize by; see `wne_jax.statistics`.

    Returns:
        T(y), the target and the statistics.

    Raises:
        ValueError: Noisy and clean images differ in shape.
    """
    if jnp.shape(noisy) != jnp.shape(clean):
        raise ValueError(
            f"noisy and clean must have the same shape, not {jnp.shape(noisy)} and {jnp.shape(clean)}"
        )
    z, stats = normalize(noisy, statistics=statistics)
    return Problem(z, in_coordinates(jnp.asarray(clean).astype(z.dtype), stats), stats)


def difficulty(noisy: ArrayLike, clean: ArrayLike, *, statistics: Statistic = mean_std) -> Array:
    r"""The difficulty $\Delta = \|T(y) - \tilde x\|_2$ of each instance.

    Args:
        noisy: y, `[B, ..., C]`.
        clean: x, of the same shape.
        statistics: The statistic to normalize by.

    Returns:
        One value per instance, `[B]`; 0 for a constant noisy image, whose scale is 0.

    Example:
        Noise on a constant image has SNR 0, so the difficulty is the square root of d:

        >>> noise = jax.random.normal(jax.random.key(0), (1, 10, 10, 1))
        >>> round(difficulty(0.5 + noise - noise.mean(), jnp.full_like(noise, 0.5)).item(), 4)
        10.0
    """
    z, target, _ = normalized_problem(noisy, clean, statistics=statistics)
    return jnp.sqrt(_energy(z - target))


def expected_difficulty(snr: ArrayLike, d: int) -> Array:
    r"""The expected difficulty at a given SNR, $\sqrt{d / (1 + \mathrm{SNR})}$.

    Args:
        snr: Variance of the clean image divided by that of the noise.
        d: Number of entries of an instance.

    Example:
        >>> float(expected_difficulty(3.0, 4900))
        35.0
    """
    return jnp.sqrt(d / (1 + jnp.asarray(snr)))


def snr_at(delta: ArrayLike, d: int) -> Array:
    """The SNR at which `expected_difficulty` equals `delta`.

    Example:
        >>> float(snr_at(35.0, 4900))
        3.0
    """
    return d / jnp.square(jnp.asarray(delta)) - 1


def draw_difficulty(key: Array, snr: ArrayLike, d: int) -> Array:
    r"""Draw difficulties from their exact law under white Gaussian noise, without drawing images.

    For mean and standard deviation, the law of $\Delta$ depends on the clean image only through its SNR.
    Split the noise, in units of sigma, into its component $g_0$ along the constant image, its component $g_1$
    along $x - \mu(x)$, and the rest, of squared length $q$. They are independent, with laws $N(0, 1)$,
    $N(0, 1)$ and $\chi^2_{d-2}$. Then

    $$\Delta^2 = \frac{\|y - x\|^2}{s(y)^2} =
    d\,\frac{g_0^2 + g_1^2 + q}{(\sqrt{d \cdot \mathrm{SNR}} + g_1)^2 + q}.$$

    Args:
        key: Random key.
        snr: Variance of each clean image divided by that of the noise, `[N]`.
        d: Number of entries of an instance, 3 or more.

    Returns:
        One draw per SNR, `f32[N]`.

    Example:
        >>> draws = draw_difficulty(jax.random.key(0), jnp.full(1000, 3.0), 4900)
        >>> round(float(draws.mean()))
        35
    """
    snr = jnp.asarray(snr, jnp.float32)
    key_mean, key_along, key_rest = jax.random.split(key, 3)
    mean, along = (jax.random.normal(k, snr.shape, snr.dtype) for k in (key_mean, key_along))
    rest = 2 * jax.random.gamma(key_rest, d / 2 - 1, snr.shape, snr.dtype)
    noise = jnp.square(mean) + jnp.square(along) + rest
    return jnp.sqrt(d * noise / (jnp.square(jnp.sqrt(d * snr) + along) + rest))


def central_interval(values: ArrayLike, *, share: float = 0.95) -> tuple[float, float]:
    """The ends of the central interval that contains a given share of the values.

    Example:
        >>> central_interval(np.arange(1001), share=0.5)
        (250.0, 750.0)
    """
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def coverage(test: ArrayLike, train: ArrayLike, *, share: float = 0.95) -> float:
    """The share of test difficulties that training has seen: m(test; train) of Saied & Fleuret (2026).

    Args:
        test: Difficulties at the test level, `[N]`.
        train: Difficulties at the training level, `[M]`.
        share: Share of the training difficulties that defines their central interval.

    Returns:
        The share of `test` inside the central interval of `train`.
    """
    low, high = central_interval(train, share=share)
    test = np.asarray(test)
    return float(np.mean((test >= low) & (test <= high)))


def normalized_error(
    f: Map, noisy: ArrayLike, clean: ArrayLike, *, statistics: Statistic = mean_std
) -> Array:
    r"""The error in normalized coordinates, $Q = -10 \log_{10} \|g(T(y)) - \tilde x\|^2$.

    Here $g(T(y)) = (f(y) - \mu(y)) / s(y)$. For a normalization-equivariant f this is its backbone; for any
    other f it is a definition.

    Args:
        f: A denoiser of arrays `[B, ..., C]`; its estimate is not clipped.
        noisy: y, `[B, ..., C]`.
        clean: x, of the same shape.
        statistics: The statistic to normalize by.

    Returns:
        Decibels, `[B]`; higher is better. Infinite for a constant noisy image, whose scale is 0.

    Raises:
        ValueError: The estimate and the images differ in shape.
    """
    _, target, stats = normalized_problem(noisy, clean, statistics=statistics)
    noisy = jnp.asarray(noisy)
    estimate = f(noisy.astype(at_least_float32(noisy.dtype)))
    if estimate.shape != target.shape:
        raise ValueError(
            f"f must keep the shape of images: it returned {estimate.shape} for {target.shape}"
        )
    return -10 * jnp.log10(_energy(in_coordinates(estimate, stats) - target))


def psnr_from_error(
    error: ArrayLike, scale: ArrayLike, d: int, *, data_range: float = 1.0
) -> Array:
    r"""The PSNR for a normalized error: $10 \log_{10}(d R^2) + Q - 20 \log_{10} s(y)$.

    The last term is the cost of denormalization: a noisier image has a larger scale.

    Args:
        error: Q in decibels, from `normalized_error`, `[B]`.
        scale: s(y), `[B]`.
        d: Number of entries of an instance.
        data_range: R, the distance from black to white.

    Returns:
        Decibels, `[B]`.
    """
    peak = 10 * jnp.log10(float(d) * data_range**2)
    return peak + jnp.asarray(error) - 20 * jnp.log10(jnp.asarray(scale))


def filters(f: Map, y: ArrayLike, pixels: Sequence[tuple[int, int]], *, channel: int = 0) -> Array:
    r"""Rows of the Jacobian as images: how f weighs the pixels of `y` for single pixels of its estimate.

    It takes one forward pass, and one backward pass for all pixels together. The filters describe a
    normalization-equivariant f completely: $f(y)_i = \sum_j J_{ij} y_j$. Each of them sums to one;
    `wne_jax.symmetry.equivariance.row_sums` computes the sums of all rows.

    Args:
        f: A differentiable map of images.
        y: One image, `[1, H, W, C]`, in floating point.
        pixels: Row and column of each output pixel.
        channel: Channel of the output pixels.

    Returns:
        One filter per pixel, `[N, H, W, C]`.

    Raises:
        ValueError: Not one image, or a pixel or channel outside it.

    Example:
        >>> f = lambda y: 0.5 * y + 0.5 * jnp.roll(y, 1, axis=2)
        >>> filters(f, jnp.zeros((1, 3, 3, 1)), [(1, 1)])[0, ..., 0].tolist()
        [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    y = jnp.asarray(y)
    y = y.astype(at_least_float32(y.dtype))
    if y.ndim != 4 or y.shape[0] != 1:
        raise ValueError(f"y must be one image [1, H, W, C], not of shape {y.shape}")
    value, pull_back = jax.vjp(f, y)
    _, height, width, channels = value.shape
    for row, column in pixels:
        if not (0 <= row < height and 0 <= column < width and 0 <= channel < channels):
            raise ValueError(
                f"pixel ({row}, {column}) of channel {channel} is outside f(y) {value.shape[1:]}"
            )
    rows, columns = jnp.asarray(pixels, jnp.int32).reshape(-1, 2).T
    number = jnp.arange(len(pixels))
    chosen = jnp.zeros((len(pixels), *value.shape), value.dtype)
    chosen = chosen.at[number, 0, rows, columns, channel].set(1)
    return jax.vmap(lambda one: pull_back(one)[0][0])(chosen)


def euler_ratio(f: Map, y: ArrayLike) -> Array:
    r"""$\rho = \|f(y) - J(y)\,y\| / \|f(y)\|$: the share of the estimate that the filters do not explain.

    Args:
        f: A differentiable map of arrays `[B, ..., C]`.
        y: Array, in floating point.

    Returns:
        One value per instance, `[B]`; 0 for a scale-equivariant f (see
        `wne_jax.symmetry.equivariance.euler_residual`).

    Example:
        >>> euler_ratio(lambda y: 2 * y + 3, jnp.zeros((1, 4))).item()
        1.0
    """
    y = jnp.asarray(y)
    y = y.astype(at_least_float32(y.dtype))
    missed, whole = _energy(euler_residual(f, y)), _energy(f(y))
    return jnp.sqrt(jnp.where(missed > 0, missed / whole, 0))


def _energy(x: Array) -> Array:
    """The sum of squares of each instance, `[B]`."""
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))
