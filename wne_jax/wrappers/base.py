"""What modules around a backbone have in common."""

from typing import Any

from flax import linen as nn

from wne_jax import protocol
from wne_jax.protocol import Symmetry, TakesSigma


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
        nn.share_scope(self, self.backbone)


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
