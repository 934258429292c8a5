"""Self-attention in plain or shifted windows of an image, with a bias for relative positions.

Images are `[B, H, W, C]`; the window's side w divides their sides. A window's w² pixels, row by row, are its
tokens. In a grid shifted by s, windows start at s, s + w, .... The image is rolled by s, so that these become
windows of the plain grid. Windows in the last row and column then hold pixels from opposite borders. On a
torus these are neighbours; in an image they must not attend to each other, so their region labels differ.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array

_MASKED = -100.0
"""Added to the logits of pairs that must not attend to each other, as in the published models."""


def split_windows(x: Array, window: int) -> Array:
    """Split images into windows: `[B, H, W, C]` to `[B, number of windows, window**2, C]`.

    Args:
        x: Images, whose sides are multiples of `window`.
        window: Side of a window.

    Returns:
        Tokens of each window, windows and tokens row by row.

    Example:
        >>> split_windows(jnp.arange(16).reshape(1, 4, 4, 1), 2)[0, 1, :, 0].tolist()
        [2, 3, 6, 7]
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, (height // window) * (width // window), window**2, channels)


def merge_windows(tokens: Array, shape: tuple[int, ...]) -> Array:
    """Undo `split_windows`.

    Args:
        tokens: `[B, number of windows, window**2, C]`.
        shape: Shape of the images, `(B, H, W, C)`.

    Returns:
        Images `[B, H, W, C]`.
    """
    batch, height, width, channels = shape
    window = math.isqrt(tokens.shape[2])
    x = tokens.reshape(batch, height // window, width // window, window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(shape)


@functools.lru_cache
def relative_position_index(window: int) -> np.ndarray:
    r"""Number the displacements between two tokens of a window.

    The pair of tokens at $(i, j)$ and $(k, l)$ has number $(i - k + w - 1)(2 w - 1) + (j - l + w - 1)$.

    Args:
        window: w, the side of the window.

    Returns:
        `[window**2, window**2]` integers from 0 to (2w - 1)² - 1, read-only.

    Example:
        >>> relative_position_index(2).tolist()
        [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    """
    rows, columns = np.divmod(np.arange(window**2), window)
    down = rows[:, None] - rows + window - 1
    right = columns[:, None] - columns + window - 1
    index = (down * (2 * window - 1) + right).astype(np.int32)
    index.flags.writeable = False  # the cache shares it between callers
    return index


def shifted_regions(height: int, width: int, *, window: int, shift: int) -> Array:
    """Label the pixels of a rolled image by their window in the shifted grid.

    Labels are meaningful only within one window of the rolled image. They are w² integers per window,
    computed in the graph; a mask of pairs would put w⁴ constants per window into the executable.

    Args:
        height: H, a multiple of `window`.
        width: W, a multiple of `window`.
        window: Side of a window.
        shift: By how many pixels the image was rolled towards its origin, from 0 to `window`.

    Returns:
        int32 `[number of windows, window**2]`. Each window has one label, except in the last row and column.

    Example:
        >>> shifted_regions(2, 4, window=2, shift=1).tolist()
        [[3, 3, 6, 6], [4, 5, 7, 8]]
    """

    def label(size: int) -> Array:
        position = jnp.arange(size, dtype=jnp.int32)
        last_window, wrapped = position >= size - window, position >= size - shift
        return last_window.astype(jnp.int32) + wrapped.astype(jnp.int32)

    labels = 3 * label(height)[:, None] + label(width)[None, :]
    return split_windows(labels[None, :, :, None], window)[0, :, :, 0]


class WindowAttention(nn.Module):
    r"""Multi-head attention among the tokens of each window.

    $$\mathrm{softmax}\!\left(q k^\top / \sqrt d + B\right) v$$

    where $d$ = channels / heads, and $B$ has one trainable entry per head and displacement (`relative_bias`).

    On CPU it is as fast as `jax.nn.dot_product_attention`, whose softmax is in float32 even for float64. Here
    the softmax has the precision of the computation, at least float32.

    Attributes:
        heads: Number of heads; it divides the channels.
        window: w, the side of a window.
        shift: Offset of the grid of windows, from 0 to `window - 1`.
        circular: Whether the image is a torus, on which shifted windows wrap around.
        dtype: Precision of the computation (None: that of input and parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels of `qkv` and `projection`, and of `relative_bias`.
        precision: As in `jax.lax.dot_general`.

    Example:
        >>> attention = WindowAttention(heads=2, window=4)
        >>> x = jnp.ones((1, 8, 12, 6))
        >>> attention.init_with_output(jax.random.key(0), x)[0].shape
        (1, 8, 12, 6)

    References:
        Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021,
        section 3.2 and equation 4.
    """

    heads: int
    window: int = 8
    shift: int = 0
    circular: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.normal(0.02)
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array, regions: Array | None = None) -> Array:
        """Attend within windows.

        Args:
            x: `[B, H, W, C]`, sides divisible by the window.
            regions: `shifted_regions` of the image; used if `shift` is not 0 and `circular` is False.

        Returns:
            `[B, H, W, C]`.

        Raises:
            ValueError: The heads do not divide the channels, or regions are missing for a shifted grid.
        """
        if x.shape[-1] % self.heads:
            raise ValueError(
                f"heads must divide the channels: {x.shape[-1]} channels, {self.heads} heads"
            )
        masked = self.shift != 0 and not self.circular
        if masked and regions is None:
            raise ValueError(
                "attention with a shift needs regions: pass shifted_regions(...), or set circular=True"
            )
        (x,) = promote_dtype(x, dtype=self.dtype)
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        tokens = split_windows(x, self.window)
        tokens = self._attend(tokens, regions if masked else None)
        x = merge_windows(tokens, x.shape)
        return jnp.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x

    def _attend(self, tokens: Array, regions: Array | None) -> Array:
        """Attend within each window; input and output are `[B, windows, tokens, C]`."""
        *leading, channels = tokens.shape
        depth = channels // self.heads
        qkv = self._dense("qkv", 3 * channels)(tokens)
        qkv = qkv.reshape(*leading, 3, self.heads, depth).transpose(3, 0, 1, 4, 2, 5)
        q, k, v = qkv[0] * depth**-0.5, qkv[1], qkv[2]

        at_least = np.promote_types(q.dtype, np.float32)
        logits = jnp.einsum(
            "bnhqd,bnhkd->bnhqk", q, k, precision=self.precision, preferred_element_type=at_least
        )
        weights = jax.nn.softmax(logits + self._bias(at_least, regions)).astype(v.dtype)
        out = jnp.einsum("bnhqk,bnhkd->bnhqd", weights, v, precision=self.precision)
        out = out.transpose(0, 1, 3, 2, 4).reshape(*leading, channels)
        return self._dense("projection", channels)(out)

    def _bias(self, dtype: Dtype, regions: Array | None) -> Array:
        """The bias of the logits, `[1, windows or 1, heads, tokens, tokens]`."""
        shape = ((2 * self.window - 1) ** 2, self.heads)
        table = self.param("relative_bias", self.kernel_init, shape, self.param_dtype)
        bias = table.astype(dtype)[relative_position_index(self.window)].transpose(2, 0, 1)
        bias = bias[None, None]
        if regions is None:
            return bias
        together = regions[None, :, None, :, None] == regions[None, :, None, None, :]
        return jnp.where(together, bias, bias + _MASKED)

    def _dense(self, name: str, features: int) -> nn.Dense:
        return nn.Dense(
            features, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=self.kernel_init,
            precision=self.precision, name=name,
        )  # fmt: skip
