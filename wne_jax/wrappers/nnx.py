"""The method as an NNX module."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax.outputs import require_output
from wne_jax.protocol import Symmetry, TakesSigma
from wne_jax.statistics import has_gain, mean_std, symmetry_of, takes_noise
from wne_jax.statistics.base import require_statistic
from wne_jax.transforms import wrap
from wne_jax.wrappers.base import Forwards, reject_nesting, require_module


class NNXWNE(Forwards, nnx.Module):
    """`WNE` for an NNX module: its only submodule is `backbone`, and it has no state of its own.

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
        reject_nesting(backbone)
        if not (callable(backbone) and not isinstance(backbone, type | nn.Module)):
            require_module("NNXWNE", backbone, nnx.Module)
        if not isinstance(backbone, nnx.Module) and any(
            isinstance(leaf, Array | np.ndarray) for leaf in jax.tree.leaves(backbone)
        ):
            raise TypeError(
                f"NNXWNE wraps an NNX module; {type(backbone).__name__} holds arrays: use wrap"
            )
        require_statistic(options.get("statistics", mean_std))
        require_output(options.get("output", "value"))
        self.backbone = backbone
        self.options = nnx.static(options)

    def __call__(self, y: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Apply the wrapped backbone; see `wne_jax.wrap`."""
        declared: dict[str, Any] = {
            "multiple": protocol.multiple(self),
            "noise_argument": protocol.noise_argument(self) or "sigma",
            "mask_argument": protocol.mask_argument(self),
        }
        return wrap(self.backbone, **(self.options | declared))(y, *args, **kwargs)

    @property
    def multiple(self) -> int | None:
        """The padding multiple, if given; else as declared by the backbone."""
        return self.options.get("multiple")

    @property
    def noise_argument(self) -> str | None:
        """The keyword of the noise level, if given; else as declared by the backbone."""
        return self.options.get("noise_argument")

    @property
    def mask_argument(self) -> str | None:
        """The keyword of the mask, if given; else as declared by the backbone."""
        return self.options.get("mask_argument")

    @property
    def symmetry(self) -> Symmetry:
        """What the model is equivariant to by construction, which depends on the statistic."""
        value = self.options.get("output", "value") == "value"
        return symmetry_of(self.options.get("statistics", mean_std)) if value else "none"

    @property
    def takes_sigma(self) -> TakesSigma | None:
        """How the model takes the noise level: like its backbone, or in place of the scale."""
        if self.noise_argument is not None:
            return "required"
        statistic = self.options.get("statistics", mean_std)
        if has_gain(statistic):  # after a gain, the backbone's noise level is constant
            return None if super().takes_sigma or not takes_noise(statistic) else "statistic"
        return super().takes_sigma or ("statistic" if takes_noise(statistic) else None)
