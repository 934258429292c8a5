"""Our own weight files: safetensors, with the model's configuration in the metadata.

One file rebuilds the model. The tensors are named by collection, modules and leaf, joined by "/", as in
`params/conv_0/kernel`; dtypes and bits are those of the variables.
"""

import dataclasses
import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from wne_jax._internal.files import write_atomically
from wne_jax.config import ModelConfig, model_from_values
from wne_jax.weights._errors import WeightsError, reading
from wne_jax.weights.conversion import check_variables
from wne_jax.weights.readers import check_file
from wne_jax.weights.upgrade import VERSION, upgrade_model, upgrade_variables

DENOISER_FILE = "denoiser.safetensors"
"""Name of the weight file in the folder of a finished training run."""

TASK = "task"
"""Key of the metadata for the task of a network; missing for denoising."""

_FORMAT, _CONFIG, _CALIBRATION = "wne_jax.format", "wne_jax.model", "wne_jax.calibration"
_VERSION = str(VERSION)
_READ = [str(version) for version in range(1, VERSION + 1)]


def save(
    path: str | os.PathLike[str],
    config: ModelConfig,
    variables: Mapping[str, Any],
    *,
    metadata: Mapping[str, str] | None = None,
    calibration: Mapping[int, float] | None = None,
) -> None:
    """Write a model, its configuration and its variables to one `.safetensors` file.

    An existing file is replaced atomically.

    Args:
        path: The file.
        config: The configuration from which `load` rebuilds the model.
        variables: The variables of `config.build()`: collections of nested dicts of arrays.
        metadata: Further text, for example a description of the training.
        calibration: The constant of `Denoiser.uncertainty` for images of 1 channel, of 3, ...

    Raises:
        WeightsError: The suffix is wrong, the variables are those of another model, the metadata uses
            reserved names, or the folder cannot be written.

    Example:
        >>> import jax, pathlib, tempfile
        >>> config = ModelConfig("dncnn", {"depth": 3, "features": 8}, wrapper="wne")
        >>> variables = jax.jit(config.build().init)(jax.random.key(0), np.zeros((1, 8, 8, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "small.safetensors")
        ...     save(path, config, variables)
        ...     config == load(path)[0]
        True
    """
    from safetensors.numpy import save as serialize

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: the suffix of a model must be .safetensors")
    if taken := {_FORMAT, _CONFIG, _CALIBRATION} & set(metadata or {}):
        raise WeightsError(f"{path}: metadata has the reserved names {sorted(taken)}")
    try:
        text = {_FORMAT: _VERSION, _CONFIG: json.dumps(dataclasses.asdict(config))}
    except TypeError as error:
        raise WeightsError(f"{path}: options must be plain values, as in JSON: {error}") from error
    if calibration:
        text[_CALIBRATION] = json.dumps({str(k): v for k, v in calibration.items()})
    # The library copies raw memory: a transposed view would be written in the wrong order.
    flat = {keys: np.asarray(v, order="C") for keys, v in flatten_dict(dict(variables)).items()}
    check_variables(config, flat, str(path))
    content = serialize(
        {"/".join(keys): v for keys, v in flat.items()}, {**(metadata or {}), **text}
    )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror or error}") from error


def load(
    path: str | os.PathLike[str], *, allow_imports: bool | Collection[str] = False
) -> tuple[ModelConfig, dict[str, Any]]:
    """Read a file written by `save`.

    Args:
        path: The file.
        allow_imports: Whether the file may name a backbone or a statistic by an import path, whose code is
            then run; or the allowed import paths.

    Returns:
        The configuration, and the variables as NumPy arrays.

    Raises:
        WeightsError: The file is damaged, not written by `save`, or of a later format; it names an import
            path that is not allowed; or its tensors do not match the configured model.
    """
    from safetensors import safe_open

    path = Path(path)
    check_file(path)
    with reading(path, "safetensors"), safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if _FORMAT not in metadata:
        raise WeightsError(f"{path}: not written by wne_jax: its metadata has no {_FORMAT}")
    if metadata[_FORMAT] not in _READ:
        known = " and ".join(_READ)
        raise WeightsError(f"{path}: has format {metadata[_FORMAT]}; this version reads {known}")
    with reading(path, "wne_jax model"):
        config = model_from_values(upgrade_model(json.loads(metadata[_CONFIG])))
    check_imports(config, allow_imports, str(path))
    flat = upgrade_variables({tuple(name.split("/")): tensor for name, tensor in tensors.items()})
    check_variables(config, flat, str(path))
    return config, unflatten_dict(flat)


def check_imports(config: ModelConfig, allowed: bool | Collection[str], name: str) -> None:
    """Reject import paths in a file, whose code would be run, unless the caller allows them.

    Args:
        config: The configuration in the file.
        allowed: Whether import paths are allowed, or which.
        name: Name of the file, for messages.

    Raises:
        WeightsError: The file names an import path that is not allowed.
    """
    foreign = [
        p for p in config.imports if allowed is False or (allowed is not True and p not in allowed)
    ]
    if foreign:
        raise WeightsError(
            f"{name}: names {' and '.join(foreign)}, whose code would be run: "
            "allow_imports=True (--allow-imports) if you trust it"
        )


def is_ours(path: Path) -> bool:
    """Whether a file, even if damaged, claims to be written by `save`."""
    return path.suffix.lower() == ".safetensors" and _FORMAT in read_metadata(path)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        WeightsError: The file does not exist or is damaged.
    """
    from safetensors import safe_open

    path = Path(path)
    check_file(path)
    with reading(path, "safetensors"), safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def read_calibration(path: str | os.PathLike[str]) -> dict[int, float]:
    """The constants of `Denoiser.uncertainty` in a file written by `save`, by the number of channels.

    Raises:
        WeightsError: The file does not exist or is damaged, or a constant is not positive.
    """
    path = Path(path)
    text = read_metadata(path).get(_CALIBRATION, "{}")
    with reading(path, "wne_jax calibration"):
        found = {int(channels): float(value) for channels, value in json.loads(text).items()}
    if not all(0 < value < math.inf for value in found.values()):
        raise WeightsError(f"{path}: the calibration must be positive numbers, not {text}")
    return found
