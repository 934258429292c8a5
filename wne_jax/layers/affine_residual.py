r"""A skip connection that commutes with $x \mapsto a x + b$: a weighted mean instead of a sum."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax import Array


def affine_residual(u: Array, v: Array, t: Array) -> Array:
    r"""Mix two branches with weights that sum to one: $t\,u + (1 - t)\,v$.

    It is computed as $v + t\,(u - v)$, so where both branches agree the result is exactly their value.

    Args:
        u: Array of any shape.
        v: Array of the same shape.
        t: Weight of `u`, a scalar; it may be outside [0, 1].

    Returns:
        Array of the same shape.

    Example:
        >>> affine_residual(jnp.array([1.0, 5.0]), jnp.array([3.0, 5.0]), 0.25).tolist()
        [2.5, 5.0]

    References:
        Herbreteau, Moebel & Kervrann, "Normalization-Equivariant Neural Networks with Application to
        Image Denoising", NeurIPS 2023, section 4.1.
    """
    return v + t * (u - v)


class AffineResidual(nn.Module):
    """Linen layer: `affine_residual` with one trainable scalar, `t`.

    Attributes:
        dtype: Precision of the computation (None: that of inputs and parameter together).
        param_dtype: Precision of the parameter.
        t_init: Initializer of `t`; 0.5 by default.
    """

    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    t_init: Initializer = nn.initializers.constant(0.5)

    @nn.compact
    def __call__(self, u: Array, v: Array) -> Array:
        """Return `t * u + (1 - t) * v`."""
        t = self.param("t", self.t_init, (), self.param_dtype)
        u, v, t = promote_dtype(u, v, t, dtype=self.dtype)
        return affine_residual(u, v, t)
