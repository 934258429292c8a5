"""What every experiment does at its two ends: read options, and end a mistake in one line."""

import signal
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import tyro

from experiments.harness.folders import refuse_results
from experiments.harness.options import Results
from wne_jax._internal.compiler import keep_compiled
from wne_jax.cli.commands import MISTAKES, quiet_libraries, say
from wne_jax.training import Diverged

Options = TypeVar("Options", bound=Results)


def run(main: Callable[[Options], None], options: type[Options], description: str) -> None:
    """Parse the command line into `options` and call `main`.

    A mistake exits with code 2 after one line, Ctrl-C with 130, SIGTERM with 143. A folder that holds results
    is refused before anything is computed, unless the options say what shall become of them.

    Args:
        main: The experiment.
        options: Its options.
        description: Its help text: the docstring of its module.
    """
    keep_compiled()
    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing half-written stays
    warnings.showwarning = lambda message, *_, **__: say("note", message)
    parsed = tyro.cli(options, description=description)
    try:
        if isinstance(parsed, Results):
            refuse_results(parsed)
        main(parsed)
    except (*MISTAKES, AssertionError, Diverged) as error:
        say("error", error)
        sys.exit(2)
    except KeyboardInterrupt:
        say("error", "interrupted")
        sys.exit(130)
