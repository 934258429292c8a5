"""Networks by name. Call a denoiser by `model.apply(variables, y, sigma=None, train=False)`."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax import nnx

from wne_jax._internal.importing import import_object, is_import_path
from wne_jax.models.dncnn import DnCNN
from wne_jax.models.drunet import DRUNet
from wne_jax.models.fdncnn import FDnCNN
from wne_jax.models.ffdnet import FFDNet
from wne_jax.models.resnet import ResNet
from wne_jax.models.restormer import Restormer
from wne_jax.models.swinir import SwinIR
from wne_jax.wrappers.bridge import FromNNX

__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "DRUNet",
    "DnCNN",
    "FDnCNN",
    "FFDNet",
    "ResNet",
    "Restormer",
    "SwinIR",
    "build",
]


MODELS: dict[str, type[nn.Module]] = {
    "dncnn": DnCNN,
    "fdncnn": FDnCNN,
    "ffdnet": FFDNet,
    "drunet": DRUNet,
    "swinir": SwinIR,
    "restormer": Restormer,
}
"""The denoisers by their names in configurations and commands."""

CLASSIFIERS: dict[str, type[nn.Module]] = {"resnet": ResNet}
"""Classifiers, which can also be built and read by name."""


def build(name: str, **options: Any) -> nn.Module:
    """Build a model from its name, as in configurations and command lines.

    Args:
        name: A key of `MODELS` or `CLASSIFIERS`, or an import path "package.module:Name" of a Linen or NNX
            class, or of a function that returns a Linen module. Importing runs the code of that module.
        **options: The model's attributes.

    Returns:
        The Linen module, without variables.

    Raises:
        ValueError: An unknown name.
        TypeError: An option that the model does not have, or one without default that is missing.

    Example:
        >>> build("fdncnn", depth=6, features=32).features
        32
        >>> build("dncnn", width=32)
        Traceback (most recent call last):
          ...
        TypeError: dncnn has no option 'width'; it has depth, features, mode, ...
    """
    known = option_defaults(name)
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise TypeError(f"{name} needs the option {option!r}, which has no default")
    make = _make(name)
    if isinstance(make, type) and issubclass(make, nnx.Module):
        return FromNNX(make, options)
    module = make(**options)
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} must return a Linen module, not a {type(module).__name__}")
    return module


def option_defaults(name: str) -> dict[str, Any]:
    """The options of a model with their defaults; `inspect.Parameter.empty` for an option without default.

    They are the attributes of a Linen class, or the parameters of an NNX class or a function.

    Raises:
        ValueError: An unknown name.

    Example:
        >>> option_defaults("dncnn")["features"]
        64
    """
    make: Any = _make(name)
    call = make.__init__ if inspect.isclass(make) else make
    found = inspect.signature(call).parameters.values()
    return {
        p.name: p.default
        for p in found
        if p.name not in ("self", "parent", "name", "rngs")
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def _make(name: str) -> Callable[..., Any]:
    """The class or function for a name."""
    if is_import_path(name):
        return import_object(name)
    models = MODELS | CLASSIFIERS
    if name not in models:
        raise ValueError(
            f"there is no model {name!r}; use {', '.join(models)}, or package.module:Name"
        )
    return models[name]


def check_denoiser(name: str) -> None:
    """Reject a classifier where a denoiser is needed.

    Raises:
        ValueError: `name` is a key of `CLASSIFIERS`.
    """
    if name in CLASSIFIERS:
        raise ValueError(f"{name} is a classifier, not a denoiser; use {', '.join(MODELS)}")
