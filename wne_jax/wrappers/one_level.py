r"""A network trained for one noise level, used frozen at every level.

In coordinates where mean and contrast are those of its training images, a network trained at $\sigma_0$ meets
some other level $\sigma$; let $a = \sigma_0 / \sigma$.

Noise above the training level ($a \le 1$): shrink the image towards its mean until the noise is $\sigma_0$,
denoise, stretch back.

Noise below it ($a > 1$): stretching the whole image in the same way would bring the noise to $\sigma_0$, but
intensities far outside of [0, 1], where the network has seen nothing; that, not the noise, is what makes it
fail there. So only the detail around a smooth base is stretched, $z = a (u - b) + b$. The base is a blurred
first estimate. What the network then takes for noise is texture in part, and is shrunk where its local energy
exceeds that of the noise, by the factor of Wiener, $\min(1, \sigma^2 / \overline{r^2})$.

All of this happens in normalized coordinates and is a function of them alone: behind `wne_jax.wrap`, it is
exactly normalization-equivariant, as any function is.

The constants below were chosen by PSNR at levels 5 and 10 on crops of five Set12 images, with one network.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax.layers.gaussian_blur import blur_radius, gaussian_blur
from wne_jax.protocol import TakesSigma
from wne_jax.statistics import Statistic, haar_sigma, has_gain, has_unit_noise
from wne_jax.transforms import Anchor
from wne_jax.wrappers.base import Inside

ANCHOR = Anchor(0.45, 0.2)
"""Mean and contrast of images in the unit range, rather a small contrast: few pixels then leave the range."""

BASE = 0.7
"""Standard deviation, in pixels, of the blur that makes the base."""

ENERGY = 1.5
"""Standard deviation, in pixels, of the window over which energies are averaged."""

LARGEST_STRETCH = 20.0
"""Noise below this share of the training level counts as of this share."""


def one_level(
    backbone: Callable[[Array], Array],
    u: Array,
    *,
    trained_sigma: float,
    location: float,
    sigma: ArrayLike | None = None,
) -> Array:
    """Denoise by a network that knows one noise level; two passes through it.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`, trained at the level `trained_sigma`.
        u: Images `[B, H, W, C]` of the backbone's usual mean and contrast.
        trained_sigma: Standard deviation of the noise in training, in the units of `u`.
        location: The mean of the images.
        sigma: Noise level of `u`, a scalar or `[B]` (default: `haar_sigma`).

    Returns:
        The estimate, of the shape of `u`. At `sigma = trained_sigma` it is `backbone(u)`, to rounding.

    Raises:
        ValueError: A `sigma` of another size.

    Example:
        >>> import jax
        >>> u = 0.45 + 0.02 * jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
        >>> x = one_level(lambda z: 0 * z + 0.45, u, trained_sigma=0.1, location=0.45)
        >>> bool(jnp.std(x) < jnp.std(u) / 3)
        True
    """
    level = haar_sigma(u) if sigma is None else jnp.asarray(sigma, u.dtype)
    if level.size not in (1, u.shape[0]):
        raise ValueError(f"sigma must be a scalar or [B] = [{u.shape[0]}], not {level.shape}")
    level = jnp.maximum(jnp.reshape(level, (-1, 1, 1, 1)), trained_sigma / LARGEST_STRETCH)
    stretch = trained_sigma / level
    low = stretch > 1

    noise = u - backbone(u)
    base = gaussian_blur(u - noise * wiener_gain(noise, level), BASE)
    base = jnp.where(low, base, location)
    z = stretch * (u - base) + base
    noise = (z - backbone(z)) / stretch
    # The exponent lets the gain come in continuously, from none at the training level.
    gain = wiener_gain(noise, level) ** jnp.clip(stretch - 1, 0, 1)
    return u - noise * gain


def wiener_gain(noise: Array, sigma: ArrayLike, *, window: float = ENERGY) -> Array:
    r"""The share of an estimated noise that is noise: $\min(1, \sigma^2 / \overline{r^2})$.

    Args:
        noise: r, images `[B, H, W, C]`; the mean of its square is taken over a Gaussian window.
        sigma: Standard deviation of the true noise, broadcastable to `noise`.
        window: Standard deviation of the window, in pixels.

    Returns:
        Gains in (0, 1], of the shape of `noise`.

    Example:
        >>> round(wiener_gain(jnp.full((1, 4, 4, 1), 3.0), 1.5)[0, 0, 0, 0].item(), 4)
        0.25

    References:
        Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series", 1949; with local
        moments, Lee, "Digital Image Enhancement and Noise Filtering by Use of Local Statistics", 1980.
    """
    power = jnp.square(jnp.asarray(sigma, noise.dtype))
    return power / jnp.maximum(gaussian_blur(jnp.square(noise), window), power)


class OneLevel(Inside):
    """Linen module of `one_level`: wrap it by `WNE` with `mean_std` and the backbone's own anchor.

    It adds no parameters: the tree of variables is the backbone's. The mean of its images is the location of
    the wrapper's anchor.

    Attributes:
        backbone: A denoiser trained at one noise level.
        trained_sigma: That level, in the backbone's units: 25 / 255 for a network of the unit range.

    Raises:
        ValueError: A level that is not positive, a network that takes the level, or a wrapper in whose
            coordinates images have not the mean and contrast of the network's own.

    Example:
        >>> import jax, wne_jax as wne
        >>> model = wne.WNE(OneLevel(wne.models.DnCNN(depth=3, features=8), trained_sigma=25 / 255),
        ...                 anchor=ANCHOR)
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    trained_sigma: float

    def __post_init__(self):
        """Reject a level that is not positive, and a network of every level."""
        if not 0 < self.trained_sigma < float("inf"):
            raise ValueError(f"trained_sigma must be positive, not {self.trained_sigma}")
        if protocol.noise_argument(self.backbone) is not None:
            raise ValueError("a network of one level must be blind; this one takes the noise level")
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject images that are not as in training; see `Inside.check_wrapper`."""
        if statistic is None:
            return
        if has_unit_noise(statistic) or has_gain(statistic):
            raise ValueError(
                "a network of one level needs images of its usual contrast, so a statistic such as mean_std, "
                "not one whose scale is the noise level"
            )
        if anchor == Anchor():
            raise ValueError(
                "a network of one level needs the mean and contrast of its training images as anchor, "
                f"such as {tuple(ANCHOR)} in the unit range"
            )

    def __call__(
        self,
        u: Array,
        sigma: ArrayLike | None = None,
        *,
        anchor: Anchor = ANCHOR,
        **kwargs: Any,
    ) -> Array:
        """Denoise; see `one_level`."""
        return one_level(
            lambda x: self.backbone(x, **kwargs), u,
            trained_sigma=self.trained_sigma, location=anchor.location, sigma=sigma,
        )  # fmt: skip

    @property
    def takes_sigma(self) -> TakesSigma:
        """It estimates the level where it is not told."""
        return "optional"

    @property
    def noise_argument(self) -> str:
        """The keyword of the noise level."""
        return "sigma"

    @property
    def receptive_radius(self) -> int | None:
        """That of two passes and of the windows in between; None if the backbone's is not bounded."""
        radius = protocol.receptive_radius(self.backbone)
        if radius is None:
            return None
        return 2 * (radius + blur_radius(ENERGY)) + blur_radius(BASE)
