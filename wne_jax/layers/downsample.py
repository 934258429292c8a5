"""Lossless downsampling: pixels become channels."""

from jax import Array


def pixel_unshuffle(x: Array, factor: int) -> Array:
    r"""Rearrange pixels into channels; the inverse of `pixel_shuffle`.

    $$\mathrm{out}_{b,\,h,\,w,\,c r^2 + i r + j} = x_{b,\,h r + i,\,w r + j,\,c}, \qquad 0 \le i, j < r$$

    Args:
        x: Images `[B, H * factor, W * factor, C]`.
        factor: r, by which each side is divided.

    Returns:
        Images `[B, H, W, C * factor**2]`.

    Raises:
        ValueError: `x` is not of rank 4, or `factor` does not divide its sides.

    Example:
        >>> import jax.numpy as jnp
        >>> pixel_unshuffle(jnp.arange(4).reshape(1, 2, 2, 1), 2)[0, 0, 0].tolist()
        [0, 1, 2, 3]
    """
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C], of rank 4; its shape is {x.shape}")
    batch, height, width, channels = x.shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor must divide the sides of x {x.shape}, but it is {factor}")
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, height // factor, width // factor, channels * factor**2)
