"""`python -m wne_jax denoise`: files in, denoised files out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tqdm import tqdm
from tyro import conf

from wne_jax.cli.commands import MISTAKES, say
from wne_jax.cli.model_options import Model

if TYPE_CHECKING:
    from wne_jax.cli.denoise_files import Job, Settings
    from wne_jax.inference.denoiser import Denoiser


@dataclass(frozen=True)
class Denoise(Model):
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
    noise: Literal["auto", "white", "photon"] | None = None
    """What is assumed of the noise: white, growing with intensity (photon), or whichever of these and of
    correlation between neighbours an image shows (default: auto for the packaged weights; for others what
    they were trained with)."""
    noise_curve: Annotated[tuple[float, float] | None, conf.arg(metavar="ALPHA BETA")] = None
    """A calibrated camera: variance ALPHA x + BETA of the noise at intensity x, in the units of the file."""
    mask_nan: bool = False
    """Leave NaN pixels as they are, and out of account, in place of refusing them. What a GeoTIFF says to be
    no data always is."""
    strength: float = 1.0
    """How much of the estimated noise to remove: 1 is all of it."""
    self_ensemble: bool = False
    """Average over the eight flips and rotations: better by a little, and eight times slower."""
    tile: int | None = None
    """Side of the tiles in pixels, 0 for none (default: 512 for images of some megapixels)."""
    axes: str | None = None
    """Axes of TIFF and NPY files that do not say: ZYX for a stack, YXC for colour, CYX for channels."""
    white: float | None = None
    """Value of white, where it is not 255, 65535 or 1 as the type says: 4095 for 12 bits."""
    devices: int = 1
    """Devices among which the rows of each image, or of each tile, are divided; 0 for all. With --tile 0,
    what is too large for one needs no tiles."""
    overwrite: bool = False
    """Replace what is there, once the new is whole."""

    def run(self) -> int:
        """Denoise every file; 0 if all are done."""
        from wne_jax.cli.denoise_files import Settings, check_settings, plan, prepare_folder

        jobs, skipped = plan(self.inputs, self.out)
        settings = Settings(
            sigma_255=self.sigma_255,
            strength=self.strength,
            self_ensemble=self.self_ensemble,
            tile=self.tile,
            few_shapes=len(jobs) > 1,
            axes=None if self.axes is None else self.axes.upper(),
            white=self.white,
            mask_nan=self.mask_nan,
        )
        denoiser = self._over_devices(self._assuming(self.load()))
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

    def _assuming(self, denoiser: "Denoiser") -> "Denoiser":
        """Apply the assumption on the noise that is asked for."""
        if self.noise is not None and self.noise_curve is not None:
            raise ValueError("--noise and --noise-curve: give one of them")
        if self.sigma_255 is not None:
            if self.noise is not None or self.noise_curve is not None:
                raise ValueError(
                    "--sigma-255 is a known level: leave out --noise and --noise-curve"
                )
            return denoiser
        noise = self.noise or self.noise_curve
        return denoiser if noise is None else denoiser.with_noise(noise)

    def _over_devices(self, denoiser: "Denoiser") -> "Denoiser":
        """Divide the work among as many devices as asked for."""
        import jax

        if self.devices == 1:
            return denoiser
        there = jax.local_devices()
        if not 0 <= self.devices <= len(there):
            raise ValueError(f"--devices is {self.devices}, and {len(there)} are here; 0 means all")
        return denoiser.sharded(there[: self.devices or None])

    def _denoise(self, denoiser: "Denoiser", job: "Job", settings: "Settings") -> bool:
        """Denoise one file; its mistakes end in one line, and the others go on."""
        from wne_jax.cli.denoise_files import denoise_file

        with tqdm(desc=job.source.name, delay=1, leave=False, disable=None) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                done = denoise_file(
                    denoiser, job, settings, overwrite=self.overwrite, progress=progress
                )
            except MISTAKES as err:
                say("error", err)
                return False
        if done.noise:
            print(f"{job.source}: {done.noise}")
        for note in done.notes:
            say("note", f"{job.source}: {note}")
        return True
