r"""The method as modules: wrap any Flax backbone, without a parameter of its own.

`WNE(backbone)` is `wne_jax.wrap` lifted to Linen. It shares its backbone's scope, so that the tree of
variables and their initial values are those of the bare backbone, and a checkpoint moves either way. Mutable
collections (BatchNorm), rngs (dropout), `nn.remat`, `nn.vmap` and capturing of intermediates pass through.
`NNXWNE` is the same for an NNX module.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from flax import linen as nn
from flax import nnx
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from wne_jax.outputs import Output
from wne_jax.statistics import Statistic, mean_std, root_mean_square, symmetry_of
from wne_jax.transforms import Anchor, Prediction, wrap
from wne_jax.wrappers.base import Wrapper


class WNE(Wrapper):
    r"""Normalization equivariance for any Linen backbone: $f(a y + b) = a f(y) + b$ for $a > 0$.

    Called as the backbone is, plus `sigma` and `where`: `model.apply(variables, y, sigma=None, where=None,
    ...)`. Anything else is handed on.

    Attributes:
        backbone: The module to wrap. Its first argument is the array `[B, ..., C]`.
        statistics: The statistic to remove; see `wne_jax.statistics`.
        axes: Axes to pool (default: all but the batch).
        output: How what the backbone returns follows the input: "value", "difference", "variance",
            "invariant", or a pytree of these; see `wne_jax.outputs`.
        prediction: "direct" if the backbone returns the estimate, "residual" if what is to be subtracted.
        anchor: The coordinates that the backbone expects.
        multiple: Spatial sizes are padded to a multiple of this; by default the backbone's own
            attribute `multiple`, or 1.
        dtype: Precision of the backbone's input.
        with_y: Names of further inputs in the units of the first; see `wne_jax.process`.
        method: Name of the backbone's method to wrap. (`apply(..., method=...)` is Linen's own: it calls
            a function of the module, and `lambda m, y: m.backbone.encode(y)` reaches the bare backbone.)

    Raises:
        ValueError: The backbone is wrapped already.

    References:
        Saied & Fleuret, "Normalization Equivariance for Arbitrary Backbones", 2026.

    Example:
        >>> import jax
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
    method: str = "__call__"

    def __post_init__(self):
        """Refuse a backbone that is wrapped already."""
        _refuse_nesting(self.backbone)
        super().__post_init__()

    def __call__(
        self,
        y: ArrayLike,
        *args: Any,
        sigma: ArrayLike | None = None,
        where: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Apply the wrapped backbone; see `wne_jax.wrap`."""
        f = wrap(
            getattr(self.backbone, self.method),
            statistics=self.statistics,
            axes=self.axes,
            output=self.output,
            prediction=self.prediction,
            anchor=self.anchor,
            multiple=padding_multiple(self),
            dtype=self.dtype,
            with_y=self.with_y,
        )
        return f(y, *args, sigma=sigma, where=where, **kwargs)


class ScaleEquivariant(WNE):
    r"""Scale equivariance alone: $f(a y) = a f(y)$, with $s(y) = \sqrt{\operatorname{mean} y^2}$.

    The control of Saied & Fleuret (2026) that ignores brightness. Attributes as in `WNE`.
    """

    statistics: Statistic = root_mean_square


class InputNormalized(WNE):
    r"""The input is normalized, the output is not brought back: $g(T(y))$, or `WNE(output="invariant")`.

    The control "IN" of Saied & Fleuret (2026): *invariant* to a y + b, hence unable to answer in the units
    of its input. Attributes as in `WNE`.
    """

    output: Output = "invariant"


class NNXWNE(nnx.Module):
    """`WNE` for an NNX module: a module with the one submodule `backbone` and no state of its own.

    Args:
        backbone: The NNX module, or any callable, to wrap.
        **options: Those of `wne_jax.wrap`.

    Example:
        >>> import jax
        >>> model = NNXWNE(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
        >>> y = jax.random.normal(jax.random.key(0), (2, 3))
        >>> bool((model(4 * y) == 4 * model(y)).all())
        True
    """

    def __init__(self, backbone: Callable[..., Array], **options: Any):
        _refuse_nesting(backbone)
        self.backbone = backbone
        defaults: dict[str, Any] = {"multiple": getattr(backbone, "multiple", 1)}
        self.options = nnx.static(defaults | options)

    def __call__(self, y: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Apply the wrapped backbone; see `wne_jax.wrap`."""
        return wrap(self.backbone, **self.options)(y, *args, **kwargs)


def padding_multiple(model: nn.Module) -> int:
    """What the sides of images are padded to a multiple of: as the wrapper says, or its backbone, or 1."""
    own = getattr(model, "multiple", None)
    if own is None:
        own = getattr(getattr(model, "backbone", None), "multiple", None)
    return 1 if own is None else own


Symmetry = Literal["none", "scale", "normalization"]


def symmetry(model: nn.Module) -> Symmetry:
    """The equivariance that a model has by construction: of its wrapper, or of its own `mode`.

    Example:
        >>> symmetry(WNE(nn.Dense(1))), symmetry(ScaleEquivariant(nn.Dense(1))), symmetry(nn.Dense(1))
        ('normalization', 'scale', 'none')
    """
    if isinstance(model, WNE):
        if model.output != "value":
            return "none"
        return symmetry_of(model.statistics)
    by_mode: dict[str, Symmetry] = {
        "scale-equivariant": "scale",
        "normalization-equivariant": "normalization",
    }
    return by_mode.get(getattr(model, "mode", "ordinary"), "none")


def _refuse_nesting(backbone: object) -> None:
    if isinstance(backbone, WNE | NNXWNE):
        raise ValueError(
            f"{type(backbone).__name__} is a wrapper already, and wrapping it again changes nothing: "
            "pass the bare backbone"
        )
