"""The units of images, and the change between them: NumPy arrays `[H, W, C]`, C = 1 (gray) or 3 (RGB).

The dtype says the unit: `uint8` is 0..255, `uint16` is 0..65535, floats are in the unit range. Nothing
here guesses a unit from the values.
"""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

BT601 = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the luma."""


def full_scale(dtype: DTypeLike) -> float:
    """The value of white: 255 for `uint8`, 65535 for `uint16`, 1 for floats.

    Raises:
        TypeError: another dtype, whose unit nobody has stated.
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    if np.issubdtype(dtype, np.floating):
        return 1.0
    raise TypeError(f"dtype is {dtype}; images are uint8, uint16 or floating")


def to_unit(image: ArrayLike, white: float | None = None) -> np.ndarray:
    """Divide by full scale: integers go to [0, 1], floats keep their values.

    >>> to_unit(np.array([[[0], [51], [255]]], np.uint8)).ravel().tolist()
    [0.0, 0.20000000298023224, 1.0]

    Args:
        image: any shape, `uint8`, `uint16` or floating; with `white` any real dtype.
        white: the value of white where it is another than that of the dtype, such as 4095 for 12 bits.

    Returns:
        `float32`, of the same shape.
    """
    image = np.asarray(image)
    scale = full_scale(image.dtype) if white is None else white
    return image.astype(np.float32) / np.float32(scale)


def check_white(white: float | None) -> None:
    """Refuse a value of white that is none.

    Raises:
        ValueError: It is not positive, or not finite, in single precision.
    """
    ends = np.finfo(np.float32)
    if white is not None and not float(ends.tiny) <= white <= float(ends.max):
        raise ValueError(f"white must be positive and finite in single precision, not {white}")


def doubt(low: float, high: float, dtype: DTypeLike) -> str:
    """What speaks against full scale as the value of white; nothing where values fit it.

    >>> doubt(3, 4095, np.uint16)
    'values end at 4095, far below 65535, which uint16 has for white'
    >>> doubt(-0.2, 1.3, np.float32)
    ''

    Args:
        low: the smallest value.
        high: the largest.
        dtype: that of the image.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" and not (low >= -1 and high <= 2):
        return f"values go from {low:g} to {high:g}, and floats have 1 for white"
    if dtype == np.uint16 and high < 2**14:
        return f"values end at {high:g}, far below 65535, which uint16 has for white"
    return ""


def from_unit(x: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Multiply by full scale; integers are rounded and saturated, floats are never clipped.

    The inverse of `to_unit` on every `uint8` and `uint16` image.

    >>> from_unit([-0.1, 0.5, 1.2], np.uint8).tolist()
    [0, 128, 255]

    Args:
        x: any shape, floating, unit range.
        dtype: `uint8`, `uint16` or floating.

    Raises:
        TypeError: `dtype` is none of these, or `x` is not floating.
        ValueError: NaN has no integer.
    """
    x, scale = np.asarray(x), full_scale(dtype)
    if x.dtype.kind in "biu":
        raise TypeError(f"x has dtype {x.dtype}; expected floats in the unit range (see to_unit)")
    return saturate(x.astype(np.float64) * scale, dtype)


def saturate(x: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Cast floats to a dtype: integers are rounded and held to their limits, floats are never clipped.

    >>> saturate([-3.0, 2.5, 3.6, 300.0], np.uint8).tolist()
    [0, 2, 4, 255]

    Args:
        x: any shape, floating.
        dtype: integer or floating.

    Raises:
        ValueError: NaN has no integer.
    """
    x = np.asarray(x)
    if np.issubdtype(dtype, np.floating):
        return x.astype(dtype)
    if np.isnan(x).any():
        raise ValueError(f"x holds NaN, which {np.dtype(dtype)} cannot hold; replace it first")
    limits = np.iinfo(dtype)
    # Casting the clipped float would overflow where the limit has no float64 (64-bit integers).
    inside = np.rint(np.clip(x, limits.min, np.nextafter(float(limits.max), 0)))
    return np.where(x >= limits.max, limits.max, inside.astype(dtype)).astype(dtype)


def to_gray(image: ArrayLike) -> np.ndarray:
    """Luma, 0.299 R + 0.587 G + 0.114 B, weighed in floating point and rounded once for integers.

    Args:
        image: `[H, W, C]`, C in {1, 3}; one channel passes through.

    Returns:
        `[H, W, 1]`, of the same dtype.

    References:
        Recommendation ITU-R BT.601.
    """
    image = _checked(image)
    if image.shape[-1] == 1:
        return image
    luma = image @ BT601
    if np.issubdtype(image.dtype, np.integer):
        luma = np.rint(luma)
    return luma[..., None].astype(image.dtype)


def with_channels(image: ArrayLike, channels: int) -> np.ndarray:
    """Make an image gray (1, by `to_gray`) or colour (3, a gray one repeated).

    Args:
        image: `[H, W, C]`, C in {1, 3}.
        channels: 1 or 3.

    Returns:
        `[H, W, channels]`, of the same dtype.

    Raises:
        ValueError: `channels`, or the shape of `image`, is another.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}; an image has 1 or 3")
    image = _checked(image)
    if channels == 1:
        return to_gray(image)
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


def _checked(image: ArrayLike) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image has shape {image.shape}; expected [H, W, 1] or [H, W, 3]")
    return image
