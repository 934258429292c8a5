"""Several weighted sources in one string: `tfds:div2k@3,folder:BSD400@1`."""

import math
import re
from typing import NamedTuple

_WEIGHTED = re.compile(r"(.+)@\s*([-+.\w]+)")


class Part(NamedTuple):
    """One source of a mixture.

    Attributes:
        spec: The source; see `wne_jax.data.sources`.
        weight: Its weight relative to the others; None makes every image of the mixture equally likely.
    """

    spec: str
    weight: float | None


def parse_mixture(data: str, *, argument: str = "data") -> list[Part]:
    """Split `source,source` or `source@weight,source@weight` into its parts.

    A number after the last `@` is a weight. A path may contain other `@` signs, but no comma.

    >>> parse_mixture("tfds:div2k@3, folder:BSD400@1")
    [Part(spec='tfds:div2k', weight=3.0), Part(spec='folder:BSD400', weight=1.0)]
    >>> parse_mixture("embedded")
    [Part(spec='embedded', weight=None)]

    Args:
        data: One or more sources, separated by commas.
        argument: The name of `data` in messages, since kinds of noise are mixed in the same way.

    Returns:
        The parts, in order.

    Raises:
        ValueError: A part is empty or occurs twice, a weight is not positive and finite, or only some parts
            have a weight.
    """
    parts = [_parse_part(text.strip(), f"{argument} is {data!r}") for text in data.split(",")]
    specs = [part.spec for part in parts]
    for spec in specs:
        if specs.count(spec) > 1:
            raise ValueError(
                f"{argument} is {data!r}: {spec} occurs twice; write it once, with a weight"
            )
    bare = [part.spec for part in parts if part.weight is None]
    if 0 < len(bare) < len(parts):
        raise ValueError(
            f"{argument} is {data!r}: {', '.join(bare)} has no weight; write @NUMBER after all parts or none"
        )
    return parts


def _parse_part(text: str, given: str) -> Part:
    if not text:
        raise ValueError(f"{given}: a part is empty; write PART,PART")
    match = _WEIGHTED.fullmatch(text)
    try:
        weight = float(match[2]) if match else None
    except ValueError:  # the `@` is part of the path
        weight = None
    if match is None or weight is None:
        return Part(text, None)
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"{given}: the weight of {match[1]} must be positive and finite")
    return Part(match[1], weight)
