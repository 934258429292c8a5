r"""What a network is trained to undo: an operator, and then noise.

| task | observation y of the image x | input of the network | output |
|---|---|---|---|
| `denoise` | x + noise | y | the size of y |
| `deblur:1.6` | a Gaussian blur of 1.6 pixels, mirrored at the border, + noise | y | the size of y |
| `superres:2` | the image reduced by 2, + noise | y | 2 times as large |
| `demosaic` | a Bayer mosaic (RGGB), + noise | its four pixels of 2 x 2 as channels, `[H/2, W/2, 4]` | `[H, W, 3]` |
| `inpaint:0.5` | half of the pixels, at random, + noise; zeros elsewhere | y, and the mask of known pixels | all pixels |

In every task A 1 = 1 where anything is measured, so the task is normalization-equivariant:
$A(a x + b) = a\,A x + b$. For `inpaint` this holds at known pixels only. The zeros elsewhere do not follow a
and b, so they must not count: the statistic of a wrapper sees known pixels alone (`where`), and the normalized
image is 0, the location, at the others. A mosaic needs no mask, since each of its pixels is measured. Its four
pixels become channels so that neighbours in a channel have one colour: noise statistics compare neighbours,
and would read colour as noise.
"""  # noqa: E501 (a table)

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from wne_jax import protocol
from wne_jax.config import ModelConfig
from wne_jax.images.degradations import Noise
from wne_jax.layers.downsample import pixel_unshuffle
from wne_jax.models import option_defaults
from wne_jax.operators import (
    BayerMosaic,
    Blur,
    Downsample,
    Identity,
    Mask,
    Operator,
    gaussian_kernel,
)

Name = Literal["denoise", "deblur", "superres", "demosaic", "inpaint"]

_DEFAULTS: dict[Name, float | None] = {
    "denoise": None, "deblur": 1.6, "superres": 2, "demosaic": None, "inpaint": 0.5,
}  # fmt: skip
_MAX_BLUR_PX = 10.0
_MASK = 7  # folded into the key of an observation


class Observation(NamedTuple):
    """The input of a network, f32[h, w, c], and the mask of its known pixels, bool[h, w, 1] or None."""

    y: Array
    where: Array | None


