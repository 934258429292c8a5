"""JPEGs whose data end early, with and without an end."""

import io

import numpy as np
import pytest
from PIL import Image

from wne_jax.images.files import ImageError, open_image
from wne_jax.images.jpeg_data import lacks_data
from wne_jax.images.reading import read_image

SCENE = np.uint8(
    128
    + 60 * np.sin(np.add.outer(np.arange(96) / 5, np.arange(128) / 9))
    + np.random.default_rng(0).normal(0, 8, (96, 128))
)
OPTIONS = [
    {},
    {"quality": 100},
    {"optimize": True},
    {"restart_marker_blocks": 1},
    {"progressive": True},
    {"progressive": True, "restart_marker_rows": 1},
]
END = b"\xff\xd9"


def encoded(mode, options):
    file = io.BytesIO()
    Image.fromarray(SCENE).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", OPTIONS)
def test_missing_data_are_found_wherever_they_begin(mode, options):
    whole = encoded(mode, options)
    assert not lacks_data(whole) and not lacks_data(whole + b"more of it")
    rng, first = np.random.default_rng(0), whole.index(b"\xff\xda") + 14
    cuts = [*rng.integers(first, len(whole) - 10, 20), *range(len(whole) - 9, len(whole) - 2)]
    for cut in map(int, cuts):
        try:
            filled_up = decoded(whole[:cut] + END)
        except OSError:  # which is no silence
            continue
        assert (filled_up == decoded(whole)).all() or lacks_data(whole[:cut] + END), cut


def test_scans_that_are_missing_are_found():
    whole = encoded("RGB", {"progressive": True})
    scans = [i for i in range(len(whole)) if whole[i : i + 2] in (b"\xff\xda", b"\xff\xc4")]
    assert len(scans) > 10 and decoded(whole[: scans[-1]] + END).shape == (96, 128, 3)
    for scan in scans[-6:]:
        assert lacks_data(whole[:scan] + END)


def test_a_jpeg_that_ends_early_is_refused(tmp_path):
    path, whole = tmp_path / "x.jpg", encoded("RGB", {})
    for content in (whole[: len(whole) // 2], whole[: len(whole) // 2] + END):
        path.write_bytes(content)
        for read in (open_image, read_image):
            with pytest.raises(ImageError, match=r"x\.jpg: .*(cut off|truncated)"):
                read(path)
    path.write_bytes(whole)
    assert open_image(path).notes == () and read_image(path).shape == (96, 128, 3)
