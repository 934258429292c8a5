r"""A smooth base: low frequencies bypass the backbone, which sees only the residual.

Normalization equivariance leaves location and scale free, and the location need not be a number: an image
$b(y)$ with $b(a y + c) = a\,b(y) + c$ will do, such as a blur. Then

$$f(y) = s(y)\, g\!\left(\frac{y - b(y)}{s(y)}\right) + b(y)$$

commutes with contrast and brightness for any g, and what g sees depends on the noise level much less. Behind
`haar_mad` the noise has one strength everywhere, and contrast is what a test level changes: five times as
much of it at 5 as at 25. Most of an image's contrast lies in its low frequencies, which say little about the
noise on top of them.

What the backbone then takes for noise can be judged, since noise has variance 1 in normalized coordinates:
where its local energy E exceeds a `wiener_cap`, it is texture in part, and is shrunk by the Wiener gain
wiener_cap / E. That matters far below the training level, and nowhere else.

In the coordinates of an anchor (m, c) the noise has variance $c^2$, so that the limit is wiener_cap $c^2$.
The backbone expects images around m, and sees the residual moved there.

In normalized coordinates this is a module around the backbone, inside of the wrapper: statistics, masks,
tiles and streams need not know of it.
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
"""Standard deviation, in pixels, of the window over which the energy of what is removed is averaged."""


def smooth_base(
    backbone: Callable[..., Array],
    z: Array,
    *args: Any,
    sigma_px: float,
    wiener_cap: float | None = None,
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    **kwargs: Any,
) -> Array:
    """Apply a backbone to what a blur leaves, and put the blurred image back.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`.
        z: Images `[B, H, W, C]`.
        *args: Further arguments of the backbone.
        sigma_px: Standard deviation of the Gaussian, in pixels. The lowest frequencies of the noise pass it
            and stay; where it reaches as far as the backbone sees, its receptive radius, that is little.
        wiener_cap: Local energy beyond which what is removed is shrunk, a little more than 1 where the noise
            of `z` has variance 1 (in units of `anchor.scale` squared); None for no limit.
        anchor: Location around which the backbone expects its input, and scale of the coordinates of `z`.
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
    """Linen module of `smooth_base`: wrap it by `WNE`. The variables are the backbone's.

    For low precision give the backbone a `dtype`, not the wrapper: that would round the base, too.

    Attributes:
        backbone: A denoiser.
        sigma_px: Standard deviation of the Gaussian, in pixels.
        wiener_cap: Local energy, in units of the noise, beyond which what is removed is shrunk, or None. It
            needs a statistic whose scale is the noise level, such as `haar_mad`.

    Raises:
        ValueError: A sigma_px or a wiener_cap that is not positive, or a backbone that is not bare.

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
        """Reject a Wiener cap where the noise has no known variance; see `Inside.check_wrapper`."""
        if self.wiener_cap is not None and (statistic is None or not has_unit_noise(statistic)):
            raise ValueError(
                "wiener_cap compares with the variance of the noise, so it needs a statistic whose scale is "
                "the noise level, such as haar_mad"
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
        """That of the backbone, and with it a y + b for a backbone of scale: the blur takes the b away."""
        inside = protocol.symmetry(self.backbone)
        return "none" if inside == "none" or self.wiener_cap is not None else "normalization"

    @property
    def receptive_radius(self) -> int | None:
        """That of the backbone and of the blur; None if the backbone's is not bounded."""
        radius = protocol.receptive_radius(self.backbone)
        if radius is None:
            return None
        window = 0 if self.wiener_cap is None else blur_radius(WINDOW)
        return radius + blur_radius(self.sigma_px) + window
