"""Time per megapixel and peak memory for images larger than memory, from file to file.

Synthetic noisy 16-bit images are written to NPY files block by block and denoised through memory maps. Each
runs in a process of its own, and timing starts after compilation. Small images are also compared with the
result of the whole image at once, in float32.

    python -m experiments.large_images --megapixels 1 16 64
    python -m experiments.large_images --megapixels 4 --tiles 128 256 512 1024     # compare tile sizes
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.harness import Levels, Results, Seed, one_of, results_folder, run
from wne_jax._internal.files import write_atomically
from wne_jax.evaluation.origin import footer
from wne_jax.evaluation.records import Record, write_records
from wne_jax.evaluation.tables import View, markdown
from wne_jax.images.units import from_unit
from wne_jax.inference.denoiser import Denoiser
from wne_jax.statistics.blocks import release_pages

COMPARED = 2.0
"""Megapixels up to which the image is also denoised as a whole."""


VIEWS = (View(rows=("megapixels", "tile"), columns=("metric", "unit"), tables=("experiment",)),)
"""The table."""


@dataclass(frozen=True, kw_only=True)
class Options(Levels, Seed, Results):
    """Options of the command line."""

    NAME = "large_images"

    megapixels: tuple[float, ...] = (1, 16, 64)
    """Sizes of the square images, in megapixels."""
    tiles: tuple[int, ...] = (512,)
    """Sides of the tiles, in pixels."""
    weights: Path | None = None
    """Weights of a network: a run's folder, .safetensors, .pt, .mat, ... (default: the packaged one)."""
    test_sigmas_255: tuple[float, ...] | None = (25.0,)


def load(weights: Path | None) -> Denoiser:
    """The denoiser to measure."""
    return Denoiser.default() if weights is None else Denoiser.load(weights)


def write_image(path: Path, megapixels: float, *, sigma_255: float, seed: int) -> None:
    """Write waves and noise, uint16 `[side, side]`, with only a few rows in memory at a time."""
    side = round(1000 * megapixels**0.5)
    image = np.lib.format.open_memmap(path, "w+", np.uint16, (side, side))
    columns = np.arange(side)
    for start in range(0, side, 256):
        rows = np.arange(start, min(start + 256, side))[:, None]
        clean = (
            0.5
            + 0.2 * np.sin(rows / 31) * np.cos(columns / 17)
            + 0.1 * np.sign(np.sin((rows + 2 * columns) / 97))
        )
        noise = np.random.default_rng((seed, start)).normal(size=clean.shape)
        image[start : start + 256] = from_unit(clean + sigma_255 / 255 * noise, np.uint16)
        release_pages(image)


def measure(folder: Path, megapixels: float, tile: int, weights: Path | None) -> list[Record]:
    """Denoise `folder/in.npy` to `folder/out.npy`; the peak memory is that of this process."""
    denoise = load(weights)
    image = np.load(folder / "in.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(folder / "out.npy", "w+", image.dtype, image.shape)
    denoise(image[:tile, :tile], tile=tile)  # compiles
    before = peak_megabytes()
    with tqdm(desc=f"{megapixels:g} MP, tiles of {tile}", unit="tile", leave=False) as bar:

        def progress(done: int, number: int) -> None:
            bar.total = number
            bar.update(done - bar.n)

        start = time.perf_counter()
        denoise(image, tile=tile, out=out, progress=progress)
        out.flush()
        seconds = time.perf_counter() - start
    found = {
        ("seconds", "s"): seconds,
        ("seconds_per_megapixel", "s"): seconds / (image.size / 1e6),
        ("peak_memory", "MB"): peak_megabytes(),
        ("memory_before", "MB"): before,
    }
    if megapixels <= COMPARED:
        found["tiled_against_whole", None] = difference(denoise, image, tile)
    return [
        Record(
            experiment=Options.NAME, metric=metric, unit=unit, value=value,
            settings={"megapixels": megapixels, "tile": tile},
        )
        for (metric, unit), value in found.items()
    ]  # fmt: skip


def difference(denoise: Denoiser, image: np.ndarray, tile: int) -> float:
    """The maximum difference between the tiled and the whole result, relative to the image's range."""
    y = image.astype(np.float32)
    return float(np.max(np.abs(denoise(y, tile=tile) - denoise(y))) / np.ptp(y))


def peak_megabytes() -> float:
    """The peak resident memory of this process, including mapped files.

    On Linux, `ru_maxrss` also counts the parent's memory at the fork; the process's own peak is in /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def main(options: Options) -> None:
    """Measure every size with every tile, then write the records and table.md."""
    if min(options.megapixels, default=0) <= 0 or not options.tiles:
        raise ValueError("--megapixels and --tiles each need at least one value, all positive")
    load(options.weights)  # raises before anything is written
    sigma_255 = one_of(options.test_sigmas_255, "--test-sigmas-255")
    records = []
    with results_folder(options) as results:
        with tempfile.TemporaryDirectory(dir=results.path) as name:
            folder = Path(name)
            for megapixels in options.megapixels:
                path = folder / "in.npy"
                write_image(path, megapixels, sigma_255=sigma_255, seed=options.seed)
                for tile in options.tiles:
                    spawn = multiprocessing.get_context("spawn")
                    with ProcessPoolExecutor(1, spawn) as fresh:
                        task = fresh.submit(measure, folder, megapixels, tile, options.weights)
                        records += task.result()
        write_records(records, results.path / "records.csv")
        (view,) = VIEWS
        (pivoted,) = view.pivot(records).values()
        table = markdown(pivoted, corner="megapixels, tile")
        write_atomically(results.path / "table.md", f"{table}\n\n{footer(results.source)}\n")
    print(f"\n{table}\n\nRecords are in {options.folder}/")


if __name__ == "__main__":
    run(main, Options, __doc__)
