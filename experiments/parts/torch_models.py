"""The networks of `wne_jax.models` and their training steps in idiomatic PyTorch.

The networks are written from the papers. Tensors have the published names, so `wne_jax.weights.convert` turns
a state dict into our variables; a test checks that outputs then agree, so the same network is timed.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DnCNN(nn.Module):
    """The DnCNN of Zhang et al. 2017, with the tensor names of Mohan et al."""

    def __init__(self, *, depth: int, features: int):
        super().__init__()
        hidden = range(depth - 2)
        self.first_layer = nn.Conv2d(1, features, 3, padding=1)
        self.hidden_layer_list = nn.ModuleList(
            nn.Conv2d(features, features, 3, padding=1) for _ in hidden
        )
        self.bn_layer_list = nn.ModuleList(nn.BatchNorm2d(features) for _ in hidden)
        self.last_layer = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        h = F.relu(self.first_layer(y), inplace=True)
        for conv, norm in zip(self.hidden_layer_list, self.bn_layer_list):
            h = F.relu(norm(conv(h)), inplace=True)
        return y - self.last_layer(h)


class AffineConv(nn.Module):
    """Kernels that sum to one, reflected borders; Herbreteau et al. 2023."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.flatten(1)
        kernel = (w.roll(1, 1) - w + 1 / w.shape[1]).view_as(self.weight)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel)


class SortPool(nn.Module):
    """Sort pairs of neighbouring channels in ascending order."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, ::2], x[:, 1::2]
        pairs = torch.minimum(first, second), torch.maximum(first, second)
        return torch.stack(pairs, dim=2).flatten(1, 2)


class FDnCNN(nn.Module):
    """The FDnCNN, with the tensor names of Herbreteau et al. and of Saied & Fleuret."""

    def __init__(self, *, depth: int, features: int, mode: str = "ordinary"):
        super().__init__()
        layers: list[nn.Module] = []
        widths = [1, *(depth - 1) * [features], 1]
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            if mode == "normalization-equivariant":
                layers += [AffineConv(inputs, outputs), SortPool()]
            else:
                conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=i < depth - 1)
                layers += [conv, nn.ReLU(inplace=True)]
        self.fdncnn = nn.Sequential(*layers[:-1])

    def forward(self, y: Tensor) -> Tensor:
        return self.fdncnn(y)


class WindowAttention(nn.Module):
    """Window attention of Swin on `[B, H, W, C]`; windows and heads form the heads of one fused attention."""

    def __init__(self, features: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        at = torch.arange(window)
        rows, columns = at.repeat_interleave(window), at.repeat(window)
        down, right = (at[:, None] - at + window - 1 for at in (rows, columns))
        self.register_buffer("relative_position_index", down * (2 * window - 1) + right)
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side, shift = self.window, self.shift
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        x = x.view(batch, height // side, side, width // side, side, channels).transpose(2, 3)
        grid = x.shape
        qkv = self.qkv(x.reshape(batch, -1, side**2, channels)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)  # [B, windows * heads, tokens, depth]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        bias = bias + mask if shift else bias.expand(len(mask), -1, -1, -1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.flatten(0, 1)[None].to(q.dtype))
        x = x.unflatten(1, (-1, self.heads)).transpose(2, 3).flatten(3)
        x = self.proj(x).view(grid).transpose(2, 3).reshape(batch, height, width, channels)
        return x.roll((shift, shift), (1, 2)) if shift else x


class SwinBlock(nn.Module):
    """Attention, then an MLP, each with pre-normalization and a residual."""

    def __init__(self, features: int, heads: int, window: int, shift: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn = WindowAttention(features, heads, window, shift)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class SwinIR(nn.Module):
    """Liang et al. 2021, for images of one size. Features are `[B, H, W, C]`, except in convolutions."""

    def __init__(
        self, *, size: int, groups: int, blocks: int, features: int, heads: int, window: int = 8,
        mlp_ratio: float = 2.0,
    ):  # fmt: skip
        super().__init__()
        self.conv_first = nn.Conv2d(1, features, 3, padding=1)
        self.patch_embed, self.layers = nn.Module(), nn.ModuleList()
        self.patch_embed.norm = nn.LayerNorm(features)
        for _ in range(groups):
            group = nn.Module()
            group.residual_group = nn.Module()
            group.residual_group.blocks = nn.ModuleList(
                SwinBlock(
                    features, heads, window, window // 2 * (j % 2), round(mlp_ratio * features)
                )
                for j in range(blocks)
            )
            group.conv = nn.Conv2d(features, features, 3, padding=1)
            self.layers.append(group)
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 1, 3, padding=1)
        self.register_buffer("mask", _shift_mask(size, window), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        first = self.conv_first(y).permute(0, 2, 3, 1)
        x = self.patch_embed.norm(first)
        for group in self.layers:
            inside = x
            for block in group.residual_group.blocks:
                inside = block(inside, self.mask)
            x = x + _channels_last(group.conv, inside)
        x = first + _channels_last(self.conv_after_body, self.norm(x))
        return y + self.conv_last(x.permute(0, 3, 1, 2))


def _channels_last(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve `[B, H, W, C]`."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _shift_mask(size: int, window: int) -> Tensor:
    """-100 between tokens of a rolled window that come from different windows, `[windows, 1, w², w²]`."""
    at = torch.arange(size)
    label = (at >= size - window).int() + (at >= size - window // 2)
    labels = (3 * label[:, None] + label).view(size // window, window, -1, window)
    tokens = labels.transpose(1, 2).reshape(-1, window**2)
    return -100.0 * (tokens[:, None, :, None] != tokens[:, None, None, :])


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of `[B, C, H, W]`."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """Restormer's MDTA: attention among channels."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = _conv(3 * width, 3 * width, groups=3 * width)
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2).chunk(3, dim=1)
        q, k, v = (part.unflatten(1, (len(self.temperature), -1)) for part in qkv)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((weights @ v).reshape(x.shape))


