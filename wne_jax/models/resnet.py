"""ResNet, a classifier: its feature maps are the inputs for tests of normalization layers."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer, PrecisionLike
from jax import Array
from jax.typing import ArrayLike

from wne_jax._internal.dtypes import at_least_float32
from wne_jax.models._inputs import as_images

Depth = Literal[18, 34, 50]

_FEATURES = 64  # of the first stage; each later stage has twice as many

_STAGES: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Number of blocks of each stage."""


class ResNet(nn.Module, kw_only=True):
    r"""Convolution and max pooling, four stages of residual blocks, mean over space, one dense layer.

    A block is $\mathrm{ReLU}(\mathrm{skip}(x) + \mathrm{body}(x))$. The body has two 3x3 convolutions; at
    depth 50 it has a 3x3 convolution between two 1x1 ones. Batch normalization follows each convolution, and
    ReLU follows each except the last. The skip is the identity, or a 1x1 convolution and batch normalization
    if shapes change. The first block of stages 2 to 4 halves the sides in its first 3x3 convolution.

    Parameters and arithmetic are those of torchvision, whose checkpoints `wne_jax.weights.load_model` reads.
    Training differs in one point: as in Flax, the running variance averages biased batch variances.

    Modules are named `conv1`, `norm1`, `layer1_0/conv1`, ..., `layer2_0/skip_conv`, `layer2_0/skip_norm`,
    ..., `classifier`; stages are counted from 1, and their blocks from 0. Linen's `capture_intermediates`
    returns the output of each module; see `norm_inputs`.

    Attributes:
        depth: 18, 34 or 50.
        classes: Number of classes, 1 or more.
        dtype: Precision of the computation (None: that of the input and the parameters together).
        param_dtype: Precision of the parameters.
        kernel_init: Initializer of the convolutions; He normal over the fan-out as in torchvision. The
            dense layer's initializer is uniform with variance 1/3 over the fan-in.
        precision: As in `jax.lax.conv`.
        axis_name: Axis of `jax.pmap` over which batch normalization pools its statistics. Under `jit` it is
            not needed: statistics are those of the whole batch.

    Raises:
        ValueError: Another depth, or no classes.

    Example:
        >>> import jax
        >>> x = jnp.zeros((1, 224, 224, 3))
        >>> variables = jax.eval_shape(ResNet(depth=18).init, jax.random.key(0), x)
        >>> sum(p.size for p in jax.tree.leaves(variables["params"]))
        11689512

    References:
        He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1. Stride in
        the 3x3 convolution: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1.
    """

    depth: Depth = 18
    classes: int = 1000
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.variance_scaling(2, "fan_out", "normal")
    precision: PrecisionLike = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if self.depth not in get_args(Depth):
            raise ValueError(f"depth must be one of 18, 34, 50; not {self.depth!r}")
        if self.classes < 1:
            raise ValueError(f"classes must be 1 or more, not {self.classes}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: ArrayLike, *, train: bool = False) -> Array:
        """Classify.

        Args:
            x: RGB images `[B, H, W, 3]` of any size, minus the mean of the training images and divided by
                their standard deviation. Published weights expect the mean (0.485, 0.456, 0.406) and the
                standard deviation (0.229, 0.224, 0.225), in unit range.
            train: Whether normalization uses the statistics of the batch; `batch_stats` must then be mutable.

        Returns:
            Logits `[B, classes]`, in the dtype of `x` (float32 for integers).

        Raises:
            ValueError: A wrong rank or number of channels, or images without pixels.
        """
        x = as_images(x)
        if x.shape[-1] != 3:
            raise ValueError(
                f"x must be RGB, [B, H, W, 3]; its shape is {x.shape}"
                " (for gray images use jnp.repeat(x, 3, axis=-1))"
            )
        if 0 in x.shape:
            raise ValueError(f"x must have pixels; its shape is {x.shape}")
        layers = _Layers(
            self.dtype, self.param_dtype, self.kernel_init, self.precision, self.axis_name
        )
        h = layers.conv(_FEATURES, 7, 2, "conv1")(x)
        h = nn.relu(layers.norm("norm1")(h, use_running_average=not train))
        h = nn.max_pool(h, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in blocks(self.depth):
            h = _Residual(block, layers, name=block.name)(h, train=train)
        h = jnp.mean(h, axis=(1, 2), dtype=at_least_float32(h.dtype)).astype(h.dtype)
        classifier = nn.Dense(
            self.classes, dtype=self.dtype, param_dtype=self.param_dtype, precision=self.precision,
            kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            name="classifier",
        )  # fmt: skip
        return classifier(h).astype(x.dtype)


_Conv = tuple[int, int, int]  # features, side of the kernel, stride


class Block(NamedTuple):
    """One residual block: its name, and features, side and stride of each convolution.

    `skip` is None for an identity skip.
    """

    name: str
    body: tuple[_Conv, ...]
    skip: _Conv | None


def blocks(depth: Depth) -> Iterator[Block]:
    """The residual blocks of a depth, in order.

    Example:
        >>> list(blocks(18))[2]
        Block(name='layer2_0', body=((128, 3, 2), (128, 3, 1)), skip=(128, 1, 2))
    """
    for stage, count in enumerate(_STAGES[depth]):
        for i in range(count):
            features, stride = _FEATURES * 2**stage, 2 if stage > 0 and i == 0 else 1
            body: tuple[_Conv, ...] = ((features, 3, stride), (features, 3, 1))
            if depth == 50:
                body = ((features, 1, 1), (features, 3, stride), (4 * features, 1, 1))
            out = body[-1][0]
            changes = i == 0 and (stride > 1 or out != _FEATURES)
            yield Block(f"layer{stage + 1}_{i}", body, (out, 1, stride) if changes else None)


def norm_names(depth: Depth) -> list[str]:
    """The normalization layers of a depth in order of computation; in a block, that of the skip is last.

    Example:
        >>> norm_names(18)[4:8]
        ['layer1_1/norm2', 'layer2_0/norm1', 'layer2_0/norm2', 'layer2_0/skip_norm']
    """
    names = ["norm1"]
    for block in blocks(depth):
        names += [f"{block.name}/norm{i}" for i, _ in enumerate(block.body, start=1)]
        if block.skip is not None:
            names.append(f"{block.name}/skip_norm")
    return names


def norm_inputs(
    model: ResNet, variables: Mapping[str, Any], x: ArrayLike, *, train: bool = False
) -> dict[str, Array]:
    """The inputs of the 20, 36 or 53 batch normalization layers, each the output of a convolution.

    Args:
        model: The network.
        variables: Its variables.
        x: Images, as for the network.
        train: Whether the layers normalize by the statistics of the batch. Use it for an untrained network,
            whose running statistics are 0 and 1.

    Returns:
        `[B, h, w, c]` by the name of the layer, for example "layer2_0/norm1", in the order of `norm_names`.
        (Under `jax.jit` the dict is sorted by name.)

    Example:
        >>> import jax
        >>> model, x = ResNet(depth=18), jnp.zeros((1, 32, 48, 3))
        >>> def inputs(key, x):
        ...     return norm_inputs(model, model.init(key, x), x)
        >>> maps = jax.eval_shape(inputs, jax.random.key(0), x)
        >>> len(maps), maps["norm1"].shape, maps["layer2_0/skip_norm"].shape
        (20, (1, 16, 24, 64), (1, 4, 6, 128))
    """
    _, captured = model.apply(
        variables, x, train=train, mutable=["intermediates", "batch_stats"],
        capture_intermediates=lambda module, method: isinstance(module, nn.Conv),
    )  # fmt: skip
    maps = {}
    for name in norm_names(model.depth):
        node = captured["intermediates"]
        for part in name.replace("norm", "conv").split("/"):
            node = node[part]
        (maps[name],) = node["__call__"]
    return maps


class _Layers(NamedTuple):
    """Shared options of all convolutions and normalizations."""

    dtype: Dtype | None
    param_dtype: Dtype
    kernel_init: Initializer
    precision: PrecisionLike
    axis_name: str | None

    def conv(self, features: int, side: int, stride: int, name: str) -> nn.Conv:
        return nn.Conv(
            features, (side, side), stride, side // 2, use_bias=False, dtype=self.dtype,
            param_dtype=self.param_dtype, kernel_init=self.kernel_init, precision=self.precision,
            name=name,
        )  # fmt: skip

    def norm(self, name: str) -> nn.BatchNorm:
        return nn.BatchNorm(
            momentum=0.9, epsilon=1e-5, dtype=self.dtype, param_dtype=self.param_dtype,
            use_fast_variance=False, axis_name=self.axis_name, name=name,
        )  # fmt: skip


class _Residual(nn.Module):
    """A residual block: convolutions, each with normalization, and the sum with the skip."""

    block: Block
    layers: _Layers

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        h = x
        for i, (features, side, stride) in enumerate(self.block.body, start=1):
            h = self.layers.conv(features, side, stride, f"conv{i}")(h if i == 1 else nn.relu(h))
            h = self.layers.norm(f"norm{i}")(h, use_running_average=not train)
        if self.block.skip is not None:
            x = self.layers.conv(*self.block.skip, "skip_conv")(x)
            x = self.layers.norm("skip_norm")(x, use_running_average=not train)
        return nn.relu(x + h)
