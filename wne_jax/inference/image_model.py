"""A model and its variables, applied to one image or batch: units, statistics, masks and tiles."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wne_jax import protocol
from wne_jax._internal.progress import Progress
from wne_jax.config import ModelConfig
from wne_jax.inference.compiled import CompiledDenoiser
from wne_jax.inference.coordinates import Coordinates, near_zero, unit_range
from wne_jax.inference.masks import filled
from wne_jax.inference.shapes import find_channels
from wne_jax.inference.streaming import find_peak, stream_noise, stream_statistics
from wne_jax.inference.tiling import run_tiled
from wne_jax.inference.uncertainty import probe_signs, smoothed
from wne_jax.statistics import (
    Statistics,
    estimate_sigma,
    fixed_noise,
    haar_sigma,
    has_unit_noise,
)
from wne_jax.statistics.gain import slope
from wne_jax.transforms import in_coordinates
from wne_jax.wrappers.bridge import as_linen
from wne_jax.wrappers.linen import WNE


class ImageModel:
    """The base of `Denoiser`: how an image passes through a model. Attributes as there."""

    def __init__(
        self,
        model: Any,
        variables: Any = None,
        config: ModelConfig | None = None,
        *,
        channels: int | None = None,
        task: str = "denoise",
    ):
        model, variables = as_linen(model, variables)
        self.model = model
        self.variables = variables
        self.config = config
        self.task = task
        self.fills = task.partition(":")[0] == "inpaint"
        self.resizes = (protocol.upscale(model), protocol.out_channels(model)) != (1, None)
        self.ndim = protocol.ndim(model)
        self.symmetry = protocol.symmetry(model)
        self.conditioned = protocol.needs_sigma(model)
        self.takes_sigma = protocol.takes_sigma(model) is not None
        self.receptive_radius = protocol.receptive_radius(model)
        self.channels = find_channels(model, variables) if channels is None else channels
        self.curve: tuple[float, float] | None = None
        self.calibration: float | None = None
        self.function = CompiledDenoiser(model, variables, conditioned=self.conditioned)

    def _posterior_std(
        self,
        image: np.ndarray,
        valid: np.ndarray,
        sigma: float | None,
        white: float | None,
        tile: int | None,
        *,
        probes: int,
        seed: int,
        progress: Progress,
    ) -> np.ndarray:
        """The standard deviation of the posterior for one image `[H, W, C]`."""
        signs, numbers = probe_signs(image.shape, probes, seed)
        mask = None if valid.all() else valid
        if mask is not None:  # what is copied into a hole varies with its source
            image, signs, numbers = (filled(part, mask) for part in (image, signs, numbers))
        coordinates = self.coordinates(image[:1, :1, :1], find_peak(image), white)
        y = coordinates.enter(image)
        level = None if sigma is None else np.ravel(coordinates.level(sigma))
        if tile is None:
            batched = None if mask is None else mask[None]
            stats = self._statistics_in_memory(y[None], batched, level, coordinates)
        else:
            stats = self._whole_statistics(image, coordinates, level, mask)
        if level is None and protocol.takes_sigma(self.model) == "optional":
            level = self._whole_noise(image, coordinates, mask)
        told = level if self.takes_sigma else None
        tiles = partial(self._by_tiles, y, tile)
        diagonal = tiles(
            lambda y, signs, numbers: self.function.diagonal(
                y, signs, numbers, told, stats=stats, probes=probes
            ),
            beside=(signs, numbers),
            progress=progress,
        )
        if level is not None:
            noise = level
        elif stats is None or not has_unit_noise(self.model.statistics):
            noise = np.asarray(estimate_sigma(y[None], where=None if mask is None else mask[None]))
        elif stats.gain is None:
            noise = np.asarray(stats.scale)[0]
        else:  # noise of level 1 in curved coordinates, whose slopes J has at the input and at the estimate
            estimate = tiles(lambda y: self.function(y, told, stats=stats))
            noise, own = (_slope(part, stats) for part in (estimate, y))
            diagonal = diagonal * own / np.where(noise > 0, noise, 1)
        factor = 1.0 if self.calibration is None else self.calibration
        return factor * noise * np.sqrt(smoothed(diagonal, mask)) * np.asarray(coordinates.scale)

    def _by_tiles(
        self,
        y: np.ndarray,
        tile: int | None,
        function: Callable[..., Any],
        *,
        beside: Sequence[np.ndarray] = (),
        progress: Progress | None = None,
    ) -> np.ndarray:
        """A function of one image f32[H, W, C] by tiles, or by one tile that is the whole image."""
        radius, multiple = self.receptive_radius, protocol.multiple(self.model)
        out = np.empty_like(y)
        side = multiple * (max(y.shape[:2]) + 2 * (radius or 0)) if tile is None else tile
        run_tiled(
            function,
            y,
            out,
            tile=side,
            halo=side // 8 if radius is None else radius,
            to_model=lambda block: block,
            from_model=lambda block: block,
            beside=beside,
            multiple=multiple,
            blend=radius is None,
            progress=progress,
        )
        return out

    def _denoise_batch(
        self,
        batch: np.ndarray,
        valid: np.ndarray | None,
        sigma: float | None,
        white: float | None,
        options: dict[str, Any],
    ) -> np.ndarray:
        """Denoise `[B, ..., C]`; the statistics are of what is valid."""
        peak: Any = 0.0
        first = batch[:, *(slice(1),) * (batch.ndim - 1)]
        if self.symmetry == "normalization":
            distance = np.abs(batch - first.astype(np.float64))
            peak = distance.max(axis=tuple(range(1, batch.ndim)), keepdims=True)
        coordinates = self.coordinates(first, peak, white)
        level = None if sigma is None else np.ravel(coordinates.level(sigma))
        y = coordinates.enter(batch)
        if self.fills and valid is not None:
            y, options = np.where(valid, y, np.float32(0)), {**options, "where": valid}
        stats = None
        if valid is not None or self.curve is not None:
            stats = self._statistics_in_memory(y, valid, level, coordinates)
            if level is None and protocol.takes_sigma(self.model) == "optional":
                level = np.asarray(haar_sigma(y, where=valid))
        return coordinates.leave(self.function(y, level, stats=stats, **options))

    def _statistics_in_memory(
        self,
        y: np.ndarray,
        valid: np.ndarray | None,
        level: np.ndarray | None,
        coordinates: Coordinates,
    ) -> Statistics | None:
        """What a wrapper removes from a batch, of its valid pixels; None without a wrapper."""
        if not isinstance(self.model, WNE):
            return None
        # Not within `jax.jit`: a new function would be compiled for every image, and statistics are compiled.
        return self._statistic(level, coordinates)(y, axes=self.model.axes, where=valid)

    def _denoise_masked(
        self,
        function: Callable[..., Any],
        image: np.ndarray,
        out: np.ndarray,
        valid: np.ndarray,
        sigma: float | None,
        white: float | None,
        tile: int | None,
        options: dict[str, Any],
    ) -> None:
        """Denoise one image `[..., C]` of which only a part is valid."""
        if not valid.any():
            out[...] = image
            return
        whole = filled(image, valid)
        if tile is None:
            estimate = self._denoise_batch(whole[None], valid[None], sigma, white, options)[0]
        else:
            estimate = np.empty_like(whole)
            function = partial(function, **options)
            self._denoise_tiled(function, whole, estimate, sigma, white, tile, None, valid)
        out[...] = estimate if self.fills else np.where(valid, estimate, image)

    def coordinates(
        self, first: np.ndarray, peak: np.ndarray | float, white: float | None = None
    ) -> Coordinates:
        """The host's change between an image's units and the float32 that the model gets.

        Args:
            first: A pixel of every image, the pivot of an equivariant model; its dtype is the image's.
            peak: The largest distance from it in every image; read for an equivariant model.
            white: Value of white; read for any other.
        """
        if self.symmetry == "normalization":
            return near_zero(first, peak)
        return unit_range(first.dtype, white)

    def _denoise_tiled(
        self,
        function: Callable[..., Any],
        image: np.ndarray,
        out: np.ndarray,
        sigma: float | None,
        white: float | None,
        tile: int,
        progress: Progress | None,
        valid: np.ndarray | None = None,
    ) -> None:
        """Denoise one image `[H, W, C]` by tiles and a function of tiles, under the statistics of the whole.

        The image is read once to centre it, a few times for its statistics, and once for the tiles. Tiles
        are blended over a quarter of their side where the model has no `receptive_radius`. A self-ensemble
        turns each tile.
        """
        coordinates = self.coordinates(image[:1, :1, :1], find_peak(image), white)
        level = None if sigma is None else np.ravel(coordinates.level(sigma))
        stats = self._whole_statistics(image, coordinates, level, valid)
        if level is None and protocol.takes_sigma(self.model) == "optional":
            level = self._whole_noise(image, coordinates, valid)
        radius = self.receptive_radius
        run_tiled(
            lambda y, *stats: function(y, level, stats=Statistics(*stats) if stats else None),
            image,
            out,
            tile=tile,
            halo=tile // 8 if radius is None else radius,
            to_model=coordinates.enter,
            from_model=coordinates.leave,
            beside=[]
            if stats is None
            else [np.asarray(part)[0] for part in jax.tree.leaves(stats)],
            multiple=protocol.multiple(self.model),
            blend=radius is None,
            progress=progress,
        )

    def _whole_noise(
        self, image: np.ndarray, coordinates: Coordinates, valid: np.ndarray | None
    ) -> np.ndarray:
        """The noise level of the whole image, as a model of one level estimates it."""
        if valid is not None:
            return np.asarray(haar_sigma(coordinates.enter(image)[None], where=valid[None]))
        return np.array([stream_noise(image, prepare=coordinates.enter)], np.float32)

    def _whole_statistics(
        self,
        image: np.ndarray,
        coordinates: Coordinates,
        level: np.ndarray | None,
        valid: np.ndarray | None,
    ) -> Statistics | None:
        """What a wrapper removes from the whole image, for the model; None without a wrapper."""
        model = self.model
        if not isinstance(model, WNE):
            return None
        if model.axes is not None and tuple(model.axes) != (1, 2):
            raise ValueError(
                f"a model that pools over axes {tuple(model.axes)} cannot be tiled: axes must be None, or "
                "(1, 2) for each channel by itself"
            )
        if valid is not None:
            return self._statistics_in_memory(
                coordinates.enter(image)[None], valid[None], level, coordinates
            )
        number = 1 if model.axes is None else image.shape[-1]
        statistic = self._statistic(level, coordinates)
        found = [
            stream_statistics(statistic, part, prepare=coordinates.enter)
            for part in np.split(image, number, axis=-1)
        ]
        return jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *found)

    def _statistic(self, level: np.ndarray | None, coordinates: Coordinates) -> Any:
        """The statistic of the wrapper, in the coordinates of the model."""
        if self.curve is not None:
            alpha, beta = self.curve
            scale, pivot = (np.asarray(part) for part in (coordinates.scale, coordinates.pivot))
            moved = (alpha * pivot + beta) / scale**2
            line = (np.ravel(part).astype(np.float32) for part in (alpha / scale, moved))
            return fixed_noise(**dict(zip(("alpha", "beta"), line)))
        statistic: Any = self.model.statistics
        if level is not None and protocol.takes_sigma(self.model) == "statistic":
            return statistic.with_noise(level if level.size > 1 else level.item())
        return statistic


def _slope(y: np.ndarray, stats: Statistics) -> np.ndarray:
    """The slope of curved coordinates at the pixels of an image `[H, W, C]`."""
    return np.asarray(slope(in_coordinates(jnp.asarray(y)[None], stats), stats))[0]
