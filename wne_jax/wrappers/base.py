"""What modules around a backbone have in common."""

import re
from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from wne_jax import protocol
from wne_jax.protocol import Symmetry, TakesSigma
from wne_jax.statistics import Statistic
from wne_jax.transforms import Anchor


class Forwards:
    """What `wne_jax.protocol` asks of a backbone, a wrapper answers as its backbone does, by default."""

    backbone: Any
    normalizes = False

    @property
    def forwards_to(self) -> Any:
        """The backbone, which is asked for what is not declared here."""
        return self.backbone

    @property
    def symmetry(self) -> Symmetry:
        """What the module is equivariant to by construction."""
        return "none"

    @property
    def takes_sigma(self) -> TakesSigma | None:
        """How the module can be told the noise level; None if it cannot."""
        return protocol.takes_sigma(self.backbone)


class Wrapper(Forwards, nn.Module):
    """Base of Linen modules around a backbone, which share its variables.

    Attributes:
        backbone: The module inside.
    """

    backbone: nn.Module

    def setup(self):
        """Adopt the backbone's scope in place of one of our own."""
        assert self.scope is not None
        self.scope.reservations.pop(str(self.backbone.name), None)  # free for what lies inside
        if self._has_a_name() and not jax.tree.leaves(self.backbone.variables):
            nn.share_scope(self.backbone, self)  # one that has variables is in use, and keeps them
        else:
            nn.share_scope(self, self.backbone)

    def _has_a_name(self) -> bool:
        """Whether the module was named, itself or as the outermost of several, and not numbered by Linen."""
        numbered = re.fullmatch(rf"{type(self).__name__}_\d+", str(self.name))
        assert self.scope is not None
        return self.name is not None and (numbered is None or self.scope.name != self.name)


def require_module(wrapper: str, backbone: object, module: type) -> None:
    """Reject a backbone that is no module of the wrapper's library, and say what to use.

    Args:
        wrapper: Name of the wrapper.
        backbone: What it was given.
        module: The class of modules that it wraps, of Linen or of NNX.

    Raises:
        TypeError: The backbone is a class, a module of the other library, a function, or no model at all.
    """
    if isinstance(backbone, module):
        return
    name = getattr(backbone, "__name__", type(backbone).__name__)
    if isinstance(backbone, type):
        use = f"pass an instance, {wrapper}({name}(...))"
    elif isinstance(backbone, nnx.Module):
        use = f"it is an NNX module: use NNXWNE({name}(...))"
    elif isinstance(backbone, nn.Module):
        use = f"it is a Linen module: use WNE({name}(...)), or wrap(...) around one with its variables bound"
    elif callable(backbone):
        use = "it is a function: use wrap"
    else:
        use = "use one of them"
    library = "a Linen" if module is nn.Module else "an NNX"
    raise TypeError(f"{wrapper} wraps {library} module, not {name}: {use}")


class Inside(Wrapper):
    """Base of what stands between a wrapper and its backbone: one of them, directly around the backbone.

    It is called as the backbone is, and with `anchor`, the coordinates in which the wrapper works.
    """

    pads_zeros = False

    def __post_init__(self):
        """Reject a backbone that is not bare."""
        refuse_nesting(self.backbone)
        if isinstance(self.backbone, Inside):
            raise ValueError(
                f"{type(self).__name__} must be directly around the backbone, not around "
                f"{type(self.backbone).__name__}: one of them stands inside a wrapper"
            )
        super().__post_init__()

    @nn.nowrap  # calling a method of Linen's sets a module up, before its wrapper is
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject a wrapper in whose coordinates this module does not work.

        The constructor of the wrapper asks it, and so does a configuration, which builds the module.

        Args:
            statistic: What the wrapper removes; None where there is no wrapper.
            anchor: The wrapper's.

        Raises:
            ValueError: It does not fit.
        """


def refuse_nesting(backbone: object) -> None:
    """Refuse a backbone that is normalized already, itself or inside of what it wraps.

    Raises:
        ValueError: It is.
    """
    while isinstance(backbone, Forwards):
        if backbone.normalizes:
            raise ValueError(
                f"{type(backbone).__name__} is a wrapper already, and wrapping it again changes nothing: "
                "pass the bare backbone"
            )
        backbone = backbone.forwards_to
