"""Images as files: in one folder, and inside the scikit-image package."""

import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wne_jax.data.listing import Entry, Listing, NamedImage
from wne_jax.images.reading import SUFFIXES, ImageError, read_image

NO_FILE = f"no file ends in {', '.join(sorted(SUFFIXES))}"
"""The reason why a folder has no image."""

_EMBEDDED: dict[str, tuple[str, ...]] = {
    "train": (
        *("brick.png", "cell.png", "clock_motion.png", "coins.png", "grass.png", "gravel.png"),
        *("hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png"),
        *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
    ),
    "test": ("astronaut.png", "camera.png", "chelsea.png", "coffee.png"),
}


def list_embedded(location: str, split: str) -> Listing:
    """The photographs inside scikit-image.

    Raises:
        ValueError: The location is not empty.
        ImageError: scikit-image is not installed.
    """
    if location:
        raise ValueError(f"spec is 'embedded:{location}'; write embedded, which takes no location")
    package = importlib.util.find_spec("skimage")  # finds it without importing it
    if package is None or not package.submodule_search_locations:
        raise ImageError('embedded: the photographs need scikit-image: pip install "wne-jax[data]"')
    folder = Path(package.submodule_search_locations[0], "data")
    return _list_files([folder / name for name in _EMBEDDED[split]], folder)


def list_folder(location: str) -> Listing:
    """The images directly inside a folder.

    Raises:
        ImageError: There is no such folder.
    """
    folder = find_folder(location, "folder:PATH")
    return _list_files(image_files(folder), folder)


def find_folder(location: str, form: str) -> Path:
    """Find a folder by its path, or by its path under the folder of `WNE_DATA`.

    Args:
        location: Its path.
        form: The form of the source, for the error message if the path is empty.

    Raises:
        ValueError: The path is empty.
        ImageError: There is no such folder; the message has the paths that were tried.
    """
    if not location:
        raise ValueError(f"spec is '{form.partition(':')[0]}:'; write {form}")
    tried = [Path(location).expanduser()]
    root = os.environ.get("WNE_DATA")
    if root and not tried[0].is_absolute():
        tried.append(Path(root, location))
    for folder in tried:
        if folder.is_dir():
            return folder
    where = " and ".join(str(p.absolute()) for p in tried)
    hint = "" if root else "; relative paths are also searched under WNE_DATA, which is not set"
    raise ImageError(f"{location}: no such folder; looked at {where}{hint}")


def image_files(folder: Path) -> list[Path]:
    """The image files directly inside a folder, by suffix, sorted by name, without hidden files."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return sorted(files, key=lambda p: p.name)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly inside a folder, sorted by name, without hidden folders."""
    inside = (p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    return sorted(inside, key=lambda p: p.name)


def read_file(path: Path) -> np.ndarray:
    """`read_image` with an error that has only the reason, without the path."""
    try:
        return read_image(path)
    except ImageError as err:
        raise ImageError(str(err).removeprefix(f"{path}: ")) from err


def _list_files(paths: Sequence[Path], folder: Path) -> Listing:
    stems = Counter(path.stem for path in paths)

    def read(path: Path) -> NamedImage:
        return NamedImage(path.stem if stems[path.stem] == 1 else path.name, read_file(path))

    return Listing(
        str(folder), [Entry(path.name, partial(read, path)) for path in paths], expected=NO_FILE
    )
