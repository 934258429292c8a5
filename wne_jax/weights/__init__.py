"""Reading and writing trained models: our own files and published ones.

    config, variables = load_model("dncnn_25.pth")
    model = config.build()
    x = model.apply(variables, y)

A wrapper can be added afterwards, with the same variables:
`dataclasses.replace(config, wrapper=WrapperConfig("wne", "haar_mad", anchor=(0.45, 25 / 255)))`.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from wne_jax.config import ModelConfig
from wne_jax.weights._errors import WeightsError, WeightsNote
from wne_jax.weights.conversion import convert
from wne_jax.weights.readers import read_tensors
from wne_jax.weights.saved import (
    DENOISER_FILE,
    TASK,
    is_ours,
    load,
    read_calibration,
    read_metadata,
    save,
)

__all__ = [
    "DENOISER_FILE",
    "TASK",
    "WeightsError",
    "WeightsNote",
    "convert",
    "is_ours",
    "load_model",
    "read_calibration",
    "read_metadata",
    "read_tensors",
    "save",
]


def load_model(
    path: str | os.PathLike[str],
    *,
    mode: str | None = None,
    key: str | None = None,
    allow_namespace: bool = False,
    allow_imports: bool | Collection[str] = False,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Read a model from a weight file: one of ours, or a published one with a known layout.

    All options but `allow_imports` are for published files; our own files are self-contained.

    Args:
        path: `.safetensors`, `.pt`, `.pth`, `.mat` or `.mpk`.
        mode: The model, if two have the same tensor names; see `convert`.
        key: The state dict, if a file contains several; see `read_tensors`.
        allow_namespace: Whether a PyTorch file may contain argparse settings; see `read_tensors`.
        allow_imports: Whether our own file may name a backbone or a statistic by an import path; see `load`.

    Returns:
        The configuration, whose `build` makes the module, and its variables.

    Raises:
        WeightsError: The file cannot be read; one line that starts with the path.
    """
    path = Path(path)
    if is_ours(path):
        return load(path, allow_imports=allow_imports)
    tensors = read_tensors(path, key=key, allow_namespace=allow_namespace)
    return convert(tensors, name=str(path), mode=mode)
