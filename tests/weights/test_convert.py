import dataclasses
import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import DnCNN
from wne_jax.weights import WeightsError, WeightsNote, convert
from wne_jax.weights.layouts import LAYOUTS

SCALE, NE = "scale-equivariant", "normalization-equivariant"

# For each published file: its model, its number of parameters, and the mode if names are ambiguous.
PUBLISHED = {
    "kair_dncnn_gray": ("dncnn", None, 555_137, None),
    "kair_fdncnn_gray": ("fdncnn", None, 666_497, None),
    "kair_drunet_gray": ("drunet", None, 32_638_656, None),
    "ne_nets_fdncnn_ordinary": ("fdncnn", None, 665_920, None),
    "ne_nets_fdncnn_scale-equiv": ("fdncnn", None, 664_704, SCALE),
    "ne_nets_fdncnn_norm-equiv": ("fdncnn", None, 664_704, NE),
    "ne_nets_drunet_ordinary": ("drunet", None, 32_650_753, None),
    "ne_nets_drunet_scale-equiv": ("drunet", None, 32_638_080, None),
    "ne_nets_drunet_norm-equiv": ("drunet", None, 32_638_112, None),
    "restormer_gray": ("restormer", None, 26_109_076, None),
    "restormer_color": ("restormer", None, 26_111_668, None),
    "swinir_dn_gray": ("swinir", None, 11_497_681, None),
    "wne_dncnn": ("dncnn", "wne", 668_225, None),
    "wne_fdncnn": ("fdncnn", "wne", 665_920, None),
    "wne_fdncnn_ne": ("fdncnn", None, 664_704, NE),
    "wne_restormer": ("restormer", "wne", 26_124_052, None),
    "wne_swinir_light": ("swinir", "wne", 903_121, None),
}


