"""One page over the records of all experiments: `python -m experiments.report --results DIR`."""
