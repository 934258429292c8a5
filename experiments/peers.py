"""The packaged denoiser beside others: BM3D, non-local means, and networks from weight files.

All denoise the same noisy images, the central squares of a test set. BM3D (`pip install bm3d`) and non-local
means (scikit-image) are given the true noise level. The packaged denoiser is blind, with its default
assumption on the noise and with `--noise white`. A network that was trained at one level is blind inside
`OneLevel` (`--weights FILE --trained-sigma-255 25`). `--before FILE` adds an earlier packaged denoiser.
`--channels 3` is for colour images: one row then has the gray denoiser, channel by channel.

    WNE_DATA=... python -m experiments.peers --test folder:Set12 --weights dncnn_25.mat
    WNE_DATA=... python -m experiments.peers --test folder:CBSD68 --channels 3 --degradations gaussian
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.harness import (
    Levels,
    Measured,
    Photographs,
    Seed,
    central,
    load_sets,
    results_folder,
    run,
    tables_of,
    write_table,
)
from wne_jax.config import at_every_level
from wne_jax.evaluation.records import Record, read_records
from wne_jax.evaluation.sweeps import sweep
from wne_jax.evaluation.tables import View
from wne_jax.inference.denoiser import Denoiser

Classical = Literal["bm3d", "nlm"]


@dataclass(frozen=True, kw_only=True)
class Options(Levels, Photographs, Seed, Measured):
    """Options of the command line."""

    NAME = "peers"

    test: tuple[str, ...] = ("embedded",)
    test_sigmas_255: tuple[float, ...] = (5.0, 15.0, 25.0, 50.0)
    degradations: tuple[str, ...] = ("gaussian", "poisson", "coloured", "camera")
    """Kinds of noise, names in wne_jax.images.degradations.NOISES."""
    classical: tuple[Classical, ...] = ("bm3d", "nlm")
    """Methods without a network, which are given the noise level."""
    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ..."""
    trained_sigma_255: float = 25.0
    """Noise level that the weights were trained at, in 8-bit units: the wrapped network then works at every
    level and in any units."""
    before: Path | None = None
    """Weights of an earlier packaged denoiser."""
    size: int = 128
    """Side of the square images, in pixels."""
    channels: Literal[1, 3] = 1
    """Channels: 1 for gray, 3 for colour."""


def main(options: Options) -> None:
    """Sweep, or read earlier records, and write a table."""
    with results_folder(options) as out:
        if options.stage == "report":
            records = read_records(out.path / "records.csv")
        else:
            records = measure(options)
            out.write(records)
        view = View(rows=("arm",), tables=("metric", "unit", "dataset", "degradation"))
        write_table(out, "The packaged denoiser beside others", tables_of(records, view), {})
    print(f"Table and records are in {options.folder}/")


def measure(options: Options) -> list[Record]:
    """PSNR of every row on every set, under every kind of noise."""
    functions, records = arms(options), []
    sets = load_sets(options.test, data_dir=options.data_dir, channels=options.channels)
    for name, images in sets.items():
        for noise in options.degradations:
            records += sweep(
                functions,
                [central(image, options.size) for image in images],
                options.test_sigmas_255,
                jax.random.key(options.seed),
                degradation=noise,
                experiment=options.NAME,
                dataset=name,
            )
    return records


def arms(options: Options) -> dict[str, Any]:
    """The denoisers by the names of their rows."""
    default = Denoiser.default("gray" if options.channels == 1 else "color")
    found: dict[str, Any] = {
        "packaged": default.function,
        "packaged, white": default.with_noise("white").function,
    }
    if options.channels == 3:
        if options.weights or options.before:
            raise ValueError("--weights and --before are gray networks: leave them out for colour")
        found["packaged, channel by channel"] = by_channel(Denoiser.default().function)
    if options.before is not None:
        found["packaged before"] = Denoiser.load(options.before).function
    if options.weights is not None:
        wrapped = Denoiser.load(options.weights, **at_every_level(options.trained_sigma_255))
        found[f"{options.weights.name}, one_level"] = wrapped.function
    known: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"bm3d": bm3d, "nlm": nlm}
    return found | {name: told(known[name]) for name in options.classical}


def by_channel(gray: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A denoiser of gray images on the channels of a colour image, one by one."""

    def denoise(y: Array) -> Array:
        return jnp.concatenate([gray(y[..., c : c + 1]) for c in range(y.shape[-1])], axis=-1)

    return denoise


def told(
    method: Callable[[np.ndarray, float], np.ndarray],
) -> Callable[[Array, float], Array]:
    """A method for one image `[H, W]` or `[H, W, 3]` on the host, as a denoiser that is given the level."""

    def denoise(y: Array, sigma: float) -> Array:
        images = np.asarray(y)
        estimates = [
            method(image[..., 0] if image.shape[-1] == 1 else image, sigma) for image in images
        ]
        return jnp.asarray(np.reshape(estimates, y.shape), y.dtype)

    return denoise


def bm3d(image: np.ndarray, sigma: float) -> np.ndarray:
    """Dabov et al., "Image Denoising by Sparse 3D Transform-Domain Collaborative Filtering", 2007.

    Colour images are denoised in opponent colours (CBM3D).
    """
    try:
        import bm3d as package
    except ImportError as error:
        raise ImportError(
            "the row bm3d needs it: pip install bm3d, or leave it out of --classical"
        ) from error
    return (package.bm3d if image.ndim == 2 else package.bm3d_rgb)(image, sigma)


def nlm(image: np.ndarray, sigma: float) -> np.ndarray:
    """Buades, Coll & Morel, "A Non-Local Algorithm for Image Denoising", 2005, by scikit-image."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True,
        channel_axis=-1 if image.ndim == 3 else None,
    )  # fmt: skip


if __name__ == "__main__":
    run(main, Options, __doc__)
