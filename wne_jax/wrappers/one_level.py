r"""A network trained at one noise level, used without training at every level.

The input has the mean and contrast of the network's training images, but the noise level $\sigma$ instead of
the training level $\sigma_0$; let $a = \sigma_0 / \sigma$.

Noise above the training level ($a \le 1$): the image is scaled towards its mean until the noise is
$\sigma_0$, denoised, and scaled back.

Noise below it ($a > 1$): scaling the whole image up would also give the noise $\sigma_0$, but intensities far
outside [0, 1], which the network has never seen and where it fails. So only the detail around a smooth base
is scaled, $z = a (u - b) + b$. The base is a blurred first estimate. The noise that the network then removes
contains some texture; where its local energy exceeds that of the noise, it is reduced by the Wiener gain
$\min(1, \sigma^2 / \overline{r^2})$.

All of this is a function of the normalized input; inside `wne_jax.wrap`, it is therefore exactly
normalization-equivariant.

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
"""Mean and contrast of images in the unit range; the contrast is small, so few pixels leave the range."""

BASE = 0.7
"""Standard deviation, in pixels, of the blur that makes the base."""

ENERGY = 1.5
"""Standard deviation, in pixels, of the window over which energies are averaged."""

LARGEST_STRETCH = 20.0
"""Lower bound of the noise level, as a share of the training level."""


def one_level(
    backbone: Callable[[Array], Array],
    u: Array,
    *,
    trained_sigma: float,
    location: float,
    sigma: ArrayLike | None = None,
) -> Array:
    """Denoise with a network of one noise level, in two passes.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`, trained at the level `trained_sigma`.
        u: Images `[B, H, W, C]` with the mean and contrast of the backbone's training images.
        trained_sigma: Standard deviation of the noise in training, in the units of `u`.
        location: The mean of the images.
        sigma: Noise level of `u`, a scalar or `[B]` (default: `haar_sigma`).

    Returns:
        The estimate, of the shape of `u`. At `sigma = trained_sigma` it is `backbone(u)`, to rounding.

    Raises:
        ValueError: `sigma` has another size.

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
    # The exponent lets the gain set in continuously below the training level.
    gain = wiener_gain(noise, level) ** jnp.clip(stretch - 1, 0, 1)
    return u - noise * gain


def wiener_gain(noise: Array, sigma: ArrayLike, *, window: float = ENERGY) -> Array:
    r"""The Wiener gain of an estimate of the noise: $\min(1, \sigma^2 / \overline{r^2})$.

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
    """Linen module of `one_level`: wrap it in `WNE` with `mean_std` and the backbone's anchor.

    It adds no parameters: the variables are those of the backbone. The mean of its images is the location of
    the wrapper's anchor.

    Attributes:
        backbone: A denoiser trained at one noise level.
        trained_sigma: That level, in the backbone's units: 25 / 255 for a network of the unit range.

    Raises:
        ValueError: The level is not positive, the network takes the level, or the wrapper does not give
            images the mean and contrast of the training images.

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
        """Reject a level that is not positive, and a network that takes the level."""
        if not 0 < self.trained_sigma < float("inf"):
            raise ValueError(f"trained_sigma must be positive, not {self.trained_sigma}")
        if protocol.noise_argument(self.backbone) is not None:
            raise ValueError(
                "a network of one level must be blind, but this one takes the noise level"
            )
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject coordinates that differ from training; see `Inside.check_wrapper`."""
        if statistic is None:
            return
        if has_unit_noise(statistic) or has_gain(statistic):
            raise ValueError(
                "a network of one level needs images of its training contrast: use a statistic such as "
                "mean_std, not one whose scale is the noise level"
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
        """The level is estimated if not given."""
        return "optional"

    @property
    def noise_argument(self) -> str:
        """The keyword of the noise level."""
        return "sigma"

    @property
    def receptive_radius(self) -> int | None:
        """The radius of two passes and the windows between them; None if the backbone's is unbounded."""
        radius = protocol.receptive_radius(self.backbone)
        if radius is None:
            return None
        return 2 * (radius + blur_radius(ENERGY)) + blur_radius(BASE)
