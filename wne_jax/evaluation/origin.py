"""The origin of a result: configuration, command, versions, device and revision."""

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from wne_jax._internal.files import write_atomically
from wne_jax._version import __version__


def provenance(config: Any) -> dict[str, Any]:
    """The origin of a result: configuration, command, versions, device and revision.

    Args:
        config: A dataclass or a dict, including the seeds.
    """
    device = jax.devices()[0]
    return {
        "config": config if isinstance(config, dict) else dataclasses.asdict(config),
        "command": " ".join([Path(sys.executable).name, "-m", _main_module(), *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            "wne-jax": __version__,
            **{name: metadata.version(name) for name in ("jax", "flax", "optax", "numpy")},
        },
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "revision": _revision(),
    }


def write_json(value: Any, path: Path) -> None:
    """Write JSON, with paths as text."""
    write_atomically(path, json.dumps(value, indent=2, default=str) + "\n")


def footer(source: Mapping[str, Any]) -> str:
    """One line of provenance, for below a table or in the description of a figure."""
    versions = ", ".join(f"{name} {version}" for name, version in source["versions"].items())
    seed = source["config"].get("seed")
    parts = [source["command"], *([] if seed is None else [f"seed {seed}"]), source["device"]]
    return "; ".join([*parts, versions, f"revision {source['revision']}"])


def _main_module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name


def _revision() -> str:
    """The git revision of this source tree, with a mark if there are changes; "unknown" outside git."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return "unknown"  # installed inside another repository
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
