"""FFDNet: a plain stack of convolutions on a quarter of the pixels, whose channels are four pixels each."""

from typing import Any, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.downsample import pixel_unshuffle
from wne_jax.layers.upsample import pixel_shuffle
from wne_jax.models._inputs import Declared, as_images, check_choice, check_depth, with_noise_map
from wne_jax.transforms import process


class FFDNet(Declared, nn.Module, kw_only=True):
    r"""`pixel_unshuffle` by 2, `depth` convolutions with ReLU in between, and `pixel_shuffle`.

    The output of the last convolution is the image. The published networks take the noise level, as a
    constant channel after the unshuffled image: $f(y, \sigma)$. A pixel costs a quarter of what it costs in
    an FDnCNN of the same depth and features. The published network for colour has depth 12 and features 96.

    Attributes:
        depth: Number of convolutions, 2 or more.
        features: Channels inside.
        padding: "zeros", "reflect" or "circular".
        conditioned: Whether the model takes `sigma`.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels.
        precision: As in `jax.lax.conv`.

    Raises:
        ValueError: An unknown padding, or a depth below 2.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 32, 32, 1))
        >>> variables = jax.eval_shape(FFDNet(conditioned=True).init, jax.random.key(0), y, 0.1)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        485316

    References:
        Zhang, Zuo & Zhang, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising",
        IEEE TIP 2018.
    """

    depth: int = 15
    features: int = 64
    padding: Padding = "zeros"
    conditioned: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    precision: PrecisionLike = None

    multiple = 2

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, get_args(Padding))
        check_depth(self.depth)
        super().__post_init__()

    @property
    def receptive_radius(self) -> int | None:
        """How far an output pixel sees, in pixels; None with circular padding, which has no borders.

        A convolution sees two pixels farther, and a pixel's block of four begins up to one pixel before it.
        """
        return None if self.padding == "circular" else 2 * self.depth + 1

    @property
    def pads_zeros(self) -> bool:
        """Whether convolutions see zeros beyond the borders of the image."""
        return self.padding == "zeros"

    @nn.compact
    def __call__(
        self, y: ArrayLike, sigma: ArrayLike | None = None, *, train: bool = False
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]`, of any size: odd sides are padded by a reflected pixel.
            sigma: Noise level in the units of `y`, a scalar or `[B]`, for a conditioned model alone.
            train: Accepted as by every model; it changes nothing here.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers).

        Raises:
            ValueError: A wrong rank, or a `sigma` that is missing, superfluous or of a wrong size.
        """

        def net(x: Array) -> Array:
            h = with_noise_map(pixel_unshuffle(x, 2), sigma, conditioned=self.conditioned)
            for i in range(self.depth - 1):
                h = nn.relu(self._conv(i, self.features)(h))
            h = self._conv(self.depth - 1, 4 * x.shape[-1])(h)
            return pixel_shuffle(h.astype(x.dtype), 2)

        return process(net, as_images(y), multiple=self.multiple)

    def _conv(self, i: int, features: int) -> nn.Module:
        options: dict[str, Any] = {
            "dtype": self.dtype, "param_dtype": self.param_dtype, "precision": self.precision,
            "kernel_init": self.kernel_init, "padding": self.padding,
        }  # fmt: skip
        return Conv(features, name=f"conv_{i}", **options)
