"""SwinIR for denoising: residual groups of attention in shifted windows."""

from collections.abc import Sequence
from typing import get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.window_attention import WindowAttention, shifted_regions
from wne_jax.models._inputs import (
    Declared,
    as_images,
    check_choice,
    check_upscale,
    to_output,
    with_noise_map,
)
from wne_jax.transforms import process


class SwinIR(Declared, nn.Module, kw_only=True):
    r"""Convolution; `groups` residual groups of `blocks` Swin blocks and a convolution; convolution twice.

    $f(y) = y + \mathrm{conv}(h + \mathrm{conv}(\mathrm{body}(h)))$, where $h$ is a convolution of the image.
    A block is

    $$x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad
    x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x)),$$

    and every second block of a group has its windows shifted by half a window.

    | | groups | blocks | features | parameters, gray |
    |---|---|---|---|---|
    | light (the default; Saied & Fleuret 2026) | 4 | 6 | 60 | 903,121 |
    | classical (the published denoisers) | 6 | 6 | 180 | 11,497,681 |

    An image of a single window is processed like any other. The published code disables the shift if it was
    *built* for such images; built for larger images, it works like this model. Stochastic depth, a
    regularizer without parameters in the published training, is not implemented.

    Attributes:
        groups: Number of residual groups.
        blocks: Number of Swin blocks in each group.
        features: Channels of the hidden layers, a multiple of `heads`.
        heads: Number of attention heads.
        window: Side of a window.
        mlp_ratio: Hidden channels of a block's MLP, divided by `features`.
        patch_norm: Whether to normalize also before the first group.
        padding: "zeros", "reflect" or "circular", for every convolution. With "circular" the shifted windows
            also wrap around, and nothing is masked. Then, on sides that are multiples of the window, the
            network commutes with circular shifts by whole windows. Other sizes are first padded to multiples
            by reflection.
        mean: Value of each channel to subtract before the first layer, and to add to the output. It is
            (0.4488, 0.4371, 0.4040) for the published colour denoisers, and None for the gray ones.
        upscale: Factor by which the output is larger: the last convolution has `upscale**2` times the
            channels, which `pixel_shuffle` turns into pixels, and is added to the repeated pixels of `y`.
        out_channels: Channels of the output (None: those of the image); it is added to the mean channel of
            `y`.
        dtype: Precision of the computation (None: that of the input and the parameters together). Moments
            and softmax are in at least float32.
        param_dtype: Precision of the parameters.
        precision: As in `jax.lax.conv`.
        remat: Whether to recompute each block for the gradient, which needs less memory and more time.

    Raises:
        ValueError: An unknown padding, numbers below 1, heads that do not divide the features, or an MLP
            without channels.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 64, 64, 1))
        >>> variables = jax.eval_shape(SwinIR().init, jax.random.key(0), y)
        >>> sum(p.size for p in jax.tree.leaves(variables))
        903121

    References:
        Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV Workshops 2021, section 3.
        Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.
    """

    groups: int = 4
    blocks: int = 6
    features: int = 60
    heads: int = 6
    window: int = 8
    mlp_ratio: float = 2.0
    patch_norm: bool = True
    padding: Padding = "zeros"
    mean: Sequence[float] | None = None
    upscale: int = 1
    out_channels: int | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    remat: bool = False

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, get_args(Padding))
        for name in ("groups", "blocks", "features", "heads", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.features % self.heads:
            raise ValueError(
                f"heads must divide features: features is {self.features}, heads {self.heads}"
            )
        if self.mlp_ratio * self.features < 1:
            raise ValueError(
                f"mlp_ratio must leave an MLP at least one channel; it is {self.mlp_ratio}"
            )
        check_upscale(self.upscale, self.out_channels)
        if self.mean is not None:
            self.mean = tuple(self.mean)  # JSON has lists, and modules are hashed
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """The sides of an image are padded to a multiple of this number."""
        return self.window

    @property
    def receptive_radius(self) -> int | None:
        """Radius of the receptive field in pixels, ignoring masked pairs; None with circular padding.

        A crop has the same windows as the whole image if it starts at multiples of `multiple`.
        """
        if self.padding == "circular":
            return None
        return _reach(self.groups, self.blocks, self.window)

    @nn.compact
    def __call__(
        self, y: ArrayLike, sigma: ArrayLike | None = None, *, train: bool = False
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]` of any size.
            sigma: Must be None, since the model is blind.
            train: Accepted for a common interface, and ignored.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers), or as `upscale` and `out_channels`
            say.

        Raises:
            ValueError: A wrong rank, a `sigma` that is not None, or a `mean` with another number of channels.
        """
        y = with_noise_map(as_images(y), sigma, conditioned=False)
        return process(self._denoise, y, multiple=self.multiple)

    def _denoise(self, y: Array) -> Array:
        """Apply the network to a padded image, whose sides are multiples of the window."""
        shallow = self._conv("first", self.features)(y - self._mean(y))
        shift = self.window // 2
        regions = None
        if self.padding != "circular":
            regions = shifted_regions(*y.shape[1:3], window=self.window, shift=shift)
        h = self._norm("first")(shallow) if self.patch_norm else shallow
        for i in range(self.groups):
            group = h
            for j in range(self.blocks):
                h = self._block(f"{i}_{j}", shift * (j % 2))(h, regions)
            h = group + self._conv(f"{i}", self.features)(h)
        h = shallow + self._conv("body", self.features)(self._norm("last")(h))
        channels = y.shape[-1] if self.out_channels is None else self.out_channels
        h = self._conv("last", channels * self.upscale**2)(h).astype(y.dtype)
        return to_output(h, y, upscale=self.upscale, out_channels=self.out_channels)

    def _mean(self, y: Array) -> Array:
        """`mean` as an array that broadcasts to `y`."""
        mean = jnp.asarray((0.0,) if self.mean is None else self.mean, y.dtype)
        if self.mean is not None and mean.shape != y.shape[-1:]:
            raise ValueError(
                f"mean must have one number per channel: y has {y.shape[-1]}, mean is {self.mean}"
            )
        return mean.reshape(1, 1, 1, -1)

    def _conv(self, name: str, features: int) -> Conv:
        return Conv(
            features, padding=self.padding, dtype=self.dtype, param_dtype=self.param_dtype,
            kernel_init=_CONV_INIT, precision=self.precision, name=f"conv_{name}",
        )  # fmt: skip

    def _norm(self, name: str) -> nn.LayerNorm:
        return _layer_norm(self.dtype, self.param_dtype, f"norm_{name}")

    def _block(self, name: str, shift: int) -> nn.Module:
        block = nn.remat(_Block) if self.remat else _Block
        return block(
            heads=self.heads, window=self.window, shift=shift, mlp_ratio=self.mlp_ratio,
            circular=self.padding == "circular", dtype=self.dtype, param_dtype=self.param_dtype,
            precision=self.precision, name=f"block_{name}",
        )  # fmt: skip


_CONV_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_DENSE_INIT = nn.initializers.normal(0.02)


class _Block(nn.Module, kw_only=True):
    """A Swin block: attention in windows, then an MLP, each with normalization and a skip."""

    heads: int
    window: int
    shift: int
    mlp_ratio: float
    circular: bool
    dtype: Dtype | None
    param_dtype: Dtype
    precision: PrecisionLike

    @nn.compact
    def __call__(self, x: Array, regions: Array | None) -> Array:
        """Transform `x`, `[B, H, W, C]`; a shifted grid that is not circular needs `shifted_regions`."""
        attention = WindowAttention(
            heads=self.heads, window=self.window, shift=self.shift, circular=self.circular,
            dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=_DENSE_INIT,
            precision=self.precision, name="attention",
        )  # fmt: skip
        x = x + attention(self._norm("attention")(x), regions)
        hidden = round(self.mlp_ratio * x.shape[-1])
        h = nn.gelu(self._dense("mlp_in", hidden)(self._norm("mlp")(x)), approximate=False)
        return x + self._dense("mlp_out", x.shape[-1])(h)

    def _norm(self, name: str) -> nn.LayerNorm:
        return _layer_norm(self.dtype, self.param_dtype, f"norm_{name}")

    def _dense(self, name: str, features: int) -> nn.Dense:
        return nn.Dense(
            features, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=_DENSE_INIT,
            precision=self.precision, name=name,
        )  # fmt: skip


def _layer_norm(dtype: Dtype | None, param_dtype: Dtype, name: str) -> nn.LayerNorm:
    """Layer normalization over channels, with two-pass moments in at least float32."""
    return nn.LayerNorm(
        epsilon=1e-5, dtype=dtype, param_dtype=param_dtype, use_fast_variance=False, name=name
    )


def _reach(groups: int, blocks: int, window: int) -> int:
    """Radius of a pixel's influence along one axis, followed through the layers."""
    grids = ([0, window // 2] * blocks)[:blocks]
    layers = [None, *[*grids, None] * groups, None, None]  # None is a convolution
    radius = 0
    for start in range(window):
        first = last = start
        for origin in layers:
            if origin is None:
                first, last = first - 1, last + 1
            else:  # extend to whole windows
                first -= (first - origin) % window
                last += window - 1 - (last - origin) % window
        radius = max(radius, start - first, last - start)
    return radius
