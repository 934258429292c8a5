"""One page with the results of all experiments: `python -m experiments.report --results DIR`."""
