"""`python -m wne_jax`: the commands."""

import sys

from wne_jax._internal.extras import extra

if __name__ == "__main__":
    try:
        with extra("cli", "commands"):
            from wne_jax.cli.main import main
    except ImportError as error:
        sys.exit(f"error: {error}")
    sys.exit(main())
