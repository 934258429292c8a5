"""The commands that a user types: `python -m wne_jax denoise`, `check` and `train`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from tqdm import tqdm
from tyro import conf

from wne_jax.cli.commands import MISTAKES, run_command, say
from wne_jax.cli.denoise_files import (
    Job,
    Settings,
    check_settings,
    denoise_file,
    plan,
    prepare_folder,
)
from wne_jax.cli.train import ForeignWeights, Train
from wne_jax.inference.denoiser import Denoiser
from wne_jax.wrappers.one_level import ANCHOR


@dataclass(frozen=True, kw_only=True)
class _Model(ForeignWeights):
    """Which denoiser a command works with."""

    weights: Path | None = None
    """Weights of a denoiser: a run's folder, .safetensors, .pt, .mat, ... (default: the packaged one)."""
    trained_sigma_255: float | None = None
    """Noise level that a weight file was trained for: wrapped, it then serves every level, in any units."""

    def load(self) -> Denoiser:
        """The denoiser of a file or folder, or the packaged one."""
        wrapping: dict[str, Any] = {}
        if self.trained_sigma_255 is not None:
            if self.weights is None:
                raise ValueError(
                    "--trained-sigma-255 needs --weights: the packaged one serves every level"
                )
            wrapping = {
                "wrapper": "wne",
                "statistics": "mean_std",
                "anchor": ANCHOR,
                "trained_sigma_255": self.trained_sigma_255,
            }
        if self.weights is None:
            return Denoiser.default()
        return Denoiser.load(
            self.weights, mode=self.mode, allow_namespace=self.allow_namespace, **wrapping
        )


@dataclass(frozen=True)
class Denoise(_Model):
    """Denoise images: PNG, JPEG, BMP, TIFF (stacks too) and NPY, gray or colour.

    The result has the input's type, range and metadata. Each image of a stack is denoised by itself.
    """

    inputs: Annotated[tuple[Path, ...], conf.Positional, conf.arg(name="in", metavar="IN...")]
    """Image files, or folders, which stand for the images directly inside."""
    out: Annotated[str, conf.arg(aliases=("-o",), metavar="OUT")]
    """A file for one image; a folder for several (made if it is not there)."""
    sigma_255: float | None = None
    """Noise level where 255 is full scale (which is 1 for floats): for models that need it, and to override
    an estimated one."""
    strength: float = 1.0
    """How much of the estimated noise to remove: 1 is all of it."""
    self_ensemble: bool = False
    """Average over the eight flips and rotations: better by a little, and eight times slower."""
    tile: int | None = None
    """Side of the tiles in pixels, 0 for none (default: 512 for images of some megapixels)."""
    axes: str | None = None
    """Axes of TIFF and NPY files that do not say: ZYX for a stack, YXC for colour, CYX for channels."""
    devices: int = 1
    """Devices among which the rows of each image, or of each tile, are divided; 0 for all. With --tile 0,
    what is too large for one needs no tiles."""
    overwrite: bool = False
    """Replace files that exist."""

    def run(self) -> int:
        """Denoise every file; 0 if all are done."""
        settings = Settings(
            sigma_255=self.sigma_255,
            strength=self.strength,
            self_ensemble=self.self_ensemble,
            tile=self.tile,
            axes=None if self.axes is None else self.axes.upper(),
        )
        jobs, skipped = plan(self.inputs, self.out)
        denoiser = self._over_devices(self.load())
        check_settings(denoiser, settings)
        prepare_folder(jobs)
        for path in skipped:
            if path.is_dir():
                say("note", f"{path}: holds no image files")
        failed = []
        for job in tqdm(jobs, unit="file", disable=True if len(jobs) == 1 else None):
            if not self._denoise(denoiser, job, settings):
                failed.append(job.source)
        others = sum(not path.is_dir() for path in skipped)
        if len(jobs) > 1 or skipped:
            print(f"{len(jobs) - len(failed)} of {len(jobs)} images denoised into {self.out}")
        if others:
            print(f"{others} other files skipped")
        if failed and len(jobs) > 1:
            print(f"failed: {', '.join(map(str, failed))}")
        return 2 if failed else 0

    def _over_devices(self, denoiser: Denoiser) -> Denoiser:
        """Divide the work among as many devices as asked for."""
        if self.devices == 1:
            return denoiser
        there = jax.local_devices()
        if not 0 <= self.devices <= len(there):
            raise ValueError(f"--devices is {self.devices}, and {len(there)} are here; 0 means all")
        return denoiser.over(there[: self.devices or None])

    def _denoise(self, denoiser: Denoiser, job: Job, settings: Settings) -> bool:
        """Denoise one file; its mistakes end in one line, and the others go on."""
        with tqdm(desc=job.source.name, delay=1, leave=False, disable=None) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                notes = denoise_file(
                    denoiser, job, settings, overwrite=self.overwrite, progress=progress
                )
            except MISTAKES as err:
                say("error", err)
                return False
        for note in notes:
            say("note", f"{job.source}: {note}")
        return True


@dataclass(frozen=True)
class Check(_Model):
    """Measure by how much a denoiser misses f(a y + b) = a f(y) + b, and whether it keeps what it claims."""

    size: int = 64
    """Side of the test images."""
    seed: int = 0
    """Seed of the test images."""

    def run(self) -> int:
        """Print the measurements; 0 if the claim is kept, 1 if it is broken."""
        from wne_jax.symmetry.report import measure

        denoiser = self.load()
        computed = denoiser.config.options.get("dtype") if denoiser.config else None
        report = measure(
            denoiser.function,
            claim=denoiser.symmetry,
            channels=denoiser.channels,
            conditioned=denoiser.conditioned,
            size=self.size,
            seed=self.seed,
            compute_dtype=computed or "float32",
        )
        print(report)
        return 0 if report.kept else 1


Command = (
    Annotated[Denoise, conf.subcommand("denoise")]
    | Annotated[Check, conf.subcommand("check")]
    | Annotated[Train, conf.subcommand("train")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line (default: the program's own).

    Returns:
        The exit code: 0, 1 for a claim that is broken, 2 for a mistake, 130 when interrupted.

    Raises:
        SystemExit: Help or misspelt options (code 0 or 2), or a training run that SIGTERM stopped (143).
    """
    command: Any = tyro.cli(
        Command,  # type: ignore[arg-type]
        args=arguments,
        prog="python -m wne_jax",
        description=__doc__,
        config=(conf.OmitArgPrefixes, conf.OmitSubcommandPrefixes, conf.FlagCreatePairsOff),
    )
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of it raises
    return run_command(command)
