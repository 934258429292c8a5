"""What a model is, in plain values: a backbone, its options, and the wrapper around it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import linen as nn

from wne_jax import models, protocol
from wne_jax._internal.names import Wrapper
from wne_jax.statistics import STATISTICS
from wne_jax.transforms import Anchor
from wne_jax.wrappers.linen import WNE, InputNormalized, ScaleEquivariant
from wne_jax.wrappers.one_level import OneLevel
from wne_jax.wrappers.rescaled import Factor, Rescaled
from wne_jax.wrappers.smooth_base import SmoothBase

_WRAPPERS = {"wne": WNE, "scale": ScaleEquivariant, "input": InputNormalized}


@dataclass(frozen=True)
class ModelConfig:
    """A backbone and the wrapper around it.

    Attributes:
        backbone: Name in `wne_jax.models.MODELS`, or in `CLASSIFIERS` with the wrapper "none".
        options: Options of the backbone.
        wrapper: "none", "wne", "scale" (scale equivariance alone) or "input" (no way back).
        statistics: Name in `wne_jax.statistics.STATISTICS`; read by the wrappers "wne" and "input".
        anchor: Location and scale that the backbone expects; see `wne_jax.Anchor`.
        trained_sigma_255: Noise level, in 8-bit units, that a frozen backbone was trained for: behind a
            wrapper it then serves every level; see `wne_jax.wrappers.one_level`. None for one that needs no
        such help. detail: Standard deviation, in pixels, of the blur that goes around the backbone; see
            `wne_jax.wrappers.smooth_base`. None for a backbone that sees the whole image.
        cap: Limit on what a network with `detail` and the statistics `haar_mad` removes; see there.
        rescale: Another scale inside of the wrapper, "blend", "multi_scale" or "learned"; see
            `wne_jax.wrappers.rescaled`.

    Example:
        >>> ModelConfig("fdncnn", {"depth": 4, "features": 8}, wrapper="wne").build().backbone.depth
        4
    """

    backbone: str = "dncnn"
    options: dict[str, Any] = field(default_factory=lambda: {"depth": 6, "features": 32})
    wrapper: Wrapper = "none"
    statistics: str = "mean_std"
    anchor: tuple[float, float] = (0.0, 1.0)
    trained_sigma_255: float | None = None
    detail: float | None = None
    cap: float | None = None
    rescale: Factor | None = None

    def __post_init__(self):
        """Refuse values that cannot be meant."""
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a mapping of names, not {self.options!r}")
        lists = {name: tuple(o) for name, o in self.options.items() if isinstance(o, list)}
        object.__setattr__(self, "options", self.options | lists)  # as they were before JSON
        object.__setattr__(self, "anchor", tuple(float(value) for value in self.anchor))
        if len(self.anchor) != 2 or not self.anchor[1] > 0 or not np.isfinite(self.anchor).all():
            raise ValueError(f"anchor must be a location and a positive scale, not {self.anchor}")
        if self.wrapper != "none":
            models.check_denoiser(self.backbone)
        inside = (self.trained_sigma_255, self.detail, self.rescale)
        if self.wrapper == "none" and (self.anchor != Anchor() or any(inside)):
            raise ValueError(
                "anchor, trained_sigma_255, detail and rescale need a wrapper, and wrapper is 'none'"
            )
        if inside.count(None) < 2:
            raise ValueError("trained_sigma_255, detail and rescale exclude each other")
        plain = (self.wrapper, self.statistics, self.anchor) == ("wne", "mean_std", Anchor())
        if self.rescale is not None and not plain:
            raise ValueError("rescale needs the wrapper wne, statistics mean_std, and no anchor")
        if self.rescale is not None and self.options.get("conditioned"):
            raise ValueError("rescale is for blind networks; this one is told the level")
        for name in ("detail", "cap"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive, not {value}")
        noise_of_one = self.statistics == "haar_mad" and self.wrapper in ("wne", "input")
        if self.cap is not None and (
            self.detail is None or not noise_of_one or self.anchor[1] != 1
        ):
            raise ValueError("cap needs detail, the statistics haar_mad, and an anchor of scale 1")
        if self.trained_sigma_255 is not None and self.options.get("conditioned"):
            raise ValueError("trained_sigma_255 is for blind networks; this one is told the level")
        if self.trained_sigma_255 is not None and not 0 < self.trained_sigma_255 < np.inf:
            raise ValueError(f"trained_sigma_255 must be positive, not {self.trained_sigma_255}")

    def build(self, **changes: Any) -> nn.Module:
        """Return the module, its parameters still to be made or read.

        Args:
            **changes: Options of the backbone that are no part of the model: how it is computed.
        """
        backbone = models.build(self.backbone, **(self.options | changes))
        anchor = Anchor(*self.anchor)
        if self.trained_sigma_255 is not None:
            backbone = OneLevel(backbone, self.trained_sigma_255 / 255, anchor.location)
        if self.detail is not None:
            backbone = SmoothBase(backbone, self.detail, self.cap)
        if self.rescale is not None:
            backbone = Rescaled(backbone, self.rescale)
        if self.wrapper == "none":
            return backbone
        if self.wrapper not in _WRAPPERS:
            raise ValueError(f"wrapper must be none, {', '.join(_WRAPPERS)}; not {self.wrapper!r}")
        if self.wrapper == "scale":
            return ScaleEquivariant(backbone, anchor=anchor)
        if self.statistics not in STATISTICS:
            raise ValueError(
                f"statistics must be one of {sorted(STATISTICS)}, not {self.statistics!r}"
            )
        pair = STATISTICS[self.statistics]
        return _WRAPPERS[self.wrapper](backbone, statistics=pair, anchor=anchor)

    @property
    def takes_sigma(self) -> bool:
        """Whether the model needs to be told the noise level."""
        return protocol.takes_sigma(self.build()) == "required"


def from_values(cls: type, values: Mapping[str, Any]) -> Any:
    """Build a configuration from what JSON held.

    Raises:
        ValueError: Keys that the class does not know, or values out of their range.
    """
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown keys {unknown}; {cls.__name__} knows {sorted(known)}")
    if values.get("statistics") == "noise_level":  # the name of haar_mad in older files
        values = {**values, "statistics": "haar_mad"}
    return cls(**values)
