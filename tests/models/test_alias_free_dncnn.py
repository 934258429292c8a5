import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from experiments.mismatch import Options
from wne_jax.layers.spectra import without_nyquist
from wne_jax.models import DnCNN
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry.actions import Scale, Translation
from wne_jax.symmetry.equivariance import (
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    defect,
)
from wne_jax.training.config import differences

ODD, EVEN = (11, 9), (12, 10)
T = Translation(np.array([0.37, -2.61]), np.array([1.83, 4.5]))


def images(size, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(0).normal(0.4, 0.2, (2, *size, 1)), dtype)


def variables(network, dtype=np.float32):
    """Variables that differ from their initial values, including BatchNorm's averages."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), images(ODD, dtype))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        if path[-1].key == "kernel":
            value = noise / np.sqrt(np.prod(leaf.shape[:-1]))
        elif path[-1].key == "coefficients":
            value = np.array([[0.1], [0.75], [0.1]]) + 0.05 * noise
        else:
            value = (path[-1].key in ("scale", "var", "std")) + 0.1 * np.abs(noise)
        return np.asarray(value, dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def network(**options):
    return DnCNN(depth=4, features=8, padding="circular", **{"activation": "polynomial"} | options)


def compiled(model, network, dtype=np.float32):
    moved = variables(network, dtype)
    return jax.jit(lambda y: model.apply(moved, y))


@pytest.mark.parametrize("size", [ODD, EVEN, (8, 1)], ids=str)
def test_polynomial_dncnn_commutes_with_sub_pixel_translations(size):
    net = network()
    assert defect(compiled(net, net), T, images(size)).max() < 1e-5


def test_relu_does_not_commute_and_filtered_relu_nearly_does():
    relu, filtered = (network(activation=name) for name in ("relu", "filtered-relu"))
    y = without_nyquist(images(EVEN))
    plain = float(defect(compiled(relu, relu), T, y).min())
    near = float(defect(compiled(filtered, filtered), T, y).max())
    assert plain > 1e-2 and 1e-5 < near < plain / 2


@pytest.mark.parametrize("statistics", ["mean_std", "high_pass"])
def test_the_wrapped_network_commutes_with_contrast_brightness_and_translations(statistics):
    model = wne.WNE(network(), statistics=STATISTICS[statistics])
    f = compiled(model, network())
    for y in (images(ODD), without_nyquist(images(EVEN))):
        gain = float(4 + jnp.max(jnp.abs(f(y) - y)) / jnp.std(y))
        assert gain < 30
        assert_normalization_equivariant(f, y, jax.random.key(1), samples=4, gain=gain)
        assert_exact_under_powers_of_two(f, y, exponents=(-20, -1, 7))
        assert defect(f, T, y).max() < 1e-5
    # On even sizes a translation changes the scale that the wrapper measures.
    assert 1e-4 < defect(f, T, images(EVEN)).max() < 0.1


def test_both_symmetries_hold_to_float64_rounding(standard_promotion):
    with jax.enable_x64(True):
        model = wne.WNE(network(param_dtype=jnp.float64))
        y = images(ODD, np.float64)
        f = compiled(model, network(param_dtype=jnp.float64), np.float64)
        assert f(y).dtype == jnp.float64
        for action in (T, wne.symmetry.actions.Affine(3.7, -0.4)):
            assert defect(f, action, y, metric="max").max() < 1e-12


def test_polynomials_add_three_parameters_per_channel():
    plain, own = (
        jax.tree.map(jnp.shape, variables(network(activation=name)))
        for name in ("relu", "polynomial")
    )
    for i in range(3):
        assert own["params"].pop(f"activation_{i}") == {"coefficients": (3, 8)}
    assert own == plain
    filtered = jax.tree.map(jnp.shape, variables(network(activation="filtered-relu")))
    assert filtered == plain
    assert DnCNN() == DnCNN(activation="relu")


def test_gradients_are_finite_for_every_initial_parameter(key):
    net, y = network(residual=False), images(EVEN)
    start = net.init(key, y)

    def loss(params):
        out, _ = net.apply({**start, "params": params}, y, train=True, mutable=["batch_stats"])
        return jnp.square(out - y).mean()

    gradients = jax.jit(jax.grad(loss))(start["params"])
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(gradients))
    for i in range(3):
        assert jnp.abs(gradients[f"activation_{i}"]["coefficients"]).max() > 1e-6


def test_the_receptive_field_is_the_whole_image():
    assert [
        DnCNN(depth=4, padding=padding, activation=activation).receptive_radius
        for padding in ("zeros", "circular")
        for activation in ("relu", "polynomial", "filtered-relu")
    ] == [4, None, None, None, None, None]


def test_the_scale_equivariant_mode_accepts_filtered_relu_but_not_polynomials():
    net = network(mode="scale-equivariant", activation="filtered-relu")
    assert_equivariant(compiled(net, net), Scale(3.7), images(EVEN), gain=4.0)
    with pytest.raises(ValueError, match="'polynomial' does not commute with contrast"):
        network(mode="scale-equivariant")
    with pytest.raises(
        ValueError, match="activation must be one of relu, polynomial, filtered-relu"
    ):
        network(activation="gelu")


def test_the_arm_differs_from_wne_only_in_activation_and_padding():
    options = Options()
    changed = differences(options.config("wne", 25.0), options.config("alias-free", 25.0))
    assert set(changed) == {"model.options.activation", "model.options.padding"}
