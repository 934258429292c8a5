"""What experiments share that test trained networks over noise levels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from experiments import _cli, _comparison, _published, _runs
from experiments._arms import ARMS, Arm
from wne_jax._internal.files import write_atomically
from wne_jax.data import NamedImage
from wne_jax.data.mixtures import parse_mixture
from wne_jax.data.sources import kind_of
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import Denoise
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training import TrainConfig

SHOWN = (5.0, 10.0, 25.0, 50.0, 75.0, 100.0)
"""Test levels of the tables."""

INTERPOLATED = (
    "Published figures are read off the published sweep; at levels that it lacks they are interpolated, "
    "linearly in the logarithm of sigma."
)
"""What stands below tables with figures of `published_at`."""


@dataclass(frozen=True, kw_only=True)
class Sweep(_runs.Runs):
    """Trained networks, tested on images over noise levels; a base of options."""

    test: tuple[str, ...] | None = None
    """Test images: embedded, folder:PATH, tfds:NAME, ...; by default the preset's first set."""
    test_sigmas_255: tuple[float, ...] | None = None
    """Test noise levels in 8-bit units; by default the preset's and those of the tables."""

    def sets(self) -> dict[str, list[NamedImage]]:
        """The test images, by the names of their sets."""
        return _cli.load_sets(self.test or self.sizes.test[:1], data_dir=self.data_dir)

    def levels(self, trained_255: float) -> list[float]:
        """The levels of the test, a training level among them."""
        return sorted(
            {*(self.test_sigmas_255 or (*self.sizes.test_sigmas_255, *SHOWN)), trained_255}
        )

    def shown(self, trained_255: float) -> list[float]:
        """The levels of the tables: all that were asked for, or few."""
        levels = self.levels(trained_255)
        return levels if self.test_sigmas_255 else [s for s in levels if s in (*SHOWN, trained_255)]


def trained(
    options: _runs.Runs, wanted: Mapping[str, tuple[Arm, TrainConfig]], workdir: Path
) -> tuple[dict[str, Denoiser], dict[str, Any]]:
    """The networks of an experiment, and the provenance of its folder, which is written when they are there.

    A folder of older results gets the new provenance: what is in it is computed anew.

    Raises:
        FileExistsError: The folder holds results and `resume` is not set; nothing was trained.
        FileNotFoundError: Nothing is to be trained, and there is no folder of trained networks.
        ValueError: A folder of `runs` holds the run of another configuration; nothing was trained.
    """
    if (workdir / "config.json").exists() and not options.resume:
        raise FileExistsError(
            f"{workdir} holds results already: --resume replaces them, --workdir names another folder"
        )
    if wanted and not options.train and not options.runs.is_dir():
        raise FileNotFoundError(f"there is no folder {options.runs} of trained networks")
    denoisers = _runs.networks(options, wanted)
    source = results.provenance(options)
    workdir.mkdir(parents=True, exist_ok=True)
    results.write_json(source, workdir / "config.json")
    return denoisers, source


def folder_of(name: str, backbone: str) -> Path:
    """The folder of an experiment that compares one backbone: another's is another.

    Example:
        >>> folder_of("robustness", "dncnn").name
        'robustness'
        >>> folder_of("robustness", "swinir").name
        'robustness-swinir'
    """
    return Path("runs", name if backbone == "dncnn" else f"{name}-{backbone}")


def at(model: str, level: float) -> str:
    """The label of a network that was trained at one of several levels."""
    return f"{model}, trained at {level:g}"


def functions_at(
    denoisers: Mapping[str, Denoiser], models: Iterable[str], level: float
) -> dict[str, Denoise]:
    """By model, the functions of those networks of a training level that there are."""
    return {m: denoisers[at(m, level)].function for m in models if at(m, level) in denoisers}


def central(image: NamedImage, size: int) -> NamedImage:
    """The central square of an image."""
    height, width, _ = image.pixels.shape
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return image._replace(pixels=image.pixels[top : top + size, left : left + size])


def published_curve(name: str, set_name: str) -> list[_published.Record]:
    """A published sweep where it can be compared: on Set12, and where there is one of that name.

    Example:
        >>> len(published_curve("dncnn_sigma25", "Set12")), published_curve("dncnn_sigma25", "embedded")
        (84, [])
    """
    known = set_name == "Set12" and name in get_args(_published.Sweep)
    return _published.sweep(name) if known else []


def published_at(curve: Sequence[_published.Record], arm: str, sigma_255: float) -> float | None:
    """The PSNR of a published curve at any level between its ends.

    Between two of its 21 levels it is interpolated, linearly in the logarithm of sigma, in which the curves
    are nearly straight.

    Returns:
        The PSNR; None outside of the curve, or where the arm has none.

    Example:
        >>> round(published_at(_published.sweep("dncnn_sigma25"), "wne", 10), 2)
        34.15
    """
    points = sorted((np.log(r["sigma_255"]), r["psnr"]) for r in curve if r["model"] == arm)
    if not points or not points[0][0] - 1e-9 <= np.log(sigma_255) <= points[-1][0] + 1e-9:
        return None
    return float(np.interp(np.log(sigma_255), *zip(*points)))


