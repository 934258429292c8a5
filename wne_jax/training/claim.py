"""Whose a run's folder is: locked while a run trains into it, and known by configuration and images."""

import dataclasses
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wne_jax._internal.files import read_json, write_atomically
from wne_jax.data.corpus import Corpus, fingerprint
from wne_jax.training.config import TrainConfig, conflicts, load_config, parse_config, save_config
from wne_jax.training.processes import is_lead

CONFIG = "config.json"
IMAGES = "corpus.json"
LOCK = "lock"
PARTS = ("config", "images")
"""The names of the values of an identity."""


@dataclass(frozen=True)
class Identity:
    """What tells one run from another.

    Attributes:
        config: The run.
        images: Number of images, their elements, and a hash of all that training draws from.
    """

    config: TrainConfig
    images: Mapping[str, Any]

    @classmethod
    def of(cls, config: TrainConfig, corpus: Corpus) -> "Identity":
        """The identity of a run on a corpus."""
        images = {"images": len(corpus), "elements": int(corpus.pixels.size)}
        return cls(config, images | {"fingerprint": fingerprint(corpus)})

    def values(self) -> dict[str, Any]:
        """Plain values, to be kept in a checkpoint."""
        return {"config": dataclasses.asdict(self.config), "images": dict(self.images)}

    def check_files(self, workdir: Path) -> list[str]:
        """Refuse a folder whose files say that it is another run's.

        Returns:
            The names of those files that are not there.

        Raises:
            ValueError: They are another run's, or cannot be read.
        """
        config, images = workdir / CONFIG, workdir / IMAGES
        if config.is_file():
            self._check_config(load_config(config), workdir)
        if images.is_file():
            self._check_images(read_json(images), workdir, images)
        return [path.name for path in (config, images) if not path.is_file()]

    def check_values(self, values: Mapping[str, Any], workdir: Path, step: int) -> None:
        """Refuse a checkpoint of another run, by the `values` that it was saved with.

        Raises:
            ValueError: They are another run's, or cannot be read.
        """
        source = workdir / "checkpoints" / str(step)
        self._check_config(parse_config(values.get("config", {}), source), workdir)
        self._check_images(values.get("images", {}), workdir, source)

    def _check_config(self, before: TrainConfig, workdir: Path) -> None:
        changed = conflicts(before, self.config)
        if changed == ["steps"]:
            raise ValueError(
                f"{workdir} was started with steps = {before.steps}, where its cosine schedule ends: "
                f"{self.config.steps} steps are another run; start it in a new folder, with --init "
                f"{workdir} to begin from these weights"
            )
        if changed:
            raise ValueError(f"{workdir} was started with other values of {', '.join(changed)}")

    def _check_images(self, before: Mapping[str, Any], workdir: Path, source: Path) -> None:
        if before == self.images:
            return
        number, elements = before.get("images"), before.get("elements")
        if not (isinstance(number, int) and isinstance(elements, int) and "fingerprint" in before):
            raise ValueError(f"{source} does not say which images the run was started with")
        raise ValueError(
            f"{workdir} was started with other images: {number} of {elements:,} elements then, "
            f"{self.images['images']} of {self.images['elements']:,} now"
        )

    def write(self, workdir: Path) -> None:
        """Write the files that `check_files` reads."""
        save_config(self.config, workdir / CONFIG)
        write_atomically(workdir / IMAGES, json.dumps(dict(self.images), indent=2) + "\n")


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder, which is made if it is absent.

    The lead process holds an advisory lock of the operating system on the file `lock`. It ends with the
    process, however that ends; the file may stay behind and means nothing then. It holds between machines as
    far as the file system that they share supports such locks (NFS from version 4 on, Lustre and GPFS by
    their options). Where there are none, a note says so.

    Raises:
        FileExistsError: Another process holds it.
    """
    if not is_lead():
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    lock = workdir / LOCK
    file = _acquire(lock)
    try:
        yield
    finally:
        if file is not None:
            lock.unlink(missing_ok=True)
            os.close(file)


def _acquire(path: Path) -> int | None:
    """The descriptor of a locked file; None where files cannot be locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):  # else its holder has removed it between the two lines above
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return file
        except BlockingIOError:
            holder = os.read(file, 300).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise FileExistsError(
                f"{path.parent} is being trained by {holder}: wait for it, or choose another folder"
            ) from None
        except OSError as error:
            os.close(file)
            warnings.warn(
                f"{path.parent} cannot be locked ({error.strerror}): start no other training in it",
                stacklevel=4,
            )
            return None
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
