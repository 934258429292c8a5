"""DRUNet against independent definitions in PyTorch, whose tensors have the published names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models.drunet import DRUNet
from wne_jax.weights.layouts.drunet import herbreteau_drunet, kair_drunet

torch = pytest.importorskip("torch", reason="compares with PyTorch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.torch

FEATURES, BLOCKS = (4, 6, 8), 2
NE = "normalization-equivariant"


class Affine(nn.Conv2d):
    """Kernels of sum one; the noise map, where there is one, has kernels of its own."""

    def __init__(self, inputs, outputs, size, *, stride=1, noise_map=False):
        super().__init__(inputs, outputs, size, stride=stride, bias=False)
        self.image_channels = inputs - int(noise_map)

    def forward(self, x):
        image = self.weight[:, : self.image_channels]
        flat = image.flatten(1)
        flat = torch.cat([flat[:, -1:], flat[:, :-1]], 1) - flat + 1 / flat.shape[1]
        kernel = torch.cat([flat.view_as(image), self.weight[:, self.image_channels :]], 1)
        border = self.kernel_size[0] // 2 if self.kernel_size[0] % 2 else 0
        return F.conv2d(F.pad(x, [border] * 4, mode="reflect"), kernel, stride=self.stride)


class AffineUp(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1x1 = Affine(inputs, 4 * outputs, 1)

    def forward(self, x):
        return F.pixel_shuffle(self.conv1x1(x), 2)


class SortNeighbours(nn.Module):
    def forward(self, x):
        return x.unflatten(1, (-1, 2)).sort(dim=2).values.flatten(1, 2)


class Sum(nn.Module):
    def __init__(self, mode):
        super().__init__()
        if mode == NE:
            self.alpha = nn.Parameter(torch.rand(1))

    def forward(self, x, y):
        return self.alpha * x + (1 - self.alpha) * y if hasattr(self, "alpha") else x + y


def conv(inputs, outputs, mode, size=3, **options):
    if mode == NE:
        return Affine(inputs, outputs, size, **options)
    stride, bias = options.get("stride", 1), mode == "ordinary"
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size % 2, bias=bias)


def up(inputs, outputs, mode):
    if mode == NE:
        return AffineUp(inputs, outputs)
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=mode == "ordinary")


class Block(nn.Module):
    def __init__(self, features, mode, body):
        super().__init__()
        first, last = conv(features, features, mode), conv(features, features, mode)
        self.body = body
        setattr(
            self, body, nn.Sequential(first, SortNeighbours() if mode == NE else nn.ReLU(), last)
        )
        self.sum = Sum(mode)

    def forward(self, x):
        return self.sum(x, getattr(self, self.body)(x))


class KAIR(nn.Module):
    """Sides that are multiples; the noise map is a channel of the input."""

    def __init__(self, channels):
        super().__init__()
        mode = "scale-equivariant"
        blocks = lambda w: [Block(w, mode, "res") for _ in range(BLOCKS)]  # noqa: E731
        a, b, c = FEATURES
        self.m_head = conv(channels + 1, a, mode)
        self.m_down1 = nn.Sequential(*blocks(a), conv(a, b, mode, 2, stride=2))
        self.m_down2 = nn.Sequential(*blocks(b), conv(b, c, mode, 2, stride=2))
        self.m_body = nn.Sequential(*blocks(c))
        self.m_up2 = nn.Sequential(up(c, b, mode), *blocks(b))
        self.m_up1 = nn.Sequential(up(b, a, mode), *blocks(a))
        self.m_tail = conv(a, channels, mode)

    def forward(self, y, sigma):
        x0 = self.m_head(torch.cat([y, torch.full_like(y[:, :1], sigma)], 1))
        x1 = self.m_down1(x0)
        x2 = self.m_down2(x1)
        h = self.m_up2(self.m_body(x2) + x2)
        return self.m_tail(self.m_up1(h + x1) + x0)


class Herbreteau(nn.Module):
    """Any size, padded at the end by reflection."""

    def __init__(self, mode, channels, conditioned):
        super().__init__()
        blocks = lambda w: [Block(w, mode, "m_res") for _ in range(BLOCKS)]  # noqa: E731
        options = {"noise_map": True} if mode == NE and conditioned else {}
        a, b, c = FEATURES
        self.m_head = conv(channels + int(conditioned), a, mode, **options)
        self.m_down = nn.ModuleList(
            nn.Sequential(*blocks(fine), conv(fine, coarse, mode, 2, stride=2))
            for fine, coarse in ((a, b), (b, c))
        )
        self.m_body = nn.Sequential(*blocks(c))
        self.m_up = nn.ModuleList(
            nn.Sequential(up(coarse, fine, mode), *blocks(fine))
            for coarse, fine in ((c, b), (b, a))
        )
        self.m_tail = conv(a, channels, mode)
        self.res = nn.ModuleList(Sum(mode) for _ in FEATURES)

    def forward(self, y, sigma=None):
        height, width = y.shape[2:]
        y = F.pad(y, (0, -width % 4, 0, -height % 4), mode="reflect")
        if sigma is not None:
            y = torch.cat([y, torch.full_like(y[:, :1], sigma)], 1)
        x0 = self.m_head(y)
        x1 = self.m_down[0](x0)
        x2 = self.m_down[1](x1)
        h = self.m_up[0](self.res[0](self.m_body(x2), x2))
        h = self.m_up[1](self.res[1](h, x1))
        return self.m_tail(self.res[2](h, x0))[..., :height, :width]


def shake(module):
    """Move the parameters away from their initial values, the biases and the sums too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) / (2 * p[0].numel() ** 0.5 if p.ndim > 1 else 5))
    return module


