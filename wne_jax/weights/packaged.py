"""The denoisers of the package by name, with the hashes of their files."""

import hashlib
from pathlib import Path

from wne_jax.weights._errors import WeightsError
from wne_jax.weights.saved import DENOISER_FILE

_FOLDER = Path(__file__).parent

_GRAY = (
    _FOLDER / "default" / DENOISER_FILE,
    "634b674149396d0c032cf65c4e9f3833ef075c2ae52793ca3e5d8b1a97a8b721",
)

PACKAGED: dict[str, tuple[Path, str]] = {"gray": _GRAY, "color": _GRAY}
"""The file and SHA-256 of each denoiser. That of colour images is the gray network in opponent colours."""


def packaged_file(name: str) -> Path:
    """The weight file of a packaged denoiser, with its hash checked.

    Args:
        name: A key of `PACKAGED`.

    Raises:
        ValueError: The name is unknown.
        WeightsError: The file is missing or was changed.

    Example:
        >>> packaged_file("gray").name
        'denoiser.safetensors'
    """
    if name not in PACKAGED:
        raise ValueError(f"no denoiser {name!r} is packaged: there is {', '.join(PACKAGED)}")
    path, expected = PACKAGED[name]
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != expected:
        raise WeightsError(
            f"{path}: is not the packaged file ({found} instead of {expected}): reinstall the package"
        )
    return path
