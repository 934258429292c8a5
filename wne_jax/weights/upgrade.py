"""Converts the content of files of earlier versions to the current form.

Version 1 described a model by one flat mapping: `wrapper` was a kind or "none", and `statistics`, `anchor`,
`detail` and `cap` (now `SmoothBase`), `rescale` (now `Rescaled`) and `trained_sigma_255` (now `OneLevel`)
were at the same level. The statistic `haar_mad` was called `noise_level`, and parameters of a learned scale
were under `canonical`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

VERSION = 2
"""Version of the form of configurations."""

_FLAT = ("statistics", "anchor", "trained_sigma_255", "detail", "cap", "rescale")
_STATISTICS = {"noise_level": "haar_mad"}

Leaf = TypeVar("Leaf")


def upgrade_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a `ModelConfig` of any version, in the current form.

    Args:
        values: Values read from JSON.

    Returns:
        Values for `wne_jax.config.model_from_values`; current values are returned unchanged.

    Example:
        >>> upgrade_model({"wrapper": "wne", "statistics": "noise_level", "detail": 4.0})["inside"]
        {'kind': 'smooth_base', 'sigma_px': 4.0, 'wiener_cap': None}
    """
    values = dict(values)
    kind = values.get("wrapper")
    if not isinstance(kind, str) and not any(name in values for name in _FLAT):
        return values
    statistic, anchor, level, blur, cap, by = (values.pop(name, None) for name in _FLAT)
    values["wrapper"] = values["inside"] = None
    if kind not in (None, "none"):
        own = None if kind == "scale" else _STATISTICS.get(statistic, statistic)
        values["wrapper"] = {"kind": kind, "statistic": own, "anchor": anchor or (0.0, 1.0)}
    if blur is not None:
        values["inside"] = {"kind": "smooth_base", "sigma_px": blur, "wiener_cap": cap}
    elif by is not None:
        values["inside"] = {"kind": "rescaled", "by": by}
    elif level is not None:
        values["inside"] = {"kind": "one_level", "trained_sigma_255": level}
    return values


def upgrade_variables(variables: Mapping[tuple[str, ...], Leaf]) -> dict[tuple[str, ...], Leaf]:
    """Variables by path, with the current names.

    Example:
        >>> upgrade_variables({("params", "canonical", "last", "bias"): 0})
        {('params', 'rescaled', 'last', 'bias'): 0}
    """
    return {
        ("params", "rescaled", *path[2:]) if path[:2] == ("params", "canonical") else path: leaf
        for path, leaf in variables.items()
    }
