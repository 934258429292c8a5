"""`Denoiser`: the one seam between a trained model and whatever uses or evaluates it."""

import copy
import dataclasses
import math
import warnings
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax._internal.progress import Progress, part_of
from wne_jax.config import TwoScales, config_of, in_opponent_colours
from wne_jax.images.units import check_white
from wne_jax.inference.compiled import CompiledDenoiser
from wne_jax.inference.exporting import export
from wne_jax.inference.few_shapes import at_shared_size
from wne_jax.inference.image_model import ImageModel
from wne_jax.inference.masks import as_mask
from wne_jax.inference.plateaus import keep_plateaus
from wne_jax.inference.shapes import as_batch, check_shape, from_batch, planes
from wne_jax.models import CLASSIFIERS
from wne_jax.statistics import (
    Statistic,
    adaptive_noise,
    fixed_noise,
    has_gain,
    has_unit_noise,
    noise_level,
    photon,
)
from wne_jax.weights import (
    DENOISER_FILE,
    TASK,
    WeightsNote,
    is_ours,
    load_model,
    read_calibration,
    read_metadata,
    save,
)
from wne_jax.weights.packaged import packaged_file
from wne_jax.wrappers.linen import WNE

NoiseModel = Literal["auto", "white", "photon"]

NOISE_MODELS: dict[NoiseModel, Statistic] = {
    "auto": adaptive_noise,
    "white": noise_level,
    "photon": photon,
}
"""Assumptions on noise, by the names that `Denoiser.with_noise` takes."""


