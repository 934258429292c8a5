"""A model as plain values: a backbone, its options, the wrapper around it, and the module inside the wrapper.

A configuration can be compared, written as JSON and read again; `build` makes the module. The modules check
which parts are compatible, so a configuration is checked by building it, without rules of its own.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from flax import linen as nn

from wne_jax import models, protocol, statistics
from wne_jax._internal.importing import import_path, is_import_path
from wne_jax._internal.limits import MAX_BLUR, check_option
from wne_jax._internal.names import WrapperKind
from wne_jax.transforms import Anchor
from wne_jax.wrappers import one_level, opponent_colours, rescaled, smooth_base, two_scales
from wne_jax.wrappers.base import Inside
from wne_jax.wrappers.bridge import FromFunction, FromInitApply, FromNNX, as_linen
from wne_jax.wrappers.limited_contrast import LIMIT
from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant

_WRAPPERS = {"wne": WNE, "scale": ScaleEquivariant, "input": InputNormalized}
_SCALE = "root_mean_square"
_SMALL = {"depth": 6, "features": 32}


@dataclass(frozen=True)
class WrapperConfig:
    """The wrapper around a backbone.

    Attributes:
        kind: "wne", "scale" (scale equivariance only) or "input" (the output is not denormalized).
        statistic: Name in `wne_jax.statistics.STATISTICS`, or an import path "my_package.stats:mine"
            (default: mean_std). The kind "scale" always uses the root mean square.
        anchor: Location and scale that the backbone expects; see `wne_jax.Anchor`.
        unbiased: With a gain, for a backbone that was trained on Gaussian noise; see `wne_jax.denormalize`.
        per_channel: Whether each channel has statistics of its own, and so a contrast and brightness.
    """

    kind: WrapperKind = "wne"
    statistic: str | None = None
    anchor: tuple[float, float] = (0.0, 1.0)
    unbiased: bool = False
    per_channel: bool = False

    def __post_init__(self):
        """Reject invalid values."""
        if self.kind not in get_args(WrapperKind):
            raise ValueError(
                f"wrapper must be one of {', '.join(get_args(WrapperKind))}, or None; not {self.kind!r}"
            )
        own = _SCALE if self.kind == "scale" else self.statistic or "mean_std"
        if self.statistic not in (None, own):
            raise ValueError(
                f"statistic: the wrapper 'scale' always uses {_SCALE}; it takes no {self.statistic!r}"
            )
        object.__setattr__(self, "statistic", own)
        object.__setattr__(self, "anchor", tuple(float(value) for value in self.anchor))
        if len(self.anchor) != 2 or not self.anchor[1] > 0 or not np.isfinite(self.anchor).all():
            raise ValueError(f"anchor must be a location and a positive scale, not {self.anchor}")

    def around(self, backbone: nn.Module) -> nn.Module:
        """The wrapper as a module around a backbone.

        Raises:
            ValueError: An unknown statistic, or one that is not compatible with the module inside.
        """
        own: dict[str, Any]
        own = {"unbiased": self.unbiased} if self.unbiased else {}
        if self.per_channel:
            own["axes"] = _spatial_axes(backbone)
        if self.kind != "scale":
            own["statistics"] = statistics.named(str(self.statistic))
        return _WRAPPERS[self.kind](backbone, anchor=Anchor(*self.anchor), **own)


def _spatial_axes(model: Any) -> tuple[int, ...]:
    """The axes between batch and channels."""
    return tuple(range(1, protocol.ndim(model) + 1))


@dataclass(frozen=True)
class SmoothBase:
    """The low frequencies bypass the backbone; see `wne_jax.wrappers.smooth_base`.

    Attributes:
        sigma_px: Standard deviation of the blur, in pixels.
        wiener_cap: Local energy, in units of the noise, above which the removed residual is shrunk; or None.
    """

    sigma_px: float = 4.0
    wiener_cap: float | None = None
    kind: Literal["smooth_base"] = field(default="smooth_base", init=False)

    def __post_init__(self):
        """Reject a blur that is too wide to compute."""
        if self.sigma_px > MAX_BLUR:
            raise ValueError(f"sigma_px must be at most {MAX_BLUR:g}, not {self.sigma_px:g}")

    def around(self, backbone: nn.Module) -> Inside:
        """The module around a backbone."""
        return smooth_base.SmoothBase(backbone, self.sigma_px, self.wiener_cap)


@dataclass(frozen=True)
class Rescaled:
    """The backbone receives the normalized image in another scale; see `wne_jax.wrappers.rescaled`.

    Attributes:
        by: "blend", "multi_scale" or "learned".
    """

    by: rescaled.Factor
    kind: Literal["rescaled"] = field(default="rescaled", init=False)

    def around(self, backbone: nn.Module) -> Inside:
        """The module around a backbone."""
        return rescaled.Rescaled(backbone, self.by)


@dataclass(frozen=True)
class OneLevel:
    """A network trained at one noise level, used at every level; see `wne_jax.wrappers.one_level`.

    Attributes:
        trained_sigma_255: The level at which the network was trained, in 8-bit units.
    """

    trained_sigma_255: float
    kind: Literal["one_level"] = field(default="one_level", init=False)

    def around(self, backbone: nn.Module) -> Inside:
        """The module around a backbone."""
        return one_level.OneLevel(backbone, self.trained_sigma_255 / 255)


@dataclass(frozen=True)
class TwoScales:
    """The backbone also sees the image at half the size; see `wne_jax.wrappers.two_scales`.

    Attributes:
        contrast_limit: The largest contrast that the backbone gets, in units of the noise; see
            `wne_jax.wrappers.limited_contrast`. None for no limit.
    """

    contrast_limit: float | None = LIMIT
    kind: Literal["two_scales"] = field(default="two_scales", init=False)

    def around(self, backbone: nn.Module) -> Inside:
        """The module around a backbone."""
        return two_scales.TwoScales(backbone, self.contrast_limit)


@dataclass(frozen=True)
class OpponentColours:
    """A gray network for colour images; see `wne_jax.wrappers.opponent_colours`.

    Attributes:
        contrast_limit: As in `TwoScales`.
    """

    contrast_limit: float | None = LIMIT
    kind: Literal["opponent_colours"] = field(default="opponent_colours", init=False)

    def around(self, backbone: nn.Module) -> Inside:
        """The module around a backbone."""
        return opponent_colours.OpponentColours(backbone, self.contrast_limit)


def in_opponent_colours(statistic: str = "noise_level") -> dict[str, Any]:
    """The wrapping by which a gray network that knows its noise serves colour images.

    Args:
        statistic: One whose scale is the noise level; every channel has its own.

    Returns:
        `wrapper` and `inside` of a `ModelConfig`, as `wne_jax.Denoiser.load` takes them, too.

    Example:
        >>> ModelConfig("dncnn", **in_opponent_colours()).wrapper.per_channel
        True
    """
    return {
        "wrapper": WrapperConfig(statistic=statistic, per_channel=True),
        "inside": OpponentColours(),
    }


def at_every_level(trained_sigma_255: float) -> dict[str, Any]:
    """The wrapping by which a network trained at one noise level serves every level, in any units.

    Args:
        trained_sigma_255: The level that the network was trained for, in 8-bit units.

    Returns:
        `wrapper` and `inside` of a `ModelConfig`, as `wne_jax.Denoiser.load` takes them, too.

    Example:
        >>> ModelConfig("dncnn", **at_every_level(25)).inside
        OneLevel(trained_sigma_255=25, kind='one_level')
    """
    return {
        "wrapper": WrapperConfig(anchor=one_level.ANCHOR),
        "inside": OneLevel(trained_sigma_255),
    }


InsideConfig = SmoothBase | Rescaled | OneLevel | TwoScales | OpponentColours
_INSIDE: dict[str, type] = {
    "smooth_base": SmoothBase,
    "rescaled": Rescaled,
    "one_level": OneLevel,
    "two_scales": TwoScales,
    "opponent_colours": OpponentColours,
}


@dataclass(frozen=True)
class ModelConfig:
    """A backbone with its wrapper.

    Attributes:
        backbone: Name in `wne_jax.models.MODELS`, an import path "my_package.nets:MyNet", or, without a
            wrapper, a name in `CLASSIFIERS`.
        options: Options of the backbone (default: depth 6 and features 32 for "dncnn" and "fdncnn").
        wrapper: A `WrapperConfig`, or only its kind; None for a bare backbone.
        inside: The module between the wrapper and the backbone: `SmoothBase`, `Rescaled`, `OneLevel`,
            `TwoScales`, `OpponentColours`, or None. Some may also be used without a wrapper.

    Raises:
        ValueError: Parts that are not compatible, or values out of their range.
        TypeError: Options that the backbone does not have, or a backbone that is no name.

    Example:
        >>> config = ModelConfig(
        ...     "fdncnn",
        ...     {"depth": 4, "features": 8},
        ...     wrapper=WrapperConfig("wne", "haar_mad"),
        ...     inside=SmoothBase(4.0, wiener_cap=1.3),
        ... )
        >>> config.build().backbone.backbone.depth
        4
    """

    backbone: str = "dncnn"
    options: dict[str, Any] = field(default_factory=lambda: _SMALL)
    wrapper: WrapperConfig | WrapperKind | None = None
    inside: InsideConfig | None = None

    def __post_init__(self):
        """Reject parts that are not compatible."""
        if not isinstance(self.backbone, str):
            kind = "a class" if isinstance(self.backbone, type) else type(self.backbone).__name__
            raise TypeError(
                f"backbone must be a name or an import path such as nets:MyNet, not {kind}"
            )
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a mapping of names, not {self.options!r}")
        for name, value in self.options.items():
            check_option(name, value)
        if self.options is _SMALL and self.backbone not in ("dncnn", "fdncnn"):
            object.__setattr__(self, "options", {})
        lists = {name: tuple(o) for name, o in self.options.items() if isinstance(o, list)}
        object.__setattr__(self, "options", self.options | lists)  # JSON turns tuples into lists
        if isinstance(self.wrapper, str):
            object.__setattr__(self, "wrapper", WrapperConfig(self.wrapper))
        for name, kinds in (("wrapper", WrapperConfig), ("inside", InsideConfig)):
            if not isinstance(value := getattr(self, name), kinds | None):
                raise ValueError(f"{name} must be a configuration or None, not {value!r}")
        if self.wrapper is not None or self.inside is not None:
            models.check_denoiser(self.backbone)
        if not self.imports:
            self.build()

    def build(self, **changes: Any) -> nn.Module:
        """Return the module, without parameters.

        Args:
            **changes: Options of the backbone that change only the computation, for example `remat`.
        """
        module: Any = models.build(self.backbone, **(self.options | changes))
        if self.inside is not None:
            module = self.inside.around(module)
        if isinstance(self.wrapper, WrapperConfig):
            return self.wrapper.around(module)
        if isinstance(module, Inside):
            module.check_wrapper(None, Anchor())
        return module

    @property
    def takes_sigma(self) -> bool:
        """Whether the model needs the noise level as an argument."""
        return protocol.needs_sigma(self.build())

    @property
    def imports(self) -> tuple[str, ...]:
        """The import paths whose code `build` runs; none for models and statistics of the library."""
        statistic = self.wrapper.statistic if isinstance(self.wrapper, WrapperConfig) else None
        return tuple(name for name in (self.backbone, statistic) if name and is_import_path(name))


def from_values(cls: type, values: Mapping[str, Any]) -> Any:
    """Build a configuration from parsed JSON.

    Raises:
        ValueError: Unknown keys, or values out of their range.
    """
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown keys {unknown}; {cls.__name__} knows {sorted(known)}")
    return cls(**values)


def model_from_values(values: Mapping[str, Any]) -> ModelConfig:
    """Build the configuration of a model from parsed JSON; the inverse of `dataclasses.asdict`.

    Raises:
        ValueError: Unknown keys, or values out of their range.

    Example:
        >>> config = ModelConfig(wrapper="wne", inside=SmoothBase(8.0))
        >>> model_from_values(dataclasses.asdict(config)) == config
        True
    """
    values = dict(values)
    if isinstance(wrapper := values.get("wrapper"), Mapping):
        values["wrapper"] = from_values(WrapperConfig, wrapper)
    if isinstance(inside := values.get("inside"), Mapping):
        own = dict(inside)
        if (kind := own.pop("kind", None)) not in _INSIDE:
            raise ValueError(
                f"the kind of inside must be one of {', '.join(_INSIDE)}, not {kind!r}"
            )
        values["inside"] = from_values(_INSIDE[kind], own)
    return from_values(ModelConfig, values)


def config_of(model: Any) -> ModelConfig:
    """The configuration that rebuilds a model; the inverse of `ModelConfig.build`.

    Args:
        model: A Linen or NNX module, bare or wrapped. Its class, and a custom statistic, must be importable
            by name. In a Linen module, attributes that differ from their defaults must be plain values. In an
            NNX module, constructor arguments that differ from their defaults must be attributes of that name.

    Returns:
        The configuration. The name of a custom class is its import path.

    Raises:
        ValueError: No configuration rebuilds it.

    Example:
        >>> config = ModelConfig("fdncnn", {"depth": 4, "features": 8}, wrapper="wne")
        >>> config_of(config.build()) == config
        True
    """
    if not isinstance(model, nn.Module):
        model, _ = as_linen(model)
    wrapper: WrapperConfig | None = None
    inside: InsideConfig | None = None
    backbone: Any = model
    kinds: dict[type, Any] = {c: kind for kind, c in _WRAPPERS.items()}
    if type(backbone) in kinds:
        scale = kinds[type(backbone)] == "scale"
        statistic = None if scale else _statistic_name(backbone.statistics)
        per_channel = backbone.axes is not None and tuple(backbone.axes) == _spatial_axes(backbone)
        wrapper = WrapperConfig(
            kinds[type(backbone)], statistic, tuple(backbone.anchor), backbone.unbiased, per_channel
        )
        backbone = backbone.backbone
    if isinstance(backbone, smooth_base.SmoothBase):
        inside = SmoothBase(backbone.sigma_px, backbone.wiener_cap)
    elif isinstance(backbone, rescaled.Rescaled):
        inside = Rescaled(backbone.by)
    elif isinstance(backbone, one_level.OneLevel):
        inside = OneLevel(backbone.trained_sigma * 255)
    elif isinstance(backbone, two_scales.TwoScales):
        inside = TwoScales(backbone.contrast_limit)
    elif isinstance(backbone, opponent_colours.OpponentColours):
        inside = OpponentColours(backbone.contrast_limit)
    backbone = backbone if inside is None else backbone.backbone
    name, options, same = _name_and_options(backbone)
    made = ModelConfig(name, options, wrapper, inside)
    if made.build() != _with_backbone(model, backbone, same):
        raise ValueError(
            f"no configuration rebuilds {type(model).__name__}: a wrapper may have only statistics and "
            "anchor, and a backbone only plain values; or use Denoiser(...).export"
        )
    return made


def _name_and_options(backbone: Any) -> tuple[str, dict[str, Any], nn.Module]:
    """The name and options of a backbone, and the module that they build."""
    if isinstance(backbone, FromNNX):
        backbone = backbone.by_class()
        return import_path(backbone.make), dict(backbone.options), backbone
    if isinstance(backbone, FromFunction | FromInitApply):
        raise ValueError(
            "functions have no configuration: name a function that makes the model, "
            'ModelConfig("package.module:name"), or write a self-contained file by Denoiser(...).export'
        )
    names = {c: name for name, c in (models.MODELS | models.CLASSIFIERS).items()}
    name = names.get(type(backbone)) or import_path(type(backbone))
    return name, _changed(backbone), backbone


def _with_backbone(model: Any, old: nn.Module, new: nn.Module) -> Any:
    """The model with another backbone."""
    if model is old:
        return new
    return model.clone(backbone=_with_backbone(model.backbone, old, new))


def _statistic_name(statistic: statistics.Statistic) -> str:
    names = {id(known): name for name, known in statistics.STATISTICS.items()}
    return names.get(id(statistic)) or import_path(statistic)


def _changed(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that differ from their defaults."""
    options = {f.name: f for f in dataclasses.fields(module) if f.name not in ("parent", "name")}
    values = {name: getattr(module, name) for name in options}
    return {name: value for name, value in values.items() if value is not options[name].default
            and value != options[name].default}  # fmt: skip
