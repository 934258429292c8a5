"""Reading and writing trained models: our own files, and other people's.

    config, variables = load_model("dncnn_25.pth")
    model = config.build()
    x = model.apply(variables, y)

A wrapper is chosen afterwards, and leaves the variables as they are:
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
from wne_jax.weights.saved import DENOISER_FILE, is_ours, load, read_metadata, save

__all__ = [
    "DENOISER_FILE",
    "WeightsError",
    "WeightsNote",
    "convert",
    "load_model",
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
    """Read a model from any weight file: one of ours, or a published one whose layout is known.

    The options serve files of others; one of ours says everything itself.

    Args:
        path: `.safetensors`, `.pt`, `.pth`, `.mat` or `.mpk`.
        mode: Which model is meant where two share their tensors' names; see `convert`.
        key: Which state dict is meant where a file holds several; see `read_tensors`.
        allow_namespace: Whether a PyTorch file may hold argparse settings; see `read_tensors`.
        allow_imports: Whether one of ours may name a backbone or a statistic by an import path; see `load`.

    Returns:
        The configuration, whose `build` makes the module, and its variables.

    Raises:
        WeightsError: Whatever is wrong, in one line that starts with the path.
    """
    path = Path(path)
    if is_ours(path):
        return load(path, allow_imports=allow_imports)
    tensors = read_tensors(path, key=key, allow_namespace=allow_namespace)
    return convert(tensors, name=str(path), mode=mode)
