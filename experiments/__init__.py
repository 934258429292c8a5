"""One script a result: `python -m experiments.NAME --help`."""
