"""Test images by the name of their set."""

import re
from collections.abc import Sequence
from pathlib import Path

from wne_jax.data import NamedImage, load_images


def set_name(spec: str) -> str:
    """The name of a test set in tables: the last part of its source.

    Example:
        >>> set_name("folder:data/Set12"), set_name("tfds:bsd68:1.0.0"), set_name("embedded")
        ('Set12', 'bsd68', 'embedded')
    """
    return Path(re.sub(r":[\d.]+$", "", spec).rpartition(":")[2]).name


def load_sets(
    specs: Sequence[str], *, data_dir: Path | None = None, channels: int = 1
) -> dict[str, list[NamedImage]]:
    """Test images of several sources, by the name of the set.

    Args:
        specs: Sources, see `wne_jax.data`.
        data_dir: Folder of prepared TFDS datasets.
        channels: 1 for gray, 3 for colour.

    Raises:
        ValueError: Two sets have the same name.
    """
    names = [set_name(spec) for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"test sets must have different names, not {', '.join(names)}")
    return {
        name: load_images(spec, split="test", data_dir=data_dir, channels=channels)
        for name, spec in zip(names, specs)
    }


def central(image: NamedImage, size: int) -> NamedImage:
    """The central square of an image.

    Args:
        image: An image.
        size: Side of the square in pixels; a smaller image is returned whole.
    """
    height, width, _ = image.pixels.shape
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return image._replace(pixels=image.pixels[top : top + size, left : left + size])
