"""Plain networks compared with PyTorch, from the file to output and gradient."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.weights import load_model

torch = pytest.importorskip("torch", reason="the oracle is PyTorch")
nn, functional = torch.nn, torch.nn.functional
pytestmark = pytest.mark.torch

DEPTH, FEATURES = 4, 6
NE = "normalization-equivariant"


class AffineConv(nn.Module):
    """Kernels that sum to one, in the parametrization of Herbreteau et al., which has the opposite sign."""

    def __init__(self, inputs, outputs, exempt=0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.exempt = exempt

    def forward(self, x):
        inside = self.weight.shape[1] - self.exempt
        w = self.weight[:, :inside].flatten(1)
        kernel = w.roll(1, dims=1) - w + 1 / w.shape[1]
        kernel = kernel.reshape(len(w), inside, 3, 3)
        kernel = torch.cat([kernel, self.weight[:, inside:]], dim=1)
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel)


class SortNeighbours(nn.Module):
    def forward(self, x):
        return x.unflatten(1, (-1, 2)).sort(dim=2).values.flatten(1, 2)


class BiasFreeNorm(nn.BatchNorm2d):
    """In evaluation: division by the running standard deviation plus 1e-5, then scaling."""

    def forward(self, x):
        gain = self.weight / (self.running_var.sqrt() + 1e-5)
        return x * gain[:, None, None]


class Sequential(nn.Module):
    """The networks of KAIR and of Herbreteau et al.: one list under some name."""

    def __init__(
        self,
        name,
        *,
        channels=1,
        bias=True,
        last_bias=True,
        residual=False,
        affine=False,
        sigma=False,
    ):
        super().__init__()
        widths = [channels + sigma, *(DEPTH - 1) * [FEATURES], channels]
        layers = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            if affine:
                layers += [
                    AffineConv(inputs, outputs, exempt=int(sigma and i == 0)),
                    SortNeighbours(),
                ]
            else:
                with_bias = bias and (last_bias or i < DEPTH - 1)
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=with_bias), nn.ReLU()]
        self.name, self.residual = name, residual
        self.add_module(name, nn.Sequential(*layers[:-1]))

    def forward(self, x):
        h = getattr(self, self.name)(x)
        return x - h if self.residual else h


class Mohan(nn.Module):
    def __init__(self, *, bias):
        super().__init__()

        def conv(inputs, outputs):
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

        norm = nn.BatchNorm2d if bias else BiasFreeNorm
        self.first_layer = conv(1, FEATURES)
        self.hidden_layer_list = nn.ModuleList(conv(FEATURES, FEATURES) for _ in range(DEPTH - 2))
        self.bn_layer_list = nn.ModuleList(norm(FEATURES) for _ in range(DEPTH - 2))
        self.last_layer = conv(FEATURES, 1)

    def forward(self, x):
        h = self.first_layer(x).relu()
        for hidden, norm in zip(self.hidden_layer_list, self.bn_layer_list, strict=True):
            h = norm(hidden(h)).relu()
        return x - self.last_layer(h)


class Wrapped(nn.Module):
    """The wrapper of Saied & Fleuret, with the paper's standard deviation (their code divides by d - 1)."""

    def __init__(self, model, *, normalized=True):
        super().__init__()
        self.model, self.normalized = model, normalized

    def forward(self, y):
        if not self.normalized:
            return self.model(y)
        mean = y.mean(dim=(1, 2, 3), keepdim=True)
        std = y.std(dim=(1, 2, 3), keepdim=True, correction=0)
        return std * self.model((y - mean) / std) + mean


BARE = {"last_bias": False}
CASES = {
    "kair_dncnn": (lambda: Sequential("model", residual=True), {}),
    "kair_dncnn_colour": (lambda: Sequential("model", residual=True, channels=3), {}),
    "kair_fdncnn": (lambda: Sequential("model", sigma=True), {}),
    "fdncnn": (lambda: Sequential("fdncnn", **BARE), {}),
    "fdncnn_sigma": (lambda: Sequential("fdncnn", sigma=True, **BARE), {}),
    "fdncnn_se": (lambda: Sequential("fdncnn", bias=False), {"mode": "scale-equivariant"}),
    "fdncnn_ne": (lambda: Sequential("fdncnn", affine=True), {"mode": NE}),
    "fdncnn_ne_sigma": (lambda: Sequential("fdncnn", affine=True, sigma=True), {"mode": NE}),
    "wne_fdncnn": (lambda: Wrapped(Sequential("fdncnn", **BARE)), {}),
    "wne_fdncnn_ne": (
        lambda: Wrapped(Sequential("fdncnn", affine=True), normalized=False),
        {"mode": NE},
    ),
    "wne_dncnn": (lambda: Wrapped(Mohan(bias=True)), {}),
    "mohan": (lambda: Mohan(bias=True), {}),
    "mohan_bias_free": (lambda: Mohan(bias=False), {}),
}


def randomised(net, dtype):
    """The network with every tensor changed from its initial value, so that no two can be confused."""
    torch.manual_seed(0)
    net = net.to(dtype).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3 if tensor.ndim > 1 else 0.5)
    for norm in net.modules():
        if isinstance(norm, BiasFreeNorm):  # it reads neither; files contain zeros
            norm.bias.data.zero_()
            norm.running_mean.zero_()
    return net


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradient_agree_with_torch(tmp_path, case, precision):
    make, options = CASES[case]
    net = randomised(make(), getattr(torch, precision))
    path = tmp_path / "x.pth"
    torch.save(net.state_dict(), path)
    rng, channels = np.random.default_rng(1), 3 if "colour" in case else 1
    y = rng.normal(0.4, 0.3, (2, 9, 8, channels)).astype(precision)
    cotangent = rng.normal(size=y.shape).astype(precision)
    sigma = np.array([0.1, 0.3], precision)

    with jax.enable_x64(True) if precision == "float64" else contextlib.nullcontext():
        config, variables = load_model(path, **options)
        condition = {"sigma": jnp.asarray(sigma)} if config.takes_sigma else {}
        model = config.build()
        actual, pull = jax.vjp(lambda y: model.apply(variables, y, **condition), jnp.asarray(y))
        gradient = pull(jnp.asarray(cotangent))[0]
        assert actual.dtype == gradient.dtype == precision

    x = torch.tensor(y).permute(0, 3, 1, 2).requires_grad_()
    level = torch.tensor(sigma)[:, None, None, None].expand(2, 1, 9, 8)
    out = net(torch.cat([x, level], dim=1) if condition else x)
    out.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    tolerance = 1e-4 if precision == "float32" else 1e-9
    for ours, theirs in ((actual, out.detach()), (gradient, x.grad)):
        theirs = theirs.permute(0, 2, 3, 1).numpy()
        assert np.ptp(theirs) > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.ptp(theirs))
