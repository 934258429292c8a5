"""Inverse problems with a denoiser as prior, for `experiments.noise2noise`."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from wne_jax.data import NamedImage
from wne_jax.evaluation.sweeps import BATCH_PIXELS, noisy_and_clean
from wne_jax.images import metrics
from wne_jax.images.units import to_unit
from wne_jax.inference import solvers

Problem = Literal["inpainting", "hole", "lowpass", "blocks"]

SHARE = 0.1
"""Share of known pixels in "inpainting"."""

STOP_DENOISING, STOP_RESTORATION = 1 / 255, 0.01
"""Published stopping levels, in unit range."""

BLOCK = 4
"""Side of the blocks in "blocks", in pixels."""

PROBLEMS: dict[Problem, str] = {
    "inpainting": f"{SHARE:.0%} of the pixels known, at random",
    "hole": "a square of half the sides missing",
    "lowpass": "frequencies up to 1/8 cycles a pixel known",
    "blocks": f"means of {BLOCK}x{BLOCK} pixels known, images cut to whole blocks",
}
"""The known part of an image in each problem."""


class Outcome(NamedTuple):
    """The result of one image.

    Attributes:
        record: The figures of the table.
        sigma: Noise level after 0, 1, ... steps.
        psnr: PSNR (dB) of the clipped estimate after 0, 1, ... steps.
        frames: Estimates [H, W, C] by number of steps, including the last; only for the first image of a
            batch.
        observed: The observation, [H, W, C].
        clean: The clean image, [H, W, C].
    """

    record: dict[str, Any]
    sigma: np.ndarray
    psnr: np.ndarray
    frames: dict[int, np.ndarray]
    observed: np.ndarray
    clean: np.ndarray


def kept_steps(max_steps: int, number: int = 64) -> list[int]:
    """Steps at which histories and estimates are kept, with increasing distances.

    Example:
        >>> kept_steps(16, 5)
        [0, 1, 4, 9, 16]
    """
    return sorted({int(t) for t in np.rint(np.linspace(0, max_steps**0.5, number) ** 2)})


def projector(problem: Problem, keys: Array, shape: tuple[int, ...]) -> solvers.Projector:
    """The projector onto the known part of a problem.

    Args:
        problem: Name of the problem.
        keys: One key per image, `[B]`.
        shape: `(B, H, W, C)`.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> int(projector("hole", keys, (1, 8, 8, 1)).mask.sum())
        48
    """
    if problem == "inpainting":
        return solvers.Pixels(solvers.random_mask(keys, shape, share=SHARE))
    if problem == "hole":
        _, height, width, _ = shape
        mask = np.ones((1, height, width, 1), bool)
        mask[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = False
        return solvers.Pixels(mask)
    if problem == "lowpass":
        return solvers.LowFrequencies(1 / 8)
    return solvers.BlockMeans(BLOCK)


def whole_blocks(image: NamedImage) -> NamedImage:
    """An image cropped to a multiple of the block size."""
    height, width, _ = image.pixels.shape
    return image._replace(pixels=image.pixels[: height - height % BLOCK, : width - width % BLOCK])


def solve(
    problem: Problem,
    denoise: Callable[[Array], Array],
    images: Sequence[NamedImage],
    key: Array,
    *,
    max_steps: int,
) -> list[Outcome]:
    """Restore images from their known part, with the published constants.

    The constants are s_0 = 1, s_L = 0.01 and h_0 = beta = 0.01. Masks and noise depend on the problem and the
    image's name, not on the denoiser. One pass is x_c + (I - P) D(y_0). In "blocks", images are cropped to
    whole blocks.
    """
    outcomes = []
    key = jax.random.fold_in(key, zlib.crc32(problem.encode()))
    if problem == "blocks":
        images = [whole_blocks(image) for image in images]
    for group, clean in _batches(images):
        named = [jax.random.fold_in(key, zlib.crc32(image.name.encode())) for image in group]
        of_mask, of_start, of_steps = jnp.stack([jax.random.split(k, 3) for k in named], axis=1)
        p = projector(problem, of_mask, clean.shape)
        y = solvers.start(of_start, clean, p)
        solution = solvers.iterate(
            denoise, y, of_steps, projector=p, observed=clean, stop_sigma=STOP_RESTORATION,
            max_steps=max_steps, reference=clean, keep=kept_steps(max_steps),
        )  # fmt: skip
        known, one_pass = _one_pass(p, clean, denoise(y))
        outcomes += _outcomes(group, solution, one_pass, known, clean)
    return outcomes


def denoise_until(
    denoise: Callable[[Array], Array],
    images: Sequence[NamedImage],
    key: Array,
    *,
    sigma_255: float,
    max_steps: int,
) -> list[Outcome]:
    """Denoise in small steps, with P = 0 and beta = 1, until the residual is at `STOP_DENOISING`.

    The noise is the same as in a sweep with this key.
    """
    outcomes = []
    for group, clean in _batches(images):
        noisy = jnp.concatenate([noisy_and_clean(image, sigma_255, key)[0] for image in group])
        solution = solvers.iterate(
            denoise, noisy, beta=1.0, stop_sigma=STOP_DENOISING,
            max_steps=max_steps, reference=clean, keep=kept_steps(max_steps),
        )  # fmt: skip
        outcomes += _outcomes(group, solution, denoise(noisy), noisy, clean)
    return outcomes


@jax.jit
def _one_pass(p: solvers.Projector, clean: Array, denoised: Array) -> tuple[Array, Array]:
    """The known part of the image, plus the denoised unknown part."""
    known = p(clean)
    return known, known + (denoised - p(denoised))


@jax.jit
def _quality(one_pass: Array, estimate: Array, clean: Array) -> tuple[Array, Array]:
    """PSNR of one pass and SSIM of the final estimate, both clipped."""
    clipped = jnp.clip(one_pass, 0, 1), jnp.clip(estimate, 0, 1)
    return metrics.psnr(clipped[0], clean), metrics.ssim(clipped[1], clean)


def _batches(images: Sequence[NamedImage]) -> Iterator[tuple[list[NamedImage], Array]]:
    """Batches of images of equal size, with their pixels `[B, H, W, C]` in unit range."""
    by_shape: dict[tuple[int, ...], list[NamedImage]] = {}
    for image in images:
        by_shape.setdefault(image.pixels.shape, []).append(image)
    for (height, width, _), group in by_shape.items():
        size = max(1, BATCH_PIXELS // (height * width))
        for first in range(0, len(group), size):
            chunk = group[first : first + size]
            yield chunk, jnp.asarray(np.stack([to_unit(image.pixels) for image in chunk]))


def _outcomes(
    images: Sequence[NamedImage],
    solution: solvers.Solution,
    one_pass: Array,
    observed: Array,
    clean: Array,
) -> list[Outcome]:
    """The outcome of each image of a batch."""
    first, ssim = map(np.asarray, _quality(one_pass, solution.estimate, clean))
    outcomes = []
    for i, image in enumerate(images):
        last = solution.steps[i]
        psnr = solution.psnr[: last + 1, i]
        frames = {}
        if i == 0:  # copy, so that the array of the batch can be freed
            frames = {t: frame[0].copy() for t, frame in solution.frames.items() if t <= last}
            frames[int(last)] = np.asarray(solution.estimate[0])
        record = {
            "image": image.name,
            "one_pass": float(first[i]),
            "best": float(psnr.max()),
            "final": float(psnr[-1]),
            "ssim": float(ssim[i]),
            "steps_to_best": int(psnr.argmax()),
            "steps": int(last),
            "converged": bool(solution.converged[i]),
        }
        levels = solution.sigma[: last + 1, i]
        outcomes.append(
            Outcome(record, levels, psnr, frames, np.asarray(observed[i]), np.asarray(clean[i]))
        )
    return outcomes
