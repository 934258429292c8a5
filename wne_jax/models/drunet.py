"""DRUNet: a residual U-Net, in three degrees of equivariance."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax.layers.affine_conv import AffineConv
from wne_jax.layers.affine_residual import AffineResidual
from wne_jax.layers.conv import Conv, Padding
from wne_jax.layers.sort_pool import sort_pool
from wne_jax.layers.strided_conv import AffineDownsample, Downsample
from wne_jax.layers.upsample import AffineUpsample, Upsample
from wne_jax.models._inputs import Declared, as_images, check_choice, check_ndim, with_noise_map
from wne_jax.transforms import process

Mode = Literal["ordinary", "scale-equivariant", "normalization-equivariant"]


class DRUNet(Declared, nn.Module, kw_only=True):
    r"""A U-Net whose levels are chains of residual blocks, and whose skip connections are sums.

    With $w_0, \dots, w_L$ the features, level $l$ works on $w_l$ channels at $2^{-l}$ of the size, and is

    $$\mathrm{level}_l(x) = x + (\mathrm{blocks} \circ \mathrm{up} \circ \mathrm{level}_{l+1} \circ
    \mathrm{down} \circ \mathrm{blocks})(x), \qquad \mathrm{level}_L(x) = x + \mathrm{blocks}(x),$$

    where a block is $x + \mathrm{conv}(\phi(\mathrm{conv}(x)))$. The model is a convolution, level 0, and a
    convolution whose output is the image.

    | mode | layers | nonlinearity | sum | for $a > 0$ and real b |
    |---|---|---|---|---|
    | ordinary | with bias | ReLU | $x + y$ | |
    | scale-equivariant | without bias | ReLU | $x + y$ | $f(a y) = a f(y)$ |
    | normalization-equivariant | affine | `sort_pool` | $t x + (1 - t) y$ | $f(a y + b) = a f(y) + b$ |

    Conditioned, $f(a y + b, a \sigma) = a f(y, \sigma) + b$, with b = 0 in the second mode: the noise map is
    exempt from the affine constraint. KAIR's DRUNet is scale-equivariant and conditioned.

    With `residual` the last convolution predicts the noise, $f(y) = y - \mathrm{net}(y)$. Its kernel starts
    at zero, so the model starts as the identity, and small networks learn in minutes. Features (32, 64, 128)
    with one block cost about as much as a DnCNN of 8 layers of 48 features.

    Attributes:
        features: Channels of every level, from the finest; even in the normalization-equivariant mode.
        blocks: Residual blocks in each of a level's chains, 1 or more.
        mode: One of the three above.
        use_bias: Whether the ordinary mode's layers have biases.
        residual: Whether the last convolution's output is subtracted from `y`, or is the output itself. In
            the normalization-equivariant mode, whose output is an affine combination of pixels, it must be
            False.
        padding: "zeros", "reflect" or "circular", of every convolution. None: zeros, or reflection in the
            normalization-equivariant mode, which zeros would break. With circular padding, and sides that
            are multiples of `multiple`, the network commutes with circular shifts by multiples of it; other
            sizes are first padded to multiples by reflection.
        conditioned: Whether the model takes `sigma`, as a constant channel after the image's.
        remat: Whether to recompute each block in the backward pass: less memory, more time.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the kernels (None: uniform of variance 1/3 over the fan-in, as the
            original's, or that of `AffineConv`).
        precision: As in `jax.lax.conv`.
        ndim: Spatial axes: 2 for images, 3 for volumes `[B, D, H, W, C]`, whose kernels are cubes.

    Raises:
        ValueError: An unknown mode or padding, no features, `blocks` below 1, or `residual`, zeros or an odd
            number of features in the normalization-equivariant mode.

    Example:
        >>> import jax
        >>> y = jnp.zeros((1, 32, 32, 1))
        >>> variables = jax.eval_shape(DRUNet().init, jax.random.key(0), y)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        32650753

    References:
        Zhang, Li, Zuo, Zhang, Van Gool & Timofte, "Plug-and-Play Image Restoration with Deep Denoiser Prior",
        IEEE TPAMI 2022, section 4.1. Normalization-equivariant: Herbreteau, Moebel & Kervrann,
        "Normalization-Equivariant Neural Networks with Application to Image Denoising", NeurIPS 2023.
    """

    features: Sequence[int] = (64, 128, 256, 512)
    blocks: int = 4
    mode: Mode = "ordinary"
    use_bias: bool = True
    residual: bool = False
    padding: Padding | None = None
    conditioned: bool = False
    remat: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer | None = None
    precision: PrecisionLike = None
    ndim: int = 2

    def __post_init__(self) -> None:
        check_ndim(self.ndim)
        check_choice("mode", self.mode, get_args(Mode))
        if self.padding is not None:
            affine = self.mode == "normalization-equivariant"
            known = tuple(p for p in get_args(Padding) if not (affine and p == "zeros"))
            check_choice("padding", self.padding, known, hint=f", for mode {self.mode!r}")
        if self.residual and self.mode == "normalization-equivariant":
            raise ValueError(
                "residual=True does not commute with brightness, which mode 'normalization-equivariant' "
                "promises: leave it out"
            )
        self.features = tuple(self.features)  # JSON has lists, which do not hash
        if not self.features or self.blocks < 1:
            raise ValueError(
                "features must name a level and blocks must be 1 or more,"
                f" not {self.features} and {self.blocks}"
            )
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """The sides are padded to a multiple of this: the size of one pixel of the coarsest level."""
        return 2 ** (len(self.features) - 1)

    @property
    def receptive_radius(self) -> int | None:
        """How far an output pixel sees, in pixels along either axis: 185 for the default.

        This is the worst case over alignments to the grid of the coarsest level. None with circular padding,
        which has no borders.
        """
        if self.padding == "circular":
            return None
        # One chain of blocks at level l reaches 2 * blocks * 2^l. Down and up the levels there are two
        # chains each, one at the last: 3 m - 2 in all, with m = 2^L. First and last convolution add 1 each,
        # and a pixel of level l + 1 covers two of level l, so the way back may end 2^l beyond: m - 1 in all.
        return 2 * self.blocks * (3 * self.multiple - 2) + 2 + self.multiple - 1

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
            y: Images `[B, H, W, C]`, of any size, or volumes where `ndim` is 3.
            sigma: Noise level in the units of `y`, a scalar or `[B]`, for a conditioned model alone.
            train: Accepted as by every model; it changes nothing here.

        Returns:
            Images of the shape and dtype of `y` (float32 for integers).

        Raises:
            ValueError: A wrong rank, or a `sigma` that is missing, superfluous or of a wrong size.
        """
        y = as_images(y, self.ndim)
        layers = self._layers()

        start: dict[str, Any] = {"kernel_init": nn.initializers.zeros} if self.residual else {}

        def net(x: Array) -> Array:
            h = with_noise_map(x, sigma, conditioned=self.conditioned)
            h = layers.conv(self.features[0], "head", exempt=int(self.conditioned))(h)
            h = layers.conv(x.shape[-1], "tail", **start)(self._level(h, 0)).astype(x.dtype)
            return x - h if self.residual else h

        return process(net, y, multiple=self.multiple)

    def _level(self, x: Array, level: int) -> Array:
        """One level and all below it."""
        layers = self._layers()
        if level == len(self.features) - 1:
            h = self._chain(x, "body")
        else:
            h = self._chain(x, f"encoder_{level}")
            h = layers.down(self.features[level + 1], f"down_{level}")(h)
            h = self._level(h, level + 1)
            h = layers.up(self.features[level], f"up_{level}")(h)
            h = self._chain(h, f"decoder_{level}")
        return layers.add(h, x, f"sum_{level}")

    def _chain(self, x: Array, name: str) -> Array:
        """Residual blocks one after another."""
        block = nn.remat(_Block) if self.remat else _Block
        for i in range(self.blocks):
            x = block(self._layers(), name=f"{name}_{i}")(x)
        return x

    def _layers(self) -> "_Layers":
        options: dict[str, Any] = {
            "dtype": self.dtype, "param_dtype": self.param_dtype, "precision": self.precision,
        }  # fmt: skip
        affine = self.mode == "normalization-equivariant"
        if self.kernel_init is not None:
            options["kernel_init"] = self.kernel_init
        elif not affine:
            options["kernel_init"] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        padding = self.padding or ("reflect" if affine else "zeros")
        return _Layers(affine, self.use_bias and self.mode == "ordinary", padding, options)


class _Layers(NamedTuple):
    """The layers of a mode; `options` are those that all of them take."""

    affine: bool
    use_bias: bool
    padding: Padding
    options: Mapping[str, Any]

    def conv(self, features: int, name: str, *, exempt: int = 0, **changes: Any) -> nn.Module:
        options = {"padding": self.padding, "name": name, **self.options, **changes}
        if self.affine:
            return AffineConv(features, exempt=exempt, **options)
        return Conv(features, use_bias=self.use_bias, **options)

    def down(self, features: int, name: str) -> nn.Module:
        if self.affine:
            return AffineDownsample(features, name=name, **self.options)
        return Downsample(features, use_bias=self.use_bias, name=name, **self.options)

    def up(self, features: int, name: str) -> nn.Module:
        if self.affine:
            return AffineUpsample(features, name=name, **self.options)
        return Upsample(features, use_bias=self.use_bias, name=name, **self.options)

    def add(self, x: Array, y: Array, name: str) -> Array:
        if not self.affine:
            return x + y
        dtype, param_dtype = self.options["dtype"], self.options["param_dtype"]
        return AffineResidual(dtype=dtype, param_dtype=param_dtype, name=name)(x, y)


class _Block(nn.Module):
    """Convolution, nonlinearity, convolution, and the sum with the input."""

    layers: _Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1]
        h = self.layers.conv(features, "conv_0")(x)
        h = sort_pool(h) if self.layers.affine else nn.relu(h)
        h = self.layers.conv(features, "conv_1")(h)
        return self.layers.add(x, h, "sum")
