"""Which denoiser a command works with: options that commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wne_jax._internal.names import WrapperKind

if TYPE_CHECKING:
    from wne_jax.inference.denoiser import Denoiser


@dataclass(frozen=True, kw_only=True)
class ForeignWeights:
    """How weight files of other people are read; a base of options."""

    allow_namespace: bool = False
    """Accept PyTorch checkpoints that hold an argparse.Namespace beside the tensors."""
    allow_imports: bool = False
    """Run the code of a backbone or statistic that a file names as package.module:Name."""
    key: str | None = None
    """Which state dict is meant where a PyTorch file holds several, such as params_ema."""
    mode: str | None = None
    """Which model is meant where a file fits two: scale-equivariant or normalization-equivariant."""


@dataclass(frozen=True, kw_only=True)
class Model(ForeignWeights):
    """Which denoiser a command works with."""

    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ... (default: the packaged one)."""
    wrapper: Literal["auto", "none"] | WrapperKind = "auto"
    """wne, scale (scale equivariance alone), input (no way back) or none; auto is that of the weights that
    are read, or wne without any."""
    trained_sigma_255: float | None = None
    """Noise level that a weight file was trained for: wrapped, it then serves every level, in any units."""

    def load(self) -> "Denoiser":
        """The denoiser of a file or folder, or the packaged one."""
        from wne_jax.config import OneLevel, WrapperConfig
        from wne_jax.inference.denoiser import Denoiser
        from wne_jax.wrappers.one_level import ANCHOR

        wrapping: dict[str, Any] = {}
        if self.wrapper != "auto":
            if self.weights is None:
                raise ValueError("--wrapper needs --weights: the packaged denoiser has its own")
            if self.trained_sigma_255 is not None:
                raise ValueError("--trained-sigma-255 brings its own wrapper: leave --wrapper out")
            wrapping = {"wrapper": None if self.wrapper == "none" else WrapperConfig(self.wrapper)}
        if self.trained_sigma_255 is not None:
            if self.weights is None:
                raise ValueError(
                    "--trained-sigma-255 needs --weights: the packaged one serves every level"
                )
            wrapping = {
                "wrapper": WrapperConfig("wne", "mean_std", (ANCHOR.location, ANCHOR.scale)),
                "inside": OneLevel(self.trained_sigma_255),
            }
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
