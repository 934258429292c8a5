"""`python -m wne_jax data prepare`: data sets made ready for training."""

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

    `data prepare folder:PATH --name NAME` writes a set from the images of a folder, pixels exactly as they
    are, or, with --white, in the unit range. `data prepare tfds:NAME --download` fetches a set that TFDS
    knows, which takes TensorFlow.
    """

    action: Annotated[Literal["prepare"], conf.Positional]
    """What to do."""
    source: Annotated[str, conf.Positional, conf.arg(metavar="SOURCE")]
    """embedded, folder:PATH, or tfds:NAME[/CONFIG]."""
    name: str | None = None
    """Name of the new set, in snake case (a set of TFDS keeps its own)."""
    split: Split = "train"
    """Which part of embedded."""
    white: float | None = None
    """Value of white, where it is not 255, 65535 or 1 as the type says: 4095 for 12 bits."""
    download: bool = False
    """Allow TFDS to download (often gigabytes)."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets, for sources tfds:NAME (default: TFDS_DATA_DIR, else
    ~/tensorflow_datasets)."""
    overwrite: bool = False
    """Replace what is there, once the new is whole."""

    def run(self) -> int:
        """Write the set, and say how to use it."""
        from wne_jax.data.sources import kind_of
        from wne_jax.data.tfds_sets import data_directory

        if kind_of(self.source) != "clean":
            raise ValueError(
                f"source is {self.source!r}: {kind_of(self.source)} are not prepared; train from the files"
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
                "--white is for one's own images: a set of TFDS has the units of its type"
            )
        if self.name is not None:
            raise ValueError(
                f"--name is {self.name!r}, but a set of TFDS keeps its own: leave it out"
            )
        if not self.download:
            raise ValueError(f"{self.source} has to be downloaded, often gigabytes: add --download")
        location = self.source.partition(":")[2]
        return prepare_tfds(location, data_dir=self.data_dir, overwrite=self.overwrite)

    def _write(self) -> Path:
        from wne_jax.data.image_folder import check_name, common_dtype, prepare_images
        from wne_jax.images.units import check_white

        if self.name is None:
            raise ValueError(f"{self.source} needs --name, the name of the new set, in snake case")
        if self.download:
            raise ValueError(f"{self.source} lies on disk: leave out --download")
        check_white(self.white)
        check_name(self.name, data_dir=self.data_dir, overwrite=self.overwrite)
        images = tqdm(self._images(), desc="reading", unit="image", leave=False, disable=None)
        dtype, number = common_dtype(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the files that the first reading has named
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
