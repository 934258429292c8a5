"""Denoises files: names the results and processes each file."""

import dataclasses
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wne_jax import protocol
from wne_jax._internal.progress import Progress, part_of
from wne_jax.cli.nodata import Masks
from wne_jax.images.files import (
    SUFFIXES,
    ImageError,
    ImageFile,
    Metadata,
    creating,
    fitted,
    open_image,
)
from wne_jax.images.reading import TIFF, image_error
from wne_jax.images.units import check_white, doubt, full_scale
from wne_jax.inference import tiling
from wne_jax.statistics import NoiseReport, noise_report
from wne_jax.statistics.flat_blocks import FOOTPRINT

if TYPE_CHECKING:
    from wne_jax.inference.denoiser import Denoiser

SMALLEST_TILE = 512
"""Minimum side of the tiles of large images, in pixels, unless a side is given."""

SHARED_TILE = 256
"""The same of images of many sizes, by a model that cannot share programs otherwise."""

UNLIKELY = 3
"""Ratio of a given to the measured noise level from which a note says so."""

FLOATING = TIFF | {".npy"}
"""Suffixes of the files that hold floats."""


class Job(NamedTuple):
    """One file, and the names of its results.

    Attributes:
        source: The file.
        target: The denoised file.
        uncertainty: The file of the standard deviations, if they are wanted.
    """

    source: Path
    target: Path
    uncertainty: Path | None = None


