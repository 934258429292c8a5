"""FDnCNN: a plain stack of convolutions without normalization, with three kinds of equivariance."""

from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.affine_conv import AffineConv
from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.sort_pool import sort_pool
from wne_jax.models._inputs import Declared, as_images, check_choice, check_depth, with_noise_map

Mode = Literal["ordinary", "scale-equivariant", "normalization-equivariant"]


class FDnCNN(Declared, nn.Module, kw_only=True):
    r"""`depth` convolutions with a nonlinearity in between; the last one predicts the image.

    | mode | convolution | nonlinearity | for $a > 0$ and real b |
    |---|---|---|---|
    | ordinary | with bias, except the last (see `last_bias`) | ReLU | |
    | scale-equivariant | without bias | ReLU | $f(a y) = a f(y)$ |
    | normalization-equivariant | `AffineConv` | `sort_pool` | $f(a y + b) = a f(y) + b$ |

    A conditioned model has $f(a y + b, a \sigma) = a f(y, \sigma) + b$, with b = 0 in the second mode, since
    the noise map is exempt from the affine constraint.

    Attributes:
        depth: Number of convolutions, 2 or more.
        features: Channels of the hidden layers; even in the normalization-equivariant mode.
        mode: One of the three modes above.
        last_bias: Whether the last convolution of the ordinary mode also has a bias.
        padding: "zeros", "reflect" or "circular". None means "zeros", or "reflect" in the
            normalization-equivariant mode, which does not allow "zeros".
        conditioned: Whether the model takes `sigma`, as a constant channel after those of the image.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels (None: that of `Conv`, or of `AffineConv`).
        precision: As in `jax.lax.conv`.

    Raises:
        ValueError: An unknown mode or padding, a depth below 2, or zeros or an odd number of features in the
            normalization-equivariant mode.

    Example:
        >>> import jax
        >>> model = FDnCNN(depth=3, features=8, mode="normalization-equivariant")
        >>> y = jax.random.uniform(jax.random.key(0), (1, 9, 7, 1))
        >>> variables = model.init(jax.random.key(1), y)
        >>> f = lambda y: model.apply(variables, y)
        >>> bool(jnp.allclose(f(0.1 * y + 5), 0.1 * f(y) + 5, atol=1e-5))
        True

    References:
        Zhang, Zuo & Zhang, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising",
        IEEE TIP 2018. Scale-equivariant: Mohan et al., "Robust and Interpretable Blind Image Denoising via
        Bias-Free Convolutional Neural Networks", ICLR 2020. Normalization-equivariant: Herbreteau, Moebel &
        Kervrann, "Normalization-Equivariant Neural Networks with Application to Image Denoising",
        NeurIPS 2023.
    """

    depth: int = 20
    features: int = 64
    mode: Mode = "ordinary"
    last_bias: bool = False
    padding: Padding | None = None
    conditioned: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer | None = None
    precision: PrecisionLike = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_depth(self.depth)
        if self.padding is not None:
            affine = self.mode == "normalization-equivariant"
            known = tuple(p for p in get_args(Padding) if not (affine and p == "zeros"))
            check_choice("padding", self.padding, known, hint=f", for mode {self.mode!r}")
        super().__post_init__()

    @property
    def receptive_radius(self) -> int | None:
        """Radius of the receptive field in pixels; None (unbounded) with circular padding."""
        return None if self.padding == "circular" else self.depth

    @property
    def pads_zeros(self) -> bool:
        """Whether convolutions see zeros beyond the borders of the image."""
        return self.padding in (None, "zeros") and self.mode != "normalization-equivariant"

    @nn.compact
    def __call__(
        self, y: ArrayLike, sigma: ArrayLike | None = None, *, train: bool = False
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]` of any size.
            sigma: Noise level in the units of `y`, a scalar or `[B]`, for a conditioned model only.
            train: Accepted for a common interface, and ignored.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers).

        Raises:
            ValueError: A wrong rank, or a `sigma` that is missing, not accepted, or of a wrong shape.
        """
        y = as_images(y)
        activation = sort_pool if self.mode == "normalization-equivariant" else nn.relu
        h = with_noise_map(y, sigma, conditioned=self.conditioned)
        for i in range(self.depth - 1):
            h = activation(self._conv(i, self.features)(h))
        return self._conv(self.depth - 1, y.shape[-1])(h).astype(y.dtype)

    def _conv(self, i: int, features: int) -> nn.Module:
        common: dict[str, Any] = {
            "dtype": self.dtype, "param_dtype": self.param_dtype, "precision": self.precision,
            "name": f"conv_{i}",
        }  # fmt: skip
        if self.kernel_init is not None:
            common["kernel_init"] = self.kernel_init
        if self.mode == "normalization-equivariant":
            exempt = int(self.conditioned and i == 0)
            return AffineConv(features, padding=self.padding or "reflect", exempt=exempt, **common)
        use_bias = self.mode == "ordinary" and (self.last_bias or i < self.depth - 1)
        return Conv(features, padding=self.padding or "zeros", use_bias=use_bias, **common)
