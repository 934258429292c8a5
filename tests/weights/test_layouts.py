"""Every layout reads a small checkpoint of its kind, tensor by tensor."""

import numpy as np
import pytest

from wne_jax.config import ModelConfig
from wne_jax.testing import check_layout
from wne_jax.weights.layouts import LAYOUTS, Entry, Plan


def conv(name, inputs, outputs, side=3, *, bias=True):
    """The shapes of a convolution in PyTorch."""
    kernel = {f"{name}.weight": (outputs, inputs, side, side)}
    return kernel | ({f"{name}.bias": (outputs,)} if bias else {})


def vectors(name, size, *leaves):
    return {f"{name}.{leaf}": (size,) for leaf in leaves}


def stack(prefix, *widths, bias=True, last_bias=True):
    """`prefix0`, `prefix2`, ...: a chain of convolutions, separated by layers without tensors."""
    shapes, last = {}, len(widths) - 2
    for i in range(last + 1):
        with_bias = bias and (last_bias or i < last)
        shapes |= conv(f"{prefix}{2 * i}", *widths[i : i + 2], bias=with_bias)
    return shapes


def dncnn_with_batch_norm():
    names = ("model.first_layer", "model.hidden_layer_list.0", "model.last_layer")
    shapes = conv(names[0], 1, 4) | conv(names[1], 4, 4) | conv(names[2], 4, 1)
    norm = "model.bn_layer_list.0"
    running = vectors(norm, 4, "weight", "bias", "running_mean", "running_var")
    return shapes | running | {f"{norm}.num_batches_tracked": ()}


def matconvnet(first, inputs, outputs):
    """Three convolutions of 4 features, the first with the given index."""
    shapes = {}
    for i, (before, after) in enumerate(((inputs, 4), (4, 4), (4, outputs))):
        name = f"layers.{first + 2 * i}"
        shapes |= {f"{name}.filters": (3, 3, before, after), f"{name}.biases": (after,)}
    return shapes


def sequential_dncnn():
    names = ("dncnn.0", "dncnn.2", "dncnn.5")
    shapes = {}
    for name, inputs, outputs in zip(names, (1, 4, 4), (4, 4, 1)):
        shapes |= conv(name, inputs, outputs, bias=False)
    return shapes | vectors("dncnn.3", 4, "weight", "bias", "running_mean", "running_var")


def scico_dncnn():
    shapes = {"params/conv_start/kernel": (3, 3, 1, 4), "params/conv_end/kernel": (3, 3, 4, 1)}
    shapes["params/ConvBNBlock_0/Conv_0/kernel"] = (3, 3, 4, 4)
    leaves = ("params/{}/scale", "params/{}/bias", "batch_stats/{}/mean", "batch_stats/{}/var")
    return shapes | {leaf.format("ConvBNBlock_0/BatchNorm_0"): (4,) for leaf in leaves}


def drunet(inner, down, up, *, inputs, bias):
    """Two levels of one block, 4 and 6 features."""
    shapes = conv("m_head", inputs, 4, bias=bias) | conv("m_tail", 4, 1, bias=bias)
    for chain, features in ((f"{down}.0", 4), ("m_body.0", 6), (f"{up}.1", 4)):
        for i in (0, 2):
            shapes |= conv(f"{chain}.{inner}.{i}", features, features, bias=bias)
    shapes |= conv(f"{down}.1", 4, 6, 2, bias=bias)
    transposed = {f"{up}.0.weight": (6, 4, 2, 2)} | ({f"{up}.0.bias": (4,)} if bias else {})
    return shapes | transposed


def swinir():
    """One group of one block of 8 features, 2 heads and windows of 4."""
    block = "layers.0.residual_group.blocks.0"
    shapes = conv("conv_first", 1, 8) | conv("conv_after_body", 8, 8) | conv("conv_last", 8, 1)
    shapes |= conv("layers.0.conv", 8, 8)
    for norm in ("patch_embed.norm", "norm", f"{block}.norm1", f"{block}.norm2"):
        shapes |= vectors(norm, 8, "weight", "bias")
    for dense, inputs, outputs in (
        ("attn.qkv", 8, 24), ("attn.proj", 8, 8), ("mlp.fc1", 8, 16), ("mlp.fc2", 16, 8)
    ):  # fmt: skip
        shapes[f"{block}.{dense}.weight"] = (outputs, inputs)
        shapes[f"{block}.{dense}.bias"] = (outputs,)
    shapes[f"{block}.attn.relative_position_bias_table"] = (49, 2)
    return shapes | {f"{block}.attn.relative_position_index": (16, 16)}


