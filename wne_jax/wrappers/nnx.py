"""The method as an NNX module."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax.protocol import Symmetry, TakesSigma
from wne_jax.statistics import mean_std, symmetry_of, takes_noise
from wne_jax.transforms import require_statistic, wrap
from wne_jax.wrappers.base import Forwards, refuse_nesting, require_module


class NNXWNE(Forwards, nnx.Module):
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

    normalizes = True

    def __init__(self, backbone: Callable[..., Array], **options: Any):
        refuse_nesting(backbone)
        if not (callable(backbone) and not isinstance(backbone, type | nn.Module)):
            require_module("NNXWNE", backbone, nnx.Module)
        require_statistic(options.get("statistics", mean_std))
        self.backbone = backbone
        defaults: dict[str, Any] = {
            "multiple": protocol.multiple(backbone),
            "noise_argument": protocol.noise_argument(backbone) or "sigma",
            "mask_argument": protocol.mask_argument(backbone),
        }
        self.options = nnx.static(defaults | options)

    def __call__(self, y: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Apply the wrapped backbone; see `wne_jax.wrap`."""
        return wrap(self.backbone, **self.options)(y, *args, **kwargs)

    @property
    def symmetry(self) -> Symmetry:
        """What the model is equivariant to by construction: its statistic says."""
        value = self.options.get("output", "value") == "value"
        return symmetry_of(self.options.get("statistics", mean_std)) if value else "none"

    @property
    def takes_sigma(self) -> TakesSigma | None:
        """How the model can be told the noise level: as its backbone, or in place of its scale."""
        statistic = self.options.get("statistics", mean_std)
        return super().takes_sigma or ("statistic" if takes_noise(statistic) else None)
