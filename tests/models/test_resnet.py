import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.cli.main import main
from wne_jax.config import ModelConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import MODELS, ResNet, build
from wne_jax.models.resnet import norm_inputs, norm_names
from wne_jax.testing import random_variables
from wne_jax.training import TrainConfig
from wne_jax.weights import WeightsError, load_model, save

MODEL = ResNet(depth=18, classes=5)
CONFIG = ModelConfig("resnet", {"depth": 18, "classes": 5})


@functools.cache
def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@functools.cache
def drawn():
    """Variables of `MODEL` that differ from their initial values."""
    return random_variables(MODEL, jnp.zeros((1, 32, 32, 3)))


def images(shape):
    return jax.random.normal(jax.random.key(3), shape)


@pytest.mark.parametrize(
    ("depth", "parameters", "norms"),
    [(18, 11_689_512, 20), (34, 21_797_672, 36), (50, 25_557_032, 53)],
)
def test_numbers_of_parameters_and_normalization_layers_are_as_published(depth, parameters, norms):
    model = build("resnet", depth=depth)
    assert model == ResNet(depth=depth)
    variables = shapes_of(model)
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == parameters
    scales = [path for path, _ in jax.tree.leaves_with_path(variables) if "scale" in str(path)]
    assert len(scales) == len(norm_names(depth)) == norms


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("size", [(97, 30), (3, 1)])
def test_each_stage_halves_the_size_and_rounds_up(depth, size):
    model = ResNet(depth=depth)
    maps = jax.eval_shape(
        functools.partial(norm_inputs, model), shapes_of(model), jnp.zeros((2, *size, 3))
    )
    assert sorted(maps) == sorted(norm_names(depth))
    for name, leaf in maps.items():
        halvings = 1 if name == "norm1" else int(name[5]) + 1
        if depth == 50 and name in ("layer2_0/norm1", "layer3_0/norm1", "layer4_0/norm1"):
            halvings -= 1  # the second convolution has the stride
        assert leaf.shape[:3] == (2, *(-(-side // 2**halvings) for side in size))


def test_a_single_pixel_is_classified():
    logits = jax.jit(MODEL.apply)(drawn(), jnp.arange(3).reshape(1, 1, 1, 3))
    assert logits.shape == (1, 5) and logits.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(logits))) and float(jnp.std(logits)) > 0


@pytest.mark.parametrize("train", [False, True])
def test_norm_inputs_equal_the_inputs_of_the_normalizations(train):
    def run(variables, x):
        _, captured = MODEL.apply(
            variables, x, train=train, mutable=["intermediates", "batch_stats"],
            capture_intermediates=lambda module, _: module.name and "norm" in module.name,
        )  # fmt: skip
        return list(norm_inputs(MODEL, variables, x, train=train).values()), captured

    maps, captured = jax.jit(run)(drawn(), images((4, 37, 50, 3)))
    variables = jax.tree.map(np.asarray, drawn())
    assert len(maps) == 20
    for name, x in zip(norm_names(18), maps, strict=True):
        leaves = [variables["params"], variables["batch_stats"], captured["intermediates"]]
        for part in name.split("/"):
            leaves = [leaf[part] for leaf in leaves]
        affine, running, (out,) = leaves[0], leaves[1], leaves[2]["__call__"]
        x = np.asarray(x, np.float64)
        mean = x.mean((0, 1, 2)) if train else running["mean"]
        var = x.var((0, 1, 2)) if train else running["var"]
        expected = (x - mean) / np.sqrt(var + 1e-5) * affine["scale"] + affine["bias"]
        np.testing.assert_allclose(out, expected, atol=1e-5 * np.abs(expected).max())


def test_pooling_over_a_pmap_axis_gives_the_statistics_of_the_whole_batch():
    x = images((4, 40, 32, 3))

    def second_block(model, x):
        _, updated = model.apply(drawn(), x, train=True, mutable=["batch_stats"])
        return updated["batch_stats"]["layer1_1"]  # later layers are not computed

    pooled = functools.partial(second_block, MODEL.clone(axis_name="devices"))
    whole = jax.jit(functools.partial(second_block, MODEL))(x)
    shares = jax.jit(jax.vmap(pooled, axis_name="devices"))(x.reshape(2, 2, 40, 32, 3))
    for one, both in zip(jax.tree.leaves(whole), jax.tree.leaves(shares), strict=True):
        np.testing.assert_allclose(both[0], one, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(both[0], both[1])


def test_initial_kernels_have_the_deviation_of_he_over_the_fan_out(key):
    @jax.jit
    def some(key):
        params = MODEL.init(key, jnp.zeros((1, 8, 8, 3)))["params"]
        block = params["layer2_0"]
        return params["conv1"], block["conv1"], block["skip_conv"], params["classifier"]

    *kernels, dense = (layer["kernel"] for layer in some(key))
    for kernel, fan_out in zip(kernels, (49 * 64, 9 * 128, 128), strict=True):
        np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / fan_out), rtol=0.03)
    bound = 512**-0.5
    assert 0.9 * bound < float(jnp.abs(dense).max()) <= bound


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_computation_has_the_option_dtype_and_logits_that_of_the_images(dtype):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        model = ResNet(dtype=jnp.dtype(dtype))
        variables, x = shapes_of(model), jnp.zeros((1, 9, 8, 3), jnp.float64)
        assert jax.eval_shape(model.apply, variables, x).dtype == jnp.float64
        maps = jax.eval_shape(functools.partial(norm_inputs, model), variables, x)
        assert {leaf.dtype for leaf in maps.values()} == {jnp.dtype(dtype)}


