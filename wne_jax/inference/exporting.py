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
    conditioned: bool = False,
    ndim: int = 2,
) -> None:
    """Write a map of images, weights included, for any batch, height and width.

    Sides are 2 pixels or more; what the function pads in memory, it pads in the file.

    Args:
        function: Map f32[B, H, W, C] -> f32[B, H, W, C]; a conditioned one takes sigma, f32[B], as a second
            argument.
        path: File to write.
        channels: C.
        conditioned: Whether the function takes sigma.
        ndim: Spatial axes: 2, or 3 for volumes f32[B, D, H, W, C], then of any depth, too.

    Raises:
        OSError: The file cannot be written.
        ImportError: flatbuffers, an optional extra, is missing.
    """
    _need_flatbuffers()
    names = "tdhw"[-ndim:]
    batch, *sides = jax_export.symbolic_shape(
        ", ".join("b" + names), constraints=tuple(f"{name} >= 2" for name in names)
    )
    example = [jax.ShapeDtypeStruct((batch, *sides, channels), jnp.float32)]
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

    @jax.jit
    def denoise(*arguments: Array) -> Array:  # its repr is short, that of `exported` is not
        return exported.call(*arguments)

    return denoise


def _need_flatbuffers() -> None:
    """Say what to install before JAX says it in the middle of the work."""
    with extra("export", "exported files"):
        import flatbuffers  # noqa: F401
