"""Trained denoisers as single files that run without their source: serialized StableHLO."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array
from jax import export as jax_export

from wne_jax._internal.extras import extra
from wne_jax._internal.files import write_atomically
from wne_jax.wrappers.linen import padding_multiple

if TYPE_CHECKING:
    from wne_jax.inference.denoiser import Denoiser

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What an artifact runs on."""


def export(denoiser: "Denoiser", path: str | Path) -> None:
    """Write a denoiser's compiled function, weights included, for any batch, height and width.

    Sides must be multiples of the backbone's `multiple` (1 for plain convolutional networks): the padding of
    other sizes depends on the remainder, which one symbolic program cannot hold.

    Args:
        denoiser: The denoiser. A conditioned one takes sigma, f32[B], as a second argument.
        path: File to write.

    Raises:
        OSError: The file cannot be written.
        ImportError: flatbuffers, an optional extra, is missing.
    """
    _need_flatbuffers()
    multiple = padding_multiple(denoiser.model)
    shape = f"b, {multiple}*h, {multiple}*w"
    batch, height, width = jax_export.symbolic_shape(shape, constraints=("h >= 2", "w >= 2"))
    example = [jax.ShapeDtypeStruct((batch, height, width, denoiser.channels), jnp.float32)]
    if denoiser.conditioned:
        example.append(jax.ShapeDtypeStruct((batch,), jnp.float32))
    exported = jax_export.export(jax.jit(denoiser.function), platforms=PLATFORMS)(*example)
    write_atomically(Path(path), bytes(exported.serialize()))


def load_exported(path: str | Path) -> Callable[..., Array]:
    """Read what `export` wrote.

    Args:
        path: The file.

    Returns:
        The function f32[B, H, W, C] -> f32[B, H, W, C], with sigma f32[B] as second argument where the
        denoiser was conditioned.

    Raises:
        ValueError: The file is no such artifact.
        FileNotFoundError: There is none.
        ImportError: flatbuffers, an optional extra, is missing.
    """
    _need_flatbuffers()
    content = Path(path).read_bytes()
    try:
        exported = jax_export.deserialize(bytearray(content))
    except Exception as error:  # flatbuffers raises whatever a damaged table leads to
        raise ValueError(f"{path} is not an exported denoiser: {error}") from error
    return jax.jit(exported.call)


def _need_flatbuffers() -> None:
    """Say what to install before JAX says it in the middle of the work."""
    with extra("export", "exported files"):
        import flatbuffers  # noqa: F401
