"""`python -m wne_jax data prepare`: prepare datasets for training."""

import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tqdm import tqdm
from tyro import conf

from wne_jax._internal.names import Split

if TYPE_CHECKING:
    from wne_jax.data.listing import NamedImage


@dataclass(frozen=True)
class Data:
    """Write clean images as a TensorFlow Dataset of array_record files, which is read without TensorFlow.

    `data prepare folder:PATH --name NAME` writes a dataset from the images of a folder, with unchanged pixels
    or, with --white, in the unit range. `data prepare tfds:NAME --download` downloads a dataset of TFDS; this
    needs TensorFlow.
    """

    action: Annotated[Literal["prepare"], conf.Positional]
    """Action."""
    source: Annotated[str, conf.Positional, conf.arg(metavar="SOURCE")]
    """Source: embedded, folder:PATH, or tfds:NAME[/CONFIG]."""
    name: str | None = None
    """Name of the new dataset, in snake case (a dataset of TFDS keeps its name)."""
    split: Split = "train"
    """Split of the embedded images."""
    white: float | None = None
    """Value of white, if not the type's 255, 65535 or 1: 4095 for 12 bits."""
    download: bool = False
    """Allow TFDS to download (often gigabytes)."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME (default: TFDS_DATA_DIR, else
    ~/tensorflow_datasets)."""
    overwrite: bool = False
    """Replace existing results, once the new ones are complete."""

    def run(self) -> int:
        """Write the dataset and print how to use it."""
        from wne_jax.data.sources import kind_of
        from wne_jax.data.tfds_sets import data_directory

        if kind_of(self.source) != "clean":
            raise ValueError(
                f"source is {self.source!r}: {kind_of(self.source)} cannot be prepared; train from the files"
            )
        if self.source.startswith("tfds:"):
            folder, used = self._fetch(), self.source
        else:
            folder, used = self._write(), f"tfds:{self.name}"
        print(f"written: {folder}")
        directory = shlex.quote(str(data_directory(self.data_dir)))
        print(f"use it: --data {used} --data-dir {directory}")
        return 0

    def _fetch(self) -> Path:
        from wne_jax.data.tfds_sets import prepare_tfds

        if self.white is not None:
            raise ValueError(
                "--white is for images of a folder: a dataset of TFDS uses the units of its type"
            )
        if self.name is not None:
            raise ValueError(
                f"--name is {self.name!r}, but a dataset of TFDS keeps its name: leave it out"
            )
        if not self.download:
            raise ValueError(f"{self.source} must be downloaded, often gigabytes: add --download")
        location = self.source.partition(":")[2]
        return prepare_tfds(location, data_dir=self.data_dir, overwrite=self.overwrite)

    def _write(self) -> Path:
        from wne_jax.data.image_folder import check_name, common_dtype, prepare_images
        from wne_jax.images.units import check_white

        if self.name is None:
            raise ValueError(f"{self.source} needs --name: the dataset's name, in snake case")
        if self.download:
            raise ValueError(f"{self.source} is on disk: leave out --download")
        check_white(self.white)
        check_name(self.name, data_dir=self.data_dir, overwrite=self.overwrite)
        images = tqdm(self._images(), desc="reading", unit="image", leave=False, disable=None)
        dtype, number = common_dtype(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first reading already reported these files
            images = tqdm(
                self._images(),
                desc="writing",
                unit="image",
                total=number,
                leave=False,
                disable=None,
            )
            folder = prepare_images(
                images,
                self.name,
                dtype=dtype,
                data_dir=self.data_dir,
                overwrite=self.overwrite,
            )
        print(f"{number} images of {dtype}")
        return folder

    def _images(self) -> "Iterator[NamedImage]":
        from wne_jax.data.sources import iterate_images

        return iterate_images(self.source, split=self.split, channels=None, white=self.white)
