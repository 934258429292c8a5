"""The denoisers that come with the package: by name, with the hashes of their files."""

import hashlib
from pathlib import Path

from wne_jax.weights._errors import WeightsError
from wne_jax.weights.saved import DENOISER_FILE

_FOLDER = Path(__file__).parent

PACKAGED: dict[str, tuple[Path, str]] = {
    "gray": (
        _FOLDER / "default" / DENOISER_FILE,
        "cf5967df643032bfc9057c2bbf76731691a5a642c7931d0f2826f4e6136a792c",
    ),
}
"""The file of each, and its SHA-256."""


def packaged_file(name: str) -> Path:
    """The weight file of a packaged denoiser, after a look at its hash.

    Args:
        name: A key of `PACKAGED`.

    Raises:
        ValueError: There is none of that name.
        WeightsError: The file is missing, or is not the one that was packaged.

    Example:
        >>> packaged_file("gray").name
        'denoiser.safetensors'
    """
    if name not in PACKAGED:
        hint = "; gray denoises a colour image channel by channel" if name == "color" else ""
        raise ValueError(f"no denoiser {name!r} is packaged: there is {', '.join(PACKAGED)}{hint}")
    path, expected = PACKAGED[name]
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != expected:
        raise WeightsError(
            f"{path}: is not the file that was packaged ({found} in place of {expected}): install again"
        )
    return path
