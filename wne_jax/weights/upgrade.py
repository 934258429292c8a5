"""What files of earlier versions hold, in the names of today."""

from typing import TypeVar

Leaf = TypeVar("Leaf")


def upgrade_variables(variables: dict[tuple[str, ...], Leaf]) -> dict[tuple[str, ...], Leaf]:
    """Variables by path, with today's names.

    Example:
        >>> upgrade_variables({("params", "canonical", "last", "bias"): 0})
        {('params', 'rescaled', 'last', 'bias'): 0}
    """
    return {
        ("params", "rescaled", *path[2:]) if path[:2] == ("params", "canonical") else path: leaf
        for path, leaf in variables.items()
    }
