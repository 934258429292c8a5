"""`python -m wne_jax package`: the weights of a run that is not finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro import conf


@dataclass(frozen=True, kw_only=True)
class Package:
    """Write the weights of a training run to one file, from its newest checkpoint that can be read.

    A finished run has that file already, denoiser.safetensors in its folder.
    """

    run_folder: Annotated[Path, conf.Positional, conf.arg(metavar="RUN")]
    """Folder of the run; it may still be training."""
    allow_imports: bool = False
    """Run the code of a backbone or statistic that a file names as package.module:Name."""
    out: Annotated[Path | None, conf.arg(aliases=("-o",), metavar="FILE")] = None
    """The .safetensors file to write (default: denoiser.safetensors in the folder of the run)."""

    def run(self) -> int:
        """Write the file, and say how far the run had come."""
        from wne_jax.training import package

        path, step = package(self.run_folder, self.out, allow_imports=self.allow_imports)
        print(f"written: {path} (step {step})")
        return 0
