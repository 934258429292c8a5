"""Trained networks, which experiments share: trained once, kept in one folder, found again.

A network is a folder NETWORKS/PRESET/NAME with `config.json`, `metrics.jsonl` and, when it is finished,
`denoiser.safetensors`. These three are all that is needed, and small enough to be committed: `--networks
experiments/results/networks` takes those that come with the repository.
"""

from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from experiments.harness import arms
from experiments.harness.arms import Arm
from experiments.harness.folders import refuse_results
from experiments.harness.options import Networks
from wne_jax.data.corpus import Corpus
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig, finished, fit, is_lead, load_config, load_corpus, package
from wne_jax.training.config import BOOKKEEPING, differences

WEIGHTS = "denoiser.safetensors"

Key = TypeVar("Key", bound=Hashable)

Wanted: TypeAlias = Mapping[Key, tuple[Arm, TrainConfig]]
"""An arm and its training run for each key that an experiment gives, such as arm and level."""


def name_of(arm: Arm, config: TrainConfig) -> str:
    """The folder of a network: what distinguishes it within one preset.

    Example:
        >>> name_of("wne", arms.run_config("wne", "tiny", 25, noise="laplace", seed=2))
        'dncnn-wne-25-laplace-seed2'
    """
    parts = [file_name(config.model.backbone), arm]
    if "sigma_255" not in arms.ARMS[arm].get("train", {}):
        parts.append("to".join(f"{sigma:g}" for sigma in config.sigma_255))
    parts += [config.noise] if config.noise != "gaussian" else []
    parts += ["colour"] if config.channels == 3 else []
    parts += [config.precision] if config.precision != "float32" else []
    parts += [f"seed{config.seed}"] if config.seed else []
    return "-".join(parts)


def file_name(backbone: str) -> str:
    """A backbone in the name of a file or folder: its import path has a colon, which not every system takes.

    Example:
        >>> file_name("my_package.nets:MyNet")
        'my_package.nets.MyNet'
    """
    return backbone.replace(":", ".")


def folder_of(options: Networks, arm: Arm, config: TrainConfig) -> Path:
    """Where a network is, or will be."""
    return options.networks / options.preset / name_of(arm, config)


def find_or_train(
    options: Networks, wanted: Wanted[Key], *, also: Wanted[Key] | None = None
) -> dict[Key, Denoiser]:
    """The trained networks of some runs, in their order.

    All that can be refused is refused before the first step: results that are in the way, folders that hold
    other networks, and images that are not there.

    Args:
        options: Where the networks are, and whether those that are missing are trained (the stages "all" and
            "train") or left out.
        wanted: What is wanted.
        also: What is taken if it is there, and never trained.

    Returns:
        Denoisers by key; those that are missing and not trained are left out. None at all for the stage
        "report".

    Raises:
        FileExistsError: The workdir holds results; see `folders.refuse_results`.
        FileNotFoundError: Nothing is to be trained, and nothing is there.
        SystemExit: Training was all that is wanted, or all that this process is for.
        ValueError: A folder holds the run of another configuration.
    """
    refuse_results(options)
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
                f"{options.networks / options.preset} holds none of {names}: --stage all trains them"
            )
    if not is_lead() or options.stage == "train":
        raise SystemExit(0)
    return {
        key: _load(found[key], run[1].model.imports)
        for key, run in everything.items()
        if key in found
    }


def without(wanted: Wanted[Key], done: Collection[Key]) -> dict[Key, tuple[Arm, TrainConfig]]:
    """The runs that are not yet measured."""
    return {key: run for key, run in wanted.items() if key not in done}


def _find(options: Networks, wanted: Wanted[Key]) -> dict[Key, Path]:
    """The folders of those networks that are finished."""
    folders = {key: folder_of(options, *run) for key, run in wanted.items()}
    return {k: folder for k, folder in folders.items() if _complete(folder, wanted[k][1])}


def _train(options: Networks, missing: Wanted) -> None:
    """Train networks, each from its last checkpoint on."""
    corpora: dict[tuple, Corpus] = {}
    runs = {folder_of(options, *run): run[1] for run in missing.values()}
    for config in runs.values():
        config.model.build()
        if _source(config) not in corpora:
            corpora[_source(config)] = load_corpus(config, data_dir=options.data_dir)
    for folder, config in runs.items():
        fit(config, folder, resume=True, corpus=corpora[_source(config)], compute=options.compute)


def _source(config: TrainConfig) -> tuple:
    """What a corpus depends on."""
    return config.data, config.channels, config.patch


def _complete(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the finished run."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    if changed := sorted(set(differences(load_config(path), config)) - BOOKKEEPING):
        raise ValueError(
            f"{folder} holds a network with other values of {', '.join(changed)}: "
            "--networks names another folder"
        )
    return (folder / WEIGHTS).is_file() or finished(folder, config)


def _load(folder: Path, imports: tuple[str, ...]) -> Denoiser:
    """The network of a finished run; its file may name what the options of the experiment name."""
    if not (folder / WEIGHTS).is_file():
        package(folder, allow_imports=imports)
    return Denoiser.load(folder, allow_imports=imports)
