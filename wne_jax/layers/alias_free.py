r"""Network parts that commute with sub-pixel translations, exactly or nearly.

A pointwise nonlinearity creates frequencies that the grid cannot carry, and a strided grid carries fewer
frequencies. In both cases the excess aliases, and T f(x) differs from f(T x). The remedy is a finer grid for
the nonlinearity, and a low-pass filter before the stride.

| function | under `Translation` |
|---|---|
| `ideal_downsample`, `ideal_upsample` | exact: from n to m pixels, T by d before equals T by d m / n after |
| `blur_pool` | nearly; exact for shifts by multiples of the factor, if the factor divides the size |
| `band_limited_polynomial` | exact |
| `filtered_relu` | nearly; the finer its grid, the smaller the error |

Maps are `[B, ..., H, W, C]`, periodic, of any size. Translations do not preserve the Nyquist frequency of an
even size (`wne_jax.layers.spectra`), so all functions except `blur_pool` first remove it. "Exact" therefore
holds for *every* input. A side of one or two pixels keeps only its mean. The computation is in float32, or in
float64 for float64; the result has the dtype of the input.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jax import Array

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.layers.spectra import resample


def ideal_downsample(x: Array, *, factor: int = 2) -> Array:
    """Low-pass to the band of a coarser grid, then sample on it, without aliasing.

    Args:
        x: Maps `[B, ..., H, W, C]`.
        factor: How many pixels become one, 1 or more. A side of n pixels becomes m = ceil(n / factor) samples
            at equal distances of n / m. If the factor divides n this is the factor, otherwise a little less.

    Returns:
        `[B, ..., ceil(H / factor), ceil(W / factor), C]`. Pixel (0, 0) stays where it was.

    Raises:
        ValueError: A rank below 4, or a factor below 1.

    Example:
        >>> ideal_downsample(jnp.ones((1, 8, 7, 3))).shape
        (1, 4, 4, 3)
    """
    _check_factor(factor)
    height, width = (-(-size // factor) for size in x.shape[-3:-1])
    return resample(x, height, width).astype(x.dtype)


def ideal_upsample(x: Array, *, factor: int = 2) -> Array:
    """Sinc interpolation: the same band-limited function on a finer grid.

    Args:
        x: Maps `[B, ..., H, W, C]`.
        factor: How many pixels each pixel becomes along each side, 1 or more.

    Returns:
        `[B, ..., factor H, factor W, C]`. Pixel (0, 0) stays where it was.

    Raises:
        ValueError: A rank below 4, or a factor below 1.

    Example:
        >>> ideal_upsample(jnp.ones((1, 8, 7, 3)), factor=3).shape
        (1, 24, 21, 3)
    """
    _check_factor(factor)
    height, width = (factor * size for size in x.shape[-3:-1])
    return resample(x, height, width).astype(x.dtype)


def blur_pool(x: Array, *, factor: int = 2, taps: int = 3) -> Array:
    r"""Blur by a binomial filter with circular padding, and keep every factor-th pixel.

    The filter, $\binom{t-1}{k} / 2^{t-1}$ along each side, is (1, 2, 1) / 4 for t = 3 taps and
    (1, 3, 3, 1) / 8 for 4. It attenuates the frequencies that alias but does not remove them. With an even
    number of taps, the centre of the filter lies half a pixel after the pixel that is kept.

    Args:
        x: Maps `[B, ..., H, W, C]`.
        factor: The stride, 1 or more. If it does not divide a side, the last step on the torus is shorter.
        taps: Length of the filter, 1 or more; with 1 there is no blur.

    Returns:
        `[B, ..., ceil(H / factor), ceil(W / factor), C]`.

    Raises:
        ValueError: A rank below 4, or a factor or number of taps below 1.

    Example:
        >>> x = jnp.array([4.0, 0.0, 0.0, 0.0]).reshape(1, 1, 4, 1)
        >>> blur_pool(x).ravel().tolist()
        [2.0, 0.0]

    References:
        Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019.
    """
    _check_factor(factor)
    if taps < 1:
        raise ValueError(f"taps must be 1 or more, not {taps}")
    if x.ndim < 4:
        raise ValueError(f"x must be [B, ..., H, W, C], of rank 4 or more; its shape is {x.shape}")
    blurred = x.astype(at_least_float32(x.dtype))
    for axis in (-3, -2):
        blurred = sum(
            math.comb(taps - 1, k) / 2 ** (taps - 1) * jnp.roll(blurred, (taps - 1) // 2 - k, axis)
            for k in range(taps)
        )
    return blurred[..., ::factor, ::factor, :].astype(x.dtype)


def band_limited_polynomial(x: Array, coefficients: Array) -> Array:
    r"""Apply a polynomial to every channel as a continuous function, then cut to the band of the grid.

    $$\mathrm{out} = P\left(a_0 + a_1\, x_P + \dots + a_d\, x_P^d\right), \qquad x_P = P x,$$

    where P projects on the frequencies $|k| \le K = (n - 1) // 2$ of each side of n pixels. A product of d
    such functions has frequencies up to d K. On a grid of N > (d + 1) K pixels (the 3/2 rule if d = 2) these
    alias only to frequencies above K, so the band up to K stays exact. P and the powers of a continuous
    function commute with translations, hence so does the composition, for every x.

    Args:
        x: Maps `[B, ..., H, W, C]`.
        coefficients: $a_0, \dots, a_d$ for every channel, `[d + 1, C]`.

    Returns:
        Array with the shape and dtype of `x`.

    Raises:
        ValueError: A rank below 4, or coefficients of another shape.

    Example:
        >>> x = jnp.full((1, 5, 4, 1), 3.0)
        >>> bool(jnp.allclose(band_limited_polynomial(x, jnp.array([[1.0], [0.0], [2.0]])), 19.0))
        True

    References:
        Michaeli, Michaeli & Soudry, "Alias-Free Convnets: Fractional Shift Invariance via Polynomial
        Activations", CVPR 2023.
    """
    if coefficients.ndim != 2 or not coefficients.size or coefficients.shape[1] != x.shape[-1]:
        raise ValueError(
            f"coefficients must be [d + 1, C] = [..., {x.shape[-1]}] for x {x.shape}; their shape is "
            f"{coefficients.shape}"
        )
    *_, height, width, _ = x.shape
    grid = (_fast_size(coefficients.shape[0] * ((n - 1) // 2) + 1) for n in (height, width))
    fine = resample(x, *grid)
    # One factor per channel, in a shape that strict rank promotion accepts.
    factors = coefficients.astype(fine.dtype).reshape((-1,) + (1,) * (fine.ndim - 1) + x.shape[-1:])
    value = jnp.broadcast_to(factors[-1], fine.shape)
    for factor in factors[-2::-1]:
        value = factor + fine * value
    return resample(value, height, width).astype(x.dtype)


def leaky_relu_fit(negative_slope: float = 0.0) -> tuple[float, float, float]:
    r"""The least-squares quadratic fit of a leaky ReLU, for a standard normal z.

    A leaky ReLU of slope $\alpha$ is $\frac{1 + \alpha}{2} z + \frac{1 - \alpha}{2} |z|$. In the orthonormal
    polynomials $1, z, (z^2 - 1) / \sqrt 2$ the coefficients of $|z|$ are
    $\sqrt{2 / \pi},\ 0,\ 1 / \sqrt\pi$. Collecting powers of z gives

    $$a_0 = a_2 = \frac{1 - \alpha}{\sqrt{8 \pi}}, \qquad a_1 = \frac{1 + \alpha}{2}.$$

    Args:
        negative_slope: $\alpha$; 0 is the plain ReLU.

    Returns:
        $a_0, a_1, a_2$.

    Example:
        >>> [round(a, 4) for a in leaky_relu_fit()]
        [0.1995, 0.5, 0.1995]
    """
    curvature = (1 - negative_slope) / math.sqrt(8 * math.pi)
    return curvature, (1 + negative_slope) / 2, curvature


def filtered_relu(x: Array, *, factor: int = 2) -> Array:
    """ReLU on a grid `factor` times as fine, cut to the band of the grid of `x`.

    ReLU creates frequencies of any height, with decreasing amplitude. Those that the fine grid carries are
    removed; those beyond it alias. So the map commutes with translations only nearly; a larger factor reduces
    the error.

    Args:
        x: Maps `[B, ..., H, W, C]`.
        factor: How much finer the grid is, 1 or more. At 1, on odd sizes, this is the plain ReLU.

    Returns:
        Array with the shape and dtype of `x`. The low-pass rings, so small negative values occur.

    Raises:
        ValueError: A rank below 4, or a factor below 1.

    Example:
        >>> bool(jnp.allclose(filtered_relu(jnp.full((1, 5, 4, 1), 3.0)), 3.0))
        True

    References:
        Karras et al., "Alias-Free Generative Adversarial Networks", NeurIPS 2021 (which uses a filter of
        finite length and a leaky ReLU).
    """
    fine = nn.relu(ideal_upsample(x, factor=factor))
    return resample(fine, *x.shape[-3:-1]).astype(x.dtype)


class PolynomialActivation(nn.Module):
    """Linen layer: `band_limited_polynomial` with one quadratic per channel.

    Attributes:
        negative_slope: Slope of the `leaky_relu_fit` that initializes every channel.
        dtype: Precision of the result (None: that of input and parameter together).
        param_dtype: Precision of the parameter `coefficients`, `[3, C]`.

    Example:
        >>> import jax
        >>> variables = PolynomialActivation().init(jax.random.key(0), jnp.ones((1, 4, 5, 2)))
        >>> variables["params"]["coefficients"][1].tolist()
        [0.5, 0.5]
    """

    negative_slope: float = 0.0
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Activate `x`, `[B, ..., H, W, C]`."""

        def fit(key: Array, channels: int, dtype: Dtype) -> Array:
            column = jnp.asarray(leaky_relu_fit(self.negative_slope), dtype)
            return jnp.tile(column[:, None], (1, channels))

        coefficients = self.param("coefficients", fit, x.shape[-1], self.param_dtype)
        dtype = jnp.result_type(x, coefficients) if self.dtype is None else self.dtype
        return band_limited_polynomial(x.astype(dtype), coefficients)


def _fast_size(least: int) -> int:
    """The next size without a prime factor above 5: 768 instead of 766 saves a third of the time on CPU."""
    size = least
    while 30 ** size.bit_length() % size:  # 30 = 2 * 3 * 5
        size += 1
    return size


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"factor must be 1 or more, not {factor}")
