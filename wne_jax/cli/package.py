"""`python -m wne_jax package`: save the weights of an unfinished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro import conf


@dataclass(frozen=True, kw_only=True)
class Package:
    """Write the weights of a training run to one file, from its newest readable checkpoint.

    A finished run already has this file: denoiser.safetensors in its folder.
    """

    run_folder: Annotated[Path, conf.Positional, conf.arg(metavar="RUN")]
    """Folder of the run, which may still be training."""
    allow_imports: bool = False
    """Allow a file to import its backbone or statistic, named package.module:Name, which runs code."""
    out: Annotated[Path | None, conf.arg(aliases=("-o",), metavar="FILE")] = None
    """The .safetensors file to write (default: denoiser.safetensors in the folder of the run)."""

    def run(self) -> int:
        """Write the file and print the step of the checkpoint."""
        from wne_jax.training import package

        path, step = package(self.run_folder, self.out, allow_imports=self.allow_imports)
        print(f"written: {path} (step {step})")
        return 0
