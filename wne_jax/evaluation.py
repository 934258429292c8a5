"""How a denoiser fares: PSNR, SSIM and the equivariance defect over noise levels, images and repeats.

Every sweep takes named functions f32[B, H, W, C] -> f32[B, H, W, C], already compiled (`Denoiser.function`
is), and returns one record for each image, level, repeat and model. A function whose attribute
`conditioned` is true is called with the level as second argument. Noise is keyed by the image's name,
the level and the repeat, never by the model, so that all models see the same pixels and a subset of a sweep
has the numbers of the whole, to rounding. Images of one size go together: each size compiles once.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from wne_jax import metrics
from wne_jax.data.sources import NamedImage
from wne_jax.equivariance import normalization_defect
from wne_jax.noise import NOISES
from wne_jax.units import to_unit

Denoise = Callable[..., Array]
Record = dict[str, Any]

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
        sigmas_255: Noise levels, in 8-bit units.
        key: Random key.
        repeats: Noise draws for each image and level.
        noise: Name in `wne_jax.noise.NOISES`.
        progress: Show a bar.

    Returns:
        Records with `image, sigma_255, repeat, model, input_psnr, psnr` (dB).
    """
    return _metric_sweep("psnr", metrics.psnr, denoisers, images, sigmas_255, key,
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
    return _metric_sweep("ssim", metrics.ssim, denoisers, images, sigmas_255, key,
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
    """
    records = []
    for batch in _noisy_batches(images, sigmas_255, key, repeats, noise, progress, "defect"):
        for model, denoise in denoisers.items():
            f = _at_level(denoise, batch.sigma_255)
            for i, name in enumerate(batch.names):
                key_action = jax.random.fold_in(batch.keys[i], 1)
                value = normalization_defect(f, batch.noisy[i : i + 1], key_action, samples=samples)
                records.append(_place(batch, name) | {"model": model, "defect": float(value[0])})
    return records


def noisy_and_clean(
    image: NamedImage, sigma_255: float, key: Array, *, repeat: int = 0, noise: str = "gaussian"
) -> tuple[Array, Array]:
    """One image of a sweep by itself: the noise that the sweep with this key draws for it.

    Returns:
        Noisy and clean image, f32[1, H, W, C] each.
    """
    clean = jnp.asarray(to_unit(image.pixels))
    noisy = NOISES[noise](_key(key, image.name, sigma_255, repeat), clean, sigma_255 / 255)
    return noisy[None], clean[None]


def _metric_sweep(
    name: str,
    metric: Callable[[Array, Array], Array],
    denoisers: Mapping[str, Denoise],
    images: Sequence[NamedImage],
    sigmas_255: Sequence[float],
    key: Array,
    *,
    repeats: int,
    noise: str,
    progress: bool,
) -> list[Record]:
    of_input = jax.jit(metric)
    of_estimate = jax.jit(lambda estimate, clean: metric(jnp.clip(estimate, 0, 1), clean))
    records = []
    for batch in _noisy_batches(images, sigmas_255, key, repeats, noise, progress, name):
        before = np.asarray(of_input(batch.noisy, batch.clean))
        for model, denoise in denoisers.items():
            estimate = _at_level(denoise, batch.sigma_255)(batch.noisy)
            after = np.asarray(of_estimate(estimate, batch.clean))
            records += [
                _place(batch, image)
                | {"model": model, f"input_{name}": float(before[i]), name: float(after[i])}
                for i, image in enumerate(batch.names)
            ]
    return records


def _at_level(denoise: Denoise, sigma_255: float) -> Callable[[Array], Array]:
    """The denoiser as a function of the image alone."""
    if getattr(denoise, "conditioned", False):
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
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {sorted(NOISES)}, not {noise!r}")
    chunks = list(_chunks(images))
    corrupt = jax.jit(jax.vmap(NOISES[noise], in_axes=(0, 0, None)))
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
                    noisy = corrupt(padded, clean, sigma_255 / 255)
                    yield _NoisyBatch(names, sigma_255, repeat, padded, noisy, clean)
                    bar.update()


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
