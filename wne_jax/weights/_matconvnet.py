"""Reading MatConvNet networks of the kind simplenn, from MATLAB files of version 7.3, which are HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from wne_jax.weights._errors import WeightsError, reading


def read_matconvnet(path: Path) -> dict[str, np.ndarray]:
    """Kernels and biases of `net.layers`, a chain of convolutions and ReLUs.

    Returns:
        `layers.N.filters`, `[kh, kw, in, out]`, and `layers.N.biases`, `[out]`, with N the layer's place in
        MATLAB's count, from 1.
    """
    with path.open("rb") as file:
        start = file.read(10)
    if start == b"MATLAB 5.0":
        raise WeightsError(
            f"{path}: a MATLAB file older than version 7.3; save it again with save(..., '-v7.3')"
        )
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f'{path}: h5py is needed to read it: pip install "wne-jax[matconvnet]"'
        ) from error
    with reading(path, "MATLAB v7.3"), h5py.File(path, "r") as file:
        if "net/layers" not in file:
            raise WeightsError(f"{path}: there is no net.layers in it: not a MatConvNet simplenn")
        tensors: dict[str, np.ndarray] = {}
        place = 0
        for place, reference in enumerate(np.ravel(file["net/layers"][()]), start=1):
            tensors |= _read_layer(
                file, file[reference], f"{path}: layers.{place}", f"layers.{place}"
            )
        if f"layers.{place}.filters" not in tensors:
            raise WeightsError(f"{path}: layers.{place} is the last and no conv; only that is read")
        return tensors


def _read_layer(file: Any, layer: Any, place: str, name: str) -> dict[str, np.ndarray]:
    """The tensors of one layer, which must be one that a plain network has."""
    kind = "".join(map(chr, np.ravel(layer["type"][()])))
    if kind == "relu" and not np.any(layer["leak"][()] if "leak" in layer else 0):
        return {}
    if kind != "conv":
        raise WeightsError(f"{place} is a layer {kind!r}; only conv and relu without leak are read")
    kernel, bias = (_read_single(file[reference]) for reference in np.ravel(layer["weights"][()]))
    kernel = np.expand_dims(kernel, tuple(range(kernel.ndim, 4)))  # MATLAB drops trailing ones
    for field, expected in (("stride", 1), ("dilate", 1), ("pad", kernel.shape[0] // 2)):
        if field in layer and np.any(layer[field][()] != expected):
            raise WeightsError(
                f"{place} has {field} {layer[field][()].tolist()}; only {expected} is read"
            )
    return {f"{name}.filters": kernel, f"{name}.biases": bias.reshape(-1)}


def _read_single(data: Any) -> np.ndarray:
    """An array with MATLAB's order of the axes, which HDF5 holds backwards; empty ones are marked."""
    return np.zeros(0, np.float32) if "MATLAB_empty" in data.attrs else data[()].T
