"""Trained networks, which experiments share: trained once, kept in one folder, found again.

A run is a folder RUNS/NAME with `config.json`, `metrics.jsonl` and, when it is finished,
`denoiser.safetensors`. These three are all that is needed, and small enough to be committed: `--runs
experiments/results/trained` reads the networks that come with the repository.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments import _arms, _cli
from experiments._arms import Arm, Size
from wne_jax.data.corpus import Corpus
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig, finished, fit, load_config, load_corpus
from wne_jax.training.config import differences

WEIGHTS = "denoiser.safetensors"


@dataclass(frozen=True, kw_only=True)
class Runs(_cli.Machine):
    """Which networks, and where they are; a base of options."""

    preset: Size = "tiny"
    """Size: minutes on 2 cores, up to two hours, or the paper's own."""
    runs: Path = Path("runs/trained")
    """Folder of trained networks: what it lacks is trained into it."""
    train: bool = True
    """Whether to train what is missing; else it is left out, and the tables say so."""
    data: str | None = None
    """Training images in place of the preset's: embedded, folder:PATH, tfds:NAME, ..."""
    steps: int | None = None
    """Training steps of each network."""
    seed: int = 0
    """Seed of training, and of the noise of the test."""
    resume: bool = False
    """Write into a folder that holds results, in place of them."""

    @property
    def sizes(self) -> _arms.Preset:
        """What the preset says."""
        return _arms.PRESETS[self.preset]

    def config(self, arm: Arm, sigma_255: float, **changes) -> TrainConfig:
        """The training run of an arm, see `_arms.run_config`."""
        common = {"data": self.data, "steps": self.steps, "seed": self.seed}
        return _arms.run_config(arm, self.preset, sigma_255, **(common | changes))


def name_of(arm: Arm, config: TrainConfig) -> str:
    """The folder of a run: what distinguishes it within one preset.

    Example:
        >>> name_of("wne", _arms.run_config("wne", "tiny", 25, noise="laplace", seed=2))
        'dncnn-wne-25-laplace-seed2'
    """
    parts = [config.model.backbone, arm]
    if "sigma_255" not in _arms.ARMS[arm].get("train", {}):
        parts.append("to".join(f"{sigma:g}" for sigma in config.sigma_255))
    parts += [config.noise] if config.noise != "gaussian" else []
    parts += ["colour"] if config.channels == 3 else []
    parts += [f"seed{config.seed}"] if config.seed else []
    return "-".join(parts)


def networks(options: Runs, wanted: Mapping[str, tuple[Arm, TrainConfig]]) -> dict[str, Denoiser]:
    """The trained networks of some runs, in their order.

    Args:
        options: Where they are, and whether to train those that are missing.
        wanted: For each label in tables and figures, an arm and its run.

    Returns:
        Denoisers by label; those that are missing, where nothing is trained, are left out.

    Raises:
        ValueError: A folder holds the run of another configuration, or several processes are wanted.
    """
    if options.coordinator is not None:
        raise ValueError(
            "coordinator: this experiment is one process, on as many devices as it has"
        )
    folders = {label: options.runs / name_of(*run) for label, run in wanted.items()}
    complete = {label: _complete(folders[label], config) for label, (_, config) in wanted.items()}
    # Whatever can be refused, images that are not there included, is refused before the first step.
    missing = {folders[label]: wanted[label][1] for label, done in complete.items() if not done}
    if not options.train:
        return {label: _load(folders[label]) for label, done in complete.items() if done}
    corpora: dict[tuple, Corpus] = {}
    for config in missing.values():
        if _source(config) not in corpora:
            corpora[_source(config)] = load_corpus(config, data_dir=options.data_dir)
    for folder, config in missing.items():
        fit(config, folder, resume=True, corpus=corpora[_source(config)], compute=options.compute)
    return {label: _load(folder) for label, folder in folders.items()}


def _source(config: TrainConfig) -> tuple:
    """What a corpus depends on."""
    return config.data, config.channels, config.patch


def _complete(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the finished run."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    if changed := differences(load_config(path), config):
        raise ValueError(
            f"{folder} holds a run with other values of {', '.join(changed)}: --runs names another folder"
        )
    return (folder / WEIGHTS).is_file() or finished(folder, config)


def _load(folder: Path) -> Denoiser:
    """The network of a finished run, whose weights are then kept in one file."""
    weights = folder / WEIGHTS
    if weights.is_file():
        return Denoiser.load(weights)
    denoiser = Denoiser.load(folder)
    denoiser.save(weights)
    return denoiser
