"""Common parts of modules around a backbone."""

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
    """A module that, by default, has the properties of `wne_jax.protocol` of its backbone."""

    backbone: Any
    normalizes = False

    @property
    def forwards_to(self) -> Any:
        """The backbone, whose declarations are used for properties not declared here."""
        return self.backbone

    @property
    def symmetry(self) -> Symmetry:
        """What the module is equivariant to by construction."""
        return "none"

    @property
    def takes_sigma(self) -> TakesSigma | None:
        """How the module takes the noise level; None if it does not."""
        return protocol.takes_sigma(self.backbone)


class Wrapper(Forwards, nn.Module):
    """Base of Linen modules around a backbone, which share its variables.

    Attributes:
        backbone: The module inside.
    """

    backbone: nn.Module

    def setup(self):
        """Share the backbone's scope."""
        assert self.scope is not None
        self.scope.reservations.pop(
            str(self.backbone.name), None
        )  # free the name for inner modules
        if self._has_a_name() and not jax.tree.leaves(self.backbone.variables):
            nn.share_scope(self.backbone, self)  # a scope with variables is in use
        else:
            nn.share_scope(self, self.backbone)

    def _has_a_name(self) -> bool:
        """Whether the module, or the outermost wrapper around it, was named by the user and not by Linen."""
        numbered = re.fullmatch(rf"{type(self).__name__}_\d+", str(self.name))
        assert self.scope is not None
        own = (None, self.name)  # inside a lifted transform, such as nn.scan, scopes have no name
        return self.name is not None and (numbered is None or self.scope.name not in own)


def require_module(wrapper: str, backbone: object, module: type) -> None:
    """Reject a backbone that is not a module of the wrapper's library, and suggest what to use.

    Args:
        wrapper: Name of the wrapper.
        backbone: The given backbone.
        module: The class of modules that it wraps, of Linen or of NNX.

    Raises:
        TypeError: The backbone is a class, a module of the other library, a function, or not a model.
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
    """Base of a module between a wrapper and its backbone; there may be one, directly around the backbone.

    It is called like the backbone, and with `anchor`, the coordinates of the wrapper.
    """

    def __post_init__(self):
        """Reject a backbone that is not bare."""
        reject_nesting(self.backbone)
        if isinstance(self.backbone, Inside):
            raise ValueError(
                f"{type(self).__name__} must be directly around the backbone, not around "
                f"{type(self.backbone).__name__}: a wrapper may contain only one"
            )
        super().__post_init__()

    @property
    def pads_zeros(self) -> bool:
        """Whatever the backbone declares, another module works before it."""
        return False

    @nn.nowrap  # a Linen method would set up this module before its wrapper
    def check_wrapper(self, statistic: Statistic | None, anchor: Anchor) -> None:
        """Reject a wrapper whose coordinates do not suit this module.

        The constructor of the wrapper calls it.

        Args:
            statistic: The statistic of the wrapper; None without a wrapper.
            anchor: The anchor of the wrapper.

        Raises:
            ValueError: The statistic or the anchor is not suitable.
        """


def reject_nesting(backbone: object) -> None:
    """Reject a backbone that is, or contains, a wrapper.

    Raises:
        ValueError: The backbone is wrapped already.
    """
    while isinstance(backbone, Forwards):
        if backbone.normalizes:
            raise ValueError(
                f"{type(backbone).__name__} is a wrapper already, and wrapping it again changes nothing: "
                "pass the bare backbone"
            )
        backbone = backbone.forwards_to
