"""`python -m wne_jax`: the commands."""

import sys

from wne_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
