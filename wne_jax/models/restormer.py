"""Restormer: a U-net of transformer blocks with attention over channels instead of pixels."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, PrecisionLike
from jax import Array, lax
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.depthwise import DepthwiseConv
from wne_jax.layers.downsample import pixel_unshuffle
from wne_jax.layers.normalization import Normalization
from wne_jax.layers.upsample import pixel_shuffle
from wne_jax.models._inputs import Declared, as_images, check_choice, with_noise_map
from wne_jax.transforms import process

_KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Restormer(Declared, nn.Module, kw_only=True):
    r"""An encoder and a decoder of transformer blocks, which predict a residual to add to the image.

    Level l (from 0) has $2^l$ times the channels of the first level, at $2^{-l}$ of its size. The decoder
    concatenates the encoder's maps. The first level does not reduce the channels after that, so its decoder
    blocks and the refinement blocks have `2 dim` channels. No convolution has a bias. Every block is

    $$h \leftarrow h + \mathrm{MDTA}(\mathrm{LN}(h)), \qquad h \leftarrow h + \mathrm{GDFN}(\mathrm{LN}(h)).$$

    Attributes:
        dim: Channels of the first level; the heads of each level must divide its channels.
        blocks: Number of blocks of each level, the deepest last, for two levels or more. The decoder has the
            same numbers.
        heads: Number of attention heads of each level.
        refinement_blocks: Number of blocks after the decoder.
        expansion: Hidden channels of the feed-forward network divided by channels of its block (rounded
            down).
        norm_bias: Whether layer normalizations subtract the mean and add a bias. If False they do neither:
            $\gamma\,x / \sqrt{\operatorname{var}(x) + 10^{-5}}$, as in the official denoisers.
        padding: "zeros", "reflect" or "circular", for every convolution. With "circular", on sides that are
            multiples of `multiple`, the network commutes with circular shifts by multiples of it. Other sizes
            are first padded to multiples by reflection.
        remat: Whether to recompute each block for the gradient, which needs less memory and more time.
        dtype: Precision of the computation (None: that of the input and the parameters together).
            Normalizations, sums over pixels and the softmax are in at least float32.
        param_dtype: Precision of the parameters.
        precision: As in `jax.lax.conv`, for convolutions and attention.

    Raises:
        ValueError: An unknown padding, `blocks` and `heads` of different lengths or with fewer than two
            levels, an odd `dim`, or heads that do not divide the channels.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 64, 64, 1))
        >>> variables = jax.eval_shape(Restormer().init, jax.random.key(0), y)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        26124052

    References:
        Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022,
        section 3.
    """

    dim: int = 48
    blocks: Sequence[int] = (4, 6, 6, 8)
    heads: Sequence[int] = (1, 2, 4, 8)
    refinement_blocks: int = 4
    expansion: float = 2.66
    norm_bias: bool = True
    padding: Padding = "zeros"
    remat: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, get_args(Padding))
        self.blocks, self.heads = tuple(self.blocks), tuple(self.heads)  # JSON has lists
        if len(self.blocks) != len(self.heads) or len(self.blocks) < 2:
            raise ValueError(
                f"blocks and heads must have one entry per level, for two levels or more; they are "
                f"{self.blocks} and {self.heads}"
            )
        if self.dim % 2:
            raise ValueError(f"dim must be even, not {self.dim}, since downsampling halves it")
        for level, heads in enumerate(self.heads):
            if heads < 1 or self.dim * 2**level % heads:
                raise ValueError(
                    f"heads must divide the channels of their level; they are {heads} and "
                    f"{self.dim * 2**level} at level {level}"
                )
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """The number that must divide the sides of an image, since each level after the first halves them."""
        return 2 ** (len(self.blocks) - 1)

    @property
    def receptive_radius(self) -> int | None:
        """None (unbounded), since attention pools over the whole image."""
        return None

    @nn.compact
    def __call__(
        self, y: ArrayLike, sigma: ArrayLike | None = None, *, train: bool = False
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]` of any size; sides are padded to `multiple` by reflection.
            sigma: Must be None, since the model is blind.
            train: Accepted for a common interface, and ignored.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers).

        Raises:
            ValueError: A wrong rank, or a `sigma` that is not None.
        """
        y = with_noise_map(as_images(y), sigma, conditioned=False)
        return process(self._denoise, y, multiple=self.multiple)

    def _denoise(self, y: Array) -> Array:
        """Apply the network to sides that are multiples of `multiple`."""
        layers = self._layers()
        deepest, skips = len(self.blocks) - 1, []
        channels = [self.dim * 2**level for level in range(deepest + 1)]
        h = layers.conv(self.dim, 3, "patch_embed")(y)
        for level in range(deepest):
            h = self._level(h, f"encoder_{level}", level)
            skips.append(h)
            h = pixel_unshuffle(layers.conv(channels[level] // 2, 3, f"down_{level}")(h), 2)
        h = self._level(h, "latent", deepest)
        for level in reversed(range(deepest)):
            h = pixel_shuffle(layers.conv(channels[level] * 4, 3, f"up_{level}")(h), 2)
            h = jnp.concatenate([h, skips[level]], axis=-1)
            if level > 0:
                h = layers.conv(channels[level], 1, f"reduce_{level}")(h)
            h = self._level(h, f"decoder_{level}", level)
        h = self._level(h, "refinement", 0, self.refinement_blocks)
        return y + layers.conv(y.shape[-1], 3, "output")(h).astype(y.dtype)

    def _level(self, h: Array, name: str, level: int, count: int | None = None) -> Array:
        """Apply the blocks `{name}_0`, `{name}_1`, ...; by default as many as the level has."""
        block = nn.remat(_Block) if self.remat else _Block
        for i in range(self.blocks[level] if count is None else count):
            h = block(
                heads=self.heads[level], expansion=self.expansion, norm_bias=self.norm_bias,
                layers=self._layers(), name=f"{name}_{i}",
            )(h)  # fmt: skip
        return h

    def _layers(self) -> "_Layers":
        return _Layers(self.padding, self.dtype, self.param_dtype, self.precision)


class _Layers(NamedTuple):
    """The convolutions with their shared options."""

    padding: Padding
    dtype: Dtype | None
    param_dtype: Dtype
    precision: PrecisionLike

    def conv(self, features: int, kernel_size: int, name: str) -> Conv:
        return Conv(
            features, kernel_size, use_bias=False, kernel_init=_KERNEL_INIT, name=name,
            **self._asdict(),
        )  # fmt: skip

    def depthwise(self, name: str) -> DepthwiseConv:
        return DepthwiseConv(3, kernel_init=_KERNEL_INIT, name=name, **self._asdict())


class _Block(nn.Module):
    """Attention over channels, then a gated feed-forward network, each with normalization and a skip."""

    heads: int
    expansion: float
    norm_bias: bool
    layers: _Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        attention = _Attention(self.heads, self.layers, name="attention")
        feed_forward = _FeedForward(self.expansion, self.layers, name="feed_forward")
        x = x + attention(self._norm("norm_0")(x))
        return x + feed_forward(self._norm("norm_1")(x))

    def _norm(self, name: str) -> Normalization:
        """Normalize the channels at each pixel; without bias, the mean is not subtracted either."""
        return Normalization(
            centring="C" if self.norm_bias else "", scaling="C", affine="C", use_bias=self.norm_bias,
            dtype=self.layers.dtype, param_dtype=self.layers.param_dtype, name=name,
        )  # fmt: skip


class _Attention(nn.Module):
    r"""Multi-Dconv head transposed attention (MDTA).

    For one head, q, k and v are matrices of channels by pixels; $\hat q$ and $\hat k$ are q and k with rows
    divided by their norms. Then

    $$\mathrm{out} = \operatorname{softmax}(\tau\, \hat q\, \hat k^\top)\, v.$$
    """

    heads: int
    layers: _Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        temperature = self.param(
            "temperature", nn.initializers.ones, (self.heads,), self.layers.param_dtype
        )
        qkv = self.layers.conv(3 * channels, 1, "qkv")(x)
        qkv = self.layers.depthwise("qkv_depthwise")(qkv)
        qkv = qkv.reshape(batch, height * width, 3 * self.heads, channels // self.heads)
        q, k, v = jnp.split(qkv, 3, axis=2)

        wide, precision = at_least_float32(qkv.dtype), self.layers.precision
        similarity = jnp.einsum(
            "bnhc,bnhd->bhcd", q, k, precision=precision, preferred_element_type=wide
        )
        scale = temperature.astype(wide).reshape(1, -1, 1) * _inverse_norm(q, wide)
        similarity *= scale[..., :, None] * _inverse_norm(k, wide)[..., None, :]
        weights = nn.softmax(similarity).astype(v.dtype)
        out = jnp.einsum("bhcd,bnhd->bnhc", weights, v, precision=precision)
        return self.layers.conv(channels, 1, "out")(out.reshape(x.shape))


class _FeedForward(nn.Module):
    """Gated-Dconv feed-forward network (GDFN): one half of the hidden channels gates the other."""

    expansion: float
    layers: _Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        hidden = int(channels * self.expansion)
        h = self.layers.conv(2 * hidden, 1, "in")(x)
        gate, h = jnp.split(self.layers.depthwise("depthwise")(h), 2, axis=-1)
        return self.layers.conv(channels, 1, "out")(nn.gelu(gate, approximate=False) * h)


def _inverse_norm(x: Array, dtype: Dtype) -> Array:
    """1 / max(|x|, 1e-12) over pixels, `[B, N, heads, C]` to `[B, heads, C]`; its gradient at 0 is 0."""
    squares = jnp.sum(jnp.square(x.astype(dtype)), axis=1)
    return lax.rsqrt(jnp.maximum(squares, 1e-24))
