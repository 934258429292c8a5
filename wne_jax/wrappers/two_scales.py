r"""A denoiser that works at two scales: on the image, and on the image at half its size.

A small network sees a small neighbourhood, and leaves the low frequencies of strong noise. The means of
2 x 2 pixels have half of the noise, and on them the network sees twice as far. The second estimate corrects
the first: with H for the means and U for linear interpolation,

$$x = f(z), \qquad x + U(d), \quad d = \tfrac12 f(2 H z) - H x.$$

Where the noise is weak, the half-size image has edges and texture that the network knows less about; there
the first estimate is the better one, and the two differ by more. So d is clipped to a tenth of the noise.

The noise of z must have strength 1, as behind `noise_level`. All of this is a function of the normalized
input, and so exactly normalization-equivariant inside a wrapper.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from wne_jax import protocol
from wne_jax.layers.upsample import DoubleLinear, double_linear
from wne_jax.statistics import Statistic, has_unit_noise
from wne_jax.transforms import Anchor
from wne_jax.wrappers.base import Inside
from wne_jax.wrappers.limited_contrast import LIMIT, limited_contrast

CORRECTION = 0.1
"""Largest correction, in units of the noise; of 0.07, 0.1, 0.15, 0.2 and no limit, by PSNR on 20 crops of
BSD400 at levels 1 to 75."""


def two_scales(
    backbone: Callable[..., Array],
    z: Array,
    *,
    contrast_limit: float | None = None,
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    double: Callable[[Array], Array] = double_linear,
    **kwargs: Any,
) -> Array:
    """Denoise an image, and correct its low frequencies by denoising it at half the size.

    Args:
        backbone: Denoiser of images `[B, H, W, C]`, which knows the strength of the noise of `z`.
        z: Images `[B, H, W, C]` of even sides.
        contrast_limit: Largest contrast that the backbone gets, in units of the noise; see
            `wne_jax.wrappers.limited_contrast`. None for no limit.
        anchor: Location and scale of the backbone's coordinates.
        double: Interpolation to twice the size.
        **kwargs: Keyword arguments of the backbone.

    Returns:
        The estimate, of the shape of `z`.

    Raises:
        ValueError: Odd sides.

    Example:
        >>> z = jnp.full((1, 4, 6, 1), 3.0)
        >>> two_scales(lambda c: c - 1, z)[0, 1, 1].tolist()  # at half the size it would remove 0.5
        [2.0999999046325684]
    """
    if z.shape[1] % 2 or z.shape[2] % 2:
        raise ValueError(f"z must have even sides, not {z.shape}")
    location, most = anchor.location, CORRECTION * anchor.scale

    def corrected(z: Array) -> Array:
        fine = backbone(z, **kwargs)
        half = 2 * (_halved(z) - location) + location
        coarse = (backbone(half, **kwargs) - location) / 2 + location
        return fine + double(jnp.clip(coarse - _halved(fine), -most, most))

    if contrast_limit is None:
        return corrected(z)
    return limited_contrast(corrected, z, limit=contrast_limit, anchor=anchor)


def reach(radius: int | None, contrast_limit: float | None) -> int | None:
    """How far a pixel of `two_scales` sees, if one of the backbone sees `radius` far."""
    return None if radius is None else 2 * radius + 3 + (contrast_limit is not None)


def check_unit_noise(statistic: Statistic | None, what: str) -> None:
    """Reject a statistic whose scale is not the noise level.

    Raises:
        ValueError: Says what needs it.
    """
    if statistic is None or not has_unit_noise(statistic):
        raise ValueError(
            f"{what} need noise of known strength: use a statistic whose scale is the noise level, such as "
            "noise_level"
        )


def _halved(x: Array) -> Array:
    """Means of 2 x 2 pixels."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


class TwoScales(Inside):
    """Linen module of `two_scales`: wrap it in `WNE` with a statistic such as `noise_level`.

    It adds no parameters: the variables are those of the backbone.

    Attributes:
        backbone: A blind denoiser of images.
        contrast_limit: Largest contrast that the backbone gets, in units of the noise; None for no limit.

    Raises:
        ValueError: The limit is not positive, the backbone takes the noise level, or the statistic's scale is
            not the noise level.

    Example:
        >>> import jax, wne_jax as wne
        >>> backbone = wne.models.DnCNN(depth=3, features=8)
        >>> model = wne.WNE(TwoScales(backbone), wne.statistics.noise_level)
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    contrast_limit: float | None = LIMIT

    def __post_init__(self):
        """Reject a limit that is not positive, and a backbone that takes the noise level."""
        if self.contrast_limit is not None and not 0 < self.contrast_limit < float("inf"):
            raise ValueError(f"contrast_limit must be positive or None, not {self.contrast_limit}")
        if protocol.noise_argument(self.backbone) is not None:
            raise ValueError(
                "a network of two scales must be blind: this one takes the noise level"
            )
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject a scale that is not the noise level; see `Inside.check_wrapper`."""
        check_unit_noise(statistic, "two scales")

    def setup(self):
        """Share the backbone's scope; the interpolation has no variables."""
        super().setup()
        self.double = DoubleLinear()

    def __call__(self, z: Array, *, anchor: Anchor = Anchor(), **kwargs: Any) -> Array:  # noqa: B008
        """Denoise; see `two_scales`."""
        options: dict[str, Any] = {"contrast_limit": self.contrast_limit, "double": self.double}
        return two_scales(self.backbone, z, anchor=anchor, **options, **kwargs)

    @property
    def multiple(self) -> int:
        """Twice that of the backbone, which also sees images of half the size."""
        return 2 * protocol.multiple(self.backbone)

    @property
    def receptive_radius(self) -> int | None:
        """That of the backbone on the coarse grid, and of the way there and back."""
        return reach(protocol.receptive_radius(self.backbone), self.contrast_limit)

    @property
    def pads_zeros(self) -> bool:
        """As declared by the backbone."""
        return protocol.pads_zeros(self.backbone)
