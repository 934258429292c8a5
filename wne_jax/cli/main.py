"""The commands `python -m wne_jax denoise`, `check`, `train`, `package` and `data`."""

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
        arguments: Command line arguments (default: `sys.argv`).

    Returns:
        The exit code: 0, 1 for a broken claim of equivariance, 2 for a user error, 130 if interrupted.

    Raises:
        SystemExit: Help or unknown options (code 0 or 2), or training stopped by a signal (130, 143).
    """
    command: Any = tyro.cli(
        Command,  # type: ignore[arg-type]
        args=arguments,
        prog="python -m wne_jax",
        description="Denoise images, check a model's equivariance, train a model.",
        config=(conf.OmitArgPrefixes, conf.OmitSubcommandPrefixes, conf.FlagCreatePairsOff),
    )
    return run_command(command)
