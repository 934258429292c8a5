"""Write images as a TensorFlow Dataset of array_record files, with unchanged pixels of any size.

Features: "image", `[H, W, C]` in the dtype of the set, compressed by zlib (no image format for 16-bit colour
or floats is supported by every reader), and "name". There is one split, "train".

TFDS's own builders hold a set of up to a gigabyte in memory, and need TensorFlow for a larger set. Its
sequential writer, which is used here, holds one image at a time and does not need TensorFlow.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from wne_jax.data._replacing import written_whole
from wne_jax.data.listing import NamedImage
from wne_jax.data.tfds_sets import data_directory, import_tfds
from wne_jax.images.reading import ImageError
from wne_jax.images.units import to_unit

VERSION = "1.0.0"
"""The version of every set."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SPLIT = "train"
_IMAGES_A_FILE = 256


def check_name(name: str, *, data_dir: str | Path | None = None, overwrite: bool = False) -> Path:
    """Check that a set can be written under a name.

    Args:
        name: Name of the set, in snake case.
        data_dir: Folder of TFDS's sets (default: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
        overwrite: Whether a set of this name may exist.

    Returns:
        The folder for the set.

    Raises:
        ValueError: The name is not in snake case, or TFDS has a set of this name.
        ImageError: The folder exists.
        ImportError: tensorflow-datasets is not installed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name is {name!r}; expected snake case: a-z, 0-9 and single underscores, for example bsd_400"
        )
    tfds = import_tfds()
    try:
        tfds.builder_cls(name)
    except tfds.core.DatasetNotFoundError:
        folder = data_directory(data_dir) / name
    else:
        raise ValueError(f"name is {name!r}, which is the name of a TFDS set; choose another name")
    found = {p.name for p in folder.iterdir() if p.name[0] != "."} if folder.exists() else set()
    if found - {VERSION}:
        raise ImageError(f"{folder} exists and is not such a set; choose another name")
    if found and not overwrite:
        raise ImageError(f"{folder} exists; choose another name, or replace it by --overwrite")
    return folder / VERSION


def common_dtype(images: Iterable[NamedImage]) -> tuple[np.dtype, int]:
    """The dtype for all images, and their number.

    Args:
        images: Images, of which only one is in memory at a time.

    Returns:
        Their common dtype, or float32 for a mixture, as in a corpus; and their number.
    """
    dtypes, number = set(), 0
    for image in images:
        dtypes.add(image.pixels.dtype)
        number += 1
    return (dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)), number


def prepare_images(
    images: Iterable[NamedImage],
    name: str,
    *,
    dtype: DTypeLike,
    data_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write images as a TensorFlow Dataset, which can be read as the source `tfds:NAME`.

    A failure or an interruption leaves the previous state unchanged.

    >>> import tempfile
    >>> from wne_jax.data.sources import load_images
    >>> noise = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = prepare_images([NamedImage("a", noise)], "noise", dtype="uint16", data_dir=folder)
    ...     (image,) = load_images("tfds:noise", channels=3, data_dir=folder)
    >>> image.name, (image.pixels == noise).all().item()
    ('a', True)

    Args:
        images: Gray and colour images `[H, W, C]`; only one is in memory at a time.
        name: Name of the set, in snake case; it may not be the name of a TFDS set.
        dtype: uint8, uint16 or float32. For float32, integers are converted to unit range.
        data_dir: Folder of TFDS's sets (default: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
        overwrite: Whether to replace a set of this name.

    Returns:
        The folder of the set.

    Raises:
        ValueError: The name or the dtype is invalid, or an image has another dtype.
        ImageError: The set exists, or there are no images.
        ImportError: tensorflow-datasets is not installed.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(f"dtype is {dtype}; expected uint8, uint16 or float32")
    folder = check_name(name, data_dir=data_dir, overwrite=overwrite)
    number = 0
    with written_whole(folder) as aside:
        writer = _writer(aside, name, dtype)
        try:
            for image in images:
                pixels = to_unit(image.pixels) if dtype == np.float32 else image.pixels
                if pixels.dtype != dtype:
                    raise ValueError(
                        f"{image.name}: dtype is {pixels.dtype}, but the set's is {dtype}"
                    )
                writer.add_examples({_SPLIT: [{"image": pixels, "name": image.name}]})
                number += 1
        finally:
            writer.close_all()
        if not number:
            raise ImageError(f"{name}: there are no images to write")
    return folder


def _writer(folder: Path, name: str, dtype: np.dtype) -> Any:
    tfds = import_tfds()
    features = {
        "image": tfds.features.Tensor(shape=(None, None, None), dtype=dtype, encoding="zlib"),
        "name": tfds.features.Text(),
    }
    identity = tfds.core.DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=str(folder),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="Images with their original names and depth.",
        features=tfds.features.FeaturesDict(features),
    )
    writer = tfds.core.SequentialWriter(info, _IMAGES_A_FILE, file_format="array_record")
    writer.initialize_splits([_SPLIT])
    return writer