class Done(NamedTuple):
    """Messages about a denoised file.

    Attributes:
        noise: The measured noise, "" if none was measured.
        notes: Properties that are not preserved or are in doubt, a line each.
    """

    noise: str
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How files are denoised.

    Attributes:
        sigma_255: Noise level in 8-bit units (full scale is 255): for models that take it, and in place of
            the estimated level of a model that is wrapped with a noise level.
        sigma: The same level in the units of the file.
        strength: Share of the estimated noise that is removed; see `Denoiser`.
        self_ensemble: Whether to average over the eight flips and rotations.
        tile: Side of the tiles in pixels, 0 for the whole image at once. None chooses by the image size:
            tiles from 2 megapixels if tiling is exact, else from 4. Their side is 512, or the power of two
            of which half remains after removing a receptive radius on both sides.
        few_shapes: Whether images of many sizes share compiled programs, if the model allows it; see
            `Denoiser`.
        axes: Axes of NPY and TIFF files that do not name them (ZYX, YXC, ...).
        white: Value of white, if not the type's full scale; sigma_255 and the input range of a model that
            is not equivariant are relative to it.
        mask_nan: Whether to keep NaN pixels instead of raising an error.
    """

    sigma_255: float | None = None
    sigma: float | None = None
    strength: float = 1.0
    self_ensemble: bool = False
    tile: int | None = None
    few_shapes: bool = False
    axes: str | None = None
    white: float | None = None
    mask_nan: bool = False

    def __post_init__(self):
        """Reject values out of range."""
        check_white(self.white)
        if self.sigma_255 is not None and not 0 <= self.sigma_255 < math.inf:
            raise ValueError(f"sigma_255 must be finite and not negative, not {self.sigma_255}")
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma must be finite and not negative, not {self.sigma}")
        if self.sigma is not None and self.sigma_255 is not None:
            raise ValueError("sigma and sigma_255 are one level in two units: give only one")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, not {self.strength}")
        if self.tile is not None and self.tile < 0:
            raise ValueError(f"tile must be a number of pixels, or 0 for none, not {self.tile}")


def plan(
    inputs: Iterable[Path], out: str, uncertainty: str | None = None
) -> tuple[list[Job], list[Path]]:
    """Pair files with the names of their results.

    Args:
        inputs: Files and folders; the image files directly inside a folder are taken.
        out: A file name for one input file, else a folder. It is a folder if it exists as one, ends in a
            slash, or there are several files; it is not created here.
        uncertainty: Likewise a file or a folder for the standard deviations: floats, so the files are TIFF or
            NPY. In a folder, that of x.npy is x.npy, and that of any other x.png is x.tif.

    Returns:
        The jobs in order, and the skipped paths: files in folders that are not images, and folders without
        images.

    Raises:
        ValueError: No image is found, a result has an invalid suffix, or two results have the same name.
    """
    sources: list[Path] = []
    skipped: list[Path] = []
    several = False
    for path in inputs:
        if path.is_dir():
            files = [p for p in sorted(path.iterdir()) if p.is_file() and p.name[0] != "."]
            images = [p for p in files if p.suffix.lower() in SUFFIXES]
            sources += images
            skipped += [p for p in files if p not in images] + ([] if images else [path])
            several = True
        else:
            sources.append(path)
    if not sources:
        empty = " and ".join(str(p) for p in skipped if p.is_dir())
        known = ", ".join(sorted(SUFFIXES))
        raise ValueError(
            f"no image files ({known}) in {empty}"
            if empty
            else "IN is missing: name at least one image or folder"
        )
    folder = Path(out)
    if len(sources) == 1 and not several and not folder.is_dir() and out[-1:] not in ("/", "\\"):
        if folder.suffix.lower() not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise ValueError(
                f"{folder} is not a folder, and its suffix is not one of {known}; for a new folder write "
                f"{folder}/"
            )
        jobs = [Job(sources[0], folder)]
    elif not folder.exists() and out[-1:] not in ("/", "\\") and folder.suffix.lower() in SUFFIXES:
        raise ValueError(
            f"{out} names one file, but there may be several images: {out}/ is a folder"
        )
    elif folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; {len(sources)} images need a folder")
    else:
        jobs = [Job(source, folder / source.name) for source in sources]
        several = several or len(jobs) > 1
    if uncertainty is not None:
        jobs = _with_uncertainty(jobs, uncertainty, several=several)
    _check_names(jobs)
    return jobs, skipped


def _with_uncertainty(jobs: list[Job], out: str, *, several: bool) -> list[Job]:
    """Name the files of the standard deviations."""
    place = Path(out)
    if several or place.is_dir() or out[-1:] in ("/", "\\"):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--uncertainty {place} is a file; several images need a folder")
        names = [
            source.name if source.suffix.lower() in FLOATING else f"{source.stem}.tif"
            for source, *_ in jobs
        ]
        return [job._replace(uncertainty=place / name) for job, name in zip(jobs, names)]
    if place.suffix.lower() not in FLOATING:
        known = ", ".join(sorted(FLOATING))
        raise ValueError(f"--uncertainty {place} is for floats: its suffix must be one of {known}")
    return [jobs[0]._replace(uncertainty=place)]


def _check_names(jobs: Iterable[Job]) -> None:
    """Reject two results of one name, and standard deviations in place of an input."""
    named: dict[Path, Path] = {}
    sources = {job.source.resolve() for job in jobs}
    for source, *targets in jobs:
        for target in filter(None, targets):
            if target in named:
                both = " and ".join(str(path) for path in dict.fromkeys((named[target], source)))
                raise ValueError(f"results of {both} would both be written to {target}")
            named[target] = source
        if targets[-1] is not None and targets[-1].resolve() in sources:
            raise ValueError(f"--uncertainty would replace the input {targets[-1]}")


def prepare_folder(jobs: Iterable[Job]) -> None:
    """Create the results folders and test that they are writable, before any work is done.

    Raises:
        ImageError: The folder cannot be created or written.
    """
    targets = (target for job in jobs for target in job[1:] if target is not None)
    for folder in {target.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as err:
            raise image_error(folder, f"cannot be written: {err.strerror or err}") from err


def check_settings(denoiser: "Denoiser", settings: Settings) -> None:
    """Reject settings that the model does not support, before any work is done.

    Raises:
        ValueError: A noise level is given to a model that takes none or missing for a model that needs it,
            or `wne_jax.inference.tiling.plan` rejects the tiles.
    """
    if denoiser.resizes or denoiser.fills:
        raise ValueError(
            f"these weights are of the task {denoiser.task}, which changes the size or needs a mask: use "
            "wne_jax.Denoiser.load(...)(image), see docs/restoration.md"
        )
    if denoiser.ndim != 2:
        raise ValueError(
            "this model takes volumes, but files are denoised image by image: use Denoiser"
        )
    told = settings.sigma_255 is not None or settings.sigma is not None
    if told and not denoiser.takes_sigma:
        raise ValueError("this model is blind and takes no noise level: leave out --sigma")
    if not told and denoiser.conditioned:
        raise ValueError("this model needs a noise level: give --sigma-255 or --sigma")
    if tile := settings.tile:
        radius, multiple = denoiser.receptive_radius, protocol.multiple(denoiser.model)
        halo = tile // 8 if radius is None else radius
        tiling.plan(tile, tile, tile=tile, halo=halo, multiple=multiple)


def denoise_file(
    denoiser: "Denoiser",
    job: Job,
    settings: Settings,
    *,
    for_colour: "Callable[[], Denoiser] | None" = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Done:
    """Denoise the images of one file, one by one, into a file of the same dtype, shape and metadata.

    Args:
        denoiser: The denoiser.
        job: The file and the name of its result.
        settings: The settings.
        for_colour: Gives the denoiser of RGB images whose channels differ (default: the same).
        overwrite: Whether the result may replace a file.
        progress: Called with the numbers of finished and of all parts (planes, or their tiles).

    Returns:
        The noise report and notes of the file.

    Raises:
        ImageError: Reading, denoising or writing failed; one line that starts with the path.
    """
    for target in (job.target, job.uncertainty):
        if target is not None and target.exists() and not overwrite:
            own = job.source.exists() and target.samefile(job.source)
            what = "is the input itself" if own else "already exists"
            raise image_error(target, f"{what}; replace it with --overwrite")
    image = fitted(job.target, open_image(job.source, axes=settings.axes))
    if for_colour is not None and image.has_colours:
        denoiser = for_colour()
    try:
        options: dict[str, Any] = {
            "strength": settings.strength,
            "self_ensemble": settings.self_ensemble,
            "white": settings.white,
        }
        sigma = _sigma(image.pixels.dtype, settings)
        tile = _tile(denoiser, image.plane_shape, settings.tile)
        if settings.few_shapes and settings.tile != 0 and not settings.self_ensemble:
            if protocol.pads_zeros(denoiser.model):
                options["few_shapes"] = True
                tile = tile or _whole(denoiser, image.plane_shape)
            elif denoiser.receptive_radius is not None:
                tile = tile or max(SHARED_TILE, _side(denoiser.receptive_radius))
        masks, found = Masks(image, settings.mask_nan), []
        spread = None if job.uncertainty is None else np.zeros(image.pixels.shape, np.float32)
        stages = 1 if spread is None else 2
        with creating(job.target, image) as out:
            stds = itertools.repeat(None) if spread is None else image.planes(spread)
            planes = zip(image.planes(), image.planes(out), stds)
            for done, (plane, result, std) in enumerate(planes):
                options["progress"] = part_of(progress, stages * done, stages * image.number)
                valid = masks.of(plane, done)
                masked: dict[str, Any] = {} if valid is None else {"where": valid}
                if tile is None:
                    native = np.asarray(plane, plane.dtype.newbyteorder("="))
                    result[...] = denoiser(native, sigma, **masked, **options)
                    options["progress"](1, 1)
                else:
                    denoiser(plane, sigma, tile=tile, out=result, **masked, **options)
                _check_finite(result, valid, done)
                masks.keep_apart(plane, result, valid)
                if std is not None:
                    std[...] = denoiser.uncertainty(
                        plane, sigma, tile=tile, white=settings.white, **masked,
                        progress=part_of(progress, 2 * done + 1, 2 * image.number),
                    )  # fmt: skip
                found.append(_report(plane, valid))
            image.copy_alpha(out)
            if spread is not None and job.uncertainty is not None:
                _write_uncertainty(job.uncertainty, image, spread)
    except ImageError:
        raise
    except Exception as err:  # encoders raise all kinds of errors on unusual metadata
        raise image_error(job.source, str(err) or type(err).__name__) from err
    notes = [*image.notes, *masks.notes]
    if spread is not None and denoiser.calibration is None:
        notes.append("the uncertainty of this model is not calibrated; see Denoiser.calibrated")
    if far := _far_from(found, sigma):
        notes.append(far)
    doubts = denoiser.symmetry == "none" and settings.white is None and _doubt(image)
    said = _of_planes(found) if sigma is None else ""
    return Done(said, (*notes, *([doubts] if doubts else [])))


def _write_uncertainty(path: Path, image: ImageFile, stds: np.ndarray) -> None:
    """Write standard deviations as a file of floats, of the shape of the image without its alpha."""
    kept = Metadata(orientation=image.metadata.orientation, dpi=image.metadata.dpi)
    image = dataclasses.replace(image, pixels=stds, metadata=kept)
    image = fitted(path, image.without_alpha("it has no alpha") if image.alpha else image)
    with creating(path, image) as out:
        out[...] = image.pixels


def _check_finite(result: np.ndarray, valid: np.ndarray | None, number: int) -> None:
    """Reject a result that is not finite, from damaged weights or beyond the range of the file's type."""
    where = True if valid is None else valid
    ends = [extreme(result, where=where, initial=0) for extreme in (np.min, np.max)]
    if not np.isfinite(ends).all():
        raise ValueError(
            f"the result of plane {number} has values that are NaN, or infinite in {result.dtype}"
        )