class Denoiser(ImageModel):
    """A model and its variables, applied to images as people have them.

    A normalization-equivariant model works in any units and range: its images are brought near 0 on the host,
    by an offset and a power of two, which loses nothing and changes nothing. Plateaus of 8 x 8 equal values,
    such as bars and frames, come back as they are. Any other model gets integers scaled to the unit range,
    and floats as they are.

    A gray model denoises a colour image channel by channel, and a model that declares `ndim = 3` denoises
    volumes.

    Args:
        model: A Linen module, an NNX module or a function of f32[B, H, W, C], bare or wrapped.
        variables: Those of a Linen module that is not bound; see `wne_jax.wrappers.as_linen`.
        config: What builds the model, for `save`; by default it is found (`wne_jax.config.config_of`).
        channels: Channels that the model takes (default: tried out, gray and colour first).
        task: What the model was trained to undo; see `wne_jax.training.tasks`.

    Attributes:
        model: The model as a Linen module.
        variables: Its variables.
        channels: Channels that the model takes.
        task: What the model was trained to undo: "denoise", "deblur:1.6", "superres:2", ...
        fills: Whether it fills in missing pixels: the task is "inpaint".
        resizes: Whether its output has another size or other channels than the image.
        ndim: Spatial axes that it takes: 2, or 3 for volumes f32[B, D, H, W, C].
        conditioned: Whether the model wants the noise level.
        takes_sigma: Whether it can be told: it is conditioned, or estimates the level by itself
            (statistics such as `haar_mad`, or `wne_jax.wrappers.one_level`), and a given one then stands for
            the estimate.
        symmetry: "normalization", "scale" or "none".
        curve: Slope and intercept of the noise's variance over intensity, where they are known; see
            `with_noise`.
        calibration: The factor on the standard deviations of `uncertainty`, fitted on clean images by
            `calibrated`; None is the theory as it is, a factor of 1.
        receptive_radius: How far an output pixel sees, in pixels; None if that is not bounded.
        function: The compiled map f32[B, H, W, C] -> f32[B, H, W, C], for sweeps and analysis. It is compiled
            once for every shape, under the name `denoise`.

    Example:
        >>> from wne_jax.config import ModelConfig
        >>> config = ModelConfig("dncnn", {"depth": 3, "features": 8}, wrapper="wne")
        >>> variables = config.build().init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1)))
        >>> denoise = Denoiser(config.build(), variables, config)
        >>> denoise(np.full((5, 7), 200, np.uint8)).dtype.name
        'uint8'
        >>> Denoiser(lambda y: y / 2)(np.full((5, 7), 200, np.uint8)).max().item()
        100
    """

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        mode: str | None = None,
        key: str | None = None,
        allow_namespace: bool = False,
        allow_imports: bool | Collection[str] = False,
        **wrapping: Any,
    ) -> "Denoiser":
        """Read what a finished training run left, or a weight file, ours or other people's.

        Args:
            path: The run's folder, or a file that `wne_jax.weights.load_model` reads.
            mode: For files of other people; see there.
            key: Likewise.
            allow_namespace: Likewise.
            allow_imports: Whether the file may name a backbone or a statistic by an import path, whose code
                is then run.
            **wrapping: `wrapper` and `inside` of `ModelConfig`, to wrap a frozen network anew.

        Raises:
            FileNotFoundError: No such file, or a folder of a run that is not finished.
            ValueError: A damaged file, weights of no known layout, or those of a classifier.

        Example:
            A network trained by others for noise level 25, made blind and equivariant without training:

            >>> from wne_jax.config import OneLevel, WrapperConfig
            >>> from wne_jax.wrappers.one_level import ANCHOR
            >>> Denoiser.load(
            ...     "dncnn_25.pth", wrapper=WrapperConfig(anchor=ANCHOR), inside=OneLevel(25)
            ... )  # doctest: +SKIP
        """
        path = Path(path)
        if path.is_dir():
            if not (path / DENOISER_FILE).is_file():
                raise FileNotFoundError(
                    f"{path} holds no {DENOISER_FILE}, which a finished run leaves; "
                    f"python -m wne_jax package {path} writes that of an unfinished one"
                )
            path = path / DENOISER_FILE
        with warnings.catch_warnings():
            if wrapping:  # what a file says of its wrapper is then beside the point
                warnings.filterwarnings("ignore", ".*inside WNE", WeightsNote)
            config, variables = load_model(
                path,
                mode=mode,
                key=key,
                allow_namespace=allow_namespace,
                allow_imports=allow_imports,
            )
        if config.backbone in CLASSIFIERS:
            raise ValueError(
                f"{path}: holds a {config.backbone}, which classifies and denoises nothing"
            )
        config = dataclasses.replace(config, **wrapping)
        task = read_metadata(path).get(TASK, "denoise") if is_ours(path) else "denoise"
        found = cls(config.build(), variables, config, task=task)
        if not wrapping and is_ours(path):
            found.calibration = read_calibration(path).get(found.channels)
        return found

    @classmethod
    def pretrained(cls, name: str = "gray") -> "Denoiser":
        """A denoiser that comes with the package, blind, for noise of 1 to 75 (of 255).

        It works at two scales; see `wne_jax.wrappers.two_scales`.

        Args:
            name: "gray", or "color" for images of three channels, which are denoised together; see
                `wne_jax.wrappers.opponent_colours`.

        Raises:
            ValueError: No such name, or a file that is not the one that was packaged.

        Example:
            >>> Denoiser.pretrained("gray").channels
            1
        """
        wrapping = in_opponent_colours() if name == "color" else {"inside": TwoScales()}
        path = packaged_file(name)
        found = cls.load(path, **wrapping)
        found.calibration = read_calibration(path).get(found.channels)
        return found

    @classmethod
    def default(cls, name: str = "gray") -> "Denoiser":
        """A denoiser that comes with the package, for noise of all kinds.

        It is `pretrained(name).with_noise("auto")`. That of gray images denoises a colour image channel by
        channel.
        """
        return cls.pretrained(name).with_noise("auto")

    def sharded(self, devices: Sequence[jax.Device] | None = None) -> "Denoiser":
        """The same denoiser, which divides the rows of every image among devices.

        Each device holds its share of the feature maps, and XLA exchanges what an operation sees beyond it:
        a few rows for a convolution, sums for statistics and channel attention. An image whose feature maps
        one device cannot hold is denoised without tiles. Results are those of one device to rounding, for
        every model, any statistics and any height. Where the rows do not divide into whole windows or whole
        pixels of a coarser level on every device, their feature maps are gathered: of those models a
        height that is a multiple of the backbone's `multiple` times the number of devices is best.

        Args:
            devices: Devices of this process (default: all).

        Raises:
            ValueError: No devices, one of them twice, or devices of another process. The result raises it,
                too, for an image of fewer rows than devices.

        Example:
            >>> from wne_jax.config import ModelConfig
            >>> config = ModelConfig("dncnn", {"depth": 3, "features": 8}, wrapper="wne")
            >>> variables = config.build().init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1)))
            >>> denoise = Denoiser(config.build(), variables, config).sharded(jax.local_devices())
            >>> denoise(np.full((9, 7), 200, np.uint8)).shape
            (9, 7)
        """
        devices = jax.local_devices() if devices is None else list(devices)
        if not devices or len(set(devices)) < len(devices):
            raise ValueError(f"devices must be one or more, each once, not {devices}")
        if foreign := [d for d in devices if d.process_index != jax.process_index()]:
            raise ValueError(f"devices must be this process's own: {foreign} belong to another")
        divided = copy.copy(self)
        divided.function = CompiledDenoiser(
            self.model, self.variables, conditioned=self.conditioned, devices=devices
        )
        return divided

    def with_noise(self, noise: NoiseModel | tuple[float, float]) -> "Denoiser":
        """The same denoiser, with another assumption on the noise of its images.

        For networks that work behind a noise level, as those of the package do.

        Args:
            noise: "white": one level, `noise_level`. "photon": a variance that grows with intensity, measured
                on each image, `photon`. "auto": that, and where the image shows it noise that is correlated
                between neighbours, as a mosaic and JPEG make it, `adaptive_noise`. Or a calibrated camera's
                slope alpha and intercept beta, in the units of the images: variance alpha x + beta at
                intensity x.

        Raises:
            ValueError: No such name or line, or a model whose scale is not the noise level.

        Example:
            >>> from wne_jax.config import ModelConfig, WrapperConfig
            >>> wrapper = WrapperConfig("wne", "noise_level")
            >>> config = ModelConfig("dncnn", {"depth": 3, "features": 8}, wrapper)
            >>> variables = config.build().init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1)))
            >>> denoise = Denoiser(config.build(), variables).with_noise((0.5, 4.0))
            >>> denoise(np.full((5, 7), 200, np.uint8)).dtype.name
            'uint8'
        """
        if not isinstance(self.model, WNE) or not has_unit_noise(self.model.statistics):
            raise ValueError(
                "an assumption on the noise is for models behind a noise level, such as those with the "
                "statistic noise_level or haar_mad"
            )
        if isinstance(noise, str):
            if noise not in NOISE_MODELS:
                raise ValueError(f"noise must be one of {', '.join(NOISE_MODELS)}, not {noise!r}")
            statistic, curve = NOISE_MODELS[noise], None
        else:
            alpha, beta = curve = float(noise[0]), float(noise[1])
            statistic = fixed_noise(alpha=alpha, beta=beta)
        model = self.model.clone(statistics=statistic, unbiased=has_gain(statistic))
        found = Denoiser(model, self.variables, channels=self.channels, task=self.task)
        found.curve, found.calibration = curve, self.calibration
        return found

    def save(self, path: str | Path) -> None:
        """Write model and variables to one safetensors file, which `load` reads.

        Raises:
            ValueError: The Denoiser was made without a configuration, and none rebuilds the model.
        """
        if self.config is None:
            self.config = config_of(self.model)
        task = {} if self.task == "denoise" else {TASK: self.task}
        known = {} if self.calibration is None else {self.channels: self.calibration}
        save(Path(path), self.config, self.variables, metadata=task, calibration=known)

    def export(self, path: str | Path) -> None:
        """Write the compiled function with its weights; `inference.exporting.load_exported` reads it."""
        one_device = CompiledDenoiser(self.model, self.variables, conditioned=self.conditioned)
        export(
            one_device,
            path,
            channels=self.channels,
            conditioned=self.conditioned,
            ndim=self.ndim,
        )

    def __call__(
        self,
        image: np.ndarray,
        sigma: float | None = None,
        *,
        strength: float = 1.0,
        self_ensemble: bool = False,
        where: ArrayLike | None = None,
        white: float | None = None,
        tile: int | None = None,
        few_shapes: bool = False,
        out: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Denoise one image or a batch, or undo what the model was trained to undo.

        A model that enlarges returns a larger image. A model of mosaics takes the four pixels of each 2 x 2
        block as channels, [H, W, 4], and returns [2 H, 2 W, 3]. A model of the task "inpaint" fills in the
        pixels that `where` excludes.

        Args:
            image: [H, W], [H, W, C] or [B, H, W, C], real, in any range; for a model of volumes [D, H, W],
                [D, H, W, C] or [B, D, H, W, C]. With `tile` it may be a memory map: it is read block by
                block.
            sigma: Noise level in the units of `image`; needed by conditioned models, refused by those that
                do not take it. Where it stands for a statistic's estimate, 0 returns the image, and is
                refused for other tasks than denoising.
            strength: How much of the difference to apply: 0 keeps the image, 1 is the estimate.
            self_ensemble: Average over the eight flips and rotations (of height and width), for eight times
                the cost.
            where: Mask that broadcasts to `image`, with or without its channels: True where a pixel is valid.
                The others, NaN or whatever they hold, influence nothing, and come back as they are, unless
                the model fills them in. The network is given the nearest valid value in their place. A
                channel without a valid pixel comes back as it is. Masked images are held in memory as a
                whole.
            white: Value of white, for a model that is not normalization-equivariant (default: full scale of
                the dtype, 1 for floats); any other works in all units.
            tile: Side of the square tiles of an image, in pixels, that the backbone works on; statistics are
                still those of the whole image. The result is that of the whole image to rounding where
                `receptive_radius` bounds what a pixel sees; otherwise tiles overlap and are blended. (An
                ensemble turns the image before it is padded, but tiles after: the same where the sides are
                multiples of the backbone's `multiple`.)
            few_shapes: Lay tiles into arrays of a few sizes, so that images of many sizes share compiled
                programs (see `wne_jax.inference.few_shapes`); with `tile`, for models that declare
                `pads_zeros`, without an ensemble. Results change by rounding alone.
            out: Array of the shape and dtype of `image` to write to (a memory map, say).
            progress: Called with the number of tiles done and their number.

        Returns:
            The estimate, of the same dtype and, unless the model enlarges, the same shape: integers rounded
            and saturated, floats not clipped.

        Raises:
            TypeError: Boolean or complex pixels, a mask that is not boolean, or an integer type without a
                full scale for a model that is not normalization-equivariant.
            ValueError: A shape, a number of channels, a sigma, a strength, a mask, a white, a tile, an `out`
                or NaN that the model cannot serve.
        """
        image = image if isinstance(image, np.ndarray) else np.asarray(image)
        self._check(image, sigma, strength, out)
        check_white(white)
        if tile is not None and self.ndim != 2:
            raise ValueError("tile is for images; a volume is denoised as a whole: leave it out")
        form = {"ndim": self.ndim, "channels": self.channels}
        options: dict[str, Any] = {"strength": strength, "self_ensemble": self_ensemble}
        if self.resizes or self.fills:
            simple = strength == 1 and tile is None and out is None and not few_shapes
            self._check_task(where, plain=simple, self_ensemble=self_ensemble)
        result = np.empty(self._result_shape(image.shape), image.dtype) if out is None else out
        function: Any = self.function
        if few_shapes:
            self._check_few_shapes(tile, self_ensemble)
            function = partial(at_shared_size, function, multiple=protocol.multiple(self.model))
        if self.fills:
            valid = np.ones(image.shape, bool) if where is None else as_mask(where, image)
            for source, target, mask in planes(image, result, valid, **form):
                self._denoise_masked(function, source, target, mask, sigma, white, None, options)
            return result
        if sigma == 0 and protocol.takes_sigma(self.model) == "statistic":
            result[...] = image
            return result
        if where is not None and not (valid := as_mask(where, image)).all():
            for source, target, mask in planes(image, result, valid, **form):
                self._denoise_masked(function, source, target, mask, sigma, white, tile, options)
        elif tile is not None:
            parts = planes(image, result, **form)
            for k, (source, target) in enumerate(parts):
                part = part_of(progress, k, len(parts))
                self._denoise_tiled(
                    partial(function, **options), source, target, sigma, white, tile, part
                )
        else:
            if image.dtype.kind == "f" and not np.isfinite(image).all():
                raise ValueError(f"image has {np.sum(~np.isfinite(image))} NaN or infinite pixels")
            batch = as_batch(image, **form)
            estimate = self._denoise_batch(batch, None, sigma, white, options)
            result[...] = from_batch(estimate, result.shape, **form)
        if self.symmetry == "normalization" and self.ndim == 2 and not self.resizes:
            for source, target in planes(image, result, **form):
                keep_plateaus(source, target)
        return result

    def uncertainty(
        self,
        image: np.ndarray,
        sigma: float | None = None,
        *,
        probes: int = 24,
        seed: int = 0,
        where: ArrayLike | None = None,
        white: float | None = None,
        tile: int | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        r"""The standard deviation of the posterior at every pixel: about how far the estimate is off.

        It is $c\,s \sqrt{\operatorname{diag} J}$, with the noise level s, the Jacobian J of the denoiser, and
        the constant c of `calibrated`; see `wne_jax.inference.uncertainty`, also for when it is right. With a
        noise level that grows with the intensity, s is the level at the estimate. Under y -> a y + b it
        follows a, and b changes nothing.

        The cost is about that of denoising 30 times for 24 probes. Image and result are held in memory as a
        whole.

        Args:
            image: As in a call; for images alone, not for volumes.
            sigma: Noise level in the units of `image`. By default it is the one by which the model denoises,
                its own estimate or that of its statistic, and `wne_jax.statistics.estimate_sigma` for any
                other model. Models that take it use it, too, as in a call.
            probes: Number of probes, which is also the number of derivatives to compute.
            seed: Random seed of the signs of the probes. The same for every image: equal images have equal
                results.
            where: As in a call. The result is NaN at pixels that are not valid.
            white: As in a call.
            tile: As in a call: it bounds the memory that the network needs. The result is that of the whole
                image to rounding where `receptive_radius` bounds what a pixel sees.
            progress: Called with the number of parts done, and of all parts.

        Returns:
            f32 of the shape of `image`, in its units. It is 0 where the estimate is the image itself: on
            plateaus of 8 x 8 equal values, which may be saturated, and for a noise level of 0.

        Raises:
            TypeError: As in a call.
            ValueError: As in a call, or a model of volumes or of another task than denoising.

        Example:
            A quarter of the noise's variance is left:

            >>> std = Denoiser(lambda y: y / 4).uncertainty(np.ones((8, 8)), sigma=0.1)
            >>> round(std[0, 0].item(), 6)
            0.05
        """
        image = image if isinstance(image, np.ndarray) else np.asarray(image)
        if self.ndim != 2:
            raise ValueError("uncertainty is for images, and this model takes volumes")
        if self.task != "denoise":
            raise ValueError(
                f"uncertainty is for denoisers, and this model is for the task {self.task}"
            )
        self._check(image, sigma if self.takes_sigma else None, 1.0, None)
        if sigma is not None and not 0 <= sigma < math.inf:
            raise ValueError(f"sigma must be finite and not negative, not {sigma}")
        check_white(white)
        form = {"ndim": self.ndim, "channels": self.channels}
        valid = np.broadcast_to(True, image.shape) if where is None else as_mask(where, image)
        result = np.zeros(image.shape, np.float32)
        parts = planes(image, result, valid, **form)
        for k, (source, target, mask) in enumerate(parts):
            part = part_of(progress, k, len(parts))
            if sigma != 0 and mask.any():
                target[...] = self._posterior_std(
                    source, mask, sigma, white, tile, probes=probes, seed=seed, progress=part
                )
            if self.symmetry == "normalization":
                keep_plateaus(source, target, 0.0)
        result[~valid] = np.nan
        return result

    def calibrated(
        self,
        images: Sequence[np.ndarray],
        sigmas: Sequence[float],
        *,
        probes: int = 24,
        seed: int = 0,
    ) -> "Denoiser":
        """The same denoiser, with the constant by which `uncertainty` has the size of the errors.

        At each level the errors are measured on the images with white noise. The constant is the ratio of
        their root mean square to that of the standard deviations, in the geometric mean over the levels.
        `save` stores it.

        Args:
            images: Clean images, which neither training nor testing uses.
            sigmas: Noise levels in the units of the images. The denoiser is not told them unless it has to
                be.
            probes: As in `uncertainty`.
            seed: Random seed of the noise, and of the probes.

        Raises:
            ValueError: No images or no levels, or what the model cannot serve.
        """
        if not len(images) or not len(sigmas):
            raise ValueError("images and sigmas must hold one or more each")
        found = copy.copy(self)
        found.calibration = None
        rng, ratios = np.random.default_rng(seed), []
        for sigma in sigmas:
            told = sigma if self.conditioned else None
            squares = np.zeros(2)
            for clean in images:
                x = np.asarray(clean, np.float32)
                y = x + rng.normal(0, sigma, x.shape).astype(np.float32)
                std = found.uncertainty(y, told, probes=probes, seed=seed)
                error = found(y, told) - x
                squares += np.sum(np.square([error, std]), axis=tuple(range(1, x.ndim + 1)))
            ratios.append(math.sqrt(squares[0] / squares[1]))
        found.calibration = float(np.exp(np.mean(np.log(ratios))))
        return found

    def _check_few_shapes(self, tile: int | None, self_ensemble: bool) -> None:
        """Refuse `few_shapes` where it does not apply."""
        if tile is None or self_ensemble or not protocol.pads_zeros(self.model):
            raise ValueError(
                "few_shapes needs tile, a model that declares pads_zeros, and no self_ensemble"
            )

    def _result_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result for an image, or a batch, of a shape."""
        if not self.resizes:
            return shape
        bare = len(shape) == self.ndim
        lead = shape[: max(len(shape) - self.ndim - 1, 0)]
        rest = (*shape, 1) if bare else shape[len(lead) :]
        _, *sides, channels = protocol.output_shape(self.model, (1, *rest))
        return (*lead, *sides) if bare else (*lead, *sides, channels)

    def _check_task(self, where: ArrayLike | None, *, plain: bool, self_ensemble: bool) -> None:
        """Refuse options that a model of another task than denoising cannot serve."""
        if not plain:
            raise ValueError(f"strength, tile, few_shapes and out are not for the task {self.task}")
        if self.resizes and where is not None:
            raise ValueError(f"where is not for the task {self.task}: its result has another size")
        if self_ensemble and (self.fills or protocol.out_channels(self.model) is not None):
            raise ValueError(f"self_ensemble is not for the task {self.task}")

    def _check(
        self, image: np.ndarray, sigma: float | None, strength: float, out: np.ndarray | None
    ) -> None:
        """Refuse what no path through `__call__` can serve."""
        if sigma is None and self.conditioned:
            raise ValueError("this model needs sigma, the noise level in the units of the image")
        if sigma is not None and not self.takes_sigma:
            raise ValueError("this model takes no sigma: it is blind")
        if (
            sigma == 0
            and self.task != "denoise"
            and protocol.takes_sigma(self.model) == "statistic"
        ):
            raise ValueError(f"sigma must be above 0 for the task {self.task}: it is the scale")
        if sigma is not None and not 0 <= sigma < math.inf:
            raise ValueError(f"sigma must be finite and not negative, not {sigma}")
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength must be finite and not negative, not {strength}")
        if image.dtype.kind not in "uif":
            raise TypeError(f"image must hold integers or floats, not {image.dtype}")
        check_shape(image.shape, self.ndim, self.channels)
        if out is not None and (out.shape, out.dtype) != (image.shape, image.dtype):
            raise ValueError(
                f"out must be {image.dtype} {image.shape} as the image, not {out.dtype} {out.shape}"
            )
