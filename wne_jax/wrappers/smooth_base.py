r"""A smooth base: low frequencies bypass the backbone, which sees only the residual.

Normalization equivariance allows any location and scale, and the location need not be a number: it can be an
image $b(y)$ with $b(a y + c) = a\,b(y) + c$, such as a blur. Then

$$f(y) = s(y)\, g\!\left(\frac{y - b(y)}{s(y)}\right) + b(y)$$

commutes with contrast and brightness for any g, and the input of g depends much less on the noise level.
After `haar_mad`, the noise always has the same level, but the contrast depends on the test level: at 5 it is
five times that at 25. Most of an image's contrast is in its low frequencies, which contain little information
about the noise.

The removed residual can be checked, since the noise has variance 1 in normalized coordinates: where its local
energy E exceeds a `wiener_cap`, it contains texture, and is reduced by the Wiener gain wiener_cap / E. This
only matters far below the training level.

In the coordinates of an anchor (m, c) the noise has variance $c^2$, so the limit is wiener_cap $c^2$. The
backbone expects images with mean m, so m is added to the residual.

This is a module around the backbone and inside the wrapper, so statistics, masks, tiles and streams are not
affected.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from wne_jax import protocol
from wne_jax.layers.gaussian_blur import blur_radius, gaussian_blur
from wne_jax.protocol import Symmetry
from wne_jax.statistics import Statistic, has_unit_noise
from wne_jax.transforms import Anchor
from wne_jax.wrappers.base import Inside
from wne_jax.wrappers.one_level import wiener_gain

WINDOW = 2.5
"""Standard deviation, in pixels, of the window over which the energy of the removed part is averaged."""


def smooth_base(
    backbone: Callable[..., Array],
    z: Array,
    *args: Any,
    sigma_px: float,
    wiener_cap: float | None = None,
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    **kwargs: Any,
) -> Array:
    """Apply a backbone to an image minus its blur, and add the blur again.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`.
        z: Images `[B, H, W, C]`.
        *args: Further arguments of the backbone.
        sigma_px: Standard deviation of the Gaussian, in pixels. The lowest frequencies of the noise are not
            removed; this noise is weak if sigma_px is about the backbone's receptive radius.
        wiener_cap: Local energy above which the removed part is reduced, in units of `anchor.scale` squared:
            a little more than 1 if the noise of `z` has variance 1; None for no limit.
        anchor: Mean of the backbone's input, and scale of the coordinates of `z`.
        **kwargs: Further keyword arguments of the backbone.

    Returns:
        The estimate, of the shape of `z`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
        >>> bool(jnp.allclose(smooth_base(lambda d: d, z, sigma_px=2.0), z, atol=1e-6))
        True
    """
    base = gaussian_blur(z, sigma_px)
    if anchor.location == 0:
        estimate = base + backbone(z - base, *args, **kwargs)
    else:
        moved = backbone(z - base + anchor.location, *args, **kwargs)
        estimate = base + (moved - anchor.location)
    if wiener_cap is None:
        return estimate
    removed = z - estimate
    return z - removed * wiener_gain(removed, wiener_cap**0.5 * anchor.scale, window=WINDOW)


class SmoothBase(Inside):
    """Linen module of `smooth_base`: wrap it in `WNE`. The variables are those of the backbone.

    For low precision set `dtype` of the backbone, not of the wrapper, which would also round the base.

    Attributes:
        backbone: A denoiser.
        sigma_px: Standard deviation of the Gaussian, in pixels.
        wiener_cap: Local energy, in units of the noise, above which the removed part is reduced, or None. It
            needs a statistic whose scale is the noise level, such as `haar_mad`.

    Raises:
        ValueError: sigma_px or wiener_cap is not positive, or the backbone is not bare.

    Example:
        >>> import jax, wne_jax as wne
        >>> model = wne.WNE(SmoothBase(wne.models.DnCNN(depth=3, features=8)), wne.statistics.haar_mad)
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    sigma_px: float = 4.0
    wiener_cap: float | None = None

    def __post_init__(self):
        """Reject values that are not positive."""
        for name, value in (("sigma_px", self.sigma_px), ("wiener_cap", self.wiener_cap)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive, not {value}")
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject a Wiener cap if the variance of the noise is unknown; see `Inside.check_wrapper`."""
        if self.wiener_cap is not None and (statistic is None or not has_unit_noise(statistic)):
            raise ValueError(
                "wiener_cap needs a known variance of the noise: use a statistic whose scale is the noise "
                "level, such as haar_mad"
            )

    def __call__(
        self,
        z: Array,
        *args: Any,
        anchor: Anchor = Anchor(),  # noqa: B008
        **kwargs: Any,
    ) -> Array:
        """Denoise; see `smooth_base`."""
        return smooth_base(
            self.backbone,
            z,
            *args,
            sigma_px=self.sigma_px,
            wiener_cap=self.wiener_cap,
            anchor=anchor,
            **kwargs,
        )

    @property
    def symmetry(self) -> Symmetry:
        """That of the backbone; "scale" becomes "normalization", since the blur removes the b of a y + b."""
        inside = protocol.symmetry(self.backbone)
        return "none" if inside == "none" or self.wiener_cap is not None else "normalization"

    @property
    def receptive_radius(self) -> int | None:
        """The radius of the backbone and the blur; None if the backbone's is unbounded."""
        radius = protocol.receptive_radius(self.backbone)
        if radius is None:
            return None
        window = 0 if self.wiener_cap is None else blur_radius(WINDOW)
        return radius + blur_radius(self.sigma_px) + window
