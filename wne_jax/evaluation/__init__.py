"""Sweeps over noise levels, records of results, figures."""
