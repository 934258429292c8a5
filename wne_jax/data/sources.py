"""Sets of images, each named by one string `scheme` or `scheme:location`.

Clean images:

- `embedded`: photographs that lie inside the scikit-image package; nothing is downloaded. The split is
  fixed and disjoint. Test: astronaut, camera, chelsea, coffee. Train: brick, cell, clock_motion, coins,
  grass, gravel, hubble_deep_field, ihc, microaneurysms, moon, motorcycle_left, page, retina, rocket, text.
- `folder:PATH`: the images of one folder, sorted by file name, whatever the split: a folder is what it
  is.
- `tfds:NAME[/CONFIG][:VERSION]`: a TensorFlow Dataset prepared as array_record, read without TensorFlow:
  its feature "image", else "hr", else the only one that is an image. "test" is its split "test", else
  "validation"; a set with one split is what it is. `python -m wne_jax data prepare` makes such sets.

Scenes photographed more than once, whatever the split:

- `pairs:NOISY:CLEAN`: two folders of files with equal names, suffixes aside.
- `sidd:DIR`: pairs of the Smartphone Image Denoising Dataset, Medium or Small, in sRGB, as published.
- `repeats:DIR`: one subfolder a scene, with at least two noisy shots of it.

A relative path that does not exist is looked up under the folder that the environment variable
`WNE_DATA` names, so `folder:Set12` needs no absolute path.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from wne_jax._internal.names import Split
from wne_jax.data.folders import list_embedded, list_folder
from wne_jax.data.listing import Listing, NamedImage, read_listing
from wne_jax.data.mixtures import parse_mixture
from wne_jax.data.scenes import list_pairs, list_repeats, list_sidd
from wne_jax.data.tfds_sets import list_tfds

Kind = Literal["clean", "pairs", "repeats"]


class _Scheme(NamedTuple):
    kind: Kind
    lister: Callable[[str, str, str | Path | None], Listing]  # of location, split and data_dir


_SCHEMES: dict[str, _Scheme] = {
    "embedded": _Scheme("clean", lambda location, split, _: list_embedded(location, split)),
    "folder": _Scheme("clean", lambda location, *_: list_folder(location)),
    "pairs": _Scheme("pairs", lambda location, *_: list_pairs(location)),
    "repeats": _Scheme("repeats", lambda location, *_: list_repeats(location)),
    "sidd": _Scheme("pairs", lambda location, *_: list_sidd(location)),
    "tfds": _Scheme("clean", list_tfds),
}
"""What each scheme holds, and what lists it: one line adds another."""


def kind_of(spec: str) -> Kind:
    """What one source holds.

    >>> kind_of("folder:Set12"), kind_of("pairs:noisy:clean"), kind_of("repeats:bursts")
    ('clean', 'pairs', 'repeats')

    Args:
        spec: One source, without a weight; see the module.

    Returns:
        "clean" for images, "pairs" for noisy ones with their clean one, "repeats" for noisy shots.

    Raises:
        ValueError: The scheme is unknown, or there are several sources.
    """
    return _scheme(spec).kind


def iterate_images(
    spec: str,
    *,
    split: Split = "train",
    channels: int | None = 1,
    min_size: int = 1,
    white: float | None = None,
    data_dir: str | Path | None = None,
) -> Iterator[NamedImage]:
    """Read one source, file by file: what was read before need not be kept.

    Files of a set that cannot be read, or are too small, are skipped; one warning names them when the
    iteration ends.

    >>> next(iterate_images("embedded", split="test")).name
    'astronaut'

    Args:
        spec: One source, without a weight; see the module.
        split: "train" or "test", where the set has both.
        channels: 1 for gray (BT.601 luma), 3 for colour (gray repeated), None for what a file has.
        min_size: images with a side of fewer pixels are left out; a training crop must fit.
        white: their value of white, where it is not full scale of the dtype; they are then `float32` in the
            unit range.
        data_dir: where TFDS keeps its sets (default: the environment variable `TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`).

    Returns:
        At least one image, in a fixed order: `[H, W, C]` of clean sources, `[2, H, W, C]`, noisy and
        clean, of pairs, `[K, H, W, C]`, K >= 2, of repeats.

    Raises:
        ImageError: the set is missing (at once), or holds no usable image (at the end); the message has
            the reasons.
        ValueError: the scheme is unknown, or another argument is out of its range.
        ImportError: a package that the scheme needs is not installed.
    """
    scheme = _scheme(spec)
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels!r}; an image has 1 or 3")
    listing = scheme.lister(spec.partition(":")[2], split, data_dir)
    return read_listing(listing, channels=channels, min_size=min_size, white=white)


def load_images(
    spec: str,
    *,
    split: Split = "train",
    channels: int | None = 1,
    min_size: int = 1,
    data_dir: str | Path | None = None,
) -> list[NamedImage]:
    """Load clean images into memory, from one source or several; see `iterate_images`.

    >>> [image.name for image in load_images("embedded", split="test")]
    ['astronaut', 'camera', 'chelsea', 'coffee']

    Args:
        spec: One source, or several between commas, whose weights do not matter here.
        split: "train" or "test", where a set has both.
        channels: 1 for gray (BT.601 luma), 3 for colour (gray repeated), None for what a file has.
        min_size: images with a side of fewer pixels are left out.
        data_dir: where TFDS keeps its sets.

    Returns:
        At least one image of each source, in a fixed order. A name that two sources share gets its source
        before it, `folder:Set12/01`.

    Raises:
        ImageError: a set is missing, or holds no usable image; the message has the reasons.
        ValueError: a scheme is unknown, its images are not clean, or another argument is out of its range.
        ImportError: a package that a scheme needs is not installed.
    """
    specs = [part.spec for part in parse_mixture(spec)]
    for one in specs:
        if kind_of(one) != "clean":
            raise ValueError(
                f"spec is {spec!r}: {one} holds {kind_of(one)}, not clean images; use iterate_images"
            )
    images = [
        (one, image)
        for one in specs
        for image in iterate_images(
            one, split=split, channels=channels, min_size=min_size, data_dir=data_dir
        )
    ]
    names = Counter(image.name for _, image in images)
    return [
        image if names[image.name] == 1 else image._replace(name=f"{one}/{image.name}")
        for one, image in images
    ]


def _scheme(spec: str) -> _Scheme:
    name = spec.partition(":")[0]
    if "," in spec:
        raise ValueError(f"spec is {spec!r}; expected one source, without a comma")
    if name not in _SCHEMES:
        raise ValueError(f"spec is {spec!r}; known schemes are {', '.join(sorted(_SCHEMES))}")
    return _SCHEMES[name]
