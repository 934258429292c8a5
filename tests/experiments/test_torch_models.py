"""The PyTorch networks of the timing are the same as ours: same weights, same output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.weights import convert

torch = pytest.importorskip("torch", reason="compares with PyTorch")
opponents = pytest.importorskip("experiments.parts.torch_models")
pytestmark = pytest.mark.torch

torch.set_num_threads(1)  # its threads wait for each other if test workers share the cores

NE = "normalization-equivariant"
CASES = {
    "dncnn": ("dncnn", {"depth": 4, "features": 6}),
    "fdncnn": ("fdncnn", {"depth": 4, "features": 6}),
    "ne-arch": ("fdncnn", {"depth": 4, "features": 6, "mode": NE}),
    "swinir": (
        "swinir",
        {"groups": 2, "blocks": 2, "features": 12, "heads": 3, "window": 4, "mlp_ratio": 1.5},
    ),
    "restormer": (
        "restormer",
        {"dim": 4, "blocks": (1, 2, 1), "heads": (1, 2, 4), "refinement_blocks": 1},
    ),
}
SIZE = 16


def randomised(network):
    """Random kernels that preserve the size of the signal; other tensors differ from 1 and 0."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn_like(tensor)
            if tensor.ndim > 1 and "temperature" not in name and "table" not in name:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.add_(noise / 2)
        for name, tensor in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
def test_torch_networks_have_the_same_output_as_ours(case):
    backbone, options = CASES[case]
    network = randomised(opponents.build(backbone, options, size=SIZE))
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    config, variables = convert(tensors, mode=options.get("mode", "ordinary"))
    assert (config.backbone, config.wrapper) == (backbone, None)
    assert {name: config.options.get(name, "ordinary") for name in options} == options

    y = np.random.default_rng(0).normal(0.4, 0.3, (2, SIZE, SIZE, 1)).astype(np.float32)
    model = config.build()
    quickly = jax.jit(model.apply, compiler_options={"xla_backend_optimization_level": 0})
    ours = np.asarray(quickly(variables, jnp.asarray(y)))
    for layout in (torch.contiguous_format, torch.channels_last):
        images = torch.from_numpy(y.transpose(0, 3, 1, 2)).to(memory_format=layout)
        with torch.inference_mode():
            theirs = network.to(memory_format=layout)(images).numpy().transpose(0, 2, 3, 1)
        assert np.abs(theirs - y).max() > 0.5
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.ptp(theirs))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss_and_inference_keeps_shapes(precision):
    rows = np.linspace(0, 1, SIZE, dtype=np.float32)
    clean = np.broadcast_to(rows[None, :, None, None], (2, SIZE, SIZE, 1))
    network = opponents.build(*CASES["dncnn"], size=SIZE)
    options = {"precision": precision, "compiled": False, "device": "cpu"}
    step = opponents.make_function(network, clean, task="training", **options)
    losses = [float(step()) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    infer = opponents.make_function(network, clean, task="inference", **options)
    estimate = infer()
    assert estimate.shape == (2, 1, SIZE, SIZE)
    assert np.isfinite(estimate.float().numpy()).all()