class GatedFeedForward(nn.Module):
    """Restormer's GDFN, the gated feed-forward network."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = _conv(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class RestormerBlock(nn.Module):
    """Attention, then feed-forward, each with pre-normalization and a residual."""

    def __init__(self, width: int, heads: int, expansion: float):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.attn = TransposedAttention(width, heads)
        self.ffn = GatedFeedForward(width, int(width * expansion))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Restormer(nn.Module):
    """Zamir et al. 2022, with any number of levels."""

    def __init__(
        self, *, dim: int, blocks: tuple[int, ...], heads: tuple[int, ...], refinement_blocks: int,
        expansion: float = 2.66,
    ):  # fmt: skip
        super().__init__()

        def chain(level: int, width: int, length: int) -> nn.Sequential:
            return nn.Sequential(
                *(RestormerBlock(width, heads[level], expansion) for _ in range(length))
            )

        self.deepest = len(blocks) - 1
        self.patch_embed = nn.Module()
        self.patch_embed.proj = _conv(1, dim)
        for i in range(self.deepest):
            width = dim * 2**i
            decoded = width if i else 2 * dim  # the first level keeps the concatenation
            down, up = f"down{i + 1}_{i + 2}", f"up{i + 2}_{i + 1}"
            self.add_module(f"encoder_level{i + 1}", chain(i, width, blocks[i]))
            self.add_module(f"decoder_level{i + 1}", chain(i, decoded, blocks[i]))
            self.add_module(down, _Resample(_conv(width, width // 2), nn.PixelUnshuffle(2)))
            self.add_module(up, _Resample(_conv(2 * width, 4 * width), nn.PixelShuffle(2)))
            if i:
                reduce = nn.Conv2d(2 * width, width, 1, bias=False)
                self.add_module(f"reduce_chan_level{i + 1}", reduce)
        self.latent = chain(self.deepest, dim * 2**self.deepest, blocks[-1])
        self.refinement = chain(0, 2 * dim, refinement_blocks)
        self.output = _conv(2 * dim, 1)

    def forward(self, y: Tensor) -> Tensor:
        h, skips = self.patch_embed.proj(y), []
        for i in range(1, self.deepest + 1):
            h = getattr(self, f"encoder_level{i}")(h)
            skips.append(h)
            h = getattr(self, f"down{i}_{i + 1}")(h)
        h = self.latent(h)
        for i in range(self.deepest, 0, -1):
            h = torch.cat([getattr(self, f"up{i + 1}_{i}")(h), skips[i - 1]], dim=1)
            h = getattr(self, f"reduce_chan_level{i}")(h) if i > 1 else h
            h = getattr(self, f"decoder_level{i}")(h)
        return y + self.output(self.refinement(h))


class _Resample(nn.Module):
    """A convolution and a pixel shuffle, under the published name."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)