def converted(layout, module):
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    plan = layout({name: tensor.shape for name, tensor in state.items()})
    assert sorted(entry.source for entry in plan.entries) == sorted(state)
    variables = {}
    for entry in plan.entries:
        node = variables
        for key in entry.target[:-1]:
            node = node.setdefault(key, {})
        node[entry.target[-1]] = jnp.asarray(entry.convert(state[entry.source]))
    return plan.config.options, variables


def assert_parity(layout, module, mode, shape, sigma, precision, tolerance):
    rng = np.random.default_rng(0)
    y, direction = rng.normal(size=(2, *shape)).astype(precision)
    module = shake(module).to(getattr(torch, precision))
    nchw = torch.tensor(np.moveaxis(y, -1, 1), requires_grad=True)
    expected = module(nchw) if sigma is None else module(nchw, sigma)
    expected.backward(torch.tensor(np.moveaxis(direction, -1, 1)))

    with jax.enable_x64(precision == "float64"):
        options, variables = converted(layout, module)
        assert options["mode"] == mode and options["features"] == tuple(FEATURES)
        net = DRUNet(**options)
        condition = {} if sigma is None else {"sigma": jnp.asarray(sigma, precision)}
        # Convolutions in float64 are loops that XLA takes a minute to optimize, and runs once here.
        quick = {"xla_backend_optimization_level": 0} if precision == "float64" else {}

        @functools.partial(jax.jit, compiler_options=quick)
        def value_and_gradient(y):
            value, vjp = jax.vjp(lambda y: net.apply(variables, y, **condition), y)
            return value, *vjp(jnp.asarray(direction))

        results = [np.asarray(leaf) for leaf in value_and_gradient(jnp.asarray(y))]
    for result, reference in zip(results, (expected.detach(), nchw.grad), strict=True):
        reference = np.moveaxis(reference.numpy(), 1, -1)
        assert result.dtype == precision and np.ptp(reference) > 0.1
        assert np.abs(result - reference).max() <= tolerance * np.ptp(reference)


each_precision = pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)]
)


@each_precision
def test_kairs_network_agrees_in_value_and_gradient(precision, tolerance):
    mode = "scale-equivariant"
    assert_parity(kair_drunet, KAIR(3), mode, (2, 8, 12, 3), 0.3, precision, tolerance)


@each_precision
@pytest.mark.parametrize(
    ("mode", "conditioned"),
    [("ordinary", False), ("scale-equivariant", False), (NE, False), (NE, True)],
)
def test_networks_of_herbreteau_et_al_agree_in_value_and_gradient(
    mode, conditioned, precision, tolerance
):
    module, sigma = Herbreteau(mode, 1, conditioned), 0.3 if conditioned else None
    assert_parity(herbreteau_drunet, module, mode, (2, 7, 10, 1), sigma, precision, tolerance)
