"""The one rule of precision: statistics and measurements are taken in float32 or finer."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64, float32 for every other real dtype, integers included."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
