"""Restormer against an independent definition in PyTorch, whose tensors have the published names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax.models.restormer import Restormer
from wne_jax.weights.layouts.restormer import restormer

torch = pytest.importorskip("torch", reason="compares with PyTorch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.torch


class Norm(nn.Module):
    """Normalization over channels; `body` has the tensors."""

    def __init__(self, width, bias):
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(width))
        if bias:
            self.body.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        weight = self.body.weight[:, None, None]
        if hasattr(self.body, "bias"):
            last = x.movedim(1, -1)
            return F.layer_norm(last, last.shape[-1:], *self.body.parameters(), 1e-5).movedim(-1, 1)
        return x / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-5) * weight


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(
            3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False
        )
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        rows = self.qkv_dwconv(self.qkv(x)).flatten(2)  # one row of pixels per channel
        q, k, v = rows.unflatten(1, (3, len(self.temperature), -1)).unbind(1)
        cosines = torch.einsum("bhcn,bhdn->bhcd", F.normalize(q, dim=3), F.normalize(k, dim=3))
        out = torch.softmax(self.temperature * cosines, dim=3) @ v
        return self.project_out(out.reshape(x.shape))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x):
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class Block(nn.Module):
    def __init__(self, width, heads, expansion, bias):
        super().__init__()
        self.norm1, self.norm2 = Norm(width, bias), Norm(width, bias)
        self.attn, self.ffn = Attention(width, heads), FeedForward(width, int(expansion * width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def holder(name, module):
    """A module with a named submodule."""
    parent = nn.Module()
    setattr(parent, name, module)
    return parent


class Network(nn.Module):
    """A Restormer with three levels."""

    def __init__(self, *, channels, dim, blocks, heads, refinement, expansion, norm_bias):
        super().__init__()
        chain = lambda width, heads, length: nn.Sequential(  # noqa: E731
            *(Block(width, heads, expansion, norm_bias) for _ in range(length))
        )
        widths = [dim, 2 * dim, 4 * dim]
        self.patch_embed = holder("proj", conv(channels, dim))
        self.encoder_level1, self.encoder_level2, self.latent = map(chain, widths, heads, blocks)
        self.down1_2 = holder("body", nn.Sequential(conv(dim, dim // 2), nn.PixelUnshuffle(2)))
        self.down2_3 = holder("body", nn.Sequential(conv(2 * dim, dim), nn.PixelUnshuffle(2)))
        self.up3_2 = holder("body", nn.Sequential(conv(4 * dim, 8 * dim), nn.PixelShuffle(2)))
        self.up2_1 = holder("body", nn.Sequential(conv(2 * dim, 4 * dim), nn.PixelShuffle(2)))
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=False)
        self.decoder_level2 = chain(2 * dim, heads[1], blocks[1])
        self.decoder_level1 = chain(2 * dim, heads[0], blocks[0])
        self.refinement = chain(2 * dim, heads[0], refinement)
        self.output = conv(2 * dim, channels)

    def forward(self, y):
        fine = self.encoder_level1(self.patch_embed.proj(y))
        middle = self.encoder_level2(self.down1_2.body(fine))
        h = self.up3_2.body(self.latent(self.down2_3.body(middle)))
        h = self.decoder_level2(self.reduce_chan_level2(torch.cat([h, middle], 1)))
        h = self.decoder_level1(torch.cat([self.up2_1.body(h), fine], 1))
        return y + self.output(self.refinement(h))


class Wrapped(nn.Module):
    """The network as in the repository of Saied & Fleuret, under `model.`."""

    def __init__(self, network):
        super().__init__()
        self.model = network

    def forward(self, y):
        mean = y.mean(dim=(1, 2, 3), keepdim=True)
        std = y.std(dim=(1, 2, 3), keepdim=True, correction=0)
        return std * self.model((y - mean) / std) + mean


def plain(network):
    return network


def random_network(**options):
    """Kernels that preserve the signal's scale, and temperatures and norms different from 1 and 0."""
    network = Network(**options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("temperature"):
                tensor.add_(4 * noise)
            elif tensor.ndim == 1:
                tensor.add_(noise / 2)
            else:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
    return network


def converted(module):
    """Our model and its variables, converted by the layout's table."""
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    plan = restormer({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert sorted(e.source for e in plan.entries) == sorted(tensors)
    variables: dict = {}
    for source, target, convert in plan.entries:
        *path, last = target
        node = variables
        for key in path:
            node = node.setdefault(key, {})
        node[last] = jnp.asarray(convert(tensors[source]))
    net = Restormer(**plan.config.options)
    return (net if plan.config.wrapper is None else wne.WNE(net)), variables


def assert_same(module, y, tolerance):
    """Compare outputs, and gradients of a weighted sum with respect to the image."""
    weight = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    image = torch.tensor(np.moveaxis(y, -1, 1), requires_grad=True)
    expected = module(image)
    expected.backward(torch.tensor(np.moveaxis(weight, -1, 1)))

    model, variables = converted(module)
    assert all(leaf.dtype == y.dtype for leaf in jax.tree.leaves(variables))

    def value_and_gradient(y, weight):
        value, pull = jax.vjp(lambda y: model.apply(variables, y), y)
        return value, *pull(weight)

    # The program runs once, so almost all the time is compilation.
    quickly = jax.jit(value_and_gradient, compiler_options={"xla_backend_optimization_level": 0})
    results = quickly(jnp.asarray(y), jnp.asarray(weight))
    assert np.abs(results[0] - y).max() > 0.5
    for ours, theirs in zip(results, (expected.detach(), image.grad), strict=True):
        reference = np.moveaxis(theirs.numpy(), 1, -1)
        assert ours.dtype == y.dtype
        assert np.abs(np.asarray(ours) - reference).max() <= tolerance * np.ptp(reference)


SMALL = {"dim": 4, "blocks": (1, 1, 1), "heads": (1, 2, 4), "refinement": 2, "expansion": 2.66}


@pytest.mark.parametrize(
    ("options", "shape", "finish"),
    [
        ({"channels": 1, "norm_bias": True}, (2, 8, 12, 1), Wrapped),
        (
            {"channels": 3, "norm_bias": False, "heads": (2, 1, 2), "refinement": 0},
            (1, 12, 8, 3),
            plain,
        ),
    ],
    ids=["wrapped-gray-bias", "plain-colour-bias-free"],
)
def test_outputs_and_gradients_agree_with_torch(options, shape, finish):
    y = np.random.default_rng(0).normal(0.4, 0.3, shape)
    module = finish(random_network(**{**SMALL, **options}))
    assert_same(module, y.astype(np.float32), 1e-4)
    with jax.enable_x64(True):
        assert_same(module.double(), y, 1e-9)
