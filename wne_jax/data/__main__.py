"""`python -m wne_jax.data`: prepare datasets."""

import sys

from wne_jax.cli.data import main

if __name__ == "__main__":
    sys.exit(main())
