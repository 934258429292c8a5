"""Options that select the denoiser, shared by several commands."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wne_jax._internal.names import WrapperKind

if TYPE_CHECKING:
    from wne_jax.inference.denoiser import Denoiser


@dataclass(frozen=True, kw_only=True)
class ForeignWeights:
    """How weight files from elsewhere are read."""

    allow_namespace: bool = False
    """Accept PyTorch checkpoints that contain an argparse.Namespace."""
    allow_imports: bool = False
    """Allow a file to import its backbone or statistic, named package.module:Name, which runs code."""
    key: str | None = None
    """Name of the state dict, if a PyTorch file holds several: params_ema, for example."""
    mode: str | None = None
    """Model of a file that fits two: scale-equivariant or normalization-equivariant."""


@dataclass(frozen=True, kw_only=True)
class Model(ForeignWeights):
    """The denoiser of a command."""

    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ... (default: the packaged one)."""
    wrapper: Literal["auto", "none"] | WrapperKind = "auto"
    """Wrapper: wne, scale (scale equivariance only), input (no denormalization) or none; auto takes that of
    the weights, or wne without weights."""
    trained_sigma_255: float | None = None
    """Noise level that the weights were trained at, in 8-bit units: the wrapped network then works at every
    level and in any units."""

    def load(self) -> "Denoiser":
        """The denoiser of a file or folder, or the packaged one."""
        from wne_jax.config import WrapperConfig, at_every_level
        from wne_jax.inference.denoiser import Denoiser

        wrapping: dict[str, Any] = {}
        if self.wrapper != "auto":
            if self.weights is None:
                raise ValueError("--wrapper needs --weights: the packaged denoiser has its own")
            if self.trained_sigma_255 is not None:
                raise ValueError("--trained-sigma-255 has its own wrapper: leave out --wrapper")
            wrapping = {"wrapper": None if self.wrapper == "none" else WrapperConfig(self.wrapper)}
        if self.trained_sigma_255 is not None:
            if self.weights is None:
                raise ValueError(
                    "--trained-sigma-255 needs --weights: the packaged one works at every level"
                )
            wrapping = at_every_level(self.trained_sigma_255)
        if self.weights is None:
            return Denoiser.default()
        return Denoiser.load(
            self.weights,
            mode=self.mode,
            key=self.key,
            allow_namespace=self.allow_namespace,
            allow_imports=self.allow_imports,
            **wrapping,
        )
