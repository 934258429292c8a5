r"""The method as modules that wrap any Flax backbone and add no parameters.

`WNE(backbone)` is the Linen version of `wne_jax.wrap`. It shares the scope of its backbone, so the variables
and their initial values are those of the bare backbone, and checkpoints are interchangeable. Mutable
collections (BatchNorm), rngs (dropout), `nn.remat`, `nn.vmap` and capturing of intermediates work as usual.
`NNXWNE` is the same for NNX modules.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from wne_jax import protocol
from wne_jax.outputs import Output, hashable, require_output
from wne_jax.protocol import Symmetry, TakesSigma
from wne_jax.statistics import (
    Statistic,
    has_gain,
    mean_std,
    root_mean_square,
    symmetry_of,
    takes_noise,
)
from wne_jax.statistics.base import require_statistic
from wne_jax.transforms import Anchor, Prediction, require_anchor, wrap
from wne_jax.wrappers.base import Inside, Wrapper, reject_nesting, require_module


class WNE(Wrapper):
    r"""Normalization equivariance for any Linen backbone: $f(a y + b) = a f(y) + b$ for $a > 0$.

    It is called like the backbone, plus `sigma` and `where`: `model.apply(variables, y, sigma=None,
    where=None, ...)`. All other arguments are passed to the backbone.

    Attributes:
        backbone: The module to wrap. Its first argument is the array `[B, ..., C]`.
        statistics: The statistic to remove; see `wne_jax.statistics`.
        axes: Axes to pool (default: all but the batch).
        output: How the backbone's output follows the input: "value", "difference", "variance",
            "invariant", or a pytree of these; see `wne_jax.outputs`.
        prediction: "direct" if the backbone returns the estimate, "residual" if it returns the difference to
            subtract.
        anchor: The coordinates that the backbone expects.
        multiple: Spatial sizes are padded to a multiple of this (default: as declared by the backbone).
        dtype: Precision of the backbone's input.
        with_y: Names of further inputs in the units of the first; see `wne_jax.process`.
        unbiased: Behind a gain, for a backbone that was trained on Gaussian noise; see `wne_jax.denormalize`.
        noise_argument: Keyword by which the backbone takes the noise level (default: as declared, see
            `wne_jax.protocol`).
        mask_argument: Keyword by which the backbone takes `where` (default: as declared).
        method: Name of the backbone's method to wrap. (`apply(..., method=...)` is a feature of Linen: it
            calls a function of the module, and `lambda m, y: m.backbone.encode(y)` calls the bare backbone.)

    Raises:
        ValueError: The backbone is wrapped already, or the inner module does not suit statistic and anchor.
        TypeError: The backbone is not a Linen module, or the statistic is not a function.

    References:
        Saied & Fleuret, "Normalization Equivariance for Arbitrary Backbones", 2026.

    Example:
        >>> import jax
        >>> from flax import linen as nn
        >>> model = WNE(nn.Dense(3))
        >>> y = jax.random.normal(jax.random.key(0), (2, 3))
        >>> variables = model.init(jax.random.key(1), y)
        >>> sorted(variables["params"])
        ['bias', 'kernel']
        >>> bool((model.apply(variables, 4 * y) == 4 * model.apply(variables, y)).all())
        True
    """

    statistics: Statistic = mean_std
    axes: Sequence[int] | None = None
    output: Output = "value"
    prediction: Prediction = "direct"
    anchor: Anchor = Anchor()
    multiple: int | None = None
    dtype: DTypeLike | None = None
    with_y: Sequence[str] = ()
    unbiased: bool = False
    noise_argument: str | None = None
    mask_argument: str | None = None
    method: str = "__call__"

    normalizes = True

    def __post_init__(self):
        """Check the backbone, the statistic and the anchor."""
        reject_nesting(self.backbone)
        require_module(type(self).__name__, self.backbone, nn.Module)
        require_statistic(self.statistics)
        require_anchor(self.anchor)
        require_output(self.output)
        if isinstance(self.backbone, Inside):
            self.backbone.check_wrapper(self.statistics, self.anchor)
        self.output = hashable(self.output)
        super().__post_init__()

    @property
    def symmetry(self) -> Symmetry:
        """What the model is equivariant to by construction, which depends on the statistic."""
        return symmetry_of(self.statistics) if self.output == "value" else "none"

    @property
    def takes_sigma(self) -> TakesSigma | None:
        """How the model takes the noise level: like its backbone, or in place of the scale."""
        if has_gain(self.statistics):  # after a gain, the backbone's noise level is constant
            told = super().takes_sigma or not takes_noise(self.statistics)
            return None if told else "statistic"
        if self.noise_argument is not None:
            return "required"
        return super().takes_sigma or ("statistic" if takes_noise(self.statistics) else None)

    def __call__(
        self,
        y: ArrayLike,
        *args: Any,
        sigma: ArrayLike | None = None,
        where: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Apply the wrapped backbone; see `wne_jax.wrap`."""
        backbone = getattr(self.backbone, self.method)
        if isinstance(self.backbone, Inside):
            backbone = partial(backbone, anchor=self.anchor)
        f = wrap(
            backbone,
            statistics=self.statistics,
            axes=self.axes,
            output=self.output,
            prediction=self.prediction,
            anchor=self.anchor,
            multiple=protocol.multiple(self),
            dtype=self.dtype,
            noise_argument=protocol.noise_argument(self) or "sigma",
            mask_argument=protocol.mask_argument(self),
            with_y=self.with_y,
            unbiased=self.unbiased,
        )
        return f(y, *args, sigma=sigma, where=where, **kwargs)


class ScaleEquivariant(WNE):
    r"""Only scale equivariance: $f(a y) = a f(y)$, with $s(y) = \sqrt{\operatorname{mean} y^2}$.

    The control of Saied & Fleuret (2026) that ignores brightness. Attributes as in `WNE`.
    """

    statistics: Statistic = root_mean_square


class InputNormalized(WNE):
    r"""The input is normalized, the output is not denormalized: $g(T(y))$, or `WNE(output="invariant")`.

    The control "IN" of Saied & Fleuret (2026): it is *invariant* to a y + b, so its output cannot have the
    units of its input. Attributes as in `WNE`.
    """

    output: Output = "invariant"
