"""What a run leaves behind: one file that holds its model and the trained variables."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from wne_jax.config import ModelConfig
from wne_jax.training.checkpoints import Checkpoints, load_run
from wne_jax.training.config import BOOKKEEPING, TrainConfig, differences, load_config
from wne_jax.weights import DENOISER_FILE, TASK, load_model, read_metadata, save


def leave_denoiser(
    workdir: Path, config: TrainConfig, variables: Mapping[str, Any], *, step: int
) -> Path:
    """Write the model of a run into its folder, in one step: a reader never sees half of it.

    Args:
        workdir: The run's folder.
        config: The run, whose model and task are kept.
        variables: Its variables, those that evaluation uses.
        step: How many updates they have seen; kept in the file's metadata.

    Returns:
        The file.
    """
    path = workdir / DENOISER_FILE
    save(path, config.model, variables, metadata=_metadata(config, step))
    return path


def _metadata(config: TrainConfig, step: int) -> dict[str, str]:
    """What a file says beside its model: the step, and the task unless it is denoising."""
    task = {} if config.task == "denoise" else {TASK: config.task}
    return {"step": str(step), **task}


def package(
    run: str | Path, out: str | Path | None = None, *, allow_imports: bool | Collection[str] = False
) -> tuple[Path, int]:
    """Write the model of a run, finished or not, from its newest checkpoint that can be read.

    Args:
        run: The run's folder. Its checkpoints stay as they are.
        out: The file to write (default: `denoiser.safetensors` in the run's folder).
        allow_imports: Whether the run's configuration may name import paths, whose code is then run.

    Returns:
        The file, and the step of the checkpoint.

    Raises:
        FileNotFoundError: No run is there, or no checkpoint.
        ValueError: No checkpoint can be read, or another suffix than `.safetensors`.
    """
    run = Path(run)
    model, variables, step = load_run(run, allow_imports=allow_imports)
    config = load_config(run / "config.json")
    path = run / DENOISER_FILE if out is None else Path(out)
    save(path, model, variables, metadata=_metadata(config, step))
    return path, step


def trained_variables(path: Path, model: ModelConfig) -> Mapping[str, Any]:
    """The variables of a weight file, or of a run: its newest checkpoint, or the file that it left.

    Args:
        path: The file or the folder. It may name the import paths that the model names.
        model: What they are for.

    Raises:
        FileNotFoundError: Neither is there.
        ValueError: What is there cannot be read.
    """
    if not path.is_dir():
        return load_model(path, allow_imports=model.imports)[1]
    if (path / DENOISER_FILE).is_file() and not (path / "checkpoints").is_dir():
        return load_model(path / DENOISER_FILE, allow_imports=model.imports)[1]
    return load_run(path, allow_imports=model.imports)[1]


def finished(workdir: str | Path, config: TrainConfig) -> bool:
    """Whether a folder holds this very run, trained to its last step.

    Either the last checkpoint or the file of weights shows it.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    if not path.is_file() or set(differences(load_config(path), config)) - BOOKKEEPING:
        return False
    if (workdir / DENOISER_FILE).is_file():
        # Files of earlier versions do not say the step; they were written at the last one.
        return int(read_metadata(workdir / DENOISER_FILE).get("step", config.steps)) == config.steps
    with Checkpoints(workdir, keep=config.keep, create=False) as checkpoints:
        return checkpoints.latest == config.steps
