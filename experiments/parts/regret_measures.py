"""Further measurements of `experiments.regret`: windows, and changes of contrast and brightness."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import Arm
from wne_jax.data import NamedImage
from wne_jax.evaluation.records import Record
from wne_jax.evaluation.sweeps import Denoise, noisy_and_clean
from wne_jax.images import metrics

AFFINE = ((1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 0.3), (0.25, 0.5))
"""Changes of contrast and brightness that should not change the PSNR."""


def in_windows(
    functions: Mapping[Arm, Denoise],
    images: Sequence[NamedImage],
    level: float,
    key: jax.Array,
    *,
    sides: Sequence[int],
    crop: int,
    **columns: Any,
) -> list[Record]:
    """PSNR of images that are denoised in windows, each with its own statistics.

    The unwrapped network only loses PSNR at borders; further losses of other networks are due to statistics.

    Args:
        functions: Denoisers by arm.
        images: Clean images; those smaller than `crop` are skipped.
        level: Noise level in 8-bit units.
        key: Random key of the sweep.
        sides: Sides of the windows in pixels, divisors of `crop`.
        crop: Side of the images in pixels, also used as a window.
        **columns: Further columns of the records.
    """
    records = []
    for arm, denoise in functions.items():
        for side in (*sides, crop):
            values = []
            for image in images:
                noisy, clean = noisy_and_clean(image, level, key)
                if min(clean.shape[1:3]) < crop:
                    continue
                estimate = jnp.clip(paste(denoise(cut(noisy, side)), crop), 0, 1)
                values.append(float(metrics.psnr(estimate, clean)[0]))
            if values:
                records.append(
                    Record(metric="psnr_in_windows", unit="dB", level=level, arm=arm,
                           value=float(np.mean(values)), settings={"window": side}, **columns)
                )  # fmt: skip
    return records


def cut(image: jax.Array, side: int) -> jax.Array:
    """The windows `[N, side, side, C]` of one square image `[1, S, S, C]`; `side` divides S."""
    number, channels = image.shape[1] // side, image.shape[-1]
    grid = jnp.reshape(image, (number, side, number, side, channels))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (number**2, side, side, channels))


def paste(windows: jax.Array, size: int) -> jax.Array:
    """The inverse of `cut`."""
    side, channels = windows.shape[1], windows.shape[-1]
    grid = jnp.reshape(windows, (size // side, size // side, side, side, channels))
    return jnp.reshape(jnp.swapaxes(grid, 1, 2), (1, size, size, channels))


def under_changes(
    functions: Mapping[Arm, Denoise], images: Sequence[NamedImage], key: jax.Array, **columns: Any
) -> list[Record]:
    """PSNR under changes of contrast and brightness, computed after inverting them, at noise level 25.

    Args:
        functions: Denoisers by arm.
        images: Clean images.
        key: Random key of the sweep.
        **columns: Further columns of the records.
    """
    records = []
    for arm, denoise in functions.items():
        for a, b in AFFINE:
            change = {"change": f"{a:g} y + {b:g}" if b else f"{a:g} y"}
            for image in images:
                noisy, clean = noisy_and_clean(image, 25.0, key)
                back = (denoise(a * noisy + b) - b) / a
                psnr = float(metrics.psnr(jnp.clip(back, 0, 1), clean)[0])
                records.append(
                    Record(metric="psnr_under_a_change", unit="dB", level=25, arm=arm,
                           value=psnr, image=image.name, settings=change, **columns)
                )  # fmt: skip
    return records
