"""Trained networks that experiments share: each is trained once and stored in one folder.

A network is a folder NETWORKS/PRESET/NAME with `config.json`, `metrics.jsonl` and, once training is finished,
`denoiser.safetensors`. Only these three files are needed, and they are small enough to be committed:
`--networks experiments/results/networks` uses the networks of the repository.
"""

from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from experiments.harness import arms
from experiments.harness.arms import Arm
from experiments.harness.folders import check_workdir
from experiments.harness.options import Networks
from wne_jax.data.corpus import Corpus
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig, finished, fit, is_lead, load_config, load_corpus, package
from wne_jax.training.config import BOOKKEEPING, differences

WEIGHTS = "denoiser.safetensors"

Key = TypeVar("Key", bound=Hashable)

Wanted: TypeAlias = Mapping[Key, tuple[Arm, TrainConfig]]
"""An arm and its training run, by a key that the experiment chooses, for example (arm, level)."""


def name_of(arm: Arm, config: TrainConfig) -> str:
    """The folder name of a network: the settings that distinguish it within one preset.

    Example:
        >>> name_of("wne", arms.run_config("wne", "tiny", 25, noise="laplace", seed=2))
        'dncnn-wne-25-laplace-seed2'
    """
    parts = [file_name(config.model.backbone), arm]
    if "sigma_255" not in arms.ARMS[arm].get("train", {}):
        parts.append("to".join(f"{sigma:g}" for sigma in config.sigma_255))
    parts += [config.noise] if config.noise != "gaussian" else []
    parts += [file_name(config.task)] if config.task != "denoise" else []
    parts += ["colour"] if config.channels == 3 else []
    parts += [config.precision] if config.precision != "float32" else []
    parts += [f"seed{config.seed}"] if config.seed else []
    return "-".join(parts)


def file_name(backbone: str) -> str:
    """The name of a backbone or a task in file names: colons are not allowed on every system.

    Example:
        >>> file_name("my_package.nets:MyNet")
        'my_package.nets.MyNet'
    """
    return backbone.replace(":", ".")


def folder_of(options: Networks, arm: Arm, config: TrainConfig) -> Path:
    """The folder of a network, which need not exist yet."""
    return options.networks / options.preset / name_of(arm, config)


def find_or_train(
    options: Networks, wanted: Wanted[Key], *, also: Wanted[Key] | None = None
) -> dict[Key, Denoiser]:
    """Load the trained networks of some runs, in their order; train missing ones if the stage allows it.

    Everything is checked before the first training step: existing results, folders that hold other networks,
    and missing images.

    Args:
        options: Folder of the networks, and the stage: "all" and "train" train missing networks, the others
            leave them out.
        wanted: The runs.
        also: Further runs, which are loaded if they exist and never trained.

    Returns:
        Denoisers by key, without the missing ones; empty for the stage "report".

    Raises:
        FileExistsError: The workdir holds results; see `folders.check_workdir`.
        FileNotFoundError: Nothing may be trained, and no network exists.
        SystemExit: The stage is "train", or this process only takes part in training.
        ValueError: A folder holds the run of another configuration.
    """
    check_workdir(options)
    everything = {**wanted, **(also or {})}
    if not everything or options.stage == "report":
        return {}
    with options.joined():
        found = _find(options, everything)
        if options.stage in ("all", "train"):
            _train(options, without(wanted, found))
            found |= {key: folder_of(options, *run) for key, run in wanted.items()}
        elif not found and not options.resume:
            names = ", ".join(name_of(*run) for run in everything.values())
            raise FileNotFoundError(
                f"{options.networks / options.preset} holds none of {names}: train them with --stage all"
            )
    if not is_lead() or options.stage == "train":
        raise SystemExit(0)
    return {
        key: _load(found[key], run[1].model.imports)
        for key, run in everything.items()
        if key in found
    }


def without(wanted: Wanted[Key], done: Collection[Key]) -> dict[Key, tuple[Arm, TrainConfig]]:
    """The runs that have not been measured."""
    return {key: run for key, run in wanted.items() if key not in done}


def _find(options: Networks, wanted: Wanted[Key]) -> dict[Key, Path]:
    """The folders of finished networks."""
    folders = {key: folder_of(options, *run) for key, run in wanted.items()}
    return {k: folder for k, folder in folders.items() if _complete(folder, wanted[k][1])}


def _train(options: Networks, missing: Wanted) -> None:
    """Train networks, each from its last checkpoint."""
    corpora: dict[tuple, Corpus] = {}
    runs = {folder_of(options, *run): run[1] for run in missing.values()}
    for config in runs.values():
        config.model.build()
        if _source(config) not in corpora:
            corpora[_source(config)] = load_corpus(config, data_dir=options.data_dir)
    for folder, config in runs.items():
        fit(config, folder, resume=True, corpus=corpora[_source(config)], compute=options.compute)


def _source(config: TrainConfig) -> tuple:
    """The settings that determine the corpus."""
    return config.data, config.channels, config.patch, config.factor


def _complete(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the finished run."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    if changed := sorted(set(differences(load_config(path), config)) - BOOKKEEPING):
        raise ValueError(
            f"{folder} holds a network with different values of {', '.join(changed)}: "
            "choose another folder with --networks"
        )
    return (folder / WEIGHTS).is_file() or finished(folder, config)


def _load(folder: Path, imports: tuple[str, ...]) -> Denoiser:
    """The network of a finished run; its file may import the same modules as the options."""
    if not (folder / WEIGHTS).is_file():
        package(folder, allow_imports=imports)
    return Denoiser.load(folder, allow_imports=imports)
