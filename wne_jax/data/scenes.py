"""Scenes photographed more than once: noisy and clean pairs, and repeated noisy shots.

The shots of a scene must be aligned, with equal shape and dtype. Other scenes are skipped, with the reason.

References:
    Abdelhamed, Lin and Brown, A High-Quality Denoising Dataset for Smartphone Cameras, CVPR 2018 (SIDD).
    Lehtinen et al., Noise2Noise: Learning Image Restoration without Clean Data, ICML 2018 (repeats).
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wne_jax.data.folders import NO_FILE, find_folder, image_files, read_file, subfolders
from wne_jax.data.listing import Entry, Listing, NamedImage
from wne_jax.images.reading import ImageError

_SIDD_FILE = re.compile(r"(?:\d+_)?(NOISY|GT)_SRGB_(\d+)", re.IGNORECASE)


def list_pairs(location: str, factor: int = 1) -> Listing:
    """Pairs from two folders, `NOISY:CLEAN`, whose files have equal names up to the suffix.

    Args:
        location: The two folders.
        factor: The noisy images are smaller by this factor. Their pixels are repeated, so that both images of
            a pair have one size.

    Raises:
        ValueError: The location is not two paths.
        ImageError: A folder is missing.
    """
    paths = location.split(":")
    if len(paths) != 2 or not all(paths) or paths[0] == paths[1]:
        raise ValueError(f"spec is 'pairs:{location}'; write pairs:NOISY:CLEAN, two folders")
    noisy, clean = (find_folder(path, "pairs:NOISY:CLEAN") for path in paths)
    files = {folder: _by_stem(folder) for folder in (noisy, clean)}
    entries, skipped = [], []
    for stem in sorted(files[noisy].keys() | files[clean].keys()):
        found = [files[folder].get(stem, []) for folder in (noisy, clean)]
        if all(len(one) == 1 for one in found):
            entries.append(_scene(stem, [one[0] for one in found], factor))
        else:
            noisy_count, clean_count = map(len, found)
            skipped.append(
                f"{stem}: {noisy_count} noisy and {clean_count} clean files; expected 1 and 1"
            )
    return Listing(f"{noisy} and {clean}", entries, "pair", tuple(skipped), NO_FILE)


def list_repeats(location: str) -> Listing:
    """Scenes of at least two noisy shots, with one subfolder per scene.

    Raises:
        ImageError: The folder is missing.
    """
    folder = find_folder(location, "repeats:DIR")
    entries, skipped = [], []
    for scene in subfolders(folder):
        shots = image_files(scene)
        if len(shots) >= 2:
            entries.append(_scene(scene.name, shots))
        else:
            skipped.append(f"{scene.name}: {len(shots)} shots; expected at least 2")
    return Listing(str(folder), entries, "scene", tuple(skipped), "it has no subfolders of shots")


def list_sidd(location: str) -> Listing:
    """Pairs of SIDD as published, Medium or Small, in sRGB.

    A pair is `DIR/Data/SCENE/0001_NOISY_SRGB_010.PNG` and `0001_GT_SRGB_010.PNG` (without `0001_` in Small).
    The location is DIR, the folder above it, or `Data`.

    Raises:
        ValueError: The location has more than one such set.
        ImageError: The folder is missing.
    """
    folder = find_folder(location, "sidd:DIR")
    found = [p for p in (folder / "Data", *sorted(folder.glob("SIDD_*/Data"))) if p.is_dir()]
    if len(found) > 1:
        sets = ", ".join(str(p.parent) for p in found)
        raise ValueError(f"spec is 'sidd:{location}', which has several sets; write one of {sets}")
    data = found[0] if found else folder
    entries, skipped = [], []
    for scene in subfolders(data):
        shots: dict[str, dict[str, Path]] = defaultdict(dict)
        for path in image_files(scene):
            if match := _SIDD_FILE.fullmatch(path.stem):
                shots[match[2]][match[1].upper()] = path
        for number, files in sorted(shots.items()):
            name = f"{scene.name}_{number}"
            if len(files) == 2:
                entries.append(_scene(name, [files["NOISY"], files["GT"]]))
            else:
                skipped.append(f"{name}: there is only a {next(iter(files))} file")
    expected = "no file is named like SCENE/0001_NOISY_SRGB_010.PNG"
    return Listing(str(data), entries, "pair", tuple(skipped), expected)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(folder):
        files[path.stem].append(path)
    return files


def _scene(name: str, paths: Sequence[Path], factor: int = 1) -> Entry:
    return Entry(name, partial(_read_scene, name, paths, factor))


def _read_scene(name: str, paths: Sequence[Path], factor: int) -> NamedImage:
    shots: list[np.ndarray] = []
    for path in paths:
        try:
            shots.append(read_file(path))
        except ImageError as err:
            raise ImageError(f"{path.parent.name}/{path.name}: {err}") from err
    found = [f"{shot.shape} {shot.dtype}" for shot in shots]
    shots[0] = shots[0].repeat(factor, axis=0).repeat(factor, axis=1)
    if len({(shot.shape, shot.dtype) for shot in shots}) > 1:
        what = "differ" if factor == 1 else f"do not differ by a factor of {factor}"
        raise ImageError(f"the shots {what}: {', '.join(sorted(set(found)))}")
    return NamedImage(name, np.stack(shots))
