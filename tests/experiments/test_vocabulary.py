"""Every option has one name and one meaning in all experiments and commands."""

import importlib
import pkgutil
import re
import warnings
from argparse import Action
from collections.abc import Iterator

import pytest
import tyro
from tyro import conf

import experiments
from experiments.report import __main__ as report
from wne_jax.cli.check import Check
from wne_jax.cli.data import Data
from wne_jax.cli.denoise import Denoise
from wne_jax.cli.package import Package
from wne_jax.cli.train import Train

SCRIPTS = sorted(
    module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg
)
COMMANDS = {"check": Check, "data": Data, "denoise": Denoise, "package": Package, "train": Train}

OWN = {
    "--out": "what a command writes is a file, a folder, or a run",
    "--networks": "for the report a further folder of networks, which it reads",
    "--noise": "what training adds, or what is assumed of the images to denoise",
    "--statistics": "one, or none, of a network that is trained",
}
"""Options of commands whose meaning differs, and why."""

OTHER_DEFAULTS = {
    *("--arms", "--backbone", "--backbones", "--train-sigmas-255", "--test-sigmas-255"),
    *("--data", "--test", "--repeats", "--images", "--size", "--steps", "--rounds", "--batch"),
    *("--patch", "--networks", "--trained-sigma-255", "--weights", "--crop"),
}
"""Options whose defaults each experiment chooses; their help says so."""

OTHER_SIGMAS = {"--sigma-distribution", "--sigma"}
"""A law of levels, and the level in the units of a file that `denoise` reads."""

FORBIDDEN = {
    *("--runs", "--train", "--no-train", "--levels-255", "--level-255", "--train-255"),
    *("--train-levels-255", "--range-255", "--sigmas-255", "--detail", "--cap"),
}
"""Former names, which were ambiguous or synonyms."""


def actions(options: type) -> Iterator[tuple[str, Action]]:
    """The options of a parser by name."""
    config = (conf.OmitArgPrefixes, conf.OmitSubcommandPrefixes, conf.FlagCreatePairsOff)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(options, config=config)
    for action in parser._actions:
        for name in action.option_strings:
            if name.startswith("--") and name != "--help":
                yield name, action


def meaning(action: Action) -> str:
    """The help text without the default."""
    text = " ".join(str(action.help).split())
    return re.sub(r" \((default|required).*$", "", text).rstrip(".")


def default(action: Action) -> str:
    found = re.search(r"\(default: (\S*)\)$", " ".join(str(action.help).split()))
    return found[1] if found else ""


def kind(action: Action) -> str:
    """The type of a value; optional and repeated values and all choices count as the same type."""
    names = re.findall(
        r"[A-Z]{3,}(?:\|[A-Z:]+)*|\{[a-z]", str(action.metavar).replace("{None}", "")
    )
    return "choice" if any(name[0] == "{" for name in names) else "/".join(sorted(set(names)))


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, dict[str, Action]]:
    """The options by name, then by script or command."""
    found: dict[str, dict[str, Action]] = {}
    parsers = {name: importlib.import_module(f"experiments.{name}").Options for name in SCRIPTS}
    for command, options in {**parsers, **COMMANDS, "report": report.Options}.items():
        for name, action in actions(options):
            found.setdefault(name, {})[command] = action
    return found


def test_an_option_has_one_meaning(vocabulary):
    several = {
        name: meanings
        for name, by in vocabulary.items()
        if len(meanings := {meaning(action) for action in by.values()}) > 1
    }
    assert several.keys() <= OWN.keys(), several
    for name in several:  # all experiments agree
        assert len({meaning(a) for c, a in vocabulary[name].items() if c in SCRIPTS}) <= 1


def test_an_option_has_one_type(vocabulary):
    for name, by in vocabulary.items():
        kinds = {kind(action) for command, action in by.items() if action.nargs != 0}
        assert len(kinds) <= 1 or name in OWN or name == "--data", (name, kinds)


def test_an_option_has_one_default_unless_experiments_choose_it(vocabulary):
    for name, by in vocabulary.items():
        defaults = {default(action) for command, action in by.items() if command in SCRIPTS}
        assert len(defaults) <= 1 or name in OTHER_DEFAULTS, (name, defaults)


def test_shared_names_exist_and_old_ones_do_not(vocabulary):
    shared = ("--train-sigmas-255", "--test-sigmas-255", "--networks", "--workdir", "--data")
    assert {*shared, "--test", "--preset", "--seed", "--repeats"} <= vocabulary.keys()
    assert not FORBIDDEN & vocabulary.keys()
    assert {*vocabulary["--sigma-255"]} == {"denoise"}  # one level, of the input
    for script in SCRIPTS:
        assert {"--workdir", "--overwrite"} <= {n for n, by in vocabulary.items() if script in by}


def test_a_noise_level_is_a_sigma_in_8_bit_units(vocabulary):
    assert not [name for name in vocabulary if "level" in name]
    levels = [name for name in vocabulary if "sigma" in name and name not in OTHER_SIGMAS]
    assert all(re.search("sigmas?-255$", name) for name in levels)
