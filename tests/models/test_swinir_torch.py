"""SwinIR against PyTorch with the published tensor names, and masked attention without windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax.models.swinir import SwinIR
from wne_jax.weights.layouts.swinir import swinir

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn
pytestmark = pytest.mark.torch

RGB_MEAN = (0.4488, 0.4371, 0.4040)


class Attention(nn.Module):
    """Attention among all pixels, with a mask that keeps pairs in the same window of the grid."""

    def __init__(self, features, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", torch.zeros(window**2, window**2))
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x):
        batch, height, width = x.shape[:3]
        q, k, v = (
            part.reshape(batch, height * width, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mask = self.mask(height, width).to(x.dtype)
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).reshape(x.shape))

    def mask(self, height, width):
        rows = torch.arange(height).repeat_interleave(width)
        columns = torch.arange(width).repeat(height)
        grids = [
            torch.div(p - self.shift, self.window, rounding_mode="floor") for p in (rows, columns)
        ]
        outside = (grids[0][:, None] != grids[0]) | (grids[1][:, None] != grids[1])
        side = 2 * self.window - 1
        number = (rows[:, None] - rows + self.window - 1) * side
        number = number + columns[:, None] - columns + self.window - 1
        bias = self.relative_position_bias_table[number.masked_fill(outside, 0)].permute(2, 0, 1)
        return bias.masked_fill(outside, -torch.inf)


class Block(nn.Module):
    def __init__(self, features, heads, window, shift, hidden):
        super().__init__()
        if shift:
            self.register_buffer("attn_mask", torch.zeros(6, window**2, window**2))
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn = Attention(features, heads, window, shift)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


def convolved(conv, x):
    """Convolve channels-last images."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Network(nn.Module):
    def __init__(self, *, channels, groups, blocks, features, heads, window, hidden, patch_norm):
        super().__init__()
        conv = lambda i, o: nn.Conv2d(i, o, 3, padding=1)  # noqa: E731
        self.mean = torch.tensor(RGB_MEAN if channels == 3 else (0.0,), dtype=torch.float64)
        self.conv_first = conv(channels, features)
        if patch_norm:
            self.patch_embed = nn.Module()
            self.patch_embed.norm = nn.LayerNorm(features)
        self.layers = nn.ModuleList()
        for _ in range(groups):
            group = nn.Module()
            group.residual_group = nn.Module()
            shifts = [window // 2 * (j % 2) for j in range(blocks)]
            group.residual_group.blocks = nn.ModuleList(
                Block(features, heads, window, shift, hidden) for shift in shifts
            )
            group.conv = conv(features, features)
            self.layers.append(group)
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = conv(features, features)
        self.conv_last = conv(features, channels)

    def forward(self, y):
        mean = self.mean.to(y.dtype)
        first = convolved(self.conv_first, y - mean)
        x = self.patch_embed.norm(first) if hasattr(self, "patch_embed") else first
        for group in self.layers:
            inside = x
            for block in group.residual_group.blocks:
                inside = block(inside)
            x = x + convolved(group.conv, inside)
        x = first + convolved(self.conv_after_body, self.norm(x))
        return (y - mean) + convolved(self.conv_last, x) + mean


def plain(network):
    return network


class Wrapped(nn.Module):
    """The network as in the repository of Saied & Fleuret, under `model.`."""

    def __init__(self, network):
        super().__init__()
        self.model = network

    def forward(self, y):
        mean = y.mean(dim=(1, 2, 3), keepdim=True)
        std = y.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
        return std * self.model((y - mean) / std) + mean


def random_network(dtype, **options):
    """Weights of realistic scale, with attention far from uniform."""
    defaults = {"channels": 1, "groups": 1, "blocks": 2, "features": 12, "heads": 3, "window": 4}
    network = Network(**{**defaults, "hidden": 18, "patch_norm": True, **options}).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.parameters():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor += (0.3 * noise).to(dtype)
    return network


def converted(network):
    """Our model and its variables, converted by the layout's table."""
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    plan = swinir({name: tensor.shape for name, tensor in tensors.items()})
    assert sorted([*(e.source for e in plan.entries), *plan.buffers]) == sorted(tensors)
    variables: dict = {}
    for source, target, convert in plan.entries:
        *path, last = target
        node = variables
        for key in path:
            node = node.setdefault(key, {})
        node[last] = jnp.asarray(convert(tensors[source]))
    net = SwinIR(**plan.config.options)
    return (net if plan.config.wrapper is None else wne.WNE(net)), variables


def assert_same(network, y, tolerance):
    """Compare outputs, and gradients of a weighted sum with respect to the image."""
    weight = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    image = torch.tensor(y, requires_grad=True)
    expected = network(image)
    (expected * torch.tensor(weight)).sum().backward()

    net, variables = converted(network)
    assert all(leaf.dtype == y.dtype for leaf in jax.tree.leaves(variables))

    @jax.jit
    def value_and_gradient(y, weight):
        value, pull = jax.vjp(lambda y: net.apply(variables, y), y)
        return value, pull(weight)[0]

    result, gradient = value_and_gradient(jnp.asarray(y), jnp.asarray(weight))
    assert result.dtype == y.dtype
    for ours, theirs in ((result, expected.detach()), (gradient, image.grad)):
        error = np.abs(np.asarray(ours) - theirs.numpy()).max()
        assert error <= tolerance * np.ptp(theirs.numpy())


# Flax's LayerNorm promotes float64 with float32.
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(
    ("options", "shape", "finish"),
    [
        ({"groups": 2, "blocks": 3}, (2, 8, 20, 1), plain),
        ({}, (2, 8, 12, 1), Wrapped),
        ({"channels": 3, "patch_norm": False, "window": 3}, (1, 6, 12, 3), plain),
        ({"channels": 3, "heads": 1, "hidden": 31}, (1, 12, 8, 3), Wrapped),
        ({}, (1, 4, 4, 1), plain),  # one window, but still shifted
    ],
)
def test_outputs_and_gradients_agree_with_torch(options, shape, finish):
    y = np.random.default_rng(0).normal(0.4, 0.3, shape)
    assert_same(finish(random_network(torch.float32, **options)), y.astype(np.float32), 1e-4)
    with jax.enable_x64(True):
        assert_same(finish(random_network(torch.float64, **options)), y, 1e-9)
