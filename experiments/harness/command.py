"""The command line of every experiment: parse options, report errors in one line."""

import signal
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import tyro

from experiments.harness.folders import check_workdir
from experiments.harness.options import Results
from wne_jax._internal.compiler import keep_compiled
from wne_jax.cli.commands import USER_ERRORS, print_line, quiet_libraries
from wne_jax.training import Diverged

Options = TypeVar("Options", bound=Results)


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`.

    A user error exits with code 2 after one line, Ctrl-C with 130, SIGTERM with 143. If the workdir holds
    results, and no option says whether to keep or to replace them, the run ends before anything is computed.

    Args:
        main: The experiment.
        options: Its options class.
        description: Its help text: the docstring of its module.
    """
    keep_compiled()
    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that partial results are removed
    warnings.showwarning = lambda message, *_, **__: print_line("note", message)
    parsed = tyro.cli(
        options, prog=f"python -m experiments.{options.NAME}", description=description
    )
    try:
        if isinstance(parsed, Results):
            check_workdir(parsed)
        main(parsed)
    except (*USER_ERRORS, AssertionError, Diverged) as error:
        print_line("error", error)
        sys.exit(2)
    except KeyboardInterrupt:
        print_line("error", "interrupted")
        sys.exit(130)
