r"""Normalization layers, defined by the dimensions on which each of three steps works.

$$x' = x - \operatorname{mean}_{\mathcal C}(x), \qquad
x'' = x' / \sqrt{\operatorname{var}_{\mathcal S}(x') + \epsilon}, \qquad
\mathrm{out} = \gamma_{\mathcal A}\, x'' + \beta_{\mathcal A}$$

The mean is pooled over the dimensions in $\mathcal C$ (centring), the variance over those in $\mathcal S$
(scaling); $\gamma$ and $\beta$ vary over those in $\mathcal A$ (affine). A set is a string of letters from
"BHWC": batch, height, width, channels. A pooling step with an empty set is skipped.
`wne_jax.symmetry.translation` predicts which layers commute with shifts and with sub-pixel translations.

| `PRESETS` | centring | scaling | affine | |
|---|---|---|---|---|
| "BatchNorm" | BHW | BHW | C | Ioffe & Szegedy 2015 |
| "InstanceNorm" | HW | HW | none | Ulyanov, Vedaldi & Lempitsky 2016 |
| "LayerNorm-CHW" | HWC | HWC | HWC | Ba, Kiros & Hinton 2016 |
| "LayerNorm-C" | C | C | C | ConvNeXt: Liu et al. 2022 |
| "LayerNorm-AF" | C | HWC | C | alias-free: Michaeli, Michaeli & Soudry 2023 |

Other layers are set by options:

| layer | centring | scaling | affine | options |
|---|---|---|---|---|
| GroupNorm (Wu & He 2018) | HWC | HWC | C | `groups=32` |
| RMSNorm (Zhang & Sennrich 2019) | | C | C | `rms=True, use_bias=False` |
| Restormer's bias-free LayerNorm | | C | C | `use_bias=False` |
| BatchNorm in evaluation | BHW | BHW | C | `momentum=0.9, use_running_average=True` |

References:
    Scanvic, Barthélemy & Tachella, "Translation-Equivariance of Normalization Layers and Aliasing in
    Convolutional Neural Networks", 2025, section 3 and table 1.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jax import Array, lax

from wne_jax._internal.dtypes import at_least_float32

_NO_AVERAGES = "use_running_average needs running averages: set momentum"

DIMENSIONS = "BHWC"
"""Batch, height, width, channels: the axes of a feature map, in order."""


def statistics_over(
    x: Array, *, centring: str, scaling: str, groups: int = 1, rms: bool = False
) -> tuple[Array | None, Array | None]:
    r"""The mean that centring subtracts, and the variance by whose root scaling divides.

    Args:
        x: Feature maps `[B, H, W, C]`.
        centring: Dimensions over which the mean is pooled.
        scaling: Dimensions over which the variance of the centred maps is pooled.
        groups: Number of groups of neighbouring channels within which to pool; it divides C.
        rms: Whether the variance is the mean square, taken around 0 instead of the mean.

    Returns:
        Mean and variance, broadcastable to x, from two passes in float32 (float64 for float64); None for an
        empty set.

    Raises:
        ValueError: A wrong rank, unknown or repeated dimensions, or groups that do not divide the channels.

    Example:
        >>> mean, variance = statistics_over(jnp.ones((2, 3, 4, 5)), centring="HW", scaling="C")
        >>> mean.shape, variance.shape
        ((2, 1, 1, 5), (2, 3, 4, 1))
    """
    _check_map(x, groups)
    x = x.astype(at_least_float32(x.dtype))
    mean = variance = None
    if dimensions(centring):
        mean = _pooled(x, centring, groups)
        x = x - mean
    if dimensions(scaling):
        centred = mean is not None and set(centring) <= set(scaling)
        if not rms and not centred:
            x = x - _pooled(x, scaling, groups)
        variance = _pooled(jnp.square(x), scaling, groups)
    return mean, variance


def normalization(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    centring: str,
    scaling: str,
    groups: int = 1,
    rms: bool = False,
    eps: float = 1e-5,
) -> Array:
    r"""Centre, scale, and apply $\gamma$ and $\beta$.

    Args:
        x: Feature maps `[B, H, W, C]`.
        scale: $\gamma$, broadcastable to x, or None.
        bias: $\beta$, broadcastable to x, or None.
        centring: As in `statistics_over`.
        scaling: As in `statistics_over`.
        groups: As in `statistics_over`.
        rms: As in `statistics_over`.
        eps: $\epsilon$, added to the variance.

    Returns:
        `[B, H, W, C]`, in float32, or float64 for float64.

    Raises:
        ValueError: As in `statistics_over`.

    Example:
        >>> x = jnp.array([3.0, 5.0]).reshape(1, 1, 2, 1)
        >>> normalization(x, centring="HW", scaling="HW", eps=0.0).ravel().tolist()
        [-1.0, 1.0]
    """
    mean, variance = statistics_over(x, centring=centring, scaling=scaling, groups=groups, rms=rms)
    return apply_statistics(x, mean, variance, scale, bias, eps=eps)


def apply_statistics(
    x: Array,
    mean: Array | None,
    variance: Array | None,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    r"""$\gamma\,(x - \mu) / \sqrt{v + \epsilon} + \beta$, skipping each term that is None.

    Args:
        x: Feature maps `[B, H, W, C]`.
        mean: $\mu$, of the maps or a running average, broadcastable to x.
        variance: v, likewise.
        scale: $\gamma$, likewise.
        bias: $\beta$, likewise.
        eps: $\epsilon$.

    Returns:
        `[B, H, W, C]`, in float32, or float64 for float64.
    """
    x = x.astype(at_least_float32(x.dtype))
    if mean is not None:
        x = x - mean
    if variance is not None:
        x = x * lax.rsqrt(variance + eps)
    if scale is not None:
        x = x * scale
    return x if bias is None else x + bias


class Normalization(nn.Module, kw_only=True):
    r"""Linen layer: `normalization` with its parameters and running averages.

    Variables have the names and shapes of Flax's layers: `scale` and `bias` in `params`; `mean` and `var` in
    `batch_stats`, which are updated to $m \cdot \text{running} + (1 - m) \cdot \text{batch}$.

    Attributes:
        centring: Dimensions over which the mean is pooled; "" skips the step.
        scaling: Dimensions over which the variance is pooled; "" skips the step.
        affine: Dimensions over which $\gamma$ and $\beta$ vary; "" means one scalar each, None skips the
            step. If they vary over H and W, the layer accepts maps of one size only.
        groups: Number of groups of channels within which to pool; see `statistics_over`.
        rms: Whether scaling divides by the root mean square; see `statistics_over`.
        use_bias: Whether there is a $\beta$.
        momentum: m; None keeps no running averages. Running averages need statistics pooled over the batch.
        use_running_average: Whether to normalize by the running averages, as in evaluation.
        eps: $\epsilon$, added to the variance.
        dtype: Precision of the result (None: that of input and parameters together).
        param_dtype: Precision of the parameters.
        scale_init: Initializer of `scale`.
        bias_init: Initializer of `bias`.

    Raises:
        ValueError: Unknown or repeated dimensions, `groups` below 1, `momentum` outside [0, 1],
            `use_running_average` without `momentum`, or `momentum` for statistics not pooled over the batch.

    Example:
        >>> import jax
        >>> layer = Normalization(centring="C", scaling="HWC", affine="C")  # LayerNorm-AF
        >>> y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 5, 7, 3)))
        >>> y.shape, variables["params"]["scale"].shape
        ((1, 5, 7, 3), (3,))
    """

    centring: str
    scaling: str
    affine: str | None
    groups: int = 1
    rms: bool = False
    use_bias: bool = True
    momentum: float | None = None
    use_running_average: bool = False
    eps: float = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    scale_init: Initializer = nn.initializers.ones_init()
    bias_init: Initializer = nn.initializers.zeros_init()

    def __post_init__(self) -> None:
        pooled = [dimensions(self.centring), dimensions(self.scaling)]
        dimensions(self.affine or "")
        if self.groups < 1:
            raise ValueError(f"groups must be 1 or more, not {self.groups}")
        if self.momentum is None:
            if self.use_running_average:
                raise ValueError(_NO_AVERAGES)
        elif not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must be between 0 and 1, not {self.momentum}")
        elif any(step and "B" not in step for step in pooled):
            raise ValueError(
                "running averages need statistics pooled over B: with momentum, centring and scaling "
                f"must be empty or have B, not {self.centring!r} and {self.scaling!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, use_running_average: bool | None = None) -> Array:
        """Normalize.

        Args:
            x: Feature maps `[B, H, W, C]`.
            use_running_average: Overrides the attribute. If it is False and `momentum` is set, `batch_stats`
                must be mutable.

        Returns:
            `[B, H, W, C]`.

        Raises:
            ValueError: A wrong rank, groups that do not divide the channels, or `use_running_average` without
                `momentum`.
        """
        if use_running_average is None:
            use_running_average = self.use_running_average
        if use_running_average and self.momentum is None:
            raise ValueError(_NO_AVERAGES)
        mean, variance = self._statistics(x, use_running_average)
        parameters = []
        if self.affine is not None:
            shape = tuple(n if d in self.affine else 1 for n, d in zip(x.shape, DIMENSIONS))
            stored = tuple(n for n, d in zip(x.shape, DIMENSIONS) if d in self.affine)
            kinds = [("scale", self.scale_init), ("bias", self.bias_init)][: 1 + self.use_bias]
            parameters = [self.param(*kind, stored, self.param_dtype) for kind in kinds]
        dtype = jnp.result_type(x, *parameters) if self.dtype is None else self.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            dtype = jnp.float32  # for integers without an affine step
        wide = at_least_float32(jnp.dtype(dtype))
        shaped = [p.astype(wide).reshape(shape) for p in parameters]
        return apply_statistics(x.astype(wide), mean, variance, *shaped, eps=self.eps).astype(dtype)

    def _statistics(self, x: Array, use_running_average: bool) -> tuple[Array | None, Array | None]:
        """The statistics of `x`, which update the running averages, or the running averages."""
        found = statistics_over(
            x, centring=self.centring, scaling=self.scaling, groups=self.groups, rms=self.rms
        )
        mean = self._averaged("mean", found[0], self.centring, use_running_average)
        return mean, self._averaged("var", found[1], self.scaling, use_running_average)

    def _averaged(
        self, name: str, value: Array | None, pooled: str, use_running_average: bool
    ) -> Array | None:
        """The running average if requested; otherwise the statistic, which also updates the average."""
        if value is None or self.momentum is None:
            return value
        whole = "C" not in pooled or self.groups > 1  # one value per channel
        kept = tuple(d for d in "HW" if d not in pooled) + ("C",) * whole
        shape = tuple(value.shape[DIMENSIONS.index(d)] for d in kept)
        start = {"mean": jnp.zeros, "var": jnp.ones}[name]
        running = self.variable("batch_stats", name, start, shape, value.dtype)
        if use_running_average:
            return running.value.reshape(value.shape)
        if not self.is_initializing():
            batch = lax.stop_gradient(value).reshape(shape)
            running.value = self.momentum * running.value + (1 - self.momentum) * batch
        return value


PRESETS: dict[str, partial[Normalization]] = {
    "BatchNorm": partial(Normalization, centring="BHW", scaling="BHW", affine="C", momentum=0.9),
    "InstanceNorm": partial(Normalization, centring="HW", scaling="HW", affine=None),
    "LayerNorm-CHW": partial(Normalization, centring="HWC", scaling="HWC", affine="HWC"),
    "LayerNorm-C": partial(Normalization, centring="C", scaling="C", affine="C"),
    "LayerNorm-AF": partial(Normalization, centring="C", scaling="HWC", affine="C"),
}
"""The layers that Scanvic et al. compare, by name: `PRESETS["LayerNorm-C"](eps=1e-6)`."""


def dimensions(names: str) -> str:
    """Sort a set of dimensions into the order of "BHWC".

    Raises:
        ValueError: A letter other than B, H, W, C, or a repeated letter.

    Example:
        >>> dimensions("CHW")
        'HWC'
    """
    if not isinstance(names, str) or len(set(names)) < len(names) or set(names) - set(DIMENSIONS):
        raise ValueError(
            f"dimensions must be letters of B, H, W, C, each at most once, not {names!r}"
        )
    return "".join(name for name in DIMENSIONS if name in names)


def _check_map(x: Array, groups: int) -> None:
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C], of rank 4; its shape is {x.shape}")
    if groups < 1 or x.shape[3] % groups:
        raise ValueError(f"groups must divide the {x.shape[3]} channels, but it is {groups}")


def _pooled(x: Array, names: str, groups: int) -> Array:
    """The mean over a set of dimensions, broadcastable to `x`."""
    axes = tuple(DIMENSIONS.index(name) for name in names)
    if groups == 1 or "C" not in names:
        return jnp.mean(x, axis=axes, keepdims=True)
    size = x.shape[3] // groups
    grouped = x.reshape(*x.shape[:3], groups, size)
    axes = tuple(4 if axis == 3 else axis for axis in axes)
    mean = jnp.mean(grouped, axis=axes, keepdims=True)
    return jnp.repeat(mean[..., 0], size, axis=3)
