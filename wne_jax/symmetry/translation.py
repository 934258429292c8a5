r"""Which normalization layers commute with shifts and with translations: the theorems, as functions.

A layer is given by the dimensions that centring, scaling and the affine step work on; see
`wne_jax.layers.normalization`. It commutes with a group when $f(T x) = T f(x)$ for every $T$ of the group,
every feature map and every value of its parameters. The transformations are `wne_jax.symmetry.actions.Shift`
and `Translation`, circular, with one displacement for the whole batch.

**Shifts.** What is the same at every place commutes with them: the mean and the variance of shifted maps
are the shifted mean and variance. Only parameters (or running averages) that vary over H or W break it.

**Translations.** A translation is linear and orthogonal, and moves no constant. Centring is linear, and
commutes with it whatever it is pooled over. Dividing by a deviation that varies over space is not linear:
it makes frequencies beyond those that a grid can carry. Pooled over H and W, the deviation is the same
after a translation as before.

This is the theorem of Scanvic et al., with one case more: without a scaling step (an empty set) a layer is
linear, and needs no deviation to be pooled. The smallest example is subtracting the mean over channels.

Two conditions on sizes. On an axis of *even* size a real translation damps the Nyquist bin, and is not
orthogonal there: a layer that divides commutes with it for maps without that bin
(`wne_jax.layers.spectra.without_nyquist`), and misses a little for others. And what is said here holds for
maps of every size: on a single row, column, channel or image sets that differ by that dimension are the same
layer, so that more may commute there than is promised (with one row, scaling over W alone is scaling over H
and W).

References:
    Scanvic, Barthélemy & Tachella, "Translation-Equivariance of Normalization Layers and Aliasing in
    Convolutional Neural Networks", 2025, theorems 1 and 2.
"""

from typing import NamedTuple

from wne_jax.layers.normalization import Normalization, dimensions


class Verdict(NamedTuple):
    """Whether a layer commutes with a group, and why. It is true or false as `holds` is."""

    holds: bool
    why: str

    def __bool__(self) -> bool:
        return self.holds


def shift_equivariant(layer: Normalization) -> Verdict:
    """Whether a normalization layer commutes with shifts by whole pixels.

    It does exactly when nothing that it holds, rather than computes, varies over H or W: neither the affine
    step's parameters nor running averages.

    Args:
        layer: The layer. One with `use_running_average` is meant in evaluation.

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

    It does exactly when it commutes with shifts, and the deviation that it divides by is pooled over H and W
    at least, or is a running average, or there is none.

    Args:
        layer: The layer. One with `use_running_average` is meant in evaluation.

    Example:
        >>> layer = Normalization(centring="C", scaling="C", affine="C")
        >>> bool(shift_equivariant(layer)), bool(translation_equivariant(layer))
        (True, False)

    References:
        Scanvic et al. 2025, theorem 2; the case without scaling is ours.
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
