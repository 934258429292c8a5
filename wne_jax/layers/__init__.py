"""Layers that commute with a group by their construction, and those they are compared with."""

from wne_jax.layers.affine_conv import AffineConv as AffineConv
from wne_jax.layers.affine_conv import affine_kernel as affine_kernel
from wne_jax.layers.affine_conv import affine_weights as affine_weights
from wne_jax.layers.affine_residual import AffineResidual as AffineResidual
from wne_jax.layers.affine_residual import affine_residual as affine_residual
from wne_jax.layers.batch_norm import BiasFreeBatchNorm as BiasFreeBatchNorm
from wne_jax.layers.batch_norm import channel_std as channel_std
from wne_jax.layers.conv import Conv as Conv
from wne_jax.layers.conv import Padding as Padding
from wne_jax.layers.conv import conv as conv
from wne_jax.layers.depthwise import DepthwiseConv as DepthwiseConv
from wne_jax.layers.depthwise import depthwise_conv as depthwise_conv
from wne_jax.layers.downsample import pixel_unshuffle as pixel_unshuffle
from wne_jax.layers.normalization import PRESETS as PRESETS
from wne_jax.layers.normalization import Normalization as Normalization
from wne_jax.layers.normalization import dimensions as dimensions
from wne_jax.layers.normalization import normalization as normalization
from wne_jax.layers.sort_pool import pair_order as pair_order
from wne_jax.layers.sort_pool import sort_pool as sort_pool
from wne_jax.layers.strided_conv import AffineDownsample as AffineDownsample
from wne_jax.layers.strided_conv import Downsample as Downsample
from wne_jax.layers.strided_conv import strided_conv as strided_conv
from wne_jax.layers.upsample import AffineUpsample as AffineUpsample
from wne_jax.layers.upsample import Upsample as Upsample
from wne_jax.layers.upsample import pixel_shuffle as pixel_shuffle
from wne_jax.layers.window_attention import WindowAttention as WindowAttention
