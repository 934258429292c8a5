"""NumPy's own files: any real dtype, any rank, memory-mapped both ways; never pickles."""

from pathlib import Path

import numpy as np

from wne_jax.images._errors import image_error
from wne_jax.images.files._image import ALPHA_GUESSED, ImageFile, check_axes

SUFFIXES = frozenset({".npy"})


def read(path: Path, axes: str | None) -> ImageFile:
    """Map an array file; without `axes`, the shape must tell what its axes are."""
    try:
        pixels = np.lib.format.open_memmap(path, mode="r")
    except ValueError as err:
        raise image_error(path, f"is no NPY file of numbers, or it is cut off ({err})") from err
    if pixels.dtype.kind not in "uif":
        raise image_error(path, f"holds {pixels.dtype}; expected real numbers")
    guessed = _guess(path, pixels.shape) if axes is None else axes
    check_axes(path, guessed, pixels.shape)
    end = getattr(pixels, "offset", 0) + pixels.nbytes
    if end != (size := path.stat().st_size):
        raise image_error(path, f"holds {size} bytes where its header says {end}")
    alpha = "S" in guessed and pixels.shape[guessed.index("S")] in (2, 4)
    notes = (ALPHA_GUESSED,) if alpha else ()
    return ImageFile(path, pixels, guessed, alpha=alpha, notes=notes)


def fit(path: Path, image: ImageFile) -> ImageFile:
    """An array file holds every array; it cannot say which way is up."""
    return image.upright()


def create(aside: Path, image: ImageFile) -> np.memmap:
    """A new file's array, to be filled."""
    shape, dtype = image.pixels.shape, image.pixels.dtype
    return np.lib.format.open_memmap(aside, mode="w+", dtype=dtype, shape=shape)


def finish(aside: Path, path: Path, image: ImageFile, out: np.ndarray) -> None:
    """Write what is still in memory."""
    if isinstance(out, np.memmap):
        out.flush()


def _guess(path: Path, shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "YXS"
    raise image_error(
        path, f"an array of shape {shape} does not say what its axes are: use --axes (ZYX, say)"
    )