def _report(plane: np.ndarray, valid: np.ndarray | None) -> NoiseReport | None:
    """The noise report of one plane; None if the plane is too small."""
    if valid is not None:
        plane = np.where(valid, plane.astype(np.float64), np.nan)
    return None if min(plane.shape[:2]) < FOOTPRINT else noise_report(plane)


def _of_planes(found: Sequence[NoiseReport | None]) -> str:
    """One line on the noise of all planes of a file: the plane of median level, and the range of levels."""
    known = sorted((report for report in found if report is not None), key=lambda r: r.sigma)
    if not known:
        return ""
    line = str(known[len(known) // 2])
    if len(known) == 1:
        return line
    return f"{line} (median of {len(known)} planes, {known[0].sigma:.3g} to {known[-1].sigma:.3g})"


def _far_from(found: Sequence[NoiseReport | None], sigma: float | None) -> str:
    """A note if a given noise level is far from those measured."""
    levels = [report.sigma for report in found if report is not None and report.sigma > 0]
    if not sigma or not levels or min(levels) / UNLIKELY <= sigma <= UNLIKELY * max(levels):
        return ""
    return f"the noise level is given as {sigma:.3g}, and measured as {np.median(levels):.3g}, in its units"


def _doubt(image: ImageFile) -> str:
    """A note if values are far from full scale and the model's result depends on the scale."""
    ends = [(plane.min(), plane.max()) for plane in image.planes()]
    reason = doubt(min(low for low, _ in ends), max(high for _, high in ends), image.pixels.dtype)
    return f"{reason}; this model depends on it: set it with --white" if reason else ""


def _sigma(dtype: np.dtype, settings: Settings) -> float | None:
    """The noise level in the units of an image."""
    if settings.sigma_255 is None:
        return settings.sigma
    try:
        return settings.sigma_255 / 255 * (settings.white or full_scale(dtype))
    except TypeError as err:
        raise TypeError(
            f"--sigma-255 needs a full scale, but {dtype.name} has none: add --white, or leave it out"
        ) from err


def _tile(denoiser: "Denoiser", shape: tuple[int, ...], tile: int | None) -> int | None:
    """The side of the tiles of one plane; None for the whole plane at once."""
    if tile is None:
        radius = denoiser.receptive_radius
        largest = 4e6 if radius is None else 2e6
        large = shape[0] * shape[1] > largest
        return max(SMALLEST_TILE, _side(radius)) if large else None
    return tile or None


def _side(radius: int | None) -> int:
    """The power of two of which half remains after removing a radius, if there is one, on both sides."""
    return 2 ** math.ceil(math.log2(4 * (radius or 1)))


def _whole(denoiser: "Denoiser", shape: tuple[int, ...]) -> int:
    """The side of a single tile that holds a whole plane."""
    multiple = protocol.multiple(denoiser.model)
    least = 2 * (denoiser.receptive_radius or 0) + multiple
    return -(-max(*shape[:2], least) // multiple) * multiple
