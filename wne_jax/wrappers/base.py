"""What modules around a backbone have in common."""

from flax import linen as nn


class Wrapper(nn.Module):
    """Base of modules around a backbone, which share its variables and add none.

    Attributes:
        backbone: The module inside.
    """

    backbone: nn.Module

    def setup(self):
        """Adopt the backbone's scope in place of one of our own."""
        assert self.scope is not None
        self.scope.reservations.pop(str(self.backbone.name), None)  # free for what lies inside
        nn.share_scope(self, self.backbone)

    @property
    def multiple(self) -> int:
        """What the sides of the backbone's input must be multiples of."""
        return getattr(self.backbone, "multiple", 1)

    @property
    def conditioned(self) -> bool:
        """Whether the backbone wants the noise level."""
        return bool(getattr(self.backbone, "conditioned", False))
