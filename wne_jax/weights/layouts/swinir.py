"""SwinIR denoisers: the official ones, and those of Saied & Fleuret (same names with prefix `model.`)."""

import math
from typing import Any

from wne_jax.config import ModelConfig
from wne_jax.weights.layouts._table import (
    ASSUMED_WRAPPER,
    Entry,
    Plan,
    Shapes,
    convolution_entries,
    linear,
    same,
)

_RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""The mean that the official network subtracts from colour images; a constant of its code, not a tensor."""

_WINDOW_OF_JPEG = 7
"""Official files with this window size remove JPEG artifacts in the range 0 to 255; not denoisers."""


def swinir(shapes: Shapes) -> Plan | None:
    """Recognise SwinIR without upsampling, of any size.

    Args:
        shapes: The checkpoint's tensors.

    Returns:
        The plan, or None for other layouts, including groups of unequal depth and window size 7 (JPEG).

    References:
        Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV Workshops 2021.
        Saied & Fleuret, "Normalization Equivariance for Arbitrary Backbones", 2026.
    """
    prefix = "model." if "model.conv_first.weight" in shapes else ""
    first, block = f"{prefix}conv_first.weight", _block(prefix, 0, 0)
    table, hidden = f"{block}.attn.relative_position_bias_table", f"{block}.mlp.fc1.weight"
    if not all(name in shapes for name in (first, table, hidden)):
        return None

    depths = _depths(shapes, prefix)
    features, channels = shapes[first][:2]
    displacements, heads = shapes[table]
    window = (math.isqrt(displacements) + 1) // 2
    if len(set(depths)) > 1 or window == _WINDOW_OF_JPEG:
        return None
    patch_norm = f"{prefix}patch_embed.norm.weight" in shapes
    options: dict[str, Any] = {
        "groups": len(depths), "blocks": depths[0], "features": features, "heads": heads,
        "window": window, "mlp_ratio": shapes[hidden][0] / features, "patch_norm": patch_norm,
    }  # fmt: skip
    if channels == len(_RGB_MEAN):
        options["mean"] = _RGB_MEAN
    config = ModelConfig("swinir", options, wrapper="wne" if prefix else None)
    buffers = (s for s in shapes if s.endswith((".relative_position_index", ".attn_mask")))
    return Plan(
        config,
        _entries(prefix, depths, patch_norm=patch_norm),
        frozenset(buffers),
        note=ASSUMED_WRAPPER if prefix else None,
    )


def _block(prefix: str, i: int, j: int) -> str:
    return f"{prefix}layers.{i}.residual_group.blocks.{j}"


def _depths(shapes: Shapes, prefix: str) -> list[int]:
    """Number of blocks of each group."""
    depths: list[int] = []
    while f"{_block(prefix, len(depths), 0)}.norm1.weight" in shapes:
        i, j = len(depths), 1
        while f"{_block(prefix, i, j)}.norm1.weight" in shapes:
            j += 1
        depths.append(j)
    return depths


def _entries(prefix: str, depths: list[int], *, patch_norm: bool) -> list[Entry]:
    """The table of tensors."""
    entries = []
    for name in ("first", "last"):
        entries += convolution_entries(f"{prefix}conv_{name}", f"conv_{name}", bias=True)
    entries += convolution_entries(f"{prefix}conv_after_body", "conv_body", bias=True)
    entries += _norm(f"{prefix}patch_embed.norm", "norm_first") if patch_norm else []
    entries += _norm(f"{prefix}norm", "norm_last")
    for i, depth in enumerate(depths):
        entries += convolution_entries(f"{prefix}layers.{i}.conv", f"conv_{i}", bias=True)
        for j in range(depth):
            source, target = _block(prefix, i, j), f"block_{i}_{j}"
            bias = ("params", target, "attention", "relative_bias")
            entries.append(Entry(f"{source}.attn.relative_position_bias_table", bias, same))
            entries += _dense(f"{source}.attn.qkv", target, "attention", "qkv")
            entries += _dense(f"{source}.attn.proj", target, "attention", "projection")
            entries += _dense(f"{source}.mlp.fc1", target, "mlp_in")
            entries += _dense(f"{source}.mlp.fc2", target, "mlp_out")
            entries += _norm(f"{source}.norm1", target, "norm_attention")
            entries += _norm(f"{source}.norm2", target, "norm_mlp")
    return entries


def _dense(source: str, *target: str) -> list[Entry]:
    return [
        Entry(f"{source}.weight", ("params", *target, "kernel"), linear),
        Entry(f"{source}.bias", ("params", *target, "bias"), same),
    ]


def _norm(source: str, *target: str) -> list[Entry]:
    return [
        Entry(f"{source}.weight", ("params", *target, "scale"), same),
        Entry(f"{source}.bias", ("params", *target, "bias"), same),
    ]
