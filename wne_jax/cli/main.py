"""The commands that a user types: `python -m wne_jax denoise`, `check`, `train`, `package` and `data`."""

from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from tyro import conf

from wne_jax.cli.check import Check
from wne_jax.cli.commands import run_command
from wne_jax.cli.data import Data
from wne_jax.cli.denoise import Denoise
from wne_jax.cli.package import Package
from wne_jax.cli.train import Train

Command = (
    Annotated[Denoise, conf.subcommand("denoise")]
    | Annotated[Check, conf.subcommand("check")]
    | Annotated[Train, conf.subcommand("train")]
    | Annotated[Package, conf.subcommand("package")]
    | Annotated[Data, conf.subcommand("data")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line (default: the program's own).

    Returns:
        The exit code: 0, 1 for a claim that is broken, 2 for a mistake, 130 when interrupted.

    Raises:
        SystemExit: Help or misspelt options (code 0 or 2), or a training that a signal stopped (130, 143).
    """
    command: Any = tyro.cli(
        Command,  # type: ignore[arg-type]
        args=arguments,
        prog="python -m wne_jax",
        description="Denoise images, check what a model commutes with, train one of your own.",
        config=(conf.OmitArgPrefixes, conf.OmitSubcommandPrefixes, conf.FlagCreatePairsOff),
    )
    return run_command(command)
