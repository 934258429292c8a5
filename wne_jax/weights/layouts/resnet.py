"""ResNet of torchvision."""

from typing import get_args

from wne_jax.config import ModelConfig
from wne_jax.models.resnet import Depth, blocks
from wne_jax.weights.layouts._table import (
    Entry,
    Plan,
    Shapes,
    batch_norm,
    convolution_entries,
    linear,
    same,
)


def torchvision_resnet(shapes: Shapes) -> Plan | None:
    """`conv1`, `bn1`, `layer1.0.conv1`, ..., `layer2.0.downsample.0`, ..., `fc`."""
    depth = _depth(shapes)
    if depth is None:
        return None
    entries = _normalized("conv1", "bn1", "conv1", "norm1")
    for block in blocks(depth):
        source = block.name.replace("_", ".")
        for i, _ in enumerate(block.body, start=1):
            entries += _normalized(
                f"{source}.conv{i}",
                f"{source}.bn{i}",
                f"{block.name}/conv{i}",
                f"{block.name}/norm{i}",
            )
        if block.skip is not None:
            skip = f"{source}.downsample"
            entries += _normalized(
                f"{skip}.0", f"{skip}.1", f"{block.name}/skip_conv", f"{block.name}/skip_norm"
            )
    entries.append(Entry("fc.weight", ("params", "classifier", "kernel"), linear))
    entries.append(Entry("fc.bias", ("params", "classifier", "bias"), same))
    (classes, *_) = shapes.get("fc.weight", shapes.get("fc.bias", (1000,)))
    counters = frozenset(name for name in shapes if name.endswith(".num_batches_tracked"))
    return Plan(ModelConfig("resnet", {"depth": depth, "classes": classes}), entries, counters)


def _depth(shapes: Shapes) -> Depth | None:
    """The depth whose blocks the file has, even if single tensors are missing."""
    present = {"_".join(name.split(".")[:2]) for name in shapes if name.startswith("layer")}
    convolutions = 3 if any(name.endswith(".conv3.weight") for name in shapes) else 2
    for depth in get_args(Depth):
        known = list(blocks(depth))
        if {block.name for block in known} == present and len(known[0].body) == convolutions:
            return depth
    return None


def _normalized(conv: str, norm: str, conv_target: str, norm_target: str) -> list[Entry]:
    """A convolution without bias, and the normalization after it."""
    kernel = convolution_entries(conv, *conv_target.split("/"), bias=False)
    return kernel + batch_norm(norm, *norm_target.split("/"))
