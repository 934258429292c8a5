"""How files take their place: whole or not at all, where there is room, in place of others."""

import dataclasses
import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wne_jax.images.files import ImageError, ImageFile, creating, open_image

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
GRAY16 = RNG.integers(0, 65536, (12, 17), dtype=np.uint16)
STACK16 = RNG.integers(0, 65536, (2, 5, 12, 17), dtype=np.uint16)


def test_a_failure_inside_leaves_nothing_behind(tmp_path):
    for suffix, error in ((".npy", KeyboardInterrupt), (".tif", ValueError), (".png", OSError)):
        path = tmp_path / f"x{suffix}"
        image = ImageFile(Path("source"), GRAY8, "YX")
        with pytest.raises((error, ImageError)), creating(path, image) as out:
            out[:] = 1
            raise error
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for suffix in (".npy", ".tif", ".png"):
        path = tmp_path / "file" / f"x{suffix}"
        with (
            pytest.raises(ImageError, match="cannot be written"),
            creating(path, ImageFile(Path("source"), GRAY8, "YX")),
        ):
            pass


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_disk_without_place_is_an_error_before_any_work(tmp_path, monkeypatch, suffix):
    """Else a signal ends the process when the map meets the full disk."""
    asked = []

    def full(file, start, size):
        asked.append((start, size, os.fstat(file).st_size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    path = tmp_path / f"x{suffix}"
    with (
        pytest.raises(ImageError, match="needs 204 bytes, which the disk does not have"),
        creating(path, ImageFile(Path("source"), GRAY8, "YX")),
    ):
        pytest.fail("there is no array to be filled")
    ((start, size, whole),) = asked
    assert start == 0 and size == whole > GRAY8.nbytes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_what_replaces_a_file_has_its_permissions(tmp_path, suffix):
    path, image = tmp_path / f"x{suffix}", ImageFile(Path("source"), GRAY8, "YX")
    for mode in (0o600, 0o664):
        path.touch()
        path.chmod(mode)
        with creating(path, image) as out:
            out[:] = GRAY8
        assert stat.S_IMODE(path.stat().st_mode) == mode
    (tmp_path / f"link{suffix}").symlink_to(path)
    with creating(tmp_path / f"link{suffix}", image) as out:
        out[:] = 255 - GRAY8
    assert (tmp_path / f"link{suffix}").is_symlink()
    np.testing.assert_array_equal(open_image(path).pixels, 255 - GRAY8)


@pytest.mark.parametrize("name", ["x" * 251 + ".npy", "µ" * 125 + ".tif"])
def test_the_longest_names_can_be_written(tmp_path, name):
    with creating(tmp_path / name, ImageFile(Path("source"), GRAY8, "YX")) as out:
        out[:] = GRAY8
    np.testing.assert_array_equal(open_image(tmp_path / name).pixels, GRAY8)


def test_in_place(tmp_path):
    """A map of the old file stays readable while the new one takes its name."""
    tifffile.imwrite(tmp_path / "x.tif", STACK16)
    np.save(tmp_path / "x.npy", GRAY16)
    for name, whole in (("x.tif", STACK16), ("x.npy", GRAY16)):
        image = open_image(tmp_path / name)
        with creating(tmp_path / name, image) as out:
            out[:] = 65535 - image.pixels
        back = open_image(tmp_path / name).pixels
        np.testing.assert_array_equal(back, 65535 - whole)
    assert dataclasses.replace(image, axes="XY").plane_shape == (17, 12)
