import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import wne_jax as wne
from wne_jax.config import ModelConfig, SmoothBase
from wne_jax.layers import Conv, Downsample, WindowAttention, pixel_unshuffle
from wne_jax.symmetry.actions import Translation
from wne_jax.symmetry.equivariance import defect
from wne_jax.symmetry.layerwise import layer_defects
from wne_jax.wrappers import as_linen, variables_of

FLOOR = 1e-5
ONE, HALF = (1, 1), (0.5, 0.5)


def images(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def drawn(model, y, dtype=jnp.float32):
    """Variables without zeros; variances are positive."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), y.astype(jnp.float32))

    def draw(path, leaf):
        value = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(np.abs(value) if path[-1].key == "var" else value, dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def losses(model, y, displacement, **options):
    """The largest defect of each step, by kind."""
    dy, dx = displacement
    steps = layer_defects(model, drawn(model, y), y, dy=dy, dx=dx, **options)
    return {step.kind: float(step.defect.max()) for step in steps}


def lost(model, y, displacement, **options):
    return [
        kind for kind, loss in losses(model, y, displacement, **options).items() if loss > FLOOR
    ]


class Chain(nn.Module):
    """Linear, ReLU, normalization over channels, linear, normalization over space, linear."""

    padding: str = "circular"

    @nn.compact
    def __call__(self, x):
        x = Conv(3, padding=self.padding, name="first")(x)
        # The epsilon keeps rounding small where ReLU zeroes all channels, so that their variance is 0.
        x = nn.LayerNorm(epsilon=0.1, name="over_channels", use_fast_variance=False)(nn.relu(x))
        x = Conv(3, kernel_size=1, name="between")(x)
        x = nn.InstanceNorm(name="over_space", use_fast_variance=False)(x)
        return nn.Dense(3, name="last")(x)


@pytest.mark.parametrize("size", [(9, 7), (8, 6)])
def test_equivariance_is_lost_only_where_the_theorem_predicts(size):
    chain = Chain()
    y = images((2, *size, 3))
    assert lost(chain, y, HALF) == ["into over_channels", "LayerNorm"]
    assert lost(chain, y, (0.3, 1.7)) == ["into over_channels", "LayerNorm"]
    assert lost(chain, y, (-3, 2)) == []


def test_zero_padding_loses_shifts_unless_the_kernel_has_one_pixel():
    steps = losses(Chain("zeros"), images((2, 9, 7, 3)), ONE)
    assert steps["Conv"] < FLOOR  # the second Conv, of size 1
    y = images((2, 9, 7, 3))
    first = layer_defects(Chain("zeros"), drawn(Chain("zeros"), y), y, dy=1, dx=1)[0]
    assert first.layer == "first" and first.defect.min() > 0.05


def test_defects_equal_those_computed_by_hand_for_each_layer():
    y, dy, dx = images((2, 9, 7, 3)), jnp.array([0.5, 2.25]), jnp.array([1.0, -0.75])
    chain, action = Chain("zeros"), Translation(dy, dx)
    variables = drawn(chain, y)
    steps = {s.layer + s.kind: s for s in layer_defects(chain, variables, y, dy=dy, dx=dx)}

    def layer(module, name):
        return lambda x: module.apply({"params": variables["params"][name]}, x)

    conv, norm = (
        layer(Conv(3), "first"),
        layer(nn.LayerNorm(epsilon=0.1, use_fast_variance=False), "over_channels"),
    )
    linear = conv(y)
    rectified = nn.relu(linear)
    by_hand = {
        "firstConv": defect(conv, action, y),
        "over_channelsinto over_channels": defect(nn.relu, action, linear),
        "over_channelsLayerNorm": defect(norm, action, rectified),
    }
    for name, expected in by_hand.items():
        assert steps[name].defect.shape == (2,)
        np.testing.assert_allclose(steps[name].defect, expected, rtol=1e-3, atol=1e-6)


def test_a_convolution_commutes_on_even_sizes_despite_nyquist_bins():
    y, model = images((2, 8, 6, 3)), Conv(3, padding="circular")
    variables = drawn(model, y)
    assert defect(lambda y: model.apply(variables, y), Translation(0.5, 0.5), y).max() < FLOOR
    rectified = nn.Sequential([nn.relu, model])  # ReLU fills the Nyquist bins
    assert lost(rectified, y, HALF) == ["into layers_1"]


class Pyramid(nn.Module):
    """A ReLU at half the size, after downsampling."""

    unshuffled: bool = False

    @nn.compact
    def __call__(self, x):
        if self.unshuffled:
            x = Conv(3, kernel_size=1, name="deep")(pixel_unshuffle(x, 2))
        else:
            x = Downsample(3, name="down")(x)
        return Conv(3, padding="circular", name="deep_again")(nn.relu(x))


def test_a_stride_commutes_only_with_shifts_by_its_multiples():
    y = images((2, 8, 6, 3))
    assert lost(Pyramid(), y, (2, -4)) == []
    assert lost(Pyramid(), y, (2, 1)) == [
        "Downsample",
        "into deep_again",
    ]  # half a pixel of the smaller map
    assert lost(Pyramid(unshuffled=True), y, (4, 2)) == []
    assert lost(Pyramid(unshuffled=True), y, (1, 0)) == ["into deep", "into deep_again"]


def test_a_step_has_the_size_of_its_map():
    y = images((2, 8, 6, 3))
    steps = layer_defects(Pyramid(), drawn(Pyramid(), y), y, dy=1, dx=0)
    assert [(s.layer, s.size) for s in steps] == [
        ("down", (4, 3)), ("deep_again", (4, 3)), ("deep_again", (4, 3)),
    ]  # fmt: skip


def test_a_result_pooled_over_space_is_compared_without_translation():
    pooled = nn.Sequential([Conv(3, padding="circular"), lambda x: x.mean((1, 2)), nn.Dense(3)])
    assert lost(pooled, images((2, 9, 7, 3)), HALF) == []
    steps = losses(pooled, images((2, 9, 7, 3)), HALF)
    assert list(steps) == ["Conv", "into layers_2", "Dense"]
    bordered = nn.Sequential([Conv(3), lambda x: jnp.square(x).mean((1, 2)), nn.Dense(3)])
    assert "into layers_2" not in lost(bordered, images((2, 9, 7, 3)), ONE)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + Conv(3, padding="circular", name="conv")(nn.relu(x))


class Blocks(nn.Module):
    block: type = Block

    @nn.compact
    def __call__(self, x):
        x = self.block(name="one")(jnp.square(x))
        return self.block(name="two")(x)


def test_a_defect_is_counted_once_despite_skip_connections():
    steps = losses(Blocks(), images((2, 9, 7, 3)), HALF)
    assert list(steps) == [
        "into one", "into one/conv", "Conv", "into two", "into two/conv", "into the result",
    ]  # fmt: skip
    above = [kind for kind, loss in steps.items() if loss > FLOOR]
    assert above == ["into one", "into one/conv", "into two/conv"]


def test_rematerialized_blocks_have_the_same_defects():
    y = images((2, 9, 7, 3))
    plain, again = losses(Blocks(), y, HALF), losses(Blocks(nn.remat(Block)), y, HALF)
    assert set(plain) <= set(again)
    for kind, loss in plain.items():
        np.testing.assert_allclose(again[kind], loss, rtol=1e-3, atol=1e-6)


def test_a_module_called_twice_has_two_entries():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = Conv(3, padding="circular", name="conv")
            return conv(nn.relu(conv(x)))

    y = images((2, 9, 7, 3))
    steps = layer_defects(Twice(), drawn(Twice(), y), y, dy=0.5, dx=0.5)
    assert [s.kind for s in steps] == ["Conv", "into conv", "Conv"]
    assert [bool(s.defect.max() > FLOOR) for s in steps] == [False, True, False]


def test_window_attention_is_one_layer_and_commutes_only_with_whole_windows():
    y = images((2, 8, 6, 3))
    attention = WindowAttention(heads=1, window=2)
    assert list(losses(attention, y, ONE)) == ["WindowAttention"]
    assert lost(attention, y, ONE) == ["WindowAttention"] and lost(attention, y, (4, -2)) == []


def test_the_caller_chooses_what_counts_as_a_layer():
    steps = losses(Blocks(), images((2, 9, 7, 3)), HALF, leaves=lambda m: isinstance(m, Block))
    assert list(steps) == ["into one", "Block"]


def test_the_normalization_of_a_wrapped_network_is_measured():
    model = wne.models.DnCNN(depth=3, features=3, padding="circular")
    y = images((2, 9, 7, 3))
    steps = losses(wne.WNE(model), y, HALF)
    assert next(iter(steps)) == "into DnCNN" and steps["into DnCNN"] < FLOOR
    assert steps["into the result"] < FLOOR and steps["into conv_1"] > FLOOR


def test_float64_lowers_the_floor(standard_promotion):
    with jax.enable_x64(True):
        y, chain = images((2, 9, 7, 3), dtype=jnp.float64), Chain()
        variables = drawn(chain, y, jnp.float64)
        steps = layer_defects(chain, variables, y, dy=0.5, dx=0.25)
        kept = [s.defect.max() for s in steps if s.kind in ("Conv", "Dense", "InstanceNorm")]
        assert len(kept) == 4 and max(kept) < 1e-13
        assert all(s.defect.dtype == np.float64 for s in steps)


def test_invalid_arguments_are_rejected():
    model, y = Conv(3), images((2, 9, 7, 3))
    variables = drawn(model, y)
    with pytest.raises(ValueError, match="rank 4"):
        layer_defects(model, variables, y[0], dy=0, dx=0)
    with pytest.raises(ValueError, match=r"scalar or \[B\] = \[2\]"):
        layer_defects(model, variables, y, dy=jnp.zeros(3), dx=0)


def test_sides_that_the_model_would_pad_are_rejected():
    model = wne.WNE(wne.models.DRUNet(features=(4, 4), blocks=1))
    with pytest.raises(ValueError, match="multiples of 2"):
        layer_defects(model, {}, jnp.ones((1, 8, 9, 1)), dy=1, dx=1)


class NNXNetwork(nnx.Module):
    """Circular convolutions around an activation, a shared layer, and a layer with zero padding."""

    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), padding="CIRCULAR", rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(4, rngs=rngs, use_fast_variance=False)])
        self.shared = nnx.Conv(4, 4, (1, 1), rngs=rngs)
        self.last = nnx.Conv(4, 2, (3, 3), rngs=rngs)

    def __call__(self, y):
        h = self.norms[0](nnx.relu(self.first(y)))
        return self.last(self.shared(self.shared(h)))


class LinenNetwork(nn.Module):
    """The same network in Linen."""

    @nn.compact
    def __call__(self, y):
        h = nn.relu(nn.Conv(4, (3, 3), padding="CIRCULAR", name="first")(y))
        h = nn.LayerNorm(name="norms_0", use_fast_variance=False)(h)
        shared = nn.Conv(4, (1, 1), name="shared")
        return nn.Conv(2, (3, 3), name="last")(shared(shared(h)))


class TestNNX:
    y = images((2, 9, 7, 2))

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_the_steps_equal_those_of_the_same_network_in_linen(self, wrapped):
        network = NNXNetwork(nnx.Rngs(0))
        layers = {"first": network.first, "norms_0": network.norms[0],
                  "shared": network.shared, "last": network.last}  # fmt: skip
        variables = {"params": {k: nnx.to_pure_dict(nnx.state(m)) for k, m in layers.items()}}
        model, linen = network, LinenNetwork()
        if wrapped:
            model, linen = wne.NNXWNE(network), wne.WNE(LinenNetwork())
        actual = layer_defects(model, None, self.y, dy=0.5, dx=1.25)
        expected = layer_defects(linen, variables, self.y, dy=0.5, dx=1.25)
        bare = lambda name: name.removeprefix("backbone/").replace("norms/0", "norms_0")  # noqa: E731
        assert len(actual) == len(expected) > 5
        for one, other in zip(actual, expected):
            assert one.kind.split()[0] == other.kind.split()[0] and one.size == other.size
            if bare(one.layer) in layers:
                assert bare(one.layer) == other.layer
            np.testing.assert_allclose(one.defect, other.defect, atol=1e-6)

    def test_the_module_itself_is_not_changed(self):
        network = NNXNetwork(nnx.Rngs(0))
        before, state = network(self.y), jax.tree.map(jnp.copy, nnx.state(network))
        layer_defects(network, None, self.y, dy=1, dx=0)
        assert type(network) is NNXNetwork and type(network.first) is nnx.Conv
        jax.tree.map(np.testing.assert_array_equal, nnx.state(network), state)
        np.testing.assert_array_equal(network(self.y), before)

    def test_other_variables_may_stand_in_the_place_of_its_own(self):
        one, other = (NNXNetwork(nnx.Rngs(seed)) for seed in (0, 1))
        expected = layer_defects(other, None, self.y, dy=0.5, dx=0)
        for actual in (
            layer_defects(one, variables_of(other), self.y, dy=0.5, dx=0),
            layer_defects(*as_linen(other), self.y, dy=0.5, dx=0),
        ):
            for step, same in zip(actual, expected, strict=True):
                assert step[:3] == same[:3]
                np.testing.assert_array_equal(step.defect, same.defect)

    def test_one_that_is_built_by_its_name_shows_its_layers_inside_of_everything(self):
        config = ModelConfig(f"{__name__}:NNXNetwork", {}, "wne", SmoothBase(1.0))
        model = config.build()
        variables = drawn(model, self.y)
        steps = layer_defects(model, variables, self.y, dy=0.5, dx=0)
        layers = [s.layer for s in steps if not s.kind.startswith("into")]
        assert layers == ["first", "norms/0", "shared", "shared", "last"]


def test_a_function_is_one_layer():
    y = images((2, 9, 7, 3))
    (step,) = layer_defects(lambda y: jnp.roll(y, 1, axis=1), None, y, dy=0.5, dx=0.25)
    assert step.kind == "FromFunction" and step.defect.max() < FLOOR
    (step,) = layer_defects(jnp.tanh, None, y, dy=0.5, dx=0.25)
    assert step.defect.max() > FLOOR
