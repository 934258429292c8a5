"""Helper modules of single experiments."""
