"""Reading MatConvNet networks of the kind simplenn, from MATLAB files of version 7.3, which are HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from wne_jax.weights._errors import WeightsError, reading

_HEADS = ((), ("concat",), ("SubP", "concat"))
"""What may stand before the first convolution: the noise level as a channel, and `pixel_unshuffle`."""

_DEFLATED = 1032
"""How many bytes can be compressed into one, by the compression that HDF5 has."""

_SCALE = 2
"""The factor of `SubP`, which is FFDNet's layer for `pixel_unshuffle` and `pixel_shuffle`."""


def read_matconvnet(path: Path) -> dict[str, np.ndarray]:
    """Kernels and biases of `net.layers`, a chain of convolutions and ReLUs.

    Batch normalization is merged into the convolution before it, as the authors of DnCNN do it: with the
    multipliers g, the biases b and the moments m and s of the layer, kernels become g / s times themselves,
    and biases (bias - m) g / s + b.

    Returns:
        `layers.N.filters`, `[kh, kw, in, out]`, and `layers.N.biases`, `[out]`, with N the layer's place in
        MATLAB's count, from 1, in which batch normalization does not count. A first convolution in place 2
        has the layer `concat` before it, which appends the noise level; one in place 3 has `SubP` before
        that, and another after the last.
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
        if elsewhere := file.visititems_links(_foreign):
            raise WeightsError(f"{path}: {elsewhere}, which is not read")
        if any(f"net/{part}" in file for part in ("params", "vars")):
            raise WeightsError(
                f"{path}: a MatConvNet network of the kind DagNN; only simplenn, a chain, is read"
            )
        if "net/layers" not in file:
            raise WeightsError(f"{path}: there is no net.layers in it: not a MatConvNet simplenn")
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
    """Refuse chains that no network here has, but for the numbers in them."""
    first = kinds.index("conv") if "conv" in kinds else len(kinds)
    shuffled = "SubP" in kinds[:first]
    end = len(kinds) - shuffled
    for i, kind in enumerate(kinds[first:end], start=first + 1):
        if kind not in ("conv", "relu", "bnorm"):
            raise WeightsError(
                f"{path}: layers.{i} is a layer {kind!r}; only conv, relu without leak and bnorm are read, "
                "with concat, or SubP and concat, before the first"
            )
    if tuple(kinds[:first]) not in _HEADS or kinds[end - 1 : end] != ["conv"]:
        raise WeightsError(
            f"{path}: starts with {kinds[: first + 1]} and ends with {kinds[-2:]}; a chain is read that "
            "starts with conv, behind concat or SubP and concat, and ends with conv, before SubP if it has it"
        )
    if shuffled:
        _check_fields(layers[0], f"{path}: layers.1", scale=1 / _SCALE)
        if kinds[-1] != "SubP":
            raise WeightsError(f"{path}: layers.1 is a SubP, and the last layer is none")
        _check_fields(layers[-1], f"{path}: layers.{len(kinds)}", scale=_SCALE)


def _read_convolution(file: Any, layer: Any, where: str, name: str) -> dict[str, np.ndarray]:
    """Kernel and bias of a convolution of stride 1 that keeps the size; no bias is one of zeros."""
    parts = np.ravel(_read(layer["weights"]))
    kernel, bias = (_read_single(file[reference]) for reference in parts)
    kernel = np.expand_dims(kernel, tuple(range(kernel.ndim, 4)))  # MATLAB drops trailing ones
    _check_fields(layer, where, stride=1, dilate=1, pad=kernel.shape[0] // 2)
    bias = bias.reshape(-1) if bias.size else np.zeros(kernel.shape[-1], kernel.dtype)
    return {f"{name}.filters": kernel, f"{name}.biases": bias}


def _merged(
    file: Any, layer: Any, where: str, name: str, tensors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The convolution `name` with the normalization after it merged into it."""
    weights = [_read_single(file[reference]) for reference in np.ravel(_read(layer["weights"]))]
    if len(weights) != 3:
        raise WeightsError(f"{where} is a bnorm without moments: it was not trained to the end")
    multipliers, biases = np.ravel(weights[0]), np.ravel(weights[1])
    mean, deviation = weights[2].reshape(len(multipliers), 2).T
    factor = multipliers / deviation
    return {
        f"{name}.filters": tensors[f"{name}.filters"] * factor,
        f"{name}.biases": (tensors[f"{name}.biases"] - mean) * factor + biases,
    }


def _check_fields(layer: Any, where: str, **expected: float) -> None:
    """Refuse other values of a layer's fields than the ones that are read."""
    for field, value in expected.items():
        if field in layer and np.any((found := _read(layer[field])) != value):
            raise WeightsError(f"{where} has {field} {found.tolist()}; only {value} is read")


def _text(data: Any) -> str:
    return "".join(map(chr, np.ravel(_read(data))))


def _read_single(data: Any) -> np.ndarray:
    """An array with MATLAB's order of the axes, which HDF5 holds backwards; empty ones are marked."""
    return np.zeros(0, np.float32) if "MATLAB_empty" in data.attrs else _read(data).T


def _read(data: Any) -> np.ndarray:
    """The content of a data set.

    Raises:
        ValueError: It lies in other files, or its header claims more than is stored.
    """
    if data.external or data.is_virtual:
        raise ValueError(f"{data.name} lies in another file, which is not read")
    stored = data.id.get_storage_size()
    if data.nbytes > _DEFLATED * max(stored, 1):
        raise ValueError(f"{data.name} claims {data.nbytes:,} bytes and stores {stored:,}")
    return data[()]


def _foreign(name: str, link: Any) -> str | None:
    """What to say of a link to another file; None of others."""
    return f"{name} lies in another file, {link.filename!r}" if hasattr(link, "filename") else None
