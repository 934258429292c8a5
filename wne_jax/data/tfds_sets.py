"""TensorFlow Datasets without TensorFlow: array_record files with random access, decoded by NumPy.

Only `prepare_tfds` uses the network. TFDS is imported where it is used, since its import takes 0.4 s.
"""

import importlib.util
import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax.data._replacing import set_aside
from wne_jax.data.listing import Entry, Listing, NamedImage
from wne_jax.images.reading import ImageError

_LOCATION = re.compile(r"[a-zA-Z]\w*(/[\w+.-]+)?(:\d+\.\d+\.\d+)?")
_PREFERRED = ("image", "hr")


def list_tfds(location: str, split: str, data_dir: str | Path | None) -> Listing:
    """The images of a prepared set, `NAME[/CONFIG][:VERSION]`.

    Raises:
        ImageError: The set is not prepared, or not as array_record; the message has the command for it.
        ValueError: There is no set of this name, no such split, or no unique image feature.
        ImportError: tensorflow-datasets is not installed.
    """
    builder = _open(location, data_dir)
    feature = _image_feature(location, builder.info.features)
    name = _split_name(location, list(builder.info.splits), split)
    try:
        records = builder.as_data_source(name)
    except NotImplementedError as err:  # also if there are no files
        directory = data_directory(data_dir)
        command = (
            f"python -m wne_jax data prepare tfds:{location} --download --data-dir {directory}"
        )
        if builder.data_path.exists():
            form = f"is stored as {builder.info.file_format.value}, which only TensorFlow can read"
            raise ImageError(f"tfds:{location}: {form}; run {command} --overwrite") from err
        raise ImageError(f"tfds:{location}: not prepared in {directory}; run {command}") from err
    logging.getLogger("absl").addFilter(_is_news)
    # Names are unique only in sets of `prepare_images`.
    named = set(builder.info.features) == {"image", "name"}

    def read(index: int) -> NamedImage:
        try:
            record = records[index]
        except Exception as err:  # for a damaged record, decoders raise any error
            raise ImageError(f"cannot be decoded: {_one_line(err)}") from err
        label = record["name"].decode() if named else f"{index:0{len(str(len(records)))}d}"
        return NamedImage(label, _as_image(record[feature]))

    entries = (Entry(f"record {i}", partial(read, i)) for i in range(len(records)))
    return Listing(f"tfds:{location}", entries, expected=f"its split {name!r} is empty")


def prepare_tfds(location: str, *, data_dir: str | Path | None, overwrite: bool) -> Path:
    """Download one of TFDS's own sets, and write it as array_record.

    Args:
        location: `NAME[/CONFIG][:VERSION]`.
        data_dir: Folder of TFDS's sets and downloads; see `data_directory`.
        overwrite: Whether to replace an existing set. If that fails, the old set stays.

    Returns:
        The folder of the set.

    Raises:
        ImageError: The set exists, or cannot be downloaded or written.
        ImportError: tensorflow-datasets or TensorFlow is not installed.
        ValueError: TFDS has no such set.
    """
    folder = Path(_open(location, data_dir).data_path)
    if folder.exists() and not overwrite:
        raise ImageError(f"tfds:{location}: {folder} exists; --overwrite replaces it")
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            f"preparing tfds:{location} needs TensorFlow (reading it does not): pip install tensorflow"
        )
    with set_aside(folder):
        builder = _open(
            location, data_dir
        )  # reopened, since the builder above refers to the old files
        try:
            builder.download_and_prepare(
                file_format="array_record", download_dir=data_directory(data_dir) / "downloads"
            )
        except Exception as err:  # from the network, a builder, or a missing manual download
            raise ImageError(f"tfds:{location}: cannot be prepared: {_one_line(err)}") from err
    return folder


def data_directory(data_dir: str | Path | None) -> Path:
    """The folder of TFDS's sets: `data_dir`, else `TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def import_tfds() -> Any:
    """Import `tensorflow_datasets`, or raise ImportError with the command that installs it."""
    with extra("data", "TFDS sets"):
        import tensorflow_datasets
    return tensorflow_datasets


def _open(location: str, data_dir: str | Path | None) -> Any:
    """The builder of a set, whether it is prepared or not."""
    if not _LOCATION.fullmatch(location):
        raise ValueError(
            f"spec is 'tfds:{location}'; write tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:1.0.0"
        )
    tfds, directory = import_tfds(), data_directory(data_dir)
    try:
        return tfds.builder(location, data_dir=directory)
    except tfds.core.DatasetNotFoundError as err:
        raise ValueError(
            f"spec is 'tfds:{location}': TFDS has no such set, and {directory} has none with that name, "
            "configuration and version"
        ) from err
    except (ValueError, AssertionError, RuntimeError) as err:  # an unknown configuration or version
        raise ValueError(f"spec is 'tfds:{location}': {_one_line(err)}") from err


def _image_feature(location: str, features: Any) -> str:
    feature = import_tfds().features
    images = [
        name
        for name, one in features.items()
        if isinstance(one, feature.Image | feature.Tensor) and len(one.shape) == 3
    ]
    for name in _PREFERRED:
        if name in images:
            return name
    if len(images) != 1:
        raise ValueError(
            f"tfds:{location}: which feature is the image? Expected 'image', 'hr' or a single feature with "
            f"three axes; it has {', '.join(sorted(features))}"
        )
    return images[0]


def _split_name(location: str, names: list[str], split: str) -> str:
    if len(names) == 1:
        return names[0]
    wanted = ("train",) if split == "train" else ("test", "validation")
    for name in wanted:
        if name in names or not names:  # a set that is not prepared has no names yet
            return name
    raise ValueError(
        f"tfds:{location}: split is {split!r}; expected {' or '.join(wanted)} among {', '.join(names)}"
    )


def _as_image(pixels: np.ndarray) -> np.ndarray:
    """Return `[H, W, C]` in a dtype with a known unit range, or raise `ImageError`."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.size == 0:
        raise ImageError(f"shape {pixels.shape}; expected gray or RGB pixels")
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.copy()  # zlib's buffer is not writable
    if pixels.dtype.kind != "f":
        raise ImageError(f"pixels of dtype {pixels.dtype}; expected uint8, uint16 or floating")
    with np.errstate(over="ignore"):
        pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise ImageError("holds NaN or infinite values")
    return pixels


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of TFDS matters; its note that Pillow decodes instead of OpenCV does not."""
    return "OpenCV is not installed" not in record.getMessage()
