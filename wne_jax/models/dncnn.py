"""DnCNN: a plain stack of convolutions that predicts the noise."""

from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.alias_free import PolynomialActivation, filtered_relu
from wne_jax.layers.batch_norm import BiasFreeBatchNorm
from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.spectra import without_nyquist
from wne_jax.layers.upsample import pixel_shuffle
from wne_jax.models._inputs import (
    Declared,
    as_images,
    check_choice,
    check_depth,
    check_ndim,
    check_upscale,
    to_output,
    with_mask,
    with_noise_map,
)

Mode = Literal["ordinary", "scale-equivariant"]
Activation = Literal["relu", "polynomial", "filtered-relu"]

_SLOPE = 0.5
"""Negative slope of the leaky ReLU whose fit initializes polynomials; with slope 0 they do not learn."""


class DnCNN(Declared, nn.Module, kw_only=True):
    r"""Convolution and ReLU; `depth - 2` times convolution, batch normalization, ReLU; convolution.

    The stack predicts the noise: the output is $f(y) = y - \mathrm{net}(y)$. In evaluation, the
    scale-equivariant mode has $f(a y) = a f(y)$ for $a > 0$, or $f(a y, a \sigma) = a f(y, \sigma)$ if it is
    conditioned.

    With `padding="circular"` and `activation="polynomial"`, evaluation commutes with every `Translation`,
    including sub-pixel ones, for every y. Polynomials grow fast, so the input must keep the range of
    training; `WNE` with `mean_std` ensures that. (Trained at 25 and tested at 5, the PSNR is 31 dB with
    `mean_std`, and 5 dB with `high_pass`, whose z grows as the noise falls.)

    Attributes:
        depth: Number of convolutions, 2 or more.
        features: Channels of the hidden layers.
        mode: "ordinary", or "scale-equivariant", without biases and with `BiasFreeBatchNorm`.
        batch_norm: Whether the hidden layers are normalized. Use False for checkpoints whose normalization
            was merged into the convolutions; the names of the layers are the same.
        use_bias: Whether the ordinary mode's convolutions have biases (its batch normalization always has).
        padding: "zeros", "reflect" or "circular".
        residual: Whether the stack's output is subtracted from `y`, or is the output itself.
        conditioned: Whether the model takes `sigma`, as a constant channel after those of the image.
        masked: Whether the model takes `where`, the mask of known pixels, as a last channel.
        upscale: Factor by which the output is larger: the last convolution has `upscale**2` times the
            channels, which `pixel_shuffle` turns into pixels. A residual is added to the repeated pixels of
            `y`.
        out_channels: Channels of the output (None: those of the image). A residual is added to the mean
            channel of `y`.
        activation: "relu", "polynomial" (`layers.PolynomialActivation`, without aliasing) or "filtered-relu"
            (`layers.filtered_relu`, with little aliasing). The last two first remove the Nyquist frequency of
            even sizes from the image.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels. The last kernel of a residual stack is initialized by zeros
            instead, so the model starts at the identity; this gains decibels in short runs.
        precision: As in `jax.lax.conv`.
        ndim: Number of spatial axes: 2 for images, 3 for volumes `[B, D, H, W, C]`, with cubic kernels.
        axis_name: Axis of `jax.pmap` over which batch normalization pools its statistics. Under `jit` it is
            not needed: statistics are those of the whole batch.

    Raises:
        ValueError: An unknown mode, padding or activation, polynomials in the scale-equivariant mode, an
            activation other than "relu" for volumes, or a depth below 2.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 40, 40, 1))
        >>> variables = jax.eval_shape(DnCNN().init, jax.random.key(0), y)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        668225

    References:
        Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising",
        IEEE TIP 2017, section III. Scale-equivariant: Mohan et al., "Robust and Interpretable Blind Image
        Denoising via Bias-Free Convolutional Neural Networks", ICLR 2020. Polynomials: Michaeli, Michaeli &
        Soudry, "Alias-Free Convnets: Fractional Shift Invariance via Polynomial Activations", CVPR 2023.
    """

    depth: int = 20
    features: int = 64
    mode: Mode = "ordinary"
    batch_norm: bool = True
    use_bias: bool = True
    padding: Padding = "zeros"
    residual: bool = True
    conditioned: bool = False
    masked: bool = False
    upscale: int = 1
    out_channels: int | None = None
    activation: Activation = "relu"
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    precision: PrecisionLike = None
    ndim: int = 2
    axis_name: str | None = None

    def __post_init__(self) -> None:
        hint = "; FDnCNN has that mode" if self.mode == "normalization-equivariant" else ""
        check_choice("mode", self.mode, get_args(Mode), hint=hint)
        check_choice("padding", self.padding, get_args(Padding))
        check_choice("activation", self.activation, get_args(Activation))
        if self.activation == "polynomial" and self.mode == "scale-equivariant":
            raise ValueError(
                "activation 'polynomial' does not commute with contrast, as mode 'scale-equivariant' "
                "requires: use 'relu' or 'filtered-relu'"
            )
        check_depth(self.depth)
        check_ndim(self.ndim)
        check_upscale(self.upscale, self.out_channels, ndim=self.ndim)
        if self.ndim == 3 and self.activation != "relu":
            raise ValueError(f"activation {self.activation!r} is for images: ndim=3 needs 'relu'")
        super().__post_init__()

    @property
    def receptive_radius(self) -> int | None:
        """Radius of the receptive field in pixels; None if it is unbounded.

        It is unbounded with circular padding, and with activations other than "relu", which interpolate by
        the sinc.
        """
        near = self.padding != "circular" and self.activation == "relu"
        return self.depth if near else None

    @property
    def pads_zeros(self) -> bool:
        """Whether convolutions see zeros beyond the borders, and no activation sees neighbours."""
        return self.padding == "zeros" and self.activation == "relu"

    @nn.compact
    def __call__(
        self,
        y: ArrayLike,
        sigma: ArrayLike | None = None,
        *,
        where: ArrayLike | None = None,
        train: bool = False,
    ) -> Array:
        """Denoise.

        Args:
            y: Images `[B, H, W, C]` of any size, or volumes if `ndim` is 3.
            sigma: Noise level in the units of `y`, a scalar or `[B]`, for a conditioned model only.
            where: Boolean mask of known pixels, for a masked model only (default: all are known).
            train: Whether normalization uses the statistics of the batch; `batch_stats` must then be mutable.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers), or as `upscale` and `out_channels`
            say.

        Raises:
            ValueError: A wrong rank, a `sigma` that is missing, not accepted, or of a wrong shape, or a mask
                that is not accepted.
        """
        y = as_images(y, self.ndim)
        if self.activation != "relu":  # these drop the Nyquist bins, so no layer could denoise them
            y = without_nyquist(y).astype(y.dtype)
        h = with_noise_map(y, sigma, conditioned=self.conditioned)
        h = with_mask(h, where, masked=self.masked)
        h = self._activate(0, self._conv(0, self.features)(h))
        for i in range(1, self.depth - 1):
            h = self._conv(i, self.features)(h)
            h = self._activate(i, self._norm(i, train)(h) if self.batch_norm else h)
        channels = y.shape[-1] if self.out_channels is None else self.out_channels
        h = self._conv(self.depth - 1, channels * self.upscale**2)(h).astype(y.dtype)
        if self.residual:
            return to_output(-h, y, upscale=self.upscale, out_channels=self.out_channels)
        return h if self.upscale == 1 else pixel_shuffle(h, self.upscale)

    def _conv(self, i: int, features: int) -> Conv:
        starts_at_zero = self.residual and i == self.depth - 1
        kernel_init = nn.initializers.zeros if starts_at_zero else self.kernel_init
        return Conv(
            features, padding=self.padding, use_bias=self.use_bias and self.mode == "ordinary",
            dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=kernel_init,
            precision=self.precision, name=f"conv_{i}",
        )  # fmt: skip

    def _activate(self, i: int, h: Array) -> Array:
        if self.activation == "relu":
            return nn.relu(h)
        if self.activation == "filtered-relu":
            return filtered_relu(h)
        activate = PolynomialActivation(
            negative_slope=_SLOPE, dtype=self.dtype, param_dtype=self.param_dtype,
            name=f"activation_{i}",
        )  # fmt: skip
        return activate(h)

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
