"""An NNX class as a Linen module, so that it is built, trained and saved as every other model."""

import inspect
from typing import Any

from flax import nnx


class FromNNX(nnx.bridge.ToLinen):
    """A Linen module that makes and calls an NNX module; its parameters lie where Linen has them."""

    @property
    def forwards_to(self) -> Any:
        """The NNX module without values, which is asked for what `wne_jax.protocol` knows."""

        def make() -> nnx.Module:
            rngs = {} if self.skip_rng else {"rngs": nnx.Rngs(0)}
            return self.nnx_class(*self.args, **self.kwargs, **rngs)

        return nnx.eval_shape(make)


def from_nnx(nnx_class: type[nnx.Module], **options: Any) -> FromNNX:
    """The Linen module of an NNX class.

    Args:
        nnx_class: The class; its constructor may take `rngs`.
        **options: Arguments of its constructor.
    """
    skip = "rngs" not in inspect.signature(nnx_class.__init__).parameters
    return FromNNX(nnx_class, kwargs=options, skip_rng=skip)
