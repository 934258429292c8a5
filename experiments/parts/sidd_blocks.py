"""The validation blocks of SIDD as they are published: two MATLAB arrays, 40 scenes of 32 blocks, 256 x 256.

References:
    Abdelhamed, Lin and Brown, A High-Quality Denoising Dataset for Smartphone Cameras, CVPR 2018.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from wne_jax.data.folders import find_folder
from wne_jax.images.reading import ImageError

NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
"""The arrays, each in the file of its name with the suffix .mat."""


class Blocks(NamedTuple):
    """Noisy blocks and their clean ones, u8[scenes, blocks, H, W, 3] each."""

    noisy: np.ndarray
    clean: np.ndarray


def load_blocks(folder: str) -> Blocks:
    """Read both files of a folder.

    MATLAB's formats 5 to 7, and 7.3, which is HDF5, are read; nothing in a file is executed or unpickled.

    Args:
        folder: Its path, as it stands or under the folder that `WNE_DATA` names.

    Raises:
        ImageError: There is no such folder.
        FileNotFoundError: A file is missing.
        ValueError: A file holds something else, or the two differ in shape.
    """
    try:
        place = find_folder(folder, "blocks:DIR")
    except ImageError as error:
        raise ImageError(f"{error}; it is to hold {NOISY}.mat and {CLEAN}.mat") from error
    files = {name: place / f"{name}.mat" for name in (NOISY, CLEAN)}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise FileNotFoundError(f"{place} lacks {' and '.join(missing)}, SIDD's validation blocks")
    blocks = Blocks(*(_read(path, name) for name, path in files.items()))
    if blocks.noisy.shape != blocks.clean.shape:
        raise ValueError(
            f"{place}: noisy blocks {blocks.noisy.shape} and clean ones {blocks.clean.shape} differ"
        )
    return blocks


class _NotBlocksError(ValueError):
    """What a file holds in place of blocks."""


def _read(path: Path, name: str) -> np.ndarray:
    with path.open("rb") as file:
        hdf5 = file.read(10).startswith((b"MATLAB 7.3", b"\x89HDF"))
    try:
        return _read_hdf5(path, name) if hdf5 else _read_version_5(path, name)
    except ImportError as error:
        raise ImportError(f"{path}: {error.name} is needed to read it: pip install it") from error
    except _NotBlocksError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # what readers raise at a damaged file is of every kind
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
        return array[()].T  # HDF5 holds MATLAB's axes backwards


def _check(header: tuple[tuple[int, ...], str] | None, name: str) -> None:
    """Refuse what is no array of colour blocks."""
    if header is None:
        raise _NotBlocksError(f"there is no array {name} in it")
    shape, kind = header
    if kind != "uint8" or len(shape) != 5 or shape[-1] != 3 or min(shape) < 1:
        raise _NotBlocksError(f"{name} is {kind} {shape}, not uint8 [scenes, blocks, H, W, 3]")
