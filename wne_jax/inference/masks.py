"""Images with pixels that are not valid: what replaces these pixels in a network's input."""

import numpy as np
from numpy.typing import ArrayLike


def as_mask(where: ArrayLike, image: np.ndarray) -> np.ndarray:
    """The mask of an image, at its full shape.

    Args:
        where: True where a pixel is valid; it broadcasts to the image, and may lack its last axis, the
            channels.
        image: The image.

    Raises:
        TypeError: A mask that is not boolean.
        ValueError: One that does not fit, or valid pixels that are NaN or infinite.
    """
    where = np.asarray(where)
    if where.dtype != np.bool_:
        raise TypeError(f"where must be boolean (True where valid), not {where.dtype}")
    if where.ndim == image.ndim - 1 and where.shape == image.shape[:-1]:
        where = where[..., None]
    try:
        where = np.broadcast_to(where, image.shape)
    except ValueError:
        raise ValueError(f"where of shape {where.shape} does not fit {image.shape}") from None
    if image.dtype.kind == "f" and (broken := where & ~np.isfinite(image)).any():
        place = tuple(int(i) for i in np.argwhere(broken)[0])
        raise ValueError(f"{np.sum(broken)} valid pixels are NaN or infinite, the first at {place}")
    return where


def fill_from_nearest(plane: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Replace what is not valid by the nearest valid value.

    Args:
        plane: One channel, `[H, W]` or `[D, H, W]`.
        where: True where a pixel is valid, of the same shape; True somewhere.

    Returns:
        A new array.

    Example:
        >>> y = np.array([[1.0, np.nan, np.nan, np.nan, 9.0]])
        >>> fill_from_nearest(y, np.isfinite(y))[0, [1, 3]].tolist()
        [1.0, 9.0]
    """
    from scipy.ndimage import distance_transform_edt  # slow to import

    nearest = distance_transform_edt(~where, return_distances=False, return_indices=True)
    return plane[tuple(nearest)]


def filled(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`fill_from_nearest` for each channel of `[..., C]`.

    Raises:
        ValueError: A channel has no valid pixel.
    """
    if not where.any(axis=tuple(range(image.ndim - 1))).all():
        raise ValueError(
            "where leaves a channel without a valid pixel: denoise the others by themselves"
        )
    channels = range(image.shape[-1])
    return np.stack([fill_from_nearest(image[..., c], where[..., c]) for c in channels], axis=-1)
