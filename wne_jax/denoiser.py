"""`Denoiser`: the one seam between a trained model and whatever uses or evaluates it."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError
from jax import Array
from jax.typing import ArrayLike

from wne_jax.modules import symmetry
from wne_jax.units import from_unit, full_scale, saturate, to_unit


class Denoiser:
    """A model and its variables, applied to images as people have them.

    A normalization-equivariant model works in any units and range: its images are brought near 0 on the host,
    by an offset and a power of two, which loses nothing and changes nothing. Any other model gets integers
    scaled to the unit range, and floats as they are.

    A gray model denoises a colour image channel by channel.

    Args:
        model: A Linen module called as `apply(variables, y f32[B, H, W, C], sigma=...)`.
        variables: Its variables.

    Attributes:
        channels: Channels that the model takes.
        conditioned: Whether the model wants the noise level.
        symmetry: "normalization", "scale" or "none".

    Example:
        >>> import wne_jax as wne
        >>> model = wne.WNE(wne.models.DnCNN(depth=3, features=8))
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> Denoiser(model, variables)(np.full((5, 7), 200, np.uint8)).dtype.name
        'uint8'
    """

    def __init__(self, model: nn.Module, variables: Any):
        self.model = model
        self.variables = variables
        self.symmetry = symmetry(model)
        backbone = getattr(model, "backbone", model)
        self.conditioned = bool(getattr(backbone, "conditioned", False))
        self.channels = self._find_channels()
        self.function = _Function(model, variables, conditioned=self.conditioned)

    @classmethod
    def load(cls, path: str | Path) -> "Denoiser":
        """Read the last checkpoint of a training run.

        Args:
            path: The run's folder.

        Raises:
            FileNotFoundError: The folder holds no run, or a run without a checkpoint.
            ValueError: A damaged configuration or checkpoint.
        """
        from wne_jax.training.checkpoints import Checkpoints
        from wne_jax.training.config import load_config

        path = Path(path)
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path} holds no training run: there is no config.json in it")
        config = load_config(path / "config.json")
        with Checkpoints(path, keep=config.keep, create=False) as checkpoints:
            state = checkpoints.restore(config)
        return cls(config.model.build(), state.variables())

    def __call__(self, image: np.ndarray, sigma: float | None = None) -> np.ndarray:
        """Denoise one image or a batch.

        Args:
            image: [H, W], [H, W, C] or [B, H, W, C], real, in any range.
            sigma: Noise level in the units of `image`; needed by conditioned models, refused by others.

        Returns:
            The estimate, of the same shape and dtype: integers rounded and saturated, floats not clipped.

        Raises:
            TypeError: Boolean or complex pixels, or an integer type without a full scale for a model
                that is not normalization-equivariant.
            ValueError: A shape, a number of channels, a sigma or NaN that the model cannot serve.
        """
        image = np.asarray(image)
        if (sigma is None) == self.conditioned:
            wanted = "needs sigma" if self.conditioned else "takes no sigma: it is blind"
            raise ValueError(f"this model {wanted}")
        if sigma is not None and not 0 <= sigma < math.inf:
            raise ValueError(f"sigma must be finite and not negative, not {sigma}")
        batch = self._as_batch(image)
        if self.symmetry == "normalization":
            pivot: Any = batch[:, :1, :1, :1].astype(np.float64)
            y = batch.astype(np.float64) - pivot
            scale = 2.0 ** np.frexp(np.abs(y).max(axis=(1, 2, 3), keepdims=True))[1]
        else:
            y, pivot, scale = to_unit(batch), 0.0, 1.0
            sigma = None if sigma is None else sigma / full_scale(image.dtype)
        level = () if sigma is None else (np.float32(sigma / np.ravel(scale)),)
        estimate = np.asarray(self.function(np.float32(y / scale), *level), np.float64)
        if self.symmetry == "normalization":
            estimate = saturate(estimate * scale + pivot, image.dtype)
        else:
            estimate = from_unit(estimate, image.dtype)
        return self._restore_shape(estimate, image.shape)

    def _as_batch(self, image: np.ndarray) -> np.ndarray:
        """`[B, H, W, channels of the model]`."""
        if image.dtype.kind not in "uif":
            raise TypeError(f"image must hold integers or floats, not {image.dtype}")
        if image.ndim not in (2, 3, 4) or image.size == 0:
            raise ValueError(
                f"image must be [H, W], [H, W, C] or [B, H, W, C], not of shape {image.shape}"
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError(f"image has {np.sum(~np.isfinite(image))} NaN or infinite pixels")
        batch = image[..., None] if image.ndim == 2 else image
        batch = batch if batch.ndim == 4 else batch[None]
        channels = batch.shape[-1]
        if channels == self.channels:
            return batch
        if self.channels == 1 and channels == 3:
            return np.moveaxis(batch, -1, 1).reshape(-1, *batch.shape[1:3], 1)
        raise ValueError(
            f"image of shape {image.shape} has {channels} channels and the model takes {self.channels} "
            "(a batch of gray images is [B, H, W, 1])"
        )

    def _restore_shape(self, estimate: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undo `_as_batch`."""
        if self.channels == 1 and len(shape) > 2 and shape[-1] == 3:
            return np.moveaxis(estimate.reshape(-1, 3, *shape[-3:-1]), 1, -1).reshape(shape)
        return estimate.reshape(shape)

    def _find_channels(self) -> int:
        """Try gray and colour against the shapes of the variables."""
        condition: dict[str, Any] = {"sigma": jnp.ones(1)} if self.conditioned else {}
        for channels in (1, 3):
            try:
                example = jax.ShapeDtypeStruct((1, 16, 16, channels), jnp.float32)
                jax.eval_shape(
                    lambda v, y: self.model.apply(v, y, **condition), self.variables, example
                )
            except FlaxError:  # shapes that do not fit, variables that are missing
                continue
            return channels
        raise ValueError("the variables do not fit the model, for gray or for colour images")


class _Function:
    """The compiled map f32[B, H, W, C] -> f32[B, H, W, C], for sweeps and analysis."""

    def __init__(self, model: nn.Module, variables: Any, *, conditioned: bool):
        self.conditioned = conditioned
        self._variables = jax.tree.map(jnp.asarray, variables)

        def apply(variables: Any, y: Array, condition: dict[str, Any]) -> Any:
            return model.apply(variables, y, **condition)

        self._apply = jax.jit(apply)

    def __call__(self, y: ArrayLike, sigma: ArrayLike | None = None) -> Array:
        condition = {} if sigma is None else {"sigma": jnp.asarray(sigma, jnp.float32)}
        return self._apply(self._variables, jnp.asarray(y), condition)