def level_cells(
    result: str,
    records: Iterable[results.Record],
    value: str,
    *,
    arms: Sequence[str],
    levels: Sequence[float],
    published: Sequence[_published.Record] = (),
) -> list[_comparison.Cell]:
    """A row for each arm, a column for each level: means of what was measured, beside a published curve."""
    means = results.mean_over(records, value, by=["model", "sigma_255"])
    return [
        _comparison.cell(
            result, arm, f"{level:g}", means.get((arm, level)), published_at(published, arm, level)
        )
        for arm in arms
        for level in levels
    ]


def other_trainings(arms: Iterable[Arm]) -> list[str]:
    """What titles do not say: arms that are trained at levels of their own.

    Example:
        >>> other_trainings(["wne", "multi-noise"])
        ['multi-noise is trained at 0 to 55, whatever the title says.']
    """
    own = {arm: ARMS[arm].get("train", {}).get("sigma_255") for arm in arms}
    return [
        f"{arm} is trained at {' to '.join(f'{sigma:g}' for sigma in levels)}, "
        "whatever the title says."
        for arm, levels in own.items()
        if levels
    ]


def notes(cells: Iterable[_comparison.Cell], *texts: str) -> dict[str, str]:
    """A section of `table.md`: how its tables are to be read.

    Args:
        cells: Those of the tables; where some are published, that `published_at` interpolates is said.
        texts: Further notes, a sentence or more each.

    Example:
        >>> notes([], "Of two."), notes([])
        ({'Notes': '- Of two.'}, {})
    """
    published = any(c["published"] != "" for c in cells)
    said = [*([INTERPOLATED] if published else []), *texts]
    return {"Notes": "\n".join(f"- {text}" for text in said)} if said else {}


def against_first(values: Mapping[str, float | str]) -> str:
    """The first value, and what the others have more; those that are empty are left out.

    Example:
        >>> against_first({"baseline": 30.31, "wne": 30.18, "ne-arch": ""})
        'baseline 30.31, wne -0.13'
    """
    (first, reference), *others = values.items()
    if reference == "":
        return f"{first} not run"
    gains = [f"{name} {value - reference:+.2f}" for name, value in others if value != ""]
    return ", ".join([f"{first} {reference:.2f}", *gains])


def budgets(configs: Mapping[str, TrainConfig]) -> str:
    """What networks are trained with: a Markdown list, an item for each kind of training.

    Example:
        >>> text = budgets({arm: _runs.Runs().config(arm, 25) for arm in ("baseline", "wne")})
        >>> text.split(", gaussian")[0]
        '- baseline, wne: dncnn (depth 6, features 32), 750 steps of 16 crops 40x40 of embedded'
        >>> budgets({"wne-capped": _runs.Runs().config("wne-capped", 25)}).split(", 750")[0]
        '- wne-capped: dncnn (depth 6, features 32, base of 4 pixels, cap 1.3)'
    """
    kinds: dict[str, list[str]] = {}
    for label, config in configs.items():
        model, levels = config.model, config.sigma_255
        sizes = [f"{name} {value}" for name, value in model.options.items() if name != "mode"]
        sizes += [f"base of {model.detail:g} pixels"] if model.detail is not None else []
        sizes += [f"cap {model.cap:g}"] if model.cap is not None else []
        clean = all(kind_of(part.spec) == "clean" for part in parse_mixture(config.data))
        span = f" from {levels[0]:g} to {levels[-1]:g}" if len(levels) > 1 else ""
        noise = f"{config.noise} noise{span}, {config.objective}, " if clean else ""
        text = (
            f"{model.backbone} ({', '.join(sizes) or 'published size'}), {config.steps:,} steps of "
            f"{config.batch} crops {config.patch}x{config.patch} of {config.data}, {noise}{config.loss}, "
            f"learning rate {config.optimizer.learning_rate:g} {config.optimizer.schedule}, "
            f"seed {config.seed}"
        )
        kinds.setdefault(text, []).append(label)
    return "\n".join(f"- {', '.join(labels)}: {text}" for text, labels in kinds.items())


def write_table(
    workdir: Path,
    title: str,
    tables: Mapping[str, str],
    configs: Mapping[str, TrainConfig],
    source: Mapping[str, Any],
) -> None:
    """Write `table.md`: tables by their titles, what the networks were trained with, where it comes from."""
    sections = [f"# {title}", "Ours in bold; in brackets the published figure and the difference."]
    for name, table in tables.items():
        sections += [f"## {name}", table]
    sections += [
        "## Networks",
        f"What each is trained with. Cells of networks that are not there say {_comparison.NOT_RUN!r}.",
        budgets(configs),
        results.footer(source),
    ]
    write_atomically(workdir / "table.md", "\n\n".join(sections) + "\n")
