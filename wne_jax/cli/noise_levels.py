"""Training noise levels on the command line: `25` is one level, `2:55` a range."""

from collections.abc import Sequence
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec


def parse_level(text: str) -> tuple[float, ...]:
    """One level, or the two ends of a range, in 8-bit units.

    Args:
        text: `SIGMA` or `LOW:HIGH`.

    Raises:
        ValueError: The text is neither.

    Example:
        >>> parse_level("25"), parse_level("2:55")
        ((25.0,), (2.0, 55.0))
    """
    try:
        level = tuple(float(part) for part in text.split(":"))
    except ValueError:
        level = ()
    if len(level) not in (1, 2) or not all(0 <= sigma < float("inf") for sigma in level):
        raise ValueError(
            f"a noise level is one number, or a range LOW:HIGH such as 2:55, not {text!r}"
        )
    if level[0] > level[-1]:
        raise ValueError(f"a range of noise levels is LOW:HIGH, not {text!r}")
    return level


def level_text(level: Sequence[float]) -> str:
    """The inverse of `parse_level`.

    Example:
        >>> level_text((25.0,)), level_text((2.0, 55.0))
        ('25', '2:55')
    """
    return ":".join(f"{sigma:g}" for sigma in level)


def _is_level(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(sigma, int | float) for sigma in value)


Level = Annotated[
    tuple[float, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIGMA|LOW:HIGH",
        instance_from_str=lambda words: parse_level(words[0]),
        is_instance=_is_level,
        str_from_instance=lambda level: [level_text(level)],
    ),
]
"""A training level as an option of a command."""
