"""Sets of images, each named by one string `scheme` or `scheme:location`.

- `embedded`: photographs that lie inside the scikit-image package; nothing is downloaded. The split is
  fixed and disjoint. Test: astronaut, camera, chelsea, coffee. Train: brick, cell, clock_motion, coins,
  grass, gravel, hubble_deep_field, ihc, microaneurysms, moon, motorcycle_left, page, retina, rocket, text.
- `folder:PATH`: the images of one folder, sorted by file name, whatever the split: a folder is what it
  is. A relative PATH that does not exist is looked up under the folder that the environment variable
  `WNE_DATA` names, so `folder:Set12` needs no absolute path.
"""

import importlib.util
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from wne_jax.images import SUFFIXES, ImageError, read_image
from wne_jax.units import with_channels

Split = Literal["train", "test"]

_EMBEDDED: dict[str, tuple[str, ...]] = {
    "train": (
        *("brick.png", "cell.png", "clock_motion.png", "coins.png", "grass.png", "gravel.png"),
        *("hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png"),
        *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
    ),
    "test": ("astronaut.png", "camera.png", "chelsea.png", "coffee.png"),
}
_LISTED = 10  # so many refused files are named in one message


class NamedImage(NamedTuple):
    """An image and the name that tables and figures give it.

    Attributes:
        name: the file's name without its suffix (with it, where two files of a set share the stem).
        pixels: `[H, W, C]`, `uint8`, `uint16` or `float32` as the file has it.
    """

    name: str
    pixels: np.ndarray


def load_images(
    spec: str, *, split: Split = "train", channels: int = 1, min_size: int = 1
) -> list[NamedImage]:
    """Load a set of images into memory.

    Files of a set that cannot be read, or are too small, are skipped, and one warning names them.

    >>> [image.name for image in load_images("embedded", split="test")]
    ['astronaut', 'camera', 'chelsea', 'coffee']

    Args:
        spec: `"embedded"` or `"folder:PATH"`; see the module.
        split: `"train"` or `"test"`, where the set has both.
        channels: 1 for gray (BT.601 luma), 3 for colour (gray repeated).
        min_size: images with a side of fewer pixels are left out; a training crop must fit.

    Returns:
        At least one image, in a fixed order.

    Raises:
        ImageError: the folder is missing, or holds no usable image; the message has the reasons.
        ValueError: the scheme is unknown, or another argument is out of its range.
    """
    scheme, _, location = spec.partition(":")
    if scheme not in _SCHEMES:
        raise ValueError(f"spec is {spec!r}; known schemes are {', '.join(sorted(_SCHEMES))}")
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}; an image has 1 or 3")
    return _SCHEMES[scheme](location, split, channels, min_size)


def _load_embedded(location: str, split: Split, channels: int, min_size: int) -> list[NamedImage]:
    if location:
        raise ValueError(f"spec is 'embedded:{location}'; the embedded set takes no location")
    package = importlib.util.find_spec("skimage")  # found, not imported
    if package is None or not package.submodule_search_locations:
        raise ImageError(
            "embedded: scikit-image is not installed, and the photographs lie inside it"
        )
    folder = Path(package.submodule_search_locations[0], "data")
    return _read_all((folder / name for name in _EMBEDDED[split]), folder, channels, min_size)


def _load_folder(location: str, split: Split, channels: int, min_size: int) -> list[NamedImage]:
    folder = _find_folder(location)
    files = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return _read_all(sorted(files, key=lambda p: p.name), folder, channels, min_size)


_SCHEMES: dict[str, Callable[[str, Split, int, int], list[NamedImage]]] = {
    "embedded": _load_embedded,
    "folder": _load_folder,
}
"""The loader of each scheme, `(location, split, channels, min_size) -> images`: one line adds another."""


def _find_folder(location: str) -> Path:
    if not location:
        raise ValueError("spec is 'folder:'; write folder:PATH")
    tried = [Path(location).expanduser()]
    root = os.environ.get("WNE_DATA")
    if root and not tried[0].is_absolute():
        tried.append(Path(root, location))
    for folder in tried:
        if folder.is_dir():
            return folder
    where = " and ".join(str(p.absolute()) for p in tried)
    hint = "" if root else "; WNE_DATA is not set, under which relative paths are looked up too"
    raise ImageError(f"{location}: no such folder; looked at {where}{hint}")


def _read_all(
    paths: Iterable[Path], folder: Path, channels: int, min_size: int
) -> list[NamedImage]:
    read: list[tuple[Path, np.ndarray]] = []
    refused: list[str] = []
    for path in paths:
        try:
            pixels = read_image(path)
        except ImageError as err:
            refused.append(str(err).replace(f"{path}: ", f"{path.name}: ", 1))
            continue
        height, width = pixels.shape[:2]
        if min(height, width) < min_size:
            refused.append(f"{path.name}: {height} x {width} is smaller than min_size {min_size}")
        else:
            read.append((path, with_channels(pixels, channels)))
    more = f"; and {len(refused) - _LISTED} more" if len(refused) > _LISTED else ""
    reasons = "; ".join(refused[:_LISTED]) + more
    if not read:
        reasons = reasons or f"no file ends in {', '.join(sorted(SUFFIXES))}"
        raise ImageError(f"{folder}: no usable image: {reasons}")
    if refused:
        warnings.warn(f"{folder}: {len(refused)} images skipped: {reasons}", stacklevel=4)
    stems = Counter(path.stem for path, _ in read)
    return [NamedImage(p.stem if stems[p.stem] == 1 else p.name, pixels) for p, pixels in read]
