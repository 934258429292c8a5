"""An option has one name and one meaning, whichever command or experiment has it."""

import dataclasses
import importlib
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wne_jax.cli.check import Check
from wne_jax.cli.data import Data
from wne_jax.cli.denoise import Denoise
from wne_jax.cli.package import Package
from wne_jax.cli.train import Train

ROOT = Path(__file__).parents[1]
COMMANDS = (Check, Data, Denoise, Package, Train)

ONE_TYPE = {
    "coordinator", "corpus", "data_dir", "networks", "overwrite", "parallel", "process_id", "processes",
    "repeats", "resume", "seed", "sigma_255", "test_sigmas_255", "trained_sigma_255", "workdir",
}  # fmt: skip
"""Options that mean the same to all that have them."""

OTHER_NAMES = {
    "runs": "networks", "level_255": "sigma_255", "levels_255": "test_sigmas_255", "train_255":
    "train_sigmas_255", "train_levels_255": "train_sigmas_255", "detail": "smooth_base", "cap": "wiener_cap",
    "out_dir": "workdir", "no_train": "stage", "repeat": "repeats", "force": "overwrite",
}  # fmt: skip
"""What an option must not be called, and its name."""


def scripts() -> dict[str, Any]:
    """The experiments by name, those with options."""
    names = [f.stem for f in sorted((ROOT / "experiments").glob("*.py")) if f.stem[0] != "_"]
    found = {name: importlib.import_module(f"experiments.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "Options")}


def options(cls: type) -> Iterator[tuple[str, Any]]:
    """Names and types of the options of a parser, those of its groups included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        yield from options(kind) if dataclasses.is_dataclass(kind) else [(field.name, kind)]


def parsers() -> dict[str, dict[str, Any]]:
    """The options of every command and experiment."""
    commands = {cls.__name__: cls for cls in COMMANDS}
    experiments = {name: module.Options for name, module in scripts().items()}
    return {name: dict(options(cls)) for name, cls in (commands | experiments).items()}


def without_none(kind: Any) -> Any:
    """A type, whether or not it may be left out."""
    kinds = [k for k in typing.get_args(kind) if k is not type(None)]
    return kinds[0] if type(None) in typing.get_args(kind) and len(kinds) == 1 else kind


def test_options_that_mean_the_same_have_one_type():
    types: dict[str, dict[Any, list[str]]] = defaultdict(lambda: defaultdict(list))
    for parser, found in parsers().items():
        for name in ONE_TYPE & found.keys():
            types[name][without_none(found[name])].append(parser)
    assert len(parsers()) > 15
    assert {name: dict(kinds) for name, kinds in types.items() if len(kinds) > 1} == {}


def test_a_noise_level_is_a_sigma_in_8_bit_units():
    found = {name for parser in parsers().values() for name in parser}
    assert all(name.endswith(("sigma_255", "sigmas_255")) for name in found if "sigma" in name)
    assert not [name for name in found if "level" in name]


def test_no_option_goes_by_another_name():
    wrong = [(p, name) for p, found in parsers().items() for name in found if name in OTHER_NAMES]
    assert wrong == []
