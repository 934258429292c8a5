"""The presets against PyTorch's layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import PRESETS, Normalization

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
pytestmark = pytest.mark.torch

SHAPE = (3, 5, 7, 6)


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def layers():
    nn = torch.nn
    yield "BatchNorm", nn.BatchNorm2d(6), PRESETS["BatchNorm"]()
    yield "BatchNorm", nn.BatchNorm2d(6).eval(), PRESETS["BatchNorm"](use_running_average=True)
    yield "InstanceNorm", nn.InstanceNorm2d(6), PRESETS["InstanceNorm"]()
    yield "LayerNorm-CHW", nn.LayerNorm((6, 5, 7)), PRESETS["LayerNorm-CHW"]()
    yield "LayerNorm-C", nn.LayerNorm(6), PRESETS["LayerNorm-C"]()
    group = Normalization(centring="HWC", scaling="HWC", affine="C", groups=2)
    yield "GroupNorm", nn.GroupNorm(2, 6), group
    rms = Normalization(centring="", scaling="C", affine="C", rms=True, use_bias=False)
    yield "RMSNorm", nn.RMSNorm(6, eps=1e-5), rms


@pytest.mark.parametrize("name, theirs, ours", list(layers()), ids=lambda value: str(value)[:20])
def test_agrees_with_pytorch(name, theirs, ours):
    torch.manual_seed(0)
    x = torch.randn(SHAPE) * 2 + 1
    for tensor in [*theirs.parameters(), *theirs.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 2)
    variables = {}
    for kind, target in (("weight", "scale"), ("bias", "bias")):
        if getattr(theirs, kind, None) is not None:
            value = getattr(theirs, kind)
            value = channels_last(value[None])[0] if value.ndim == 3 else value.detach().numpy()
            variables.setdefault("params", {})[target] = value
    if name == "BatchNorm":
        mean, var = theirs.running_mean.numpy().copy(), theirs.running_var.numpy().copy()
        variables["batch_stats"] = {"mean": mean, "var": var}
    if name in ("LayerNorm-C", "RMSNorm"):  # these normalize the last axis
        expected = theirs(x).detach().numpy()
    else:
        expected = channels_last(theirs(x.permute(0, 3, 1, 2).contiguous()))
    result, _ = ours.apply(variables, jnp.asarray(x.numpy()), mutable=["batch_stats"])
    np.testing.assert_allclose(result, expected, atol=5e-6)
