r"""Colour images by a gray network: in opponent colours, each of which is a gray image.

The channels of a photograph show nearly the same picture, and a network that gets them one by one finds it
three times, each time under the whole noise. In the orthonormal opponent colours

$$o_1 = (R + G + B) / \sqrt 3, \quad o_2 = (R - B) / \sqrt 2, \quad o_3 = (R - 2 G + B) / \sqrt 6$$

white noise of one strength stays what it is, while nearly the whole picture is in the first. The other two
are smooth. So the network works at two scales (`wne_jax.wrappers.two_scales`).

All of this is linear around the network, and the offset of an image goes into $o_1$ alone.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from wne_jax import protocol
from wne_jax.statistics import Statistic
from wne_jax.transforms import Anchor
from wne_jax.wrappers.base import Inside
from wne_jax.wrappers.limited_contrast import LIMIT
from wne_jax.wrappers.two_scales import check_unit_noise, reach, two_scales


def opponent_colours(
    backbone: Callable[..., Array],
    z: Array,
    *,
    contrast_limit: float | None = None,
    anchor: Anchor = Anchor(),  # noqa: B008 (an immutable tuple)
    **kwargs: Any,
) -> Array:
    """Apply a denoiser of gray images to colour images.

    Args:
        backbone: Denoiser of images `[B, H, W, 1]`, which knows the strength of the noise of `z`.
        z: Images `[B, H, W, 3]` of even sides, with noise of one strength in all channels.
        contrast_limit: Largest contrast that the backbone gets, in units of the noise; see
            `wne_jax.wrappers.limited_contrast`.
        anchor: Its location is the mean of the backbone's images.
        **kwargs: Keyword arguments of the backbone.

    Returns:
        The estimate, of the shape of `z`.

    Raises:
        ValueError: Not three channels, or odd sides.

    References:
        The colours: Dabov, Foi, Katkovnik & Egiazarian, "Color image denoising via sparse 3D collaborative
        filtering with grouping constraint in luminance-chrominance space", 2007.

    Example:
        >>> import jax
        >>> z = jax.random.normal(jax.random.key(0), (1, 4, 6, 3))
        >>> bool(jnp.allclose(opponent_colours(lambda o: o, z), z, atol=1e-5))
        True
    """
    if z.ndim != 4 or z.shape[-1] != 3 or z.shape[1] % 2 or z.shape[2] % 2:
        raise ValueError(f"z must be images [B, H, W, 3] of even sides, not {z.shape}")

    planes = _to_opponent(z - anchor.location) + anchor.location
    x = two_scales(
        backbone, planes.reshape(-1, *planes.shape[2:], 1),
        contrast_limit=contrast_limit, anchor=anchor, **kwargs,
    )  # fmt: skip
    return _from_opponent(x.reshape(planes.shape) - anchor.location) + anchor.location


class OpponentColours(Inside):
    """Linen module of `opponent_colours`: wrap it in `WNE(..., axes=(1, 2))`.

    Every channel then has statistics of its own. The variables are those of the gray backbone. Where channels
    are equal, so is their noise, and in the first opponent colour it is more than white noise: such an image
    is a gray one.

    Attributes:
        backbone: A blind denoiser of gray images.
        contrast_limit: As in `opponent_colours`.

    Raises:
        ValueError: The backbone takes the noise level or a mask, or the statistic does not say how strong
            the noise is.

    Example:
        >>> import jax, wne_jax as wne
        >>> gray = wne.models.DnCNN(depth=3, features=8)
        >>> model = wne.WNE(OpponentColours(gray), wne.statistics.noise_level, axes=(1, 2))
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 14, 3))
        >>> variables = model.init(jax.random.key(1), y)
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    contrast_limit: float | None = LIMIT

    def __post_init__(self):
        """Reject a backbone that takes more than the image."""
        if protocol.noise_argument(self.backbone) or protocol.mask_argument(self.backbone):
            raise ValueError(
                "opponent colours need a backbone that takes the image alone, but this one takes the noise "
                "level or a mask"
            )
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject a scale that is not the noise level; see `Inside.check_wrapper`."""
        check_unit_noise(statistic, "opponent colours")

    def __call__(self, z: Array, *, anchor: Anchor = Anchor(), **kwargs: Any) -> Array:  # noqa: B008
        """Denoise; see `opponent_colours`."""
        limit = self.contrast_limit
        return opponent_colours(self.backbone, z, contrast_limit=limit, anchor=anchor, **kwargs)

    @property
    def multiple(self) -> int:
        """Twice that of the backbone, which also sees images of half the size."""
        return 2 * protocol.multiple(self.backbone)

    @property
    def receptive_radius(self) -> int | None:
        """That of the backbone on the coarse grid, and of the way there and back."""
        return reach(protocol.receptive_radius(self.backbone), self.contrast_limit)


def _to_opponent(z: Array) -> Array:
    """`[B, H, W, 3]` -> `[3, B, H, W]`."""
    red, green, blue = jnp.moveaxis(z, -1, 0)
    return jnp.stack(
        [
            (red + green + blue) / 3**0.5,
            (red - blue) / 2**0.5,
            (red - 2 * green + blue) / 6**0.5,
        ]
    )


def _from_opponent(planes: Array) -> Array:
    """The inverse, `[3, B, H, W]` -> `[B, H, W, 3]`."""
    mean, across, green = planes[0] / 3**0.5, planes[1] / 2**0.5, planes[2] / 6**0.5
    return jnp.stack([mean + across + green, mean - 2 * green, mean - across + green], axis=-1)
