"""What a backbone may declare about itself, with the defaults.

A backbone is a function of `[B, ..., C]`, a Linen module, or an NNX module. It may declare these attributes or
properties:

| attribute | meaning | default |
|---|---|---|
| `multiple` | the spatial sides of its input must be multiples of this | 1 |
| `ndim` | number of spatial axes of its input: 2 for images, 3 for volumes | 2 |
| `receptive_radius` | radius of the receptive field, in pixels; None if it is unbounded | None |
| `noise_argument` | the keyword by which it takes the noise level; None if it is blind | a required parameter called `sigma`, `noise_std` or `noise_level`, else None |
| `mask_argument` | the keyword by which it takes the mask of valid entries | None |
| `upscale` | the sides of its output over those of its input | 1 |
| `out_channels` | channels of its output; None for those of its input | None |
| `pads_zeros` | whether it consists of `layers.Conv` and `layers.DoubleLinear`, which see zeros beyond the borders of the image, of layers that work on single pixels of their grid, and of layers before these that reflect the image at its borders | False |
| `symmetry` | what it is equivariant to by construction: "none", "scale" (a y) or "normalization" (a y + b) | "none" |
| `takes_sigma` | how it takes the noise level, see `TakesSigma` | "required" if it has a `noise_argument`, else None |

A parameter for the training mode needs no declaration: `train`, `training`, `is_training` and `deterministic`
are found in the signature.

Only the functions below read these attributes. A wrapper has the property `forwards_to`: attributes that it does
not declare are read from its backbone.
"""  # noqa: E501 (a table)

import functools
import inspect
from typing import Any, Literal

Symmetry = Literal["none", "scale", "normalization"]

TakesSigma = Literal["required", "optional", "statistic"]
"""How a model takes a noise level: as a required argument, as an optional argument (else it is estimated), or
in place of the scale of its statistic."""

_UNDECLARED: Any = object()

_NOISE_ARGUMENTS = ("sigma", "noise_std", "noise_level")

_MODES = {"train": True, "training": True, "is_training": True, "deterministic": False}
"""Parameters for the training mode, with their values during training."""


def multiple(model: Any) -> int:
    """What the spatial sides of a model's input must be multiples of.

    Example:
        >>> multiple(lambda y: y)
        1
    """
    return _ask(model, "multiple", 1)


def ndim(model: Any) -> int:
    """Number of spatial axes of a model's input: 2 for `[B, H, W, C]`, 3 for `[B, D, H, W, C]`."""
    return _ask(model, "ndim", 2)


