"""Restormer denoisers: the official ones, and those of Saied & Fleuret (same names with prefix `model.`)."""

import math
from typing import Any

import numpy as np

from wne_jax.config import ModelConfig
from wne_jax.weights.layouts._table import (
    ASSUMED_WRAPPER,
    Entry,
    Plan,
    Shapes,
    convolution_entries,
    same,
)


def restormer(shapes: Shapes) -> Plan | None:
    """Recognise Restormer with a global residual, of any size.

    Args:
        shapes: The checkpoint's tensors.

    Returns:
        The plan, or None for other layouts, including dual pixels and convolutions with biases.

    References:
        Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022.
        Saied & Fleuret, "Normalization Equivariance for Arbitrary Backbones", 2026.
    """
    prefix = "model." if "model.patch_embed.proj.weight" in shapes else ""
    first, last = f"{prefix}patch_embed.proj.weight", f"{prefix}output.weight"
    if not {first, last, f"{prefix}latent.0.attn.temperature"} <= shapes.keys():
        return None
    dim, channels = shapes[first][:2]
    if shapes[last][0] != channels or f"{prefix}patch_embed.proj.bias" in shapes:
        return None
    if f"{prefix}skip_conv.weight" in shapes:
        return None

    chains = [f"{prefix}encoder_level1"]
    while f"{prefix}encoder_level{len(chains) + 1}.0.attn.temperature" in shapes:
        chains.append(f"{prefix}encoder_level{len(chains) + 1}")
    chains.append(f"{prefix}latent")
    refinement = _length(shapes, f"{prefix}refinement")
    hidden = [shapes[f"{chain}.0.ffn.project_out.weight"][1] for chain in chains]
    norm_bias = f"{chains[0]}.0.norm1.body.bias" in shapes
    options: dict[str, Any] = {
        "dim": dim,
        "blocks": [_length(shapes, chain) for chain in chains],
        "heads": [shapes[f"{chain}.0.attn.temperature"][0] for chain in chains],
        "refinement_blocks": refinement,
        "expansion": _expansion([dim * 2**level for level in range(len(chains))], hidden),
        "norm_bias": norm_bias,
    }
    config = ModelConfig("restormer", options, wrapper="wne" if prefix else None)
    entries = _entries(prefix, options["blocks"], refinement, norm_bias=norm_bias)
    return Plan(config, entries, note=ASSUMED_WRAPPER if prefix else None)


def _length(shapes: Shapes, chain: str) -> int:
    """Number of blocks of a chain."""
    length = 0
    while f"{chain}.{length}.attn.temperature" in shapes:
        length += 1
    return length


def _expansion(channels: list[int], hidden: list[int]) -> float:
    """The shortest decimal expansion factor whose rounded-down products are the hidden channels."""
    low = max(h / c for c, h in zip(channels, hidden))
    for digits in range(17):
        expansion = math.ceil(low * 10**digits) / 10**digits
        if [int(c * expansion) for c in channels] == hidden:
            return expansion
    return low


def _entries(prefix: str, blocks: list[int], refinement: int, *, norm_bias: bool) -> list[Entry]:
    """The table of tensors; the file counts levels from 1, we count from 0."""
    rows = [(f"{prefix}patch_embed.proj", "patch_embed"), (f"{prefix}output", "output")]
    chains = [("latent", "latent", blocks[-1]), ("refinement", "refinement", refinement)]
    for level, length in enumerate(blocks[:-1]):
        chains.append((f"encoder_level{level + 1}", f"encoder_{level}", length))
        chains.append((f"decoder_level{level + 1}", f"decoder_{level}", length))
        rows.append((f"{prefix}down{level + 1}_{level + 2}.body.0", f"down_{level}"))
        rows.append((f"{prefix}up{level + 2}_{level + 1}.body.0", f"up_{level}"))
        if level > 0:
            rows.append((f"{prefix}reduce_chan_level{level + 1}", f"reduce_{level}"))
    entries = [
        e for source, target in rows for e in convolution_entries(source, target, bias=False)
    ]
    for source, target, length in chains:
        for i in range(length):
            entries += _block(f"{prefix}{source}.{i}", f"{target}_{i}", norm_bias)
    return entries


def _block(source: str, target: str, norm_bias: bool) -> list[Entry]:
    """One transformer block."""
    temperature = ("params", target, "attention", "temperature")
    entries = [Entry(f"{source}.attn.temperature", temperature, np.ravel)]
    for name, ours in (("qkv", "qkv"), ("qkv_dwconv", "qkv_depthwise"), ("project_out", "out")):
        entries += convolution_entries(
            f"{source}.attn.{name}", target, "attention", ours, bias=False
        )
    for name, ours in (("project_in", "in"), ("dwconv", "depthwise"), ("project_out", "out")):
        entries += convolution_entries(
            f"{source}.ffn.{name}", target, "feed_forward", ours, bias=False
        )
    for i in range(2):
        norm, path = f"{source}.norm{i + 1}.body", ("params", target, f"norm_{i}")
        entries.append(Entry(f"{norm}.weight", (*path, "scale"), same))
        if norm_bias:
            entries.append(Entry(f"{norm}.bias", (*path, "bias"), same))
    return entries
