"""Several sources in one string, each with its share: `tfds:div2k@3,folder:BSD400@1`."""

import math
import re
from typing import NamedTuple

_WEIGHTED = re.compile(r"(.+)@\s*([-+.\w]+)")


class Part(NamedTuple):
    """One source of a mixture.

    Attributes:
        spec: The source, as `wne_jax.data.sources` has it.
        weight: Its share, relative to the others'; None: every image of the mixture is equally likely.
    """

    spec: str
    weight: float | None


def parse_mixture(data: str, *, argument: str = "data") -> list[Part]:
    """Split `source,source` or `source@weight,source@weight` into its parts.

    A weight is what follows the last `@`, if that is a number; a path may hold other `@` signs, but no comma.

    >>> parse_mixture("tfds:div2k@3, folder:BSD400@1")
    [Part(spec='tfds:div2k', weight=3.0), Part(spec='folder:BSD400', weight=1.0)]
    >>> parse_mixture("embedded")
    [Part(spec='embedded', weight=None)]

    Args:
        data: One source or more, separated by commas.
        argument: What messages call it: kinds of noise are mixed in the same way.

    Returns:
        The parts, in their order.

    Raises:
        ValueError: A part is empty, or given twice; a weight is not positive and finite; some parts have a
            weight and others none.
    """
    parts = [_parse_part(text.strip(), f"{argument} is {data!r}") for text in data.split(",")]
    specs = [part.spec for part in parts]
    for spec in specs:
        if specs.count(spec) > 1:
            raise ValueError(
                f"{argument} is {data!r}: {spec} is given twice; give it once, by weight"
            )
    bare = [part.spec for part in parts if part.weight is None]
    if 0 < len(bare) < len(parts):
        raise ValueError(
            f"{argument} is {data!r}: {', '.join(bare)} has no weight; write @NUMBER behind all parts or none"
        )
    return parts


def _parse_part(text: str, given: str) -> Part:
    if not text:
        raise ValueError(f"{given}: a part is empty; write PART,PART")
    match = _WEIGHTED.fullmatch(text)
    try:
        weight = float(match[2]) if match else None
    except ValueError:  # the `@` belongs to the path
        weight = None
    if match is None or weight is None:
        return Part(text, None)
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"{given}: the weight of {match[1]} must be positive and finite")
    return Part(match[1], weight)