def test_invalid_arguments_are_rejected(key):
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50; not 101"):
        build("resnet", depth=101)
    with pytest.raises(ValueError, match="classes must be 1 or more, not 0"):
        build("resnet", classes=0)
    for shape, reason in (
        ((1, 8, 8, 1), r"x must be RGB.*\(1, 8, 8, 1\).*repeat"),
        ((8, 8, 3), "rank 4"),
        ((1, 0, 8, 3), "x must have pixels"),
    ):
        with pytest.raises(ValueError, match=reason):
            ResNet().init(key, jnp.zeros(shape))


def test_a_file_of_a_classifier_is_not_a_denoiser(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    save(path, CONFIG, drawn())
    config, variables = load_model(path)
    assert config == CONFIG and config.build() == MODEL
    jax.tree.map(np.testing.assert_array_equal, variables, drawn())
    for wrapping in ({}, {"wrapper": "wne"}):
        with pytest.raises(ValueError, match=r"x\.safetensors: holds a resnet, which classifies"):
            Denoiser.load(path, **wrapping)

    image, out = tmp_path / "x.png", str(tmp_path / "out.png")
    image.write_bytes(b"never read")
    for command in (
        ["denoise", "--weights", str(path), str(image), "-o", out],
        ["train", "--data", "embedded", "--backbone", "resnet", "-o", out],
        ["train", "--data", "embedded", "--init", str(path), "-o", out],
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "classifie" in line


def test_configurations_reject_a_classifier():
    assert "resnet" not in MODELS
    with pytest.raises(ValueError, match=r"resnet is a classifier.*use dncnn, fdncnn"):
        ModelConfig("resnet", {}, wrapper="wne")
    with pytest.raises(ValueError, match="resnet is a classifier"):
        TrainConfig(model=CONFIG)


def test_variables_of_another_shape_are_not_saved(tmp_path):
    params = drawn()["params"]
    small = params | {"conv1": {"kernel": params["conv1"]["kernel"][:3, :3]}}
    with pytest.raises(WeightsError, match=r"params/conv1/kernel is \(3, 3, 3, 64\), not \(7, 7"):
        save(tmp_path / "x.safetensors", CONFIG, drawn() | {"params": small})
