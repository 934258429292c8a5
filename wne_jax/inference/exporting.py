"""Trained denoisers as single files that run without their source: serialized StableHLO."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array
from jax import export as jax_export

from wne_jax._internal.extras import extra
from wne_jax._internal.files import write_atomically

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What an artifact runs on."""


def export(
    function: Callable[..., Array],
    path: str | Path,
    *,
    channels: int,
    multiple: int = 1,
    conditioned: bool = False,
) -> None:
    """Write a map of images, weights included, for any batch, height and width.

    Sides must be multiples of `multiple`: the padding of other sizes depends on the remainder, which one
    symbolic program cannot hold.

    Args:
        function: Map f32[B, H, W, C] -> f32[B, H, W, C]; a conditioned one takes sigma, f32[B], as a second
            argument.
        path: File to write.
        channels: C.
        multiple: What the sides of images must be multiples of (1 for plain convolutional networks).
        conditioned: Whether the function takes sigma.

    Raises:
        OSError: The file cannot be written.
        ImportError: flatbuffers, an optional extra, is missing.
    """
    _need_flatbuffers()
    shape = f"b, {multiple}*h, {multiple}*w"
    batch, height, width = jax_export.symbolic_shape(shape, constraints=("h >= 2", "w >= 2"))
    example = [jax.ShapeDtypeStruct((batch, height, width, channels), jnp.float32)]
    if conditioned:
        example.append(jax.ShapeDtypeStruct((batch,), jnp.float32))
    exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(*example)
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
