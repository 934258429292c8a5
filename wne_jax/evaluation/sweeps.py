"""Quality and equivariance defect of denoisers over noise levels, images and repeats.

`sweep` takes named compiled functions f32[B, H, W, C] -> f32[B, H, W, C] (for example `Denoiser.function`),
and returns one record for each image, level, repeat, function and measure. A function that requires `sigma`
(see `wne_jax.protocol`) is called with the level as second argument. The noise key depends on the image's
name, the level and the repeat, but not on the function. So all functions see the same pixels, and a part of a
sweep has the same numbers as the whole, up to rounding. Images of equal size form batches, so each size
compiles once.

Two degradations without a random key may replace noise: "jpeg", whose level is its quality, and "quantize",
whose level is the number of values.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax import protocol
from wne_jax._internal.extras import extra
from wne_jax.data.sources import NamedImage
from wne_jax.evaluation.records import INPUT, Record
from wne_jax.images import metrics
from wne_jax.images.degradations import DEGRADATIONS, NOISES
from wne_jax.images.units import to_unit
from wne_jax.symmetry.equivariance import normalization_defect

with extra("data", "sweeps"):
    from tqdm import tqdm

Denoise = Callable[..., Array]


class Quality(NamedTuple):
    """A measure of an image (the estimate, clipped to [0, 1], or the input) against the clean image.

    Attributes:
        metric: Its name.
        function: A traceable function of image and clean image, f32[B, H, W, C] each, that returns f32[B].
        unit: Its unit; None for a plain number.
    """

    metric: str
    function: Callable[[Array, Array], Array]
    unit: str | None = None


class Defect(NamedTuple):
    """The error of f(a y + b) = a f(y) + b: relative L2, for the estimate without clipping.

    Attributes:
        samples: Number of draws of a and b, over which the error is averaged.
    """

    samples: int = 8
    metric: str = "defect"
    unit: None = None


Measure = Quality | Defect

MEASURES: dict[str, Measure] = {
    "psnr": Quality("psnr", metrics.psnr, "dB"),
    "ssim": Quality("ssim", metrics.ssim),
    "defect": Defect(),
}
"""Measures by their names in `sweep`."""

BATCH_PIXELS = 2**20
"""A batch of images has up to about this many pixels."""


class _Batch(NamedTuple):
    names: list[str]
    level: float
    repeat: int
    keys: Array
    noisy: Array
    clean: Array


def sweep(
    functions: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    levels: Sequence[float],
    key: Array,
    *,
    measures: Sequence[str | Measure] = ("psnr",),
    degradation: str = "gaussian",
    repeats: int = 1,
    progress: bool = True,
    **columns: Any,
) -> list[Record]:
    """Measure functions on degraded images, computing each estimate once.

    Args:
        functions: Denoisers by name, which becomes the column `arm`.
        images: Clean images.
        levels: Noise levels in 8-bit units; whole numbers for "jpeg" and "quantize".
        key: Random key.
        measures: Names in `MEASURES`, or custom measures.
        degradation: Name in `wne_jax.images.degradations.NOISES` or `DEGRADATIONS`.
        repeats: Number of noise draws for each image and level.
        progress: Whether to show a progress bar.
        **columns: Further columns of the records: `experiment` (default "sweep"), `dataset`, `trained`,
            `model`.

    Returns:
        Records; those of the input (the arm "input") come before those of the functions.

    Raises:
        ValueError: An unknown measure or degradation, an invalid level, a conditioned function with a
            degradation that has no noise level, or the defect of a conditioned function, whose level would
            change with a.

    Example:
        >>> image = NamedImage("flat", np.full((8, 8, 1), 128, np.uint8))
        >>> records = sweep({"same": lambda y: y}, [image], [25], jax.random.key(0), progress=False)
        >>> [(r.arm, r.metric, r.level, round(r.value)) for r in records]
        [('input', 'psnr', 25.0, 20), ('same', 'psnr', 25.0, 20)]
    """
    chosen = [_measure(measure) for measure in measures]
    if any(isinstance(measure, Defect) for measure in chosen):
        _reject_conditioned(functions)
    of_input, of_estimate = _compiled(chosen), _compiled(chosen, clip=True)
    columns = {"experiment": "sweep", "degradation": degradation} | columns
    label = ", ".join(measure.metric for measure in chosen)
    records = []
    for batch in _batches(images, levels, key, repeats, degradation, progress, label):
        found: list[tuple[str, Measure, Any]]
        found = [(INPUT, m, of(batch.noisy, batch.clean)) for m, of in of_input.items()]
        for arm, denoise in functions.items():
            f = _at_level(denoise, batch.level, degradation)
            estimate = f(batch.noisy) if of_estimate else batch.noisy
            found += [(arm, m, of(estimate, batch.clean)) for m, of in of_estimate.items()]
            found += [(arm, m, _defects(f, batch, m)) for m in chosen if isinstance(m, Defect)]
        records += [
            Record(metric=m.metric, unit=m.unit, image=image, level=batch.level, arm=arm,
                   repeat=batch.repeat, value=float(value), **columns)
            for arm, m, values in found
            for image, value in zip(batch.names, np.asarray(values))
        ]  # fmt: skip
    return records


def noisy_and_clean(
    image: NamedImage, level: float, key: Array, *, repeat: int = 0, degradation: str = "gaussian"
) -> tuple[Array, Array]:
    """One noisy image of a sweep, with the noise that the sweep draws for this key.

    Args:
        image: Clean image.
        level: Noise level, in 8-bit units.
        key: Random key of the sweep.
        repeat: Index of the noise draw.
        degradation: Name in `wne_jax.images.degradations.NOISES` or `DEGRADATIONS`.

    Returns:
        Noisy and clean image, f32[1, H, W, C] each.

    Raises:
        ValueError: An unknown degradation, or an invalid level.
    """
    clean = jnp.asarray(to_unit(image.pixels))[None]
    degrade = _degrader(degradation, [level])
    return degrade(_key(key, image.name, level, repeat)[None], clean, level), clean


def _measure(measure: str | Measure) -> Measure:
    if not isinstance(measure, str):
        return measure
    if measure not in MEASURES:
        raise ValueError(f"measures must be among {', '.join(MEASURES)}, not {measure!r}")
    return MEASURES[measure]


def _reject_conditioned(functions: Mapping[str, Denoise]) -> None:
    if conditioned := [name for name, f in functions.items() if protocol.needs_sigma(f)]:
        raise ValueError(
            "the defect is defined for blind denoisers only, but "
            f"{', '.join(conditioned)} takes the noise level"
        )


def _compiled(
    measures: Sequence[Measure], *, clip: bool = False
) -> dict[Quality, Callable[[Array, Array], Array]]:
    """The compiled measures of an image against the clean one."""

    def make(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return jax.jit(lambda x, clean: function(jnp.clip(x, 0, 1) if clip else x, clean))

    return {m: make(m.function) for m in measures if isinstance(m, Quality)}


def _defects(f: Callable[[Array], Array], batch: _Batch, measure: Defect) -> list[float]:
    """The defect on each image of a batch separately."""
    values = []
    for i in range(len(batch.names)):
        y, key = batch.noisy[i : i + 1], jax.random.fold_in(batch.keys[i], 1)
        values.append(float(normalization_defect(f, y, key, samples=measure.samples)[0]))
    return values


def _at_level(denoise: Denoise, level: float, degradation: str) -> Callable[[Array], Array]:
    """The denoiser as a function of the image only."""
    if protocol.needs_sigma(denoise):
        if degradation in DEGRADATIONS:
            raise ValueError(
                f"degradation is {degradation!r}, which has no noise level for a conditioned denoiser; "
                "use a noise, or a blind denoiser"
            )
        return lambda y: denoise(y, level / 255)
    return denoise


def _batches(
    images: Sequence[NamedImage],
    levels: Sequence[float],
    key: Array,
    repeats: int,
    degradation: str,
    progress: bool,
    label: str,
) -> Iterator[_Batch]:
    """Noisy images by size, level and repeat, with a progress bar."""
    chunks = list(_chunks(images))
    degrade = _degrader(degradation, levels)
    with tqdm(
        total=len(chunks) * len(levels) * repeats,
        desc=label,
        unit="batch",
        disable=not progress,
    ) as bar:
        for names, clean in chunks:
            for level in levels:
                for repeat in range(repeats):
                    keys = jnp.stack([_key(key, name, level, repeat) for name in names])
                    padded = jnp.concatenate(
                        [keys, jnp.repeat(keys[-1:], len(clean) - len(keys), 0)]
                    )
                    noisy = degrade(padded, clean, level)
                    yield _Batch(names, level, repeat, padded, noisy, clean)
                    bar.update()


def _degrader(degradation: str, levels: Sequence[float]) -> Callable[[Array, Array, float], Array]:
    """A function of keys [B], clean images [B, H, W, C] and one of the levels."""
    if bad := [level for level in levels if not 0 <= level < np.inf]:
        raise ValueError(f"levels must be 0 or more and finite, not {bad[0]}")
    if degradation in DEGRADATIONS:
        return lambda _, clean, level: _degrade(degradation, clean, level)
    if degradation not in NOISES:
        known = ", ".join(sorted(NOISES | DEGRADATIONS))
        raise ValueError(f"degradation must be one of {known}, not {degradation!r}")
    return lambda keys, clean, level: _draw(degradation)(keys, clean, level / 255)


@cache
def _draw(noise: str) -> Callable[[Array, Array, float], Array]:
    return jax.jit(jax.vmap(NOISES[noise], in_axes=(0, 0, None)))


def _degrade(name: str, clean: Array, level: float) -> Array:
    """Apply a degradation without a key to images [B, H, W, C]."""
    if level != int(level):
        raise ValueError(f"levels of {name!r} must be whole numbers, not {level}")
    return jnp.stack([jnp.asarray(DEGRADATIONS[name](x, int(level))) for x in np.asarray(clean)])


def _key(key: Array, name: str, level: float, repeat: int) -> Array:
    for part in (zlib.crc32(name.encode()), round(1000 * level), repeat):
        key = jax.random.fold_in(key, part)
    return key


def _chunks(images: Sequence[NamedImage]) -> Iterator[tuple[list[str], Array]]:
    """Names and stacked pixels of images of equal size; a short last chunk repeats its last image."""
    by_shape: dict[tuple[int, ...], list[NamedImage]] = defaultdict(list)
    for image in images:
        by_shape[image.pixels.shape].append(image)
    for shape, group in by_shape.items():
        size = min(len(group), max(1, BATCH_PIXELS // (shape[0] * shape[1])))
        for start in range(0, len(group), size):
            chunk = group[start : start + size]
            pixels = [to_unit(image.pixels) for image in chunk]
            pixels += [pixels[-1]] * (size - len(chunk))
            yield [image.name for image in chunk], jnp.asarray(np.stack(pixels))