NETWORKS = {"dncnn": DnCNN, "fdncnn": FDnCNN, "swinir": SwinIR, "restormer": Restormer}


def build(backbone: str, options: Mapping[str, Any], *, size: int) -> nn.Module:
    """The gray network of a `ModelConfig`, with the options of `wne_jax.models`.

    Args:
        backbone: Key of `NETWORKS`.
        options: As in `ModelConfig`.
        size: Side of the images, which determines SwinIR's mask.
    """
    torch.manual_seed(0)
    more = {"size": size} if backbone == "swinir" else {}
    return NETWORKS[backbone](**options, **more)


def make_function(
    network: nn.Module,
    clean: np.ndarray,
    *,
    task: str,
    precision: str,
    compiled: bool,
    device: str,
    sigma: float = 25 / 255,
) -> Callable[[], Tensor]:
    """A function that runs a task once on a constant batch, in the faster memory format.

    Training consists of noise, gradient of the mean squared error and fused Adam; inference only of the
    network.

    Args:
        network: Gray network; it is moved to the device.
        clean: Images f32[B, H, W, 1].
        task: "training" or "inference".
        precision: "float32", "tf32" or "bfloat16" (autocast; parameters stay in float32).
        compiled: Whether to use `torch.compile`.
        device: "cpu" or "cuda".
        sigma: Noise level, unit range.

    Returns:
        A function without arguments; its work may still be queued when it returns.
    """
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64  # one function compiles many networks
    network = network.to(device).train(task == "training")
    images = torch.from_numpy(np.ascontiguousarray(clean.transpose(0, 3, 1, 2))).to(device)

    def in_format(layout: torch.memory_format, compiled: bool) -> Callable[[], Tensor]:
        x = images.to(memory_format=layout)
        make = partial(_training, sigma=sigma) if task == "training" else _inference
        return make(network.to(memory_format=layout), x, precision=precision, compiled=compiled)

    layouts = (torch.contiguous_format, torch.channels_last)
    best = min(layouts, key=lambda layout: _seconds(in_format(layout, False), device))
    return in_format(best, compiled)


def _training(
    network: nn.Module, clean: Tensor, *, precision: str, compiled: bool, sigma: float
) -> Callable[[], Tensor]:
    def loss_of(clean: Tensor) -> Tensor:
        noisy = clean + sigma * torch.randn_like(clean)
        return F.mse_loss(network(noisy), clean)

    loss_of = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def step() -> Tensor:
        with _precise(precision, clean.device.type):
            loss = loss_of(clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _inference(
    network: nn.Module, noisy: Tensor, *, precision: str, compiled: bool
) -> Callable[[], Tensor]:
    called = torch.compile(network, dynamic=False) if compiled else network

    def infer() -> Tensor:
        with torch.inference_mode(), _precise(precision, noisy.device.type):
            return called(noisy)

    return infer


def _precise(precision: str, device: str) -> AbstractContextManager:
    """Set the flags for TF32, which persist, and return the context for bfloat16."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def _seconds(function: Callable[[], Tensor], device: str) -> float:
    """Seconds of the faster of two calls, after a warm-up call."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