def example_shape(model: Any, channels: int) -> tuple[int, ...]:
    """A small shape `[1, ..., C]` that a model takes: sides of 16 or more that suit its `multiple`.

    Example:
        >>> example_shape(lambda y: y, 3)
        (1, 16, 16, 3)
    """
    side = -(-16 // multiple(model)) * multiple(model)
    return (1, *(side,) * ndim(model), channels)


def receptive_radius(model: Any) -> int | None:
    """Radius of the receptive field along each axis, in pixels; None if it is unbounded."""
    return _ask(model, "receptive_radius", None)


def mask_argument(model: Any) -> str | None:
    """The keyword by which a model takes a mask of valid entries; None if it takes none."""
    return _ask(model, "mask_argument", None)


def upscale(model: Any) -> int:
    """The sides of a model's output over those of its input."""
    return _ask(model, "upscale", 1)


def out_channels(model: Any) -> int | None:
    """Channels of a model's output; None for those of its input."""
    return _ask(model, "out_channels", None)


def output_shape(model: Any, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape `[B, ..., C]` of a model's output for an input of a shape.

    Example:
        >>> output_shape(lambda y: y, (2, 8, 8, 1))
        (2, 8, 8, 1)
    """
    batch, *sides, channels = shape
    found = out_channels(model)
    return (batch, *(upscale(model) * n for n in sides), channels if found is None else found)


def pads_zeros(model: Any) -> bool:
    """Whether a model connects pixels only by convolutions with zero padding."""
    return _ask(model, "pads_zeros", False)


def noise_argument(model: Any) -> str | None:
    """The keyword by which a model takes the noise level; None if it is blind.

    Example:
        >>> noise_argument(lambda y, sigma: y), noise_argument(lambda y, sigma=None: y)
        ('sigma', None)
    """
    declared = getattr(model, "noise_argument", _UNDECLARED)
    inside = getattr(model, "forwards_to", None)
    if inside is not None and (declared is None or declared is _UNDECLARED):
        return noise_argument(inside)
    if declared is _UNDECLARED:
        required = parameters(model, required=True)
        return next((name for name in _NOISE_ARGUMENTS if name in required), None)
    return declared


def symmetry(model: Any) -> Symmetry:
    """What a model is equivariant to by construction."""
    return getattr(model, "symmetry", "none")


def takes_sigma(model: Any) -> TakesSigma | None:
    """How a model takes the noise level; None if it does not."""
    declared = getattr(model, "takes_sigma", _UNDECLARED)
    if declared is _UNDECLARED:
        return None if noise_argument(model) is None else "required"
    return declared


def needs_sigma(model: Any) -> bool:
    """Whether a model, or a denoising function, requires the noise level.

    Example:
        >>> needs_sigma(lambda y, sigma: y), needs_sigma(lambda y: y)
        (True, False)
    """
    return takes_sigma(model) == "required"


def requires(function: Any, name: str) -> bool:
    """Whether a function, a module or its bound method requires an argument of this name.

    Example:
        >>> requires(lambda y, sigma: y, "sigma"), requires(lambda y: y, "sigma")
        (True, False)
    """
    while isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", function)
    if noise_argument(owner) == name:
        return needs_sigma(owner)
    return name in parameters(function, required=True)


def condition(model: Any, sigma: Any) -> dict[str, Any]:
    """The keyword arguments that pass the noise level to a model; empty if it does not need one.

    Example:
        >>> condition(lambda y, sigma: y, 0.1)
        {'sigma': 0.1}
    """
    name = noise_argument(model)
    return {name: sigma} if name is not None and needs_sigma(model) else {}


def masked(model: Any, where: Any) -> dict[str, Any]:
    """The keyword arguments that pass a mask to a model; empty if there is none, or the model takes none.

    Example:
        >>> masked(lambda y: y, where=True), masked(lambda y: y, where=None)
        ({}, {})
    """
    name = "where" if getattr(model, "normalizes", False) else mask_argument(model)
    return {} if where is None or name is None else {name: where}


def mode(model: Any, *, train: bool) -> dict[str, bool]:
    """The keyword arguments that set the training mode; empty if the model's call has no such parameter.

    Example:
        >>> mode(lambda y, train=False: y, train=True), mode(lambda y: y, train=True)
        ({'train': True}, {})
        >>> mode(lambda y, deterministic: y, train=True)
        {'deterministic': False}
    """
    while True:
        known = parameters(model)
        if found := {name: value is train for name, value in _MODES.items() if name in known}:
            return found
        if (inside := getattr(model, "forwards_to", None)) is None:
            return {}
        model = inside


def parameters(function: Any, *, required: bool = False) -> list[str]:
    """The names of the parameters of a function, or of a module's call; empty if they are unknown.

    Args:
        function: The function, or an instance with `__call__`.
        required: Whether to leave out parameters with a default.
    """
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins without a signature
        return []
    return [p.name for p in found if not required or p.default is p.empty]


def _ask(model: Any, name: str, default: Any) -> Any:
    """The declaration of a model, or of the backbone that it forwards to, or the default."""
    value = getattr(model, name, None)
    if value is None and (inside := getattr(model, "forwards_to", None)) is not None:
        return _ask(inside, name, default)
    return default if value is None else value
