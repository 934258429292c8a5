"""Layers that commute with a group by construction, and the layers they are compared with."""

from wne_jax.layers.affine_conv import AffineConv, affine_kernel, affine_weights
from wne_jax.layers.affine_residual import AffineResidual, affine_residual
from wne_jax.layers.alias_free import (
    PolynomialActivation,
    band_limited_polynomial,
    blur_pool,
    filtered_relu,
    ideal_downsample,
    ideal_upsample,
    leaky_relu_fit,
)
from wne_jax.layers.batch_norm import BiasFreeBatchNorm, channel_std
from wne_jax.layers.conv import Conv, Padding, conv
from wne_jax.layers.depthwise import DepthwiseConv, depthwise_conv
from wne_jax.layers.downsample import pixel_unshuffle
from wne_jax.layers.gaussian_blur import blur_radius, gaussian_blur
from wne_jax.layers.normalization import PRESETS, Normalization, dimensions, normalization
from wne_jax.layers.sort_pool import pair_order, sort_pool
from wne_jax.layers.spectra import low_pass, radial_power, resample, without_nyquist
from wne_jax.layers.strided_conv import AffineDownsample, Downsample, strided_conv
from wne_jax.layers.upsample import (
    AffineUpsample,
    DoubleLinear,
    Upsample,
    double_linear,
    pixel_shuffle,
)
from wne_jax.layers.window_attention import WindowAttention

__all__ = [
    "PRESETS",
    "AffineConv",
    "AffineDownsample",
    "AffineResidual",
    "AffineUpsample",
    "BiasFreeBatchNorm",
    "Conv",
    "DepthwiseConv",
    "DoubleLinear",
    "Downsample",
    "Normalization",
    "Padding",
    "PolynomialActivation",
    "Upsample",
    "WindowAttention",
    "affine_kernel",
    "affine_residual",
    "affine_weights",
    "band_limited_polynomial",
    "blur_pool",
    "blur_radius",
    "channel_std",
    "conv",
    "depthwise_conv",
    "dimensions",
    "double_linear",
    "filtered_relu",
    "gaussian_blur",
    "ideal_downsample",
    "ideal_upsample",
    "leaky_relu_fit",
    "low_pass",
    "normalization",
    "pair_order",
    "pixel_shuffle",
    "pixel_unshuffle",
    "radial_power",
    "resample",
    "sort_pool",
    "strided_conv",
    "without_nyquist",
]
