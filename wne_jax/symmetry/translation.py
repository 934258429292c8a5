r"""Which normalization layers commute with shifts and with translations: the theorems as functions.

A layer is defined by the dimensions of its centring, scaling and affine steps; see
`wne_jax.layers.normalization`. It commutes with a group if $f(T x) = T f(x)$ for every $T$ of the group,
every feature map and every value of its parameters. The transformations are `wne_jax.symmetry.actions.Shift`
and `Translation`, circular, with one displacement for the whole batch.

**Shifts.** An operation that is the same at every pixel commutes with shifts: the mean and variance of
shifted maps are the shifted mean and variance. Only parameters or running averages that vary over H or W do
not commute.

**Translations.** A translation is linear and orthogonal, and preserves constants. Centring is linear, and
commutes with translations for any pooling dimensions. Dividing by a standard deviation that varies over space
is not linear, and creates frequencies that the grid cannot carry. A translation does not change a standard
deviation that is pooled over H and W.

This is the theorem of Scanvic et al. with one more case: a layer without a scaling step (an empty set) is
linear, so it commutes for any pooling dimensions. The smallest example subtracts the mean over channels.

Sizes matter in two ways. On an axis of *even* size, a real translation damps the Nyquist bin, so it is not
orthogonal. There a layer that divides commutes for maps without that bin
(`wne_jax.layers.spectra.without_nyquist`), and has a small error for others. The theorems hold for maps of
every size; on a single row, column, channel or image, more layers may commute. For example, with one row
scaling over W equals scaling over H and W.

References:
    Scanvic, Barthélemy & Tachella, "Translation-Equivariance of Normalization Layers and Aliasing in
    Convolutional Neural Networks", 2025, theorems 1 and 2.
"""

from typing import NamedTuple

from wne_jax.layers.normalization import Normalization, dimensions


class Verdict(NamedTuple):
    """Whether a layer commutes with a group, and why. Its truth value is `holds`."""

    holds: bool
    why: str

    def __bool__(self) -> bool:
        return self.holds


def shift_equivariant(layer: Normalization) -> Verdict:
    """Whether a normalization layer commutes with shifts by whole pixels.

    It does if and only if neither the parameters of the affine step nor running averages vary over H or W.

    Args:
        layer: The layer; with `use_running_average`, it is in evaluation mode.

    Example:
        >>> layer = Normalization(centring="HWC", scaling="HWC", affine="HWC")
        >>> print(shift_equivariant(layer).why)
        the affine step's parameters vary over H and W, which does not move with the map

    References:
        Scanvic et al. 2025, theorem 1.
    """
    held = {"the affine step's parameters vary": layer.affine or ""}
    if layer.use_running_average:
        for step in ("centring", "scaling"):
            pooled = getattr(layer, step)
            held[f"the running average of {step} varies"] = _others(pooled) if pooled else ""
    for what, varies in held.items():
        if space := _spatial(varies):
            where = " and ".join(space)
            return Verdict(False, f"{what} over {where}, which does not move with the map")
    return Verdict(True, "no parameter varies over space: every place is treated alike")


def translation_equivariant(layer: Normalization) -> Verdict:
    """Whether a normalization layer commutes with translations by any distance.

    It does if and only if it commutes with shifts, and its standard deviation is pooled over at least H and
    W, is a running average, or does not exist (no scaling step).

    Args:
        layer: The layer; with `use_running_average`, it is in evaluation mode.

    Example:
        >>> layer = Normalization(centring="C", scaling="C", affine="C")
        >>> bool(shift_equivariant(layer)), bool(translation_equivariant(layer))
        (True, False)

    References:
        Scanvic et al. 2025, theorem 2; the case without scaling is added here.
    """
    if not (verdict := shift_equivariant(layer)):
        return verdict
    if layer.use_running_average:
        return Verdict(True, "it applies constants that do not vary over space: it is linear")
    if not layer.scaling:
        return Verdict(
            True, "it divides by nothing: it is linear, and every place is treated alike"
        )
    if missing := _spatial(_others(layer.scaling)):
        where = " and ".join(missing)
        return Verdict(
            False,
            f"the deviation that it divides by varies over {where}: the division is not linear, and makes "
            "frequencies that the grid cannot carry (aliasing)",
        )
    return Verdict(
        True, "the deviation is pooled over H and W, where a translation does not change it"
    )


def _others(names: str) -> str:
    return "".join(d for d in "BHWC" if d not in dimensions(names))


def _spatial(names: str) -> str:
    return "".join(d for d in "HW" if d in names)
