r"""Batch normalization without additive constants, for networks with f(a x) = a f(x)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype, Initializer
from jax import Array, lax


def channel_std(x: Array, *, eps: float = 1e-5, axis_name: str | None = None) -> Array:
    r"""Standard deviation of each channel over batch and space: $\sqrt{\operatorname{var}(x) + \epsilon}$.

    Args:
        x: Array `[B, ..., C]`.
        eps: Added to the variance.
        axis_name: Axis of `jax.pmap` to pool over as well; each device holds an equal share of the batch.

    Returns:
        `[C]`, in float32, or in float64 for float64.

    Example:
        >>> channel_std(jnp.array([[0.0, 5.0], [2.0, 5.0]]), eps=0.0).tolist()
        [1.0, 0.0]
    """
    x = x.astype(np.promote_types(x.dtype, np.float32))
    axes = tuple(range(x.ndim - 1))
    if axis_name is None:
        return jnp.sqrt(jnp.var(x, axis=axes) + eps)
    mean = lax.pmean(jnp.mean(x, axis=axes, keepdims=True), axis_name)
    return jnp.sqrt(lax.pmean(jnp.mean(jnp.square(x - mean), axis=axes), axis_name) + eps)


class BiasFreeBatchNorm(nn.Module):
    r"""Divide each channel by its standard deviation and scale it, without subtracting the mean.

    $$\mathrm{out} = \gamma\, x / s$$

    In training, $s$ is the standard deviation of the batch (`channel_std`, around the batch mean). In
    evaluation it is a running average of these; then the layer is linear in x, hence scale-equivariant.

    The collection `batch_stats` holds `std`, `[C]`, which starts at 1 and is updated by
    $s \leftarrow m\,s + (1 - m)\,s_{\mathrm{batch}}$.

    Attributes:
        use_running_average: Whether to use the running average; set it here or in the call.
        momentum: m.
        eps: Added to the batch variance.
        dtype: Precision of the result (None: that of input and parameter together).
        param_dtype: Precision of the parameter.
        scale_init: Initializer of `scale`, `[C]`.
        axis_name: Axis of `jax.pmap` over which the standard deviation is pooled.

    Example:
        >>> import jax
        >>> x = jnp.array([[3.0], [5.0]])
        >>> norm = BiasFreeBatchNorm(use_running_average=False, eps=0.0)
        >>> norm.init_with_output(jax.random.key(0), 2 * x)[0].tolist()
        [[3.0], [5.0]]

    References:
        Mohan, Kadkhodaie, Simoncelli & Fernandez-Granda, "Robust and Interpretable Blind Image Denoising via
        Bias-Free Convolutional Neural Networks", ICLR 2020.
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    eps: float = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    scale_init: Initializer = nn.initializers.ones_init()
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:
        """Normalize `x`, `[B, ..., C]`. In training, `batch_stats` must be mutable."""
        evaluate = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        shape = (x.shape[-1],)
        running = self.variable("batch_stats", "std", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        if evaluate:
            std = running.value
        else:
            axis_name = None if self.is_initializing() else self.axis_name
            std = channel_std(x, eps=self.eps, axis_name=axis_name)
            if not self.is_initializing():
                batch = lax.stop_gradient(std).astype(running.value.dtype)
                running.value = self.momentum * running.value + (1 - self.momentum) * batch
        gain = jnp.reshape(scale.astype(std.dtype) / std, (1,) * (x.ndim - 1) + shape)
        dtype = jnp.result_type(x, scale) if self.dtype is None else self.dtype
        return x.astype(dtype) * gain.astype(dtype)
