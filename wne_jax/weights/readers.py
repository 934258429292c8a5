"""Reads the tensors of a weight file by name: PyTorch, MatConvNet, SCICO, safetensors.

Nothing in a file is executed. Anything but tensors is ignored or rejected, and never constructed.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax.weights._errors import WeightsError, reading
from wne_jax.weights._matconvnet import read_matconvnet
from wne_jax.weights._torch import read_torch

Tensors = dict[str, np.ndarray]


def read_tensors(
    path: str | os.PathLike[str], *, key: str | None = None, allow_namespace: bool = False
) -> Tensors:
    """Read every tensor of a weight file.

    | suffix | content | needs |
    |---|---|---|
    | `.pt`, `.pth` | a PyTorch state dict, bare or nested in dicts and lists | PyTorch |
    | `.mat` | a MatConvNet network (simplenn), MATLAB v7.3 | h5py |
    | `.mpk` | Flax variables in msgpack, as written by SCICO | |
    | `.safetensors` | tensors by name | |

    Only tensors and plain containers of a PyTorch file are unpickled. If a file contains several state dicts,
    `key` selects one; those of optimizers are ignored.

    Args:
        path: The file.
        key: The path of the state dict in a PyTorch file, such as "params_ema" or "model/0".
        allow_namespace: Whether a PyTorch file may contain an `argparse.Namespace`, the settings of a run.

    Returns:
        Tensors by name, with the axes of the file: `[out, in, kh, kw]` in PyTorch, `[kh, kw, in, out]` in
        MatConvNet and Flax. A common prefix `module.` of the names is removed; nested names are joined by
        "/". Half precision becomes `float32`.

    Raises:
        WeightsError: The file cannot be read; one line that starts with its path.

    Example:
        >>> read_tensors("network.onnx")
        Traceback (most recent call last):
          ...
        wne_jax.weights._errors.WeightsError: network.onnx: no such file
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Tensors]] = {
        ".pt": partial(read_torch, key=key, allow_namespace=allow_namespace),
        ".pth": partial(read_torch, key=key, allow_namespace=allow_namespace),
        ".mat": read_matconvnet,
        ".mpk": _read_msgpack,
        ".safetensors": _read_safetensors,
    }
    check_file(path)
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise WeightsError(
            f"{path}: unknown suffix {suffix!r}; expected one of {', '.join(readers)}"
        )
    tensors = readers[suffix](path)
    if not tensors:
        raise WeightsError(f"{path}: contains no tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return {name: _at_least_single(tensor) for name, tensor in tensors.items()}


def check_file(path: Path) -> None:
    """Check that a path is a file with content."""
    if not path.is_file():
        raise WeightsError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty (zero bytes)")


def _at_least_single(tensor: np.ndarray) -> np.ndarray:
    """Half precision as `float32`; bfloat16 has the NumPy kind V, which occurs for no other type here."""
    half = tensor.dtype.kind == "V" or tensor.dtype == np.float16
    return tensor.astype(np.float32) if half else tensor


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import safe_open

    with reading(path, "safetensors"), safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _read_msgpack(path: Path) -> Tensors:
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    with reading(path, "Flax msgpack"):
        tree: Any = msgpack_restore(path.read_bytes())
        if not isinstance(tree, dict):
            raise WeightsError(f"{path}: contains a {type(tree).__name__}, not a dict of arrays")
        tensors = flatten_dict(tree, sep="/")
    for name, leaf in tensors.items():
        if not isinstance(leaf, np.ndarray):
            raise WeightsError(f"{path}: {name} is a {type(leaf).__name__}, not an array")
    return tensors
