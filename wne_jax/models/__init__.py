"""Networks by name. A denoiser is called as `model.apply(variables, y, sigma=None, train=False)`."""

from dataclasses import fields
from typing import Any

import flax.linen as nn

from wne_jax.models.dncnn import DnCNN
from wne_jax.models.drunet import DRUNet
from wne_jax.models.fdncnn import FDnCNN
from wne_jax.models.resnet import ResNet
from wne_jax.models.restormer import Restormer
from wne_jax.models.swinir import SwinIR

__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "DRUNet",
    "DnCNN",
    "FDnCNN",
    "ResNet",
    "Restormer",
    "SwinIR",
    "build",
]


MODELS: dict[str, type[nn.Module]] = {
    "dncnn": DnCNN,
    "fdncnn": FDnCNN,
    "drunet": DRUNet,
    "swinir": SwinIR,
    "restormer": Restormer,
}
"""The denoisers, by the names that configurations and commands use."""

CLASSIFIERS: dict[str, type[nn.Module]] = {"resnet": ResNet}
"""Networks that are built and read by name as well, and denoise nothing."""


def build(name: str, **options: Any) -> nn.Module:
    """Build a model from its name, as configurations and command lines do.

    Args:
        name: A key of `MODELS` or of `CLASSIFIERS`.
        **options: The model's attributes.

    Returns:
        The Linen module, without variables.

    Raises:
        ValueError: An unknown name.
        TypeError: An option that the model does not have.

    Example:
        >>> build("fdncnn", depth=6, features=32).features
        32
        >>> build("dncnn", width=32)
        Traceback (most recent call last):
          ...
        TypeError: dncnn has no option 'width'; it has depth, features, mode, ...
    """
    models = MODELS | CLASSIFIERS
    if name not in models:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(models)}")
    known = [f.name for f in fields(models[name]) if f.name not in ("parent", "name")]
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    return models[name](**options)


def check_denoiser(name: str) -> None:
    """Refuse a classifier where a denoiser is needed.

    Raises:
        ValueError: A key of `CLASSIFIERS`.
    """
    if name in CLASSIFIERS:
        raise ValueError(f"{name} is a classifier and denoises nothing; use {', '.join(MODELS)}")