def empty(shapes):
    """Tensors of these shapes that use no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def merged_dncnn(depth=4, features=8, channels=1):
    """The shapes of a small DnCNN of KAIR."""
    widths = [channels, *(depth - 1) * [features], channels]
    shapes = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        shapes[f"model.{2 * i}.weight"] = (outputs, inputs, 3, 3)
        shapes[f"model.{2 * i}.bias"] = (outputs,)
    return shapes


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_file_fills_its_model(published_shapes, name):
    backbone, wrapper, parameters, mode = PUBLISHED[name]
    config, variables = convert(empty(published_shapes(name)), mode=mode)
    assert (config.backbone, config.wrapper) == (backbone, wrapper and WrapperConfig(wrapper))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert mode is None or config.options["mode"] == mode


def test_no_published_file_is_missing_from_the_table(wne_weights):
    folder = wne_weights.parent / "reference" / "state_dicts"
    assert {path.stem for path in folder.glob("*.json")} <= set(PUBLISHED)


@pytest.mark.parametrize("name", ["ne_nets_fdncnn_norm-equiv", "wne_fdncnn_ne"])
def test_mode_distinguishes_two_models_with_the_same_tensors(published_shapes, name):
    tensors = empty(published_shapes(name))
    both = "fits more than one model: fdncnn of mode scale-.*, fdncnn of mode norm.*; choose one"
    with pytest.raises(WeightsError, match=both):
        convert(tensors)
    with pytest.raises(WeightsError, match="mode is 'ordinary', but it fits fdncnn of mode scale"):
        convert(tensors, mode="ordinary")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_depth_and_width_are_found_from_the_shapes(channels):
    config, variables = convert(empty(merged_dncnn(depth=5, features=6, channels=channels)))
    assert config == ModelConfig("dncnn", {"depth": 5, "features": 6, "batch_norm": False})
    assert variables["params"]["conv_0"]["kernel"].shape == (3, 3, channels, 6)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.", "model.", "net._orig_mod."])
def test_an_unknown_common_prefix_is_removed(prefix):
    shapes = merged_dncnn()
    config, variables = convert(empty({f"{prefix}{name}": s for name, s in shapes.items()}))
    assert config == convert(empty(shapes))[0] and len(variables["params"]) == 4
    mixed = {name if name == "model.0.bias" else f"{prefix}{name}": s for name, s in shapes.items()}
    with pytest.raises(WeightsError):
        convert(empty(mixed))


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("wne_dncnn", ["assumed to be trained inside WNE, .*--wrapper none"]),
        ("wne_swinir_light", ["assumed to be trained inside WNE"]),
        ("wne_restormer", ["assumed to be trained inside WNE"]),
        ("ne_nets_drunet_ordinary", ["not a multiple of 8 .* mean of the whole batch"]),
        ("kair_drunet_gray", []),
        ("ne_nets_fdncnn_ordinary", []),
    ],
)
def test_ambiguous_files_give_a_note(published_shapes, name, notes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(empty(published_shapes(name)), name="x.pth")
    found = [str(w.message) for w in caught if w.category is WeightsNote]
    assert len(found) == len(notes)
    for line, note in zip(found, notes):
        assert re.match(f"x.pth: .*{note}", line) and "\n" not in line


def test_the_number_of_input_channels_distinguishes_ffdnet_from_fdncnn():
    shapes = {"model.0.weight": (8, 5, 3, 3), "model.0.bias": (8,)}
    shapes |= {"model.2.weight": (4, 8, 3, 3), "model.2.bias": (4,)}
    config, _ = convert(empty(shapes))
    assert config == ModelConfig("ffdnet", {"depth": 2, "features": 8, "conditioned": True})


def test_unknown_names_are_listed_with_the_known_layouts():
    tensors = empty({f"layer{i}.w": (3,) for i in range(9)})
    with pytest.raises(WeightsError) as caught:
        convert(tensors, name="x.pth")
    line = str(caught.value)
    assert line.startswith("x.pth: no known layout has tensors named layer0.w, layer1.w, ")
    assert "and 5 more; known layouts are " in line and "\n" not in line
    assert all(layout.__name__ in line for layout in LAYOUTS)


def test_dilated_convolutions_are_not_mistaken_for_plain_ones():
    with pytest.raises(WeightsError, match="no known layout"):  # KAIR's IRCNN
        convert(empty(merged_dncnn(depth=7, features=64)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model.4.bias": None}, "missing: model.4.bias"),
        ({"extra.a": (3,), "extra.b": ()}, "left over: extra.a, extra.b"),
        ({f"extra.{i}": () for i in range(7)}, "extra.0, extra.1, extra.2, extra.3 and 3 more"),
        (
            {"model.2.weight": (8, 8, 5, 5), "model.6.bias": (2,)},
            "of another shape: params/conv_1/kernel is (5, 5, 8, 8), not (3, 3, 8, 8),"
            " params/conv_3/bias is (2,), not (1,)",
        ),
        (
            {"model.4.bias": None, "extra": ()},
            "missing: model.4.bias; left over: extra",
        ),
    ],
)
def test_mismatches_are_named_in_one_line(change, complaint):
    shapes = {name: shape for name, shape in (merged_dncnn() | change).items() if shape is not None}
    with pytest.raises(WeightsError) as caught:
        convert(empty(shapes), name="x.pth")
    line = str(caught.value)
    assert line.startswith("x.pth: does not fit dncnn; ") and "\n" not in line
    assert complaint in line


@pytest.mark.parametrize(
    ("options", "twice", "complaint"),
    [
        ({}, True, "used twice: model.0.weight; filled twice: params/conv_0/kernel"),
        ({"depth": 5}, False, "not filled: params/conv_4/bias, params/conv_4/kernel"),
        ({"use_bias": False}, False, "not in the model: params/conv_0/bias, params/conv_1/bias"),
    ],
)
def test_an_incorrect_layout_is_detected(monkeypatch, options, twice, complaint):
    (plan,) = (plan for layout in LAYOUTS if (plan := layout(merged_dncnn())) is not None)
    config = dataclasses.replace(plan.config, options=plan.config.options | options)
    wrong = plan._replace(config=config, entries=plan.entries + plan.entries[:twice])
    monkeypatch.setattr("wne_jax.weights.conversion.LAYOUTS", (lambda shapes: wrong,))
    with pytest.raises(WeightsError) as caught:
        convert(empty(merged_dncnn()))
    assert complaint in str(caught.value)
    with pytest.raises(ValueError, match="mode must be one of"):  # no configuration, so no layout
        dataclasses.replace(plan.config, options={"mode": "odd"})


def test_scico_takes_the_noise_level_as_a_second_channel(key):
    net = DnCNN(depth=3, features=4, use_bias=False, padding="circular", residual=False)
    y = jax.random.normal(key, (1, 6, 5, 2))
    variables = net.init(key, y)
    params, stats = variables["params"], variables["batch_stats"]
    tensors = {
        "params/conv_start/kernel": params["conv_0"]["kernel"],
        "params/ConvBNBlock_0/Conv_0/kernel": params["conv_1"]["kernel"],
        "params/conv_end/kernel": params["conv_2"]["kernel"],
    }
    for leaf in ("scale", "bias"):
        tensors[f"params/ConvBNBlock_0/BatchNorm_0/{leaf}"] = params["norm_1"][leaf]
    for leaf in ("mean", "var"):
        tensors[f"batch_stats/ConvBNBlock_0/BatchNorm_0/{leaf}"] = stats["norm_1"][leaf]
    config, converted = convert({name: np.asarray(value) for name, value in tensors.items()})
    assert config.takes_sigma
    sigma = y[:, :1, :1, 1:]
    both = jnp.concatenate([y[..., :1], jnp.broadcast_to(sigma, (1, 6, 5, 1))], axis=-1)
    expected = (both - net.apply(variables, both))[..., :1]
    actual = config.build().apply(converted, y[..., :1], sigma=sigma)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_tensors_that_must_be_zero_are_checked():
    widths = {"first_layer": (4, 1), "hidden_layer_list.0": (4, 4), "last_layer": (1, 4)}
    tensors = {f"{name}.weight": np.ones((*io, 3, 3)) for name, io in widths.items()}
    norm = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    tensors |= {f"bn_layer_list.0.{name}": np.full(4, value) for name, value in norm.items()}
    assert convert(tensors)[0].options["mode"] == "scale-equivariant"
    for name in ("bias", "running_mean"):
        with pytest.raises(WeightsError, match=rf"not zero: bn_layer_list.0.{name}"):
            convert(tensors | {f"bn_layer_list.0.{name}": np.full(4, 0.1)})


@pytest.mark.parametrize("value", [np.int16(3), np.float32(np.nan)])
def test_nonfinite_tensors_are_rejected(value):
    widths = {"model.0": (4, 1), "model.2": (4, 4), "model.4": (1, 4)}
    tensors = {f"{name}.weight": np.ones((*io, 3, 3)) for name, io in widths.items()}
    tensors |= {f"{name}.bias": np.full(io[0], value) for name, io in widths.items()}
    with pytest.raises(WeightsError, match=r"not finite numbers: model.0.bias, model.2.bias"):
        convert(tensors)


@pytest.mark.parametrize("name", ["restormer_color", "swinir_dn_gray", "kair_drunet_gray"])
def test_damaged_checkpoints_of_any_layout_give_one_line(name, published_shapes):
    shapes = published_shapes(name)
    rng = np.random.default_rng(0)
    weights = sorted(tensor for tensor in shapes if tensor.endswith(".weight"))
    for lost in rng.choice(weights, 4, replace=False):
        tensors = {t: np.broadcast_to(np.float32(0), s) for t, s in shapes.items() if t != lost}
        with pytest.raises(WeightsError) as caught:
            convert(tensors)
        assert "\n" not in str(caught.value)


def test_a_colour_model_that_subtracts_its_mean_converts_and_denoises(published_shapes):
    light = published_shapes("wne_swinir_light")
    shapes = {tensor.removeprefix("model."): shape for tensor, shape in light.items()} | {
        "conv_first.weight": (60, 3, 3, 3),
        "conv_last.weight": (3, 60, 3, 3),
        "conv_last.bias": (3,),
    }
    tensors = {t: np.broadcast_to(np.float32(0), shape) for t, shape in shapes.items()}
    config, variables = convert(tensors)
    assert len(config.options["mean"]) == 3
    assert Denoiser(config.build(), variables, config).channels == 3
