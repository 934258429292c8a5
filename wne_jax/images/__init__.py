"""Images: files and formats, units, degradations, metrics."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wne_jax.images import degradations, files
    from wne_jax.images.degradations import DEGRADATIONS, NOISES, draw_level, jpeg, mixed, quantize
    from wne_jax.images.metrics import psnr, ssim
    from wne_jax.images.reading import ImageError, read_image, write_image
    from wne_jax.images.units import (
        from_unit,
        full_scale,
        saturate,
        to_gray,
        to_unit,
        with_channels,
    )
else:
    from wne_jax._internal.lazy import on_demand

    __getattr__, __dir__ = on_demand(__name__)
    del on_demand

__all__ = [
    "DEGRADATIONS",
    "NOISES",
    "ImageError",
    "degradations",
    "draw_level",
    "files",
    "from_unit",
    "full_scale",
    "jpeg",
    "mixed",
    "psnr",
    "quantize",
    "read_image",
    "saturate",
    "ssim",
    "to_gray",
    "to_unit",
    "with_channels",
    "write_image",
]
