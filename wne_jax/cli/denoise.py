"""`python -m wne_jax denoise`: files in, denoised files out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tqdm import tqdm
from tyro import conf

from wne_jax.cli.commands import USER_ERRORS, print_line
from wne_jax.cli.model_options import Model

if TYPE_CHECKING:
    from wne_jax.cli.denoise_files import Job, Settings
    from wne_jax.inference.denoiser import Denoiser


@dataclass(frozen=True)
class Denoise(Model):
    """Denoise images: PNG, JPEG, BMP, TIFF (stacks too) and NPY, gray or colour.

    The result has the input's type, range and metadata. Each image of a stack is denoised separately.
    """

    inputs: Annotated[
        tuple[Path, ...],
        conf.Positional,
        conf.arg(name="in", metavar="IN...", help_behavior_hint="(required)"),
    ]
    """Image files, or folders (the images directly inside are taken)."""
    out: Annotated[str, conf.arg(aliases=("-o",), metavar="OUT")]
    """A file for one image, a folder for several (created if missing)."""
    sigma_255: float | None = None
    """Noise level in 8-bit units (255 is full scale, which is 1 for floats): required by some models; it
    replaces an estimated level in others."""
    sigma: float | None = None
    """The same in the units of the file: 40 for noise of 40 counts."""
    noise: Annotated[
        Literal["auto", "white", "photon"] | None,
        conf.arg(
            metavar="{auto,white,photon}",
            help_behavior_hint="(default: auto for the packaged weights, white for others)",
        ),
    ] = None
    """Assumption on the noise: white, growing with intensity (photon), or whatever the image shows (auto),
    correlated between neighbours, too."""
    noise_curve: Annotated[tuple[float, float] | None, conf.arg(metavar="ALPHA BETA")] = None
    """Noise of a calibrated camera: variance ALPHA x + BETA at intensity x, in the units of the file."""
    mask_nan: bool = False
    """Keep NaN pixels and ignore them, instead of an error. The no-data pixels of a GeoTIFF are always
    ignored."""
    strength: float = 1.0
    """Share of the estimated noise to remove: 1 is all of it."""
    self_ensemble: bool = False
    """Average over the eight flips and rotations: slightly better and eight times slower."""
    tile: int | None = None
    """Side of the tiles in pixels, 0 for none (default: 512 for images of some megapixels)."""
    axes: str | None = None
    """Axes of TIFF and NPY files that do not name them: ZYX for a stack, YXC for colour, CYX for channels."""
    white: float | None = None
    """Value of white, if not the type's 255, 65535 or 1: 4095 for 12 bits."""
    devices: int = 1
    """Number of devices that share the rows of each image or tile; 0 for all. With --tile 0, an image that is
    too large for one device needs no tiles."""
    uncertainty: Annotated[str | None, conf.arg(metavar="FILE")] = None
    """Also write the standard deviation of the error that is expected at each pixel, in the units of the
    file: a TIFF or NPY file of floats, a folder for several images. It takes about 30 times as long."""
    overwrite: bool = False
    """Replace existing results, once the new ones are complete."""

    def run(self) -> int:
        """Denoise every file; return 0 if all succeeded."""
        from wne_jax.cli.denoise_files import Settings, plan, prepare_folder

        jobs, skipped = plan(self.inputs, self.out, self.uncertainty)
        settings = Settings(
            sigma_255=self.sigma_255,
            sigma=self.sigma,
            strength=self.strength,
            self_ensemble=self.self_ensemble,
            tile=self.tile,
            few_shapes=len(jobs) > 1,
            axes=None if self.axes is None else self.axes.upper(),
            white=self.white,
            mask_nan=self.mask_nan,
        )
        if self.uncertainty is not None and (self.strength != 1 or self.self_ensemble):
            raise ValueError(
                "--uncertainty is that of the estimate itself: leave out --strength and --self-ensemble"
            )
        denoiser = self._prepared(self.load(), settings)
        for_colour = None if self.weights is not None else self._for_colour(settings)
        prepare_folder(jobs)
        if denoiser.task != "denoise":
            print_line("note", f"{self.weights}: trained for the task {denoiser.task}")
        for path in skipped:
            if path.is_dir():
                print_line("note", f"{path}: holds no image files")
        failed = []
        for job in tqdm(jobs, unit="file", disable=True if len(jobs) == 1 else None):
            if not self._denoise(denoiser, for_colour, job, settings):
                failed.append(job.source)
        others = sum(not path.is_dir() for path in skipped)
        if len(jobs) > 1 or skipped:
            print(f"{len(jobs) - len(failed)} of {len(jobs)} images denoised into {self.out}")
        if others:
            print(f"{others} other files skipped")
        if failed and len(jobs) > 1:
            print(f"failed: {', '.join(map(str, failed))}")
        return 2 if failed else 0

    def _prepared(self, denoiser: "Denoiser", settings: "Settings") -> "Denoiser":
        """The denoiser under all options."""
        from wne_jax.cli.denoise_files import check_settings

        denoiser = self._over_devices(self._assuming(denoiser))
        check_settings(denoiser, settings)
        return denoiser

    def _for_colour(self, settings: "Settings") -> "Callable[[], Denoiser]":
        """The packaged denoiser for colour images, made when the first one comes."""
        from wne_jax.inference.denoiser import Denoiser

        return functools.cache(lambda: self._prepared(Denoiser.default("color"), settings))

    def _assuming(self, denoiser: "Denoiser") -> "Denoiser":
        """Apply the chosen assumption on the noise."""
        if self.noise is not None and self.noise_curve is not None:
            raise ValueError("--noise and --noise-curve: give only one")
        if self.sigma_255 is not None or self.sigma is not None:
            if self.noise is not None or self.noise_curve is not None:
                raise ValueError(
                    "--sigma-255 and --sigma are a known level: leave out --noise and --noise-curve"
                )
            return denoiser
        noise = self.noise or self.noise_curve
        return denoiser if noise is None else denoiser.with_noise(noise)

    def _over_devices(self, denoiser: "Denoiser") -> "Denoiser":
        """Divide the work among the requested devices."""
        import jax

        if self.devices == 1:
            return denoiser
        there = jax.local_devices()
        if not 0 <= self.devices <= len(there):
            raise ValueError(f"--devices is {self.devices}, but {len(there)} exist; 0 means all")
        return denoiser.sharded(there[: self.devices or None])

    def _denoise(
        self,
        denoiser: "Denoiser",
        for_colour: "Callable[[], Denoiser] | None",
        job: "Job",
        settings: "Settings",
    ) -> bool:
        """Denoise one file; an error is reported in one line, and the other files are still denoised."""
        from wne_jax.cli.denoise_files import denoise_file

        with tqdm(desc=job.source.name, delay=1, leave=False, disable=None) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                done = denoise_file(
                    denoiser,
                    job,
                    settings,
                    for_colour=for_colour,
                    overwrite=self.overwrite,
                    progress=progress,
                )
            except USER_ERRORS as err:
                print_line("error", err)
                return False
        if done.noise:
            print(f"{job.source}: {done.noise}")
        for note in done.notes:
            print_line("note", f"{job.source}: {note}")
        return True
