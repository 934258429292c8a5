"""Reads simplenn networks of MatConvNet from MATLAB files of version 7.3, which are HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from wne_jax.weights._errors import WeightsError, reading

_HEADS = ((), ("concat",), ("SubP", "concat"))
"""Layers allowed before the first convolution: the noise level as a channel, and `pixel_unshuffle`."""

_DEFLATED = 1032
"""Maximum compression ratio of HDF5."""

_SCALE = 2
"""The factor of `SubP`, FFDNet's layer for `pixel_unshuffle` and `pixel_shuffle`."""


def read_matconvnet(path: Path) -> dict[str, np.ndarray]:
    """Kernels and biases of `net.layers`, a chain of convolutions and ReLUs.

    Batch normalization is merged into the preceding convolution, as by the authors of DnCNN: with multipliers
    g, biases b and moments m and s of the layer, kernels are multiplied by g / s, and biases become
    (bias - m) g / s + b.

    Returns:
        `layers.N.filters`, `[kh, kw, in, out]`, and `layers.N.biases`, `[out]`. N is the index of the layer,
        from 1 as in MATLAB and without batch normalization. If the first convolution has index 2, the layer
        `concat` precedes it, which appends the noise level. If it has index 3, `SubP` precedes `concat`, and
        another `SubP` follows the last convolution.
    """
    with path.open("rb") as file:
        start = file.read(10)
    if start == b"MATLAB 5.0":
        raise WeightsError(
            f"{path}: MATLAB format older than version 7.3; save it again with save(..., '-v7.3')"
        )
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f'{path}: reading it needs h5py: pip install "wne-jax[matconvnet]"'
        ) from error
    with reading(path, "MATLAB v7.3"), h5py.File(path, "r") as file:
        if elsewhere := file.visititems_links(_foreign):
            raise WeightsError(f"{path}: {elsewhere}; other files are not read")
        if any(f"net/{part}" in file for part in ("params", "vars")):
            raise WeightsError(
                f"{path}: a DagNN network of MatConvNet; only simplenn, a chain of layers, is supported"
            )
        if "net/layers" not in file:
            raise WeightsError(f"{path}: has no net.layers: not a simplenn network of MatConvNet")
        layers = [file[reference] for reference in np.ravel(_read(file["net/layers"]))]
        kinds = [_text(layer["type"]) for layer in layers]
        _check_ends(kinds, layers, path)
        tensors: dict[str, np.ndarray] = {}
        place, name = 0, ""
        for i, (kind, layer) in enumerate(zip(kinds, layers), start=1):
            where = f"{path}: layers.{i}"
            if kind == "bnorm":
                tensors |= _merged(file, layer, where, name, tensors)
                continue
            place += 1
            if kind == "conv":
                name = f"layers.{place}"
                tensors |= _read_convolution(file, layer, where, name)
            elif kind == "relu":
                _check_fields(layer, where, leak=0)
        return tensors


def _check_ends(kinds: list[str], layers: list[Any], path: Path) -> None:
    """Reject chains of layers that no supported network has."""
    first = kinds.index("conv") if "conv" in kinds else len(kinds)
    shuffled = "SubP" in kinds[:first]
    end = len(kinds) - shuffled
    for i, kind in enumerate(kinds[first:end], start=first + 1):
        if kind not in ("conv", "relu", "bnorm"):
            raise WeightsError(
                f"{path}: layers.{i} is a layer {kind!r}; supported are conv, relu without leak and bnorm, "
                "with concat, or SubP and concat, before the first"
            )
    if tuple(kinds[:first]) not in _HEADS or kinds[end - 1 : end] != ["conv"]:
        raise WeightsError(
            f"{path}: starts with {kinds[: first + 1]} and ends with {kinds[-2:]}; a chain must start with "
            "conv, concat and conv, or SubP, concat and conv, and end with conv, or conv and SubP"
        )
    if shuffled:
        _check_fields(layers[0], f"{path}: layers.1", scale=1 / _SCALE)
        if kinds[-1] != "SubP":
            raise WeightsError(f"{path}: layers.1 is a SubP, but the last layer is not")
        _check_fields(layers[-1], f"{path}: layers.{len(kinds)}", scale=_SCALE)


def _read_convolution(file: Any, layer: Any, where: str, name: str) -> dict[str, np.ndarray]:
    """Kernel and bias of a convolution of stride 1 that keeps the size; a missing bias is zero."""
    parts = np.ravel(_read(layer["weights"]))
    kernel, bias = (_read_single(file[reference]) for reference in parts)
    kernel = np.expand_dims(kernel, tuple(range(kernel.ndim, 4)))  # MATLAB drops trailing ones
    _check_fields(layer, where, stride=1, dilate=1, pad=kernel.shape[0] // 2)
    bias = bias.reshape(-1) if bias.size else np.zeros(kernel.shape[-1], kernel.dtype)
    return {f"{name}.filters": kernel, f"{name}.biases": bias}


def _merged(
    file: Any, layer: Any, where: str, name: str, tensors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The convolution `name`, merged with the normalization after it."""
    weights = [_read_single(file[reference]) for reference in np.ravel(_read(layer["weights"]))]
    if len(weights) != 3:
        raise WeightsError(f"{where} is a bnorm without moments: its training was not finished")
    multipliers, biases = np.ravel(weights[0]), np.ravel(weights[1])
    mean, deviation = weights[2].reshape(len(multipliers), 2).T
    factor = multipliers / deviation
    return {
        f"{name}.filters": tensors[f"{name}.filters"] * factor,
        f"{name}.biases": (tensors[f"{name}.biases"] - mean) * factor + biases,
    }


def _check_fields(layer: Any, where: str, **expected: float) -> None:
    """Reject unsupported values of a layer's fields."""
    for field, value in expected.items():
        if field in layer and np.any((found := _read(layer[field])) != value):
            raise WeightsError(f"{where} has {field} {found.tolist()}; only {value} is supported")


def _text(data: Any) -> str:
    return "".join(map(chr, np.ravel(_read(data))))


def _read_single(data: Any) -> np.ndarray:
    """An array in MATLAB's order of axes, which HDF5 reverses; empty arrays are marked in the file."""
    return np.zeros(0, np.float32) if "MATLAB_empty" in data.attrs else _read(data).T


def _read(data: Any) -> np.ndarray:
    """The content of a dataset.

    Raises:
        ValueError: It is stored in other files, or its header claims more data than is stored.
    """
    if data.external or data.is_virtual:
        raise ValueError(f"{data.name} is stored in another file; other files are not read")
    stored = data.id.get_storage_size()
    if data.nbytes > _DEFLATED * max(stored, 1):
        raise ValueError(f"{data.name} claims {data.nbytes:,} bytes but stores {stored:,}")
    return data[()]


def _foreign(name: str, link: Any) -> str | None:
    """A message about a link to another file; None for other links."""
    return (
        f"{name} is stored in another file, {link.filename!r}"
        if hasattr(link, "filename")
        else None
    )
