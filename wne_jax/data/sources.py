"""Sets of images, each given by one string `scheme` or `scheme:location`.

Clean images:

- `embedded`: photographs inside the scikit-image package, without a download. The split is fixed and
  disjoint. Test: astronaut, camera, chelsea, coffee. Train: brick, cell, clock_motion, coins, grass, gravel,
  hubble_deep_field, ihc, microaneurysms, moon, motorcycle_left, page, retina, rocket, text.
- `folder:PATH`: the images of one folder, sorted by file name. All of them belong to every split.
- `tfds:NAME[/CONFIG][:VERSION]`: a TensorFlow Dataset prepared as array_record, read without TensorFlow. Its
  images are the feature "image", else "hr", else the only image feature. "test" is its split "test", else
  "validation"; a single split serves as both. `python -m wne_jax data prepare` prepares sets.

Scenes photographed more than once, for every split:

- `pairs:NOISY:CLEAN`: two folders of files with equal names up to the suffix. For super-resolution the noisy
  images are smaller by the factor of the task.
- `sidd:DIR`: pairs of the Smartphone Image Denoising Dataset, Medium or Small, in sRGB, as published.
- `repeats:DIR`: one subfolder per scene, with at least two noisy shots.

A relative path that does not exist is looked up under the folder of the environment variable `WNE_DATA`, so
`folder:Set12` needs no absolute path.
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
    sized: Callable[[str, int], Listing] | None = None  # of location and factor


_SCHEMES: dict[str, _Scheme] = {
    "embedded": _Scheme("clean", lambda location, split, _: list_embedded(location, split)),
    "folder": _Scheme("clean", lambda location, *_: list_folder(location)),
    "pairs": _Scheme("pairs", lambda location, *_: list_pairs(location), list_pairs),
    "repeats": _Scheme("repeats", lambda location, *_: list_repeats(location)),
    "sidd": _Scheme("pairs", lambda location, *_: list_sidd(location)),
    "tfds": _Scheme("clean", list_tfds),
}
"""The kind and the lister of each scheme; one line adds a scheme."""


def kind_of(spec: str) -> Kind:
    """The kind of images in one source.

    >>> kind_of("folder:Set12"), kind_of("pairs:noisy:clean"), kind_of("repeats:bursts")
    ('clean', 'pairs', 'repeats')

    Args:
        spec: One source, without a weight; see the module.

    Returns:
        "clean" for clean images, "pairs" for noisy and clean images, "repeats" for noisy shots.

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
    factor: int = 1,
) -> Iterator[NamedImage]:
    """Read one source file by file, with only one image in memory.

    Files that cannot be read or are too small are skipped; one warning names them when the iteration ends.

    >>> next(iterate_images("embedded", split="test")).name
    'astronaut'

    Args:
        spec: One source, without a weight; see the module.
        split: "train" or "test", if the set has both.
        channels: 1 for gray (BT.601 luma), 3 for colour (gray repeated), None for the number in the file.
        min_size: Images with a shorter side, in pixels, are skipped; a training crop must fit.
        white: Value of white, if it is not the full scale of the dtype; the images become `float32` in unit
            range.
        data_dir: Folder of TFDS's sets (default: the environment variable `TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`).
        factor: The noisy images of `pairs:` are smaller by this factor; they come with repeated pixels.

    Returns:
        At least one image, in a fixed order: `[H, W, C]` for clean sources, `[2, H, W, C]` (noisy, clean) for
        pairs, `[K, H, W, C]` with K >= 2 for repeats.

    Raises:
        ImageError: The set is missing (raised at once), or has no usable image (raised at the end); the
            message has the reasons.
        ValueError: The scheme is unknown, or another argument is out of its range.
        ImportError: A package that the scheme needs is not installed.
    """
    scheme = _scheme(spec)
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels!r}; expected 1, 3 or None")
    location = spec.partition(":")[2]
    if factor == 1:
        listing = scheme.lister(location, split, data_dir)
    elif scheme.sized is not None:
        listing = scheme.sized(location, factor)
    else:
        raise ValueError(f"spec is {spec!r}; only pairs:NOISY:CLEAN have images of two sizes")
    return read_listing(listing, channels=channels, min_size=min_size, white=white)


def load_images(
    spec: str,
    *,
    split: Split = "train",
    channels: int | None = 1,
    min_size: int = 1,
    data_dir: str | Path | None = None,
) -> list[NamedImage]:
    """Load clean images from one or more sources into memory; see `iterate_images`.

    >>> [image.name for image in load_images("embedded", split="test")]
    ['astronaut', 'camera', 'chelsea', 'coffee']

    Args:
        spec: One source, or several separated by commas; weights are ignored.
        split: "train" or "test", if a set has both.
        channels: 1 for gray (BT.601 luma), 3 for colour (gray repeated), None for the number in the file.
        min_size: Images with a shorter side, in pixels, are skipped.
        data_dir: Folder of TFDS's sets.

    Returns:
        At least one image of each source, in a fixed order. A name that occurs in two sources is prefixed by
        its source: `folder:Set12/01`.

    Raises:
        ImageError: A set is missing, or has no usable image; the message has the reasons.
        ValueError: A scheme is unknown, its images are not clean, or another argument is out of its range.
        ImportError: A package that a scheme needs is not installed.
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
