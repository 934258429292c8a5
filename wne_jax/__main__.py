"""`python -m wne_jax`: the commands."""

import os
import sys

from wne_jax._internal.extras import extra


def _exit(code: int) -> None:
    """End the process; after a signal at once, since what is being computed would meet a Python that ends."""
    if code <= 128:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        with extra("cli", "commands"):
            from wne_jax.cli.main import main
    except ImportError as error:
        sys.exit(f"error: {error}")
    try:
        status = main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    _exit(status)
