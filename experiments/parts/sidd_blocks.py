"""The published validation blocks of SIDD: two MATLAB arrays with 40 scenes of 32 blocks, 256 x 256.

References:
    Abdelhamed, Lin and Brown, A High-Quality Denoising Dataset for Smartphone Cameras, CVPR 2018.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from wne_jax.data.folders import find_folder
from wne_jax.images.reading import ImageError

NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
"""Names of the arrays and, with the suffix .mat, of their files."""


class Blocks(NamedTuple):
    """Noisy and clean blocks, u8[scenes, blocks, H, W, 3] each."""

    noisy: np.ndarray
    clean: np.ndarray


def load_blocks(folder: str) -> Blocks:
    """Read both files of a folder.

    MATLAB's formats 5 to 7 and 7.3 (HDF5) are supported; nothing in a file is executed or unpickled.

    Args:
        folder: Path of the folder, absolute, relative, or relative to `WNE_DATA`.

    Raises:
        ImageError: The folder does not exist.
        FileNotFoundError: A file is missing.
        ValueError: A file has other content, or the two arrays differ in shape.
    """
    try:
        place = find_folder(folder, "blocks:DIR")
    except ImageError as error:
        raise ImageError(f"{error}; it must contain {NOISY}.mat and {CLEAN}.mat") from error
    files = {name: place / f"{name}.mat" for name in (NOISY, CLEAN)}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise FileNotFoundError(f"{place} does not contain {' and '.join(missing)}")
    blocks = Blocks(*(_read(path, name) for name, path in files.items()))
    if blocks.noisy.shape != blocks.clean.shape:
        raise ValueError(
            f"{place}: shapes of noisy {blocks.noisy.shape} and clean {blocks.clean.shape} differ"
        )
    return blocks


class _NotBlocksError(ValueError):
    """A file has no array of blocks."""


def _read(path: Path, name: str) -> np.ndarray:
    with path.open("rb") as file:
        hdf5 = file.read(10).startswith((b"MATLAB 7.3", b"\x89HDF"))
    try:
        return _read_hdf5(path, name) if hdf5 else _read_version_5(path, name)
    except ImportError as error:
        raise ImportError(f"{path}: reading it needs {error.name}; install it with pip") from error
    except _NotBlocksError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # readers raise all kinds of errors on damaged files
        raise ValueError(f"{path}: damaged, or not a MATLAB file: {error}") from error


def _read_version_5(path: Path, name: str) -> np.ndarray:
    from scipy import io

    headers = {found: (shape, kind) for found, shape, kind in io.whosmat(path)}
    _check(headers.get(name), name)  # before anything is unpacked
    return io.loadmat(path, variable_names=[name])[name]


def _read_hdf5(path: Path, name: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        array = file.get(name)
        header = (array.shape[::-1], str(array.dtype)) if isinstance(array, h5py.Dataset) else None
        _check(header, name)
        return array[()].T  # HDF5 stores MATLAB's axes in reverse order


def _check(header: tuple[tuple[int, ...], str] | None, name: str) -> None:
    """Check that an array consists of colour blocks."""
    if header is None:
        raise _NotBlocksError(f"it contains no array {name}")
    shape, kind = header
    if kind != "uint8" or len(shape) != 5 or shape[-1] != 3 or min(shape) < 1:
        raise _NotBlocksError(f"{name} is {kind} {shape}, not uint8 [scenes, blocks, H, W, 3]")
