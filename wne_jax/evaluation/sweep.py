"""How a denoiser fares: PSNR, SSIM and the equivariance defect over noise levels, images and repeats.

Every sweep takes named functions f32[B, H, W, C] -> f32[B, H, W, C], already compiled (`Denoiser.function`
is), and returns one record for each image, level, repeat and model. A function whose attribute
`conditioned` is true is called with the level as second argument. Noise is keyed by the image's name,
the level and the repeat, never by the model, so that all models see the same pixels and a subset of a sweep
has the numbers of the whole, to rounding. Images of one size go together: each size compiles once.

Two degradations stand where noise does, without a key: "jpeg" and "quantize". Their level, in the same column
`sigma_255`, is the quality and the number of values.
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
from tqdm import tqdm

from wne_jax.data.sources import NamedImage
from wne_jax.images import metrics
from wne_jax.images.degradations import DEGRADATIONS, NOISES
from wne_jax.images.units import to_unit
from wne_jax.symmetry.equivariance import normalization_defect

Denoise = Callable[..., Array]
Measure = Callable[[Array, Array], Array]
Record = dict[str, Any]

PSNR_AND_SSIM: Mapping[str, Measure] = {"psnr": metrics.psnr, "ssim": metrics.ssim}
"""What `quality_sweep` measures if nothing else is asked for."""

BATCH_PIXELS = 2**20
"""Images go through a model together up to about this many pixels."""


class _NoisyBatch(NamedTuple):
    names: list[str]
    sigma_255: float
    repeat: int
    keys: Array
    noisy: Array
    clean: Array


def psnr_sweep(
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    repeats: int = 1,
    noise: str = "gaussian",
    progress: bool = True,
) -> list[Record]:
    """PSNR of noisy input and of every model's estimate.

    The noisy input is not clipped; the estimate is clipped to [0, 1], as in Saied & Fleuret (2026).

    Args:
        denoisers: Models by name.
        images: Clean images.
        sigmas_255: Noise levels, in 8-bit units; of "jpeg" and "quantize" whole numbers.
        key: Random key.
        repeats: Noise draws for each image and level.
        noise: Name in `wne_jax.images.degradations.NOISES` or `DEGRADATIONS`.
        progress: Show a bar.

    Returns:
        Records with `image, sigma_255, repeat, model, input_psnr, psnr` (dB).

    Raises:
        ValueError: An unknown noise, a level that it cannot have, or a conditioned model where the level is
            no noise level.
    """
    return _metric_sweep({"psnr": metrics.psnr}, denoisers, images, sigmas_255, key,
                         repeats=repeats, noise=noise, progress=progress)  # fmt: skip


def ssim_sweep(
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    repeats: int = 1,
    noise: str = "gaussian",
    progress: bool = True,
) -> list[Record]:
    """SSIM of noisy input and of every model's clipped estimate; arguments as `psnr_sweep`.

    Returns:
        Records with `image, sigma_255, repeat, model, input_ssim, ssim`.
    """
    return _metric_sweep({"ssim": metrics.ssim}, denoisers, images, sigmas_255, key,
                         repeats=repeats, noise=noise, progress=progress)  # fmt: skip


def quality_sweep(
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    measures: Mapping[str, Measure] = PSNR_AND_SSIM,
    repeats: int = 1,
    noise: str = "gaussian",
    progress: bool = True,
) -> list[Record]:
    """Several measures of the same estimates, each computed once; arguments as `psnr_sweep`.

    Args:
        denoisers: Models by name.
        images: Clean images.
        sigmas_255: Noise levels.
        key: Random key.
        measures: By name, functions of estimate and clean image, `f32[B, H, W, C]` each, that can be compiled
            and return a value an image, `[B]`.
        repeats: Noise draws for each image and level.
        noise: What makes the images noisy.
        progress: Show a bar.

    Returns:
        Records with `image, sigma_255, repeat, model` and, for each measure, `input_NAME` of the noisy input
        and `NAME` of the clipped estimate.
    """
    return _metric_sweep(measures, denoisers, images, sigmas_255, key,
                         repeats=repeats, noise=noise, progress=progress)  # fmt: skip


def defect_sweep(
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    repeats: int = 1,
    noise: str = "gaussian",
    samples: int = 8,
    progress: bool = True,
) -> list[Record]:
    """The normalization-equivariance defect on noisy images; arguments as `psnr_sweep`.

    Estimates are not clipped here, which would be no equivariant step.

    Returns:
        Records with `image, sigma_255, repeat, model, defect`, the mean over `samples` draws of a and b.

    Raises:
        ValueError: What `psnr_sweep` refuses, and conditioned models: their level would change with a.
    """
    if told := [name for name, f in denoisers.items() if getattr(f, "conditioned", False)]:
        raise ValueError(f"the defect is of blind denoisers; {', '.join(told)} is told the level")
    records = []
    for batch in _noisy_batches(images, sigmas_255, key, repeats, noise, progress, "defect"):
        for model, denoise in denoisers.items():
            f = _at_level(denoise, batch.sigma_255, noise)
            for i, name in enumerate(batch.names):
                key_action = jax.random.fold_in(batch.keys[i], 1)
                value = normalization_defect(f, batch.noisy[i : i + 1], key_action, samples=samples)
                records.append(_place(batch, name) | {"model": model, "defect": float(value[0])})
    return records


def noisy_and_clean(
    image: NamedImage, sigma_255: float, key: Array, *, repeat: int = 0, noise: str = "gaussian"
) -> tuple[Array, Array]:
    """One image of a sweep by itself: the noise that the sweep with this key draws for it.

    Args:
        image: Clean image.
        sigma_255: Noise level, in 8-bit units.
        key: Random key of the sweep.
        repeat: Which draw.
        noise: Name in `wne_jax.images.degradations.NOISES` or `DEGRADATIONS`.

    Returns:
        Noisy and clean image, f32[1, H, W, C] each.

    Raises:
        ValueError: An unknown noise, or a level that it cannot have.
    """
    clean = jnp.asarray(to_unit(image.pixels))[None]
    corrupt = _corruption(noise, [sigma_255])
    return corrupt(_key(key, image.name, sigma_255, repeat)[None], clean, sigma_255), clean


def _metric_sweep(
    measures: Mapping[str, Measure],
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    repeats: int,
    noise: str,
    progress: bool,
) -> list[Record]:
    of_input = {name: jax.jit(measure) for name, measure in measures.items()}
    of_estimate = {name: jax.jit(_clipped(measure)) for name, measure in measures.items()}
    records = []
    label = ", ".join(measures)
    for batch in _noisy_batches(images, sigmas_255, key, repeats, noise, progress, label):
        before = {n: np.asarray(f(batch.noisy, batch.clean)) for n, f in of_input.items()}
        for model, denoise in denoisers.items():
            estimate = _at_level(denoise, batch.sigma_255, noise)(batch.noisy)
            after = {n: np.asarray(f(estimate, batch.clean)) for n, f in of_estimate.items()}
            for i, image in enumerate(batch.names):
                record = _place(batch, image) | {"model": model}
                for name in measures:
                    record |= {
                        f"input_{name}": float(before[name][i]),
                        name: float(after[name][i]),
                    }
                records.append(record)
    return records


def _clipped(measure: Measure) -> Measure:
    return lambda estimate, clean: measure(jnp.clip(estimate, 0, 1), clean)


def _at_level(denoise: Denoise, sigma_255: float, noise: str) -> Callable[[Array], Array]:
    """The denoiser as a function of the image alone."""
    if getattr(denoise, "conditioned", False):
        if noise in DEGRADATIONS:
            raise ValueError(
                f"noise is {noise!r}, which has no noise level that a conditioned denoiser could be told"
            )
        return lambda y: denoise(y, sigma_255 / 255)
    return denoise


def _place(batch: _NoisyBatch, image: str) -> Record:
    return {"image": image, "sigma_255": batch.sigma_255, "repeat": batch.repeat}


def _noisy_batches(
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    repeats: int,
    noise: str,
    progress: bool,
    label: str,
) -> Iterator[_NoisyBatch]:
    """Noisy images by size, level and repeat, with a progress bar over them."""
    chunks = list(_chunks(images))
    corrupt = _corruption(noise, sigmas_255)
    with tqdm(
        total=len(chunks) * len(sigmas_255) * repeats,
        desc=label,
        unit="batch",
        disable=not progress,
    ) as bar:
        for names, clean in chunks:
            for sigma_255 in sigmas_255:
                for repeat in range(repeats):
                    keys = jnp.stack([_key(key, name, sigma_255, repeat) for name in names])
                    padded = jnp.concatenate(
                        [keys, jnp.repeat(keys[-1:], len(clean) - len(keys), 0)]
                    )
                    noisy = corrupt(padded, clean, sigma_255)
                    yield _NoisyBatch(names, sigma_255, repeat, padded, noisy, clean)
                    bar.update()


def _corruption(noise: str, sigmas_255: Sequence[float]) -> Callable[[Array, Array, float], Array]:
    """What makes noisy images of keys [B], clean images [B, H, W, C] and a level, one of those given."""
    if bad := [level for level in sigmas_255 if not 0 <= level < np.inf]:
        raise ValueError(f"levels must be 0 or more and finite, not {bad[0]}")
    if noise in DEGRADATIONS:
        return lambda _, clean, level: _degrade(noise, clean, level)
    if noise not in NOISES:
        known = sorted(NOISES | DEGRADATIONS)
        raise ValueError(f"noise must be one of {known}, not {noise!r}")
    return lambda keys, clean, level: _draw(noise)(keys, clean, level / 255)


@cache
def _draw(noise: str) -> Callable[[Array, Array, float], Array]:
    return jax.jit(jax.vmap(NOISES[noise], in_axes=(0, 0, None)))


def _degrade(name: str, clean: Array, level: float) -> Array:
    """Images [B, H, W, C] after a degradation without a key."""
    if level != int(level):
        raise ValueError(f"levels of {name!r} must be whole numbers, not {level}")
    return jnp.stack([jnp.asarray(DEGRADATIONS[name](x, int(level))) for x in np.asarray(clean)])


def _key(key: Array, name: str, sigma_255: float, repeat: int) -> Array:
    for part in (zlib.crc32(name.encode()), round(1000 * sigma_255), repeat):
        key = jax.random.fold_in(key, part)
    return key


def _chunks(images: Sequence[NamedImage]) -> Iterator[tuple[list[str], Array]]:
    """Names and stacked pixels of images of one size; a short last chunk repeats its last image."""
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
