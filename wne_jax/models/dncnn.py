"""DnCNN: a plain stack of convolutions that predicts the noise."""

from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.batch_norm import BiasFreeBatchNorm
from wne_jax.layers.conv import Conv, Padding
from wne_jax.models._inputs import as_images, check_choice, check_depth, with_noise_map

Mode = Literal["ordinary", "scale-equivariant"]


class DnCNN(nn.Module, kw_only=True):
    r"""Convolution and ReLU; `depth - 2` times convolution, batch normalization, ReLU; convolution.

    The stack predicts the noise: the output is $f(y) = y - \mathrm{net}(y)$. In evaluation the
    scale-equivariant mode has $f(a y) = a f(y)$, $a > 0$; conditioned, $f(a y, a \sigma) = a f(y, \sigma)$.

    Attributes:
        depth: Number of convolutions, 2 or more.
        features: Channels inside.
        mode: "ordinary", or "scale-equivariant": no biases anywhere, and `BiasFreeBatchNorm`.
        batch_norm: Whether the hidden layers are normalized. False fits checkpoints whose normalization was
            merged into the convolutions; their names stay.
        use_bias: Whether the ordinary mode's convolutions have biases (its batch normalization always has).
        padding: "zeros", "reflect" or "circular".
        residual: Whether the stack's output is subtracted from `y`, or is the output itself.
        conditioned: Whether the model takes `sigma`, as a constant channel after the image's.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels. The last of a residual stack starts at zero instead, the
            model at the identity: short runs gain whole decibels by it.
        precision: As in `jax.lax.conv`.
        axis_name: Axis of `jax.pmap` over which batch normalization pools, so that its statistics are those
            of the batch of all devices. (Under `jit` they are without it.)

    Raises:
        ValueError: An unknown mode or padding, or a depth below 2.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 40, 40, 1))
        >>> variables = jax.eval_shape(DnCNN().init, jax.random.key(0), y)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        668225

    References:
        Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising",
        IEEE TIP 2017, section III. Scale-equivariant: Mohan et al., "Robust and Interpretable Blind Image
        Denoising via Bias-Free Convolutional Neural Networks", ICLR 2020.
    """

    depth: int = 20
    features: int = 64
    mode: Mode = "ordinary"
    batch_norm: bool = True
    use_bias: bool = True
    padding: Padding = "zeros"
    residual: bool = True
    conditioned: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    precision: PrecisionLike = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        hint = "; FDnCNN has that mode" if self.mode == "normalization-equivariant" else ""
        check_choice("mode", self.mode, get_args(Mode), hint=hint)
        check_choice("padding", self.padding, get_args(Padding))
        check_depth(self.depth)
        super().__post_init__()

    @property
    def receptive_radius(self) -> int | None:
        """How far an output pixel sees, in pixels; None with circular padding, which has no borders."""
        return None if self.padding == "circular" else self.depth

    @nn.compact
    def __call__(
        self, y: ArrayLike, sigma: ArrayLike | None = None, *, train: bool = False
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]`, of any size.
            sigma: Noise level in the units of `y`, a scalar or `[B]`, for a conditioned model alone.
            train: Whether normalization uses the batch's statistics, with `batch_stats` mutable.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers).

        Raises:
            ValueError: A wrong rank, or a `sigma` that is missing, superfluous or of a wrong size.
        """
        y = as_images(y)
        h = with_noise_map(y, sigma, conditioned=self.conditioned)
        h = nn.relu(self._conv(0, self.features)(h))
        for i in range(1, self.depth - 1):
            h = self._conv(i, self.features)(h)
            h = nn.relu(self._norm(i, train)(h) if self.batch_norm else h)
        h = self._conv(self.depth - 1, y.shape[-1])(h).astype(y.dtype)
        return y - h if self.residual else h

    def _conv(self, i: int, features: int) -> Conv:
        starts_at_zero = self.residual and i == self.depth - 1
        kernel_init = nn.initializers.zeros if starts_at_zero else self.kernel_init
        return Conv(
            features, padding=self.padding, use_bias=self.use_bias and self.mode == "ordinary",
            dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=kernel_init,
            precision=self.precision, name=f"conv_{i}",
        )  # fmt: skip

    def _norm(self, i: int, train: bool) -> nn.Module:
        if self.mode == "scale-equivariant":
            return BiasFreeBatchNorm(
                use_running_average=not train, momentum=0.9, eps=1e-5, dtype=self.dtype,
                param_dtype=self.param_dtype, axis_name=self.axis_name, name=f"norm_{i}",
            )  # fmt: skip
        return nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype,
            param_dtype=self.param_dtype, use_fast_variance=False,
            axis_name=self.axis_name, name=f"norm_{i}",
        )  # fmt: skip
