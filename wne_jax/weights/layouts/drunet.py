"""DRUNet as published by KAIR and DPIR, and by Herbreteau et al. in three modes."""

from collections.abc import Callable
from functools import partial
from itertools import count, takewhile
from typing import NamedTuple

import numpy as np

from wne_jax.config import ModelConfig
from wne_jax.weights.layouts._affine import affine_convolution
from wne_jax.weights.layouts._table import Entry, Plan, Shapes, convolution_entries, same

_PADDING = (
    "sides that are not a multiple of 8 are padded by reflection here, but with the mean of the whole batch "
    "by its authors: at the borders of such images results differ by 16 to 36 %"
)
"""The note on the DRUNet of Herbreteau et al."""


def kair_drunet(shapes: Shapes) -> Plan | None:
    """`m_down1.0.res.0.weight`, ..., `m_up1.0.weight`: levels are counted from 1, finest first."""
    names = _Names("res", lambda level: f"m_down{level + 1}", lambda level, _: f"m_up{level + 1}")
    return _plan(shapes, names)


def herbreteau_drunet(shapes: Shapes) -> Plan | None:
    """`m_down.0.0.m_res.0.weight`, ..., `m_up.0.0.weight`: `m_up` is counted from the coarsest level."""
    names = _Names(
        "m_res", lambda level: f"m_down.{level}", lambda level, last: f"m_up.{last - 1 - level}"
    )
    plan = _plan(shapes, names)
    return None if plan is None else plan._replace(note=_PADDING)


class _Names(NamedTuple):
    """The names of a block's body and of both sides of a level in a layout."""

    inner: str
    down: Callable[[int], str]
    up: Callable[[int, int], str]

    def kernel(self, chain: str, block: int) -> str:
        return f"{chain}.{block}.{self.inner}.0.weight"


def _plan(shapes: Shapes, names: _Names) -> Plan | None:
    if not {"m_head.weight", "m_tail.weight", names.kernel("m_body", 0)} <= shapes.keys():
        return None
    blocks = _length(lambda i: names.kernel("m_body", i) in shapes)
    last = _length(lambda level: names.kernel(names.down(level), 0) in shapes)
    chains = [*map(names.down, range(last)), "m_body"]
    affine, bias = f"res.{last}.alpha" in shapes, "m_head.bias" in shapes
    mode = "ordinary" if bias else "scale-equivariant"
    conditioned = shapes["m_head.weight"][1] == shapes["m_tail.weight"][0] + 1
    config = ModelConfig(
        "drunet",
        {
            "features": [shapes[names.kernel(chain, 0)][0] for chain in chains],
            "blocks": blocks,
            "mode": "normalization-equivariant" if affine else mode,
            "conditioned": conditioned,
        },
    )

    rows = _Rows(names.inner, blocks, affine, bias)
    entries = rows.layer("m_head", "head", exempt=int(conditioned)) + rows.layer("m_tail", "tail")
    for level in range(last):
        down, up = names.down(level), names.up(level, last)
        entries += rows.chain(down, 0, f"encoder_{level}")
        entries += rows.layer(f"{down}.{blocks}", f"down_{level}")
        entries += rows.up(f"{up}.0", f"up_{level}")
        entries += rows.chain(up, 1, f"decoder_{level}")
    entries += rows.chain("m_body", 0, "body")
    for level in range(last + 1):  # their sums are also counted from the coarsest level
        entries += rows.sum(f"res.{last - level}", f"sum_{level}")
    return Plan(config, entries)


class _Rows(NamedTuple):
    """The rows of the table for each part of the network."""

    inner: str
    blocks: int
    affine: bool
    bias: bool

    def layer(
        self, source: str, *target: str, exempt: int = 0, before: bool = False, after: bool = False
    ) -> list[Entry]:
        if not self.affine:
            return convolution_entries(source, *target, bias=self.bias)
        convert = partial(
            affine_convolution, exempt=exempt, sorted_before=before, sorted_after=after
        )
        return [Entry(f"{source}.weight", ("params", *target, "kernel"), convert)]

    def up(self, source: str, target: str) -> list[Entry]:
        if self.affine:
            return self.layer(f"{source}.conv1x1", target, "conv")
        kernel = Entry(f"{source}.weight", ("params", target, "conv", "kernel"), _transposed)
        return [kernel, Entry(f"{source}.bias", ("params", target, "bias"), same)][: 1 + self.bias]

    def sum(self, source: str, *target: str) -> list[Entry]:
        return [Entry(f"{source}.alpha", ("params", *target, "t"), _scalar)] if self.affine else []

    def chain(self, source: str, first: int, target: str) -> list[Entry]:
        """Residual blocks; only between the two convolutions of a block are channels sorted."""
        entries = []
        for i in range(self.blocks):
            block, name = f"{source}.{first + i}", f"{target}_{i}"
            entries += self.layer(f"{block}.{self.inner}.0", name, "conv_0", after=True)
            entries += self.layer(f"{block}.{self.inner}.2", name, "conv_1", before=True)
            entries += self.sum(f"{block}.sum", name, "sum")
        return entries


def _length(exists: Callable[[int], bool]) -> int:
    """The number of consecutive indices 0, 1, 2, ... that exist."""
    return sum(1 for _ in takewhile(exists, count()))


def _transposed(tensor: np.ndarray) -> np.ndarray:
    """Convert a transposed convolution `[in, out, 2, 2]` to a 1 x 1 convolution before `pixel_shuffle`."""
    return tensor.reshape(1, 1, len(tensor), -1)


def _scalar(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(())