@dataclass(frozen=True)
class Task:
    """A task, written `NAME` or `NAME:NUMBER`.

    Attributes:
        name: "denoise", "deblur", "superres", "demosaic" or "inpaint".
        number: The standard deviation of the blur in pixels, the factor of enlargement, or the share of known
            pixels; None for tasks without a number.

    Example:
        >>> Task.parse("superres:3").factor, str(Task.parse("deblur"))
        (3, 'deblur:1.6')
    """

    name: Name = "denoise"
    number: float | None = None

    def __post_init__(self):
        """Reject unknown names, and numbers out of range."""
        if self.name not in get_args(Name):
            known = "denoise, deblur[:PIXELS], superres[:FACTOR], demosaic, inpaint[:SHARE]"
            raise ValueError(f"task must be one of {known}; not {self.name!r}")
        default = _DEFAULTS[self.name]
        number = default if self.number is None else self.number
        object.__setattr__(self, "number", number)
        if default is None and number is not None:
            raise ValueError(f"task {self.name} takes no number, and was given {number:g}")
        if self.name == "deblur" and not 0 < number <= _MAX_BLUR_PX:
            raise ValueError(f"task deblur:PIXELS takes 0 to {_MAX_BLUR_PX:g}, not {number:g}")
        if self.name == "superres" and number not in (2, 3, 4):
            raise ValueError(f"task superres:FACTOR takes 2, 3 or 4, not {number:g}")
        if self.name == "inpaint" and not 0 < number < 1:
            raise ValueError(f"task inpaint:SHARE takes a share between 0 and 1, not {number:g}")

    @classmethod
    def parse(cls, text: str) -> "Task":
        """The task of a text.

        Raises:
            ValueError: An unknown name, or an invalid number.
        """
        name: Any
        name, colon, number = text.partition(":")
        try:
            return cls(name, float(number) if colon else None)
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(f"task {text!r} must be NAME or NAME:NUMBER") from None

    def __str__(self) -> str:
        """The name, with its number."""
        return self.name if self.number is None else f"{self.name}:{self.number:g}"

    @property
    def factor(self) -> int:
        """The sides of the image over those of the network's input."""
        if self.name == "superres":
            return int(self.number or 2)
        return 2 if self.name == "demosaic" else 1

    def input_shape(self, size: int, channels: int) -> tuple[int, int, int, int]:
        """The shape `[1, h, w, c]` of the network's input, for a square image."""
        side = size // self.factor
        return 1, side, side, 4 if self.name == "demosaic" else channels

    def operator(self, key: Array, shape: tuple[int, ...]) -> Operator:
        """The operator A.

        Args:
            key: Random key of a mask.
            shape: Shape `[H, W, C]` of the image.
        """
        if self.name == "deblur":
            return Blur(gaussian_kernel(self.number or 0), "reflect")
        if self.name == "superres":
            return Downsample(self.factor)
        if self.name == "demosaic":
            return BayerMosaic()
        if self.name == "inpaint":
            return Mask(jax.random.uniform(key, (1, *shape[:2], 1)) < jnp.float32(self.number))
        return Identity()

    def observe(self, key: Array, clean: Array, noise: Noise, level: ArrayLike) -> Observation:
        """Degrade one image.

        Args:
            key: Random key.
            clean: The image x, f32[H, W, C]; its sides are multiples of `factor`.
            noise: A function of `wne_jax.images.degradations`.
            level: Its level.

        Returns:
            The input of the network.
        """
        operator = self.operator(jax.random.fold_in(key, _MASK), clean.shape)
        y = noise(key, operator(clean[None])[0], level)
        if self.name == "demosaic":
            return Observation(pixel_unshuffle(y[None], 2)[0], None)
        if isinstance(operator, Mask):
            where = jnp.asarray(operator.keep[0])
            return Observation(jnp.where(where, y, 0), where)
        return Observation(y, None)

    def fitted(self, model: ModelConfig) -> ModelConfig:
        """The configuration with the options that the task needs, where its backbone has them.

        Example:
            >>> Task.parse("superres:3").fitted(ModelConfig()).options["upscale"]
            3
        """
        needed: dict[str, Any] = {"upscale": self.factor} if self.factor > 1 else {}
        needed |= {"out_channels": 3} if self.name == "demosaic" else {}
        needed |= {"masked": True} if self.name == "inpaint" else {}
        known = option_defaults(model.backbone)
        added = {name: value for name, value in needed.items() if name in known}
        return dataclasses.replace(model, options=added | model.options)

    def check(self, model: ModelConfig) -> None:
        """Reject a model whose output has another size than the task's image, or which takes no mask.

        Raises:
            ValueError: The model does not suit the task.
        """
        module = model.build()
        out_channels = 3 if self.name == "demosaic" else None
        found = protocol.upscale(module), protocol.out_channels(module)
        if found != (self.factor, out_channels):
            what = f"upscale = {self.factor} and out_channels = {out_channels}"
            raise ValueError(
                f"task {self} needs a network of {what}, and {model.backbone} has {found[0]} and {found[1]}: "
                "dncnn and swinir have these options, and your own network may declare them"
            )
        if self.name == "inpaint" and protocol.mask_argument(module) is None:
            raise ValueError(
                f"task {self} needs a network that takes a mask, and {model.backbone} takes none: dncnn has "
                "the option masked, and your own network may declare mask_argument"
            )
        if self.factor > 1 and model.inside is not None:
            raise ValueError(
                f"task {self} changes the size, which {model.inside.kind} does not: leave it out"
            )


DENOISE = Task()
"""Noise alone."""