def restormer():
    """Two levels of one block, 4 and 8 channels."""
    shapes = conv("patch_embed.proj", 1, 4, bias=False) | conv("output", 8, 1, bias=False)
    shapes |= conv("down1_2.body.0", 4, 2, bias=False) | conv("up2_1.body.0", 8, 16, bias=False)
    for chain, heads, width, hidden in (
        ("encoder_level1.0", 1, 4, 10), ("latent.0", 2, 8, 21), ("decoder_level1.0", 1, 8, 21)
    ):  # fmt: skip
        shapes[f"{chain}.attn.temperature"] = (heads, 1, 1)
        for name, inputs, outputs, side in (
            ("attn.qkv", width, 3 * width, 1),
            ("attn.qkv_dwconv", 1, 3 * width, 3),
            ("attn.project_out", width, width, 1),
            ("ffn.project_in", width, 2 * hidden, 1),
            ("ffn.dwconv", 1, 2 * hidden, 3),
            ("ffn.project_out", hidden, width, 1),
        ):
            shapes |= conv(f"{chain}.{name}", inputs, outputs, side, bias=False)
        for i in (1, 2):
            shapes |= vectors(f"{chain}.norm{i}.body", width, "weight", "bias")
    return shapes


def torchvision_resnet():
    """Depth 18; its widths are fixed."""

    def normalized(name, norm, inputs, outputs, side):
        running = ("weight", "bias", "running_mean", "running_var")
        counter = {f"{norm}.num_batches_tracked": ()}
        return (
            conv(name, inputs, outputs, side, bias=False)
            | vectors(norm, outputs, *running)
            | counter
        )

    shapes, width = normalized("conv1", "bn1", 3, 64, 7), 64
    for stage, features in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            shapes |= normalized(f"{name}.conv1", f"{name}.bn1", width, features, 3)
            shapes |= normalized(f"{name}.conv2", f"{name}.bn2", features, features, 3)
            if width != features:
                skip = f"{name}.downsample"
                shapes |= normalized(f"{skip}.0", f"{skip}.1", width, features, 1)
            width = features
    return shapes | {"fc.weight": (5, 512), "fc.bias": (5,)}


CHECKPOINTS = {
    "kair_dncnn": stack("model.", 1, 4, 4, 1),
    "kair_fdncnn": stack("model.", 2, 4, 4, 1),
    "kair_ffdnet": stack("model.", 5, 4, 4, 4),
    "fdncnn": stack("model.fdncnn.", 1, 4, 4, 1, last_bias=False),
    "fdncnn_scale_equivariant": stack("fdncnn.", 1, 4, 4, 1, bias=False),
    "fdncnn_normalization_equivariant": stack("fdncnn.", 2, 4, 4, 1, bias=False),
    "dncnn_with_batch_norm": dncnn_with_batch_norm(),
    "sequential_dncnn": sequential_dncnn(),
    "matconvnet_dncnn": matconvnet(1, 1, 1),
    "matconvnet_fdncnn": matconvnet(2, 2, 1),
    "matconvnet_ffdnet": matconvnet(3, 5, 4),
    "scico_dncnn": scico_dncnn(),
    "kair_drunet": drunet("res", "m_down1", "m_up1", inputs=2, bias=False),
    "herbreteau_drunet": drunet("m_res", "m_down.0", "m_up.0", inputs=1, bias=True),
    "swinir": swinir(),
    "restormer": restormer(),
    "torchvision_resnet": torchvision_resnet(),
}
"""The shapes of a small checkpoint for each layout, by name of the layout."""


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_reads_a_checkpoint_of_its_kind(layout):
    check_layout(layout, CHECKPOINTS[layout.__name__])


def small(change=lambda plan: plan):
    """A layout for a network of two convolutions, with a changed plan."""

    def two_convolutions(shapes):
        if "a.weight" not in shapes:
            return None
        entries = [
            Entry(f"{source}.{leaf}", ("params", f"conv_{i}", variable), convert)
            for i, source in enumerate("ab")
            for leaf, variable, convert in (
                ("weight", "kernel", lambda w: w.transpose(2, 3, 1, 0)),
                ("bias", "bias", np.asarray),
            )
        ]
        return change(
            Plan(ModelConfig("dncnn", {"depth": 2, "features": 4, "batch_norm": False}), entries)
        )

    return two_convolutions


TENSORS = conv("a", 1, 4) | conv("b", 4, 1)


def test_errors_of_a_layout_are_named():
    check_layout(small(), TENSORS)

    def without_last(plan):
        return plan._replace(entries=plan.entries[:-1])

    def twice(plan):
        return plan._replace(entries=plan.entries + plan.entries[:1])

    def losing(plan):
        first = plan.entries[0]
        lossy = first._replace(convert=lambda w: np.ones_like(first.convert(w)))
        return plan._replace(entries=[lossy, *plan.entries[1:]])

    for change, complaint in (
        (without_last, "left over: b.bias"),
        (twice, "used twice: a.weight; filled twice: params/conv_0/kernel"),
        (losing, "a.weight loses values in params/conv_0/kernel"),
        (lambda plan: None, "does not recognise the tensors a.weight, a.bias"),
    ):
        with pytest.raises(AssertionError, match=f"^two_convolutions: .*{complaint}"):
            check_layout(small(change), TENSORS)

    with pytest.raises(AssertionError, match="<lambda>: takes tensors that are not its own"):
        check_layout(lambda shapes: small()(TENSORS), TENSORS)
