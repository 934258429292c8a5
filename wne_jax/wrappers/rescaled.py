r"""Other scales, as a factor inside the wrapper.

After `mean_std`, an image has contrast 1. Any positive function $k(z)$ of this normalized image gives another
scale, $s(y) = \operatorname{std}(y)\, k(T(y))$, with the same symmetry: T(y) is invariant to a y + b, so k
is, too. The backbone then works on z / k. Three choices of k are given here; `experiments.regret` compares
them with the statistics of `wne_jax.statistics`.

k is computed from the backbone's input; on a tiled image, separately for each tile.
"""

from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from wne_jax import protocol
from wne_jax.statistics import (
    FLOOR,
    Statistic,
    haar_mad,
    has_gain,
    has_unit_noise,
    high_pass,
    symmetry_of,
)
from wne_jax.transforms import Anchor
from wne_jax.wrappers.base import Inside

Factor = Literal["blend", "multi_scale", "learned"]

LARGEST = 20.0
"""Learned factors are between 1/20 and 20."""


def blend(z: Array) -> Array:
    """The geometric mean of noise level and contrast, for images `[B, H, W, C]` of contrast 1.

    Returns:
        Factors `[B, 1, 1, 1]`; 1 for constant images.

    Example:
        >>> import jax
        >>> z = jax.random.normal(jax.random.key(0), (1, 64, 64, 1))  # noise alone: both are 1
        >>> round(float(blend(z)[0, 0, 0, 0]), 1)
        1.0
    """
    level = haar_mad(z).scale
    varies = level > 0
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, level, 1)), 1)


def multi_scale(z: Array) -> Array:
    r"""The geometric mean over four octaves of the root mean square of a high-pass of unit noise gain.

    Averaging 2 x 2 pixels halves the standard deviation of white noise. The high-pass of every coarser image
    is doubled, so that white noise has the same value in all octaves. Octaves that are too small for a
    high-pass are skipped.

    Args:
        z: Images `[B, H, W, C]` of contrast 1.

    Returns:
        Factors `[B, 1, 1, 1]`; 1 for constant images.
    """
    logs, gain, octave = [], 1.0, z
    for _ in range(4):
        level = gain * high_pass(octave).scale
        logs.append(jnp.log(jnp.maximum(level, FLOOR)))  # an octave may be zero
        height, width = octave.shape[1] // 2, octave.shape[2] // 2
        if min(height, width) < 4:
            break
        even = octave[:, : 2 * height, : 2 * width]
        pooled = jnp.reshape(even, (even.shape[0], height, 2, width, 2, even.shape[3]))
        octave, gain = jnp.mean(pooled, axis=(2, 4)), 2 * gain
    constant = jnp.all(z == 0, axis=(1, 2, 3), keepdims=True)
    return jnp.where(constant, 1, jnp.exp(sum(logs[1:], start=logs[0]) / len(logs)))


class LearnedFactor(nn.Module):
    """A small network for the factor: two strided convolutions, the mean over all pixels, one number.

    Its initial value is 1, the scale of `mean_std`.

    Attributes:
        features: Hidden channels.
    """

    features: int = 16

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Factors `[B, 1, 1, 1]` of images `[B, H, W, C]`."""
        h = z
        for i in range(2):
            h = nn.relu(nn.Conv(self.features, (3, 3), (2, 2), name=f"conv_{i}")(h))
        h = jnp.mean(h, axis=(1, 2), keepdims=True)
        h = nn.Dense(1, kernel_init=nn.initializers.zeros_init(), name="last")(h)
        bound = jnp.log(jnp.asarray(LARGEST, h.dtype))
        return jnp.exp(bound * jnp.tanh(h / bound))


class Rescaled(Inside):
    """A backbone that works on z / k(z): wrap it in `WNE` with `mean_std`.

    Attributes:
        backbone: A denoiser.
        by: The factor k: "blend", "multi_scale", or "learned", which adds parameters under `rescaled`.

    Raises:
        ValueError: The factor is unknown, or the network takes the noise level.

    Example:
        >>> import jax, wne_jax as wne
        >>> model = wne.WNE(Rescaled(wne.models.DnCNN(depth=3, features=8), "learned"))
        >>> y = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    by: Factor

    def __post_init__(self):
        """Reject an unknown factor, and a network that takes the noise level."""
        if self.by not in get_args(Factor):
            raise ValueError(f"by must be one of {', '.join(get_args(Factor))}; not {self.by!r}")
        if protocol.noise_argument(self.backbone) is not None:
            raise ValueError("a rescaled network must be blind, but this one takes the noise level")
        super().__post_init__()

    @nn.nowrap
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject coordinates without contrast 1; see `Inside.check_wrapper`."""
        by_noise = statistic is not None and (has_unit_noise(statistic) or has_gain(statistic))
        if statistic is None or by_noise or symmetry_of(statistic) != "normalization":
            raise ValueError(
                "a rescaled backbone needs images of contrast 1: use a wrapper with a statistic such as "
                "mean_std"
            )
        if anchor != Anchor():
            raise ValueError(f"a rescaled backbone has its own scale: leave out {anchor}")

    def setup(self):
        """Share the backbone's scope."""
        super().setup()
        if self.by == "learned":
            self.rescaled = LearnedFactor()

    def __call__(self, z: Array, *, anchor: Anchor = Anchor(), **kwargs: Any) -> Array:  # noqa: B008
        """Denoise; there is no anchor."""
        factors = {"blend": blend, "multi_scale": multi_scale}
        k = (self.rescaled if self.by == "learned" else factors[self.by])(z).astype(z.dtype)
        return k * self.backbone(z / k, **kwargs)
