"""ResNet against an independent definition in PyTorch with the tensor names of torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from wne_jax.models.resnet import norm_inputs, norm_names
from wne_jax.weights import WeightsError, convert, load_model

torch = pytest.importorskip("torch", reason="compares with PyTorch")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch


def conv(inputs, outputs, side, stride=1):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class Basic(nn.Module):
    growth = 1

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        add_downsample(self, inputs, width, stride)

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return torch.relu(h + self.downsample(x))


class Bottleneck(nn.Module):
    growth = 4

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        add_downsample(self, inputs, 4 * width, stride)

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = torch.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return torch.relu(h + self.downsample(x))


def add_downsample(block, inputs, outputs, stride):
    block.downsample = nn.Sequential()
    if (inputs, 1) != (outputs, stride):
        block.downsample.extend([conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)])


class Network(nn.Module):
    def __init__(self, block, lengths, classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        inputs = 64
        for stage, length in enumerate(lengths):
            chain, width = nn.Sequential(), 64 << stage
            for i in range(length):
                chain.append(block(inputs, width, 2 if stage > 0 and i == 0 else 1))
                inputs = block.growth * width
            setattr(self, f"layer{stage + 1}", chain)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        h = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(h.mean((2, 3)))


KINDS = {18: (Basic, (2, 2, 2, 2)), 34: (Basic, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}


def random_network(depth, classes=10):
    """No value is 0 or 1, including running statistics; kernels preserve the signal's scale."""
    network = Network(*KINDS[depth], classes).eval()
    generator = torch.Generator().manual_seed(depth)
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif tensor.ndim > 1:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "weight")):
            tensor.copy_(0.5 + 0.3 * noise.abs())
        else:
            tensor.copy_(0.3 * noise)
    return network


def tensors_of(network):
    """Copies of the tensors, since training changes them in place."""
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def torch_norm_inputs(network, x):
    """The inputs of the normalizations in the order of the calls, and the logits."""
    inputs = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        logits = network(torch.tensor(np.moveaxis(x, -1, 1)))
    return [np.moveaxis(h.numpy(), 1, -1) for h in inputs], logits.numpy()


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(("depth", "train"), [(18, False), (18, True), (50, False)])
def test_logits_and_feature_maps_agree_with_torch(depth, train):
    network = random_network(depth)
    config, variables = convert(tensors_of(network))
    assert config.options == {"depth": depth, "classes": 10}
    model = config.build()
    x = np.random.default_rng(0).standard_normal((2, 70, 53, 3), np.float32)
    before = variables["batch_stats"]

    @jax.jit
    def run(variables, x):
        logits, updated = model.apply(variables, x, train=train, mutable=["batch_stats"])
        maps = norm_inputs(model, variables, x, train=train)
        return logits, [maps[name] for name in norm_names(depth)], updated["batch_stats"]

    logits, maps, after = run(variables, x)
    their_maps, their_logits = torch_norm_inputs(network.train(train), x)
    assert_close(logits, their_logits)
    for ours, theirs in zip(maps, their_maps, strict=True):
        assert_close(ours, theirs)
    if not train:
        jax.tree.map(np.testing.assert_array_equal, after, before)
        return
    their_after = convert(tensors_of(network))[1]["batch_stats"]
    pixels = 2 * 35 * 27  # PyTorch's running variance averages unbiased variances
    theirs = their_after["norm1"]["var"] - 0.9 * before["norm1"]["var"]
    ours = after["norm1"]["var"] - 0.9 * before["norm1"]["var"]
    np.testing.assert_allclose(ours, theirs * (pixels - 1) / pixels, rtol=1e-4)
    for block in ("layer2_0", "layer4_1"):
        assert_close(after[block]["norm1"]["mean"], their_after[block]["norm1"]["mean"])


@pytest.mark.parametrize(("depth", "tensors"), [(18, 122), (34, 218), (50, 320)])
def test_every_tensor_of_every_depth_is_used(depth, tensors):
    with torch.device("meta"):
        network = Network(*KINDS[depth], 1000)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(shapes) == tensors
    assert shapes["layer2.0.downsample.0.weight"][1] == 64 * network.layer1[0].growth
    config, _ = convert({name: np.broadcast_to(np.float32(0), s) for name, s in shapes.items()})
    assert (config.backbone, config.options) == ("resnet", {"depth": depth, "classes": 1000})


def test_a_pth_and_a_safetensors_file_hold_the_same_network(tmp_path):
    network = random_network(18)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    old = {t: v for t, v in tensors_of(network).items() if not t.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")  # as before PyTorch counted batches
    config, variables = load_model(tmp_path / "resnet18.pth")
    other_config, other = load_model(tmp_path / "old.safetensors")
    assert config == other_config
    jax.tree.map(np.testing.assert_array_equal, variables, other)
    kernel = variables["params"]["layer2_0"]["skip_conv"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0].T, old["layer2.0.downsample.0.weight"][..., 0, 0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"conv1.weight": None}, "missing: conv1.weight"),
        ({"layer3.1.bn2.running_var": None}, "missing: layer3.1.bn2.running_var"),
        ({"fc.weight": None, "fc.bias": None}, "missing: fc.weight, fc.bias"),
        ({"fc.weight": (10, 2048)}, "params/classifier/kernel is (2048, 10), not (512, 10)"),
        (
            {"conv1.weight": (64, 1, 7, 7)},
            "params/conv1/kernel is (7, 7, 1, 64), not (7, 7, 3, 64)",
        ),
        ({"layer1.0.se.weight": (64, 64)}, "left over: layer1.0.se.weight"),
        ({"layer4.2.conv1.weight": (512, 512, 3, 3)}, "no known layout"),
    ],
)
def test_files_of_other_networks_are_rejected_by_name(change, complaint):
    with torch.device("meta"):
        network = Network(*KINDS[18], 10)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shapes = {name: shape for name, shape in (shapes | change).items() if shape is not None}
    with pytest.raises(WeightsError) as caught:
        convert({t: np.broadcast_to(np.float32(0), s) for t, s in shapes.items()}, name="x.pth")
    line = str(caught.value)
    assert line.startswith("x.pth: ") and complaint in line and "\n" not in line
