from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from jax import export
from jax.test_util import check_grads

import wne_jax as wne
from wne_jax import statistics as S
from wne_jax.symmetry.actions import Affine
from wne_jax.symmetry.equivariance import (
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    euler_residual,
    row_sums,
)
from wne_jax.wrappers.smooth_base import SmoothBase

STATISTICS = sorted(S.STATISTICS)


def image(shape=(2, 11, 9, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def mixer(seed=1):
    """A nonlinear function that mixes neighbours and channels and depends on absolute values."""
    kernel = jnp.asarray(np.random.default_rng(seed).normal(size=(3, 3)) / 3, jnp.float32)

    def backbone(z):
        rolled = sum(
            kernel[i, j] * jnp.roll(z, (i - 1, j - 1), (1, 2)) for i in range(3) for j in range(3)
        )
        return jnp.tanh(rolled + 0.5) + 0.2 * jnp.square(jnp.flip(z, -1)) / (1 + jnp.abs(z))

    return backbone


class FunctionalCore(chex.TestCase):
    """The three functions in all execution modes."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_normalized_instances_have_location_zero_and_scale_one(self):
        z, _ = self.variant(lambda y: wne.normalize(y))(image())
        np.testing.assert_allclose(jnp.mean(z, axis=(1, 2, 3)), 0, atol=1e-6)
        np.testing.assert_allclose(jnp.std(z, axis=(1, 2, 3)), 1, rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_denormalize_undoes_normalize(self):
        def there_and_back(y):
            return wne.denormalize(*wne.normalize(y))

        chex.assert_trees_all_close(self.variant(there_and_back)(image()), image(), atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_wrap_composes_the_three_functions(self):
        def composed(y):
            z, stats = wne.normalize(y)
            return wne.denormalize(wne.process(mixer(), z), stats)

        f = wne.wrap(mixer())
        chex.assert_trees_all_close(self.variant(f)(image()), composed(image()), atol=1e-6)


@pytest.mark.parametrize("prediction", ["direct", "residual"])
@pytest.mark.parametrize("name", STATISTICS)
def test_wrapped_functions_are_equivariant(name, prediction, key):
    f = jax.jit(wne.wrap(mixer(), statistics=S.STATISTICS[name], prediction=prediction))
    # A median may change by a whole entry if rounding swaps two of them, so it amplifies rounding most.
    assert_normalization_equivariant(f, image(), key, gain=4.0)
    assert_exact_under_powers_of_two(f, image())


def test_the_bare_function_is_not_equivariant(key):
    with pytest.raises(AssertionError, match="not equivariant to Affine"):
        assert_normalization_equivariant(mixer(), image(), key)
    with pytest.raises(AssertionError, match=r"f\(2\^"):
        assert_exact_under_powers_of_two(mixer(), image())


@given(
    shape=st.sampled_from([(3, 5), (2, 7, 2), (1, 4, 5, 1), (2, 3, 4, 5, 2)]),
    a=st.floats(1e-3, 1e3),
    b=st.floats(-10, 10),
    seed=st.integers(0, 10),
)
def test_any_rank_scale_and_offset(shape, a, b, seed):
    f = wne.wrap(lambda z: jnp.tanh(2 * z) + jnp.flip(z, -1))
    assert_equivariant(f, Affine(a, b), image(shape, seed), gain=4.0)


@pytest.mark.parametrize("prediction", ["direct", "residual"])
@pytest.mark.parametrize("name", STATISTICS)
def test_constants_are_returned_unchanged_with_finite_gradients(name, prediction):
    f = wne.wrap(mixer(), statistics=S.STATISTICS[name], prediction=prediction)
    for c in (0.0, 0.1, -7.7):
        y = jnp.full((1, 13, 7, 3), c)
        np.testing.assert_array_equal(f(y), y)
        gradient = jax.grad(lambda y: jnp.sum(jnp.square(f(y) - 1)))(y)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["mean_std", "haar_mad", "median_mad"])
def test_pooling_only_over_space_gives_each_channel_its_own_symmetry(name):
    f = wne.wrap(jnp.tanh, statistics=S.STATISTICS[name], axes=(1, 2))
    a, b = jnp.array([0.5, 2.0, 30.0]), jnp.array([0.0, -1.0, 4.0])
    y = image()
    by_channel = lambda x: a.reshape(1, 1, 1, 3) * x + b.reshape(1, 1, 1, 3)  # noqa: E731
    chex.assert_trees_all_close(f(by_channel(y)), by_channel(f(y)), rtol=1e-4, atol=1e-4)


class TestCharacterization:
    """f is NE if and only if f(y) = s g(T y) + mu; then g is f restricted to normalized arrays."""

    def test_an_equivariant_map_is_determined_by_its_restriction(self):
        def local_means(y):  # NE without any wrapper: averages and maxima of neighbours
            return (jnp.maximum(y, jnp.roll(y, 1, 1)) + jnp.roll(y, 2, 2)) / 2

        rebuilt = wne.wrap(local_means)
        chex.assert_trees_all_close(rebuilt(image()), local_means(image()), atol=1e-6)

    def test_rebuilding_a_wrapped_map_changes_nothing(self):
        f = wne.wrap(mixer())
        chex.assert_trees_all_close(wne.wrap(f)(image()), f(image()), atol=2e-6)

    def test_backbones_that_agree_on_normalized_arrays_give_one_map(self):
        def elsewhere_different(z):
            off_manifold = jnp.abs(jnp.std(z, axis=(1, 2, 3), keepdims=True) - 1) > 1e-3
            return jnp.where(off_manifold, 100.0, mixer()(z))

        assert jnp.abs(elsewhere_different(image()) - mixer()(image())).max() > 10
        chex.assert_trees_all_close(
            wne.wrap(elsewhere_different)(image()), wne.wrap(mixer())(image()), atol=1e-6
        )

    def test_the_class_of_maps_does_not_depend_on_the_statistics(self):
        f = wne.wrap(mixer(), statistics=S.min_max)
        chex.assert_trees_all_close(wne.wrap(f)(image()), f(image()), atol=2e-6)


def test_the_loss_is_the_normalized_loss_times_the_variance():
    y, x = image(seed=1), image(seed=2)
    z, stats = wne.normalize(y)
    loss = jnp.sum(jnp.square(wne.wrap(mixer())(y) - x), axis=(1, 2, 3))
    target = (x - stats.location) / stats.scale
    normalized = jnp.sum(jnp.square(mixer()(z) - target), axis=(1, 2, 3))
    np.testing.assert_allclose(loss, jnp.squeeze(stats.scale) ** 2 * normalized, rtol=1e-5)


def test_a_residual_is_scale_equivariant_and_ignores_offsets():
    f = wne.wrap(mixer(), prediction="residual")
    r = lambda y: y - f(y)  # noqa: E731
    y = image()
    chex.assert_trees_all_close(r(3 * y + 2), 3 * r(y), atol=1e-5)
    direct = wne.wrap(lambda z: z - mixer()(z))
    chex.assert_trees_all_close(f(y), direct(y), atol=1e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_the_identities_of_the_jacobian(name):
    f = wne.wrap(mixer(), statistics=S.STATISTICS[name])
    y = image()
    np.testing.assert_allclose(euler_residual(f, y), 0, atol=2e-5)
    np.testing.assert_allclose(row_sums(f, y), 1, atol=2e-5)
    assert jnp.abs(euler_residual(mixer(), y)).max() > 0.1
    assert jnp.abs(row_sums(mixer(), y) - 1).max() > 0.1


@pytest.mark.parametrize("name", STATISTICS)
def test_vmap_and_grad_agree_with_the_batch(name):
    f = jax.jit(wne.wrap(mixer(), statistics=S.STATISTICS[name]))
    y = image((3, 6, 5, 2))
    chex.assert_trees_all_close(jax.vmap(lambda one: f(one[None])[0])(y), f(y), atol=1e-6)
    loss = lambda y: jnp.sum(jnp.square(f(y)))  # noqa: E731
    check_grads(loss, (image((1, 4, 4, 1)),), order=1, modes=["fwd", "rev"], atol=0.05, rtol=0.05)
    chex.assert_trees_all_close(
        jax.vmap(jax.grad(lambda one: loss(one[None])))(y), jax.grad(loss)(y), atol=1e-5
    )


def test_a_bfloat16_backbone_with_float32_statistics(key):
    seen = []

    def backbone(z):
        seen.append(z.dtype)
        return jnp.tanh(z)

    f = wne.wrap(backbone, dtype=jnp.bfloat16)
    y = image() * 0.01 + 10
    result = f(y)
    assert result.dtype == jnp.float32 and set(seen) == {jnp.dtype(jnp.bfloat16)}
    assert_normalization_equivariant(f, image(), key, compute_dtype=jnp.bfloat16)
    assert_exact_under_powers_of_two(f, image())
    np.testing.assert_allclose(f(jnp.full((1, 5, 5, 1), 0.1)), np.float32(0.1), rtol=0)


@pytest.mark.parametrize("name", STATISTICS)
def test_masked_entries_have_no_influence(name):
    y = image()
    where = jnp.asarray(np.random.default_rng(5).random(y.shape) < 0.8)
    f = jax.jit(wne.wrap(jnp.tanh, statistics=S.STATISTICS[name]))
    poisoned = jnp.where(where, y, jnp.nan)
    np.testing.assert_array_equal(
        f(poisoned, where=where), f(jnp.where(where, y, 9.0), where=where)
    )
    gradient = jax.grad(lambda y: jnp.sum(f(y, where=where)))(poisoned)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[~np.asarray(where)].any()
    z, _ = wne.normalize(poisoned, statistics=S.STATISTICS[name], where=where)
    assert not np.asarray(z)[~np.asarray(where)].any()


def test_integers_are_cast_and_never_rescaled():
    y = np.random.default_rng(0).integers(0, 2**16, (2, 8, 8, 1)).astype(np.uint16)
    f = wne.wrap(jnp.tanh)
    np.testing.assert_array_equal(f(y), f(y.astype(np.float32)))


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        y = np.random.default_rng(0).normal(1e6, 1e-2, (2, 8, 8, 1))
        z, stats = wne.normalize(y)
        assert z.dtype == stats.scale.dtype == jnp.float64
        expected = (y - y.mean((1, 2, 3), keepdims=True)) / y.std((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(z, expected, rtol=1e-6, atol=1e-7)


def test_nonfinite_pixels_raise_in_eager_code_and_affect_only_their_instance_under_jit():
    f = wne.wrap(jnp.tanh)
    for bad in (np.nan, np.inf):
        y = image().at[0, 0, 0, 0].set(bad)
        with pytest.raises(ValueError, match="NaN or infinite"):
            f(y)
        compiled = jax.jit(f)(y)
        assert np.isnan(compiled[0]).any() and np.isfinite(compiled[1]).all()
    assert np.isfinite(f(y, where=jnp.isfinite(y))).all()


class TestProcess:
    def test_sigma_arrives_in_normalized_coordinates(self, key):
        def conditioned(z, sigma):
            return z / (1 + sigma) + sigma

        f = wne.wrap(conditioned)
        y = image()
        for sigma in (0.3, jnp.array([0.1, 0.4])):
            moved = f(5 * y + 2, sigma=5 * jnp.asarray(sigma))
            chex.assert_trees_all_close(moved, 5 * f(y, sigma=sigma) + 2, rtol=1e-4, atol=1e-4)
        constant = jnp.full((1, 4, 4, 1), 0.2)
        np.testing.assert_array_equal(f(constant, sigma=0.1), constant)

    def test_the_anchor_scales_and_shifts_the_backbones_input(self):
        seen = {}

        def backbone(z, sigma=None):
            seen.update(z=z, sigma=sigma)
            return z

        y = image()
        anchor = wne.Anchor(location=0.45, scale=0.25)
        result = wne.wrap(backbone, anchor=anchor)(y, sigma=0.1)
        stats = S.mean_std(y)
        np.testing.assert_allclose(jnp.mean(seen["z"], (1, 2, 3)), 0.45, rtol=1e-5)
        np.testing.assert_allclose(jnp.std(seen["z"], (1, 2, 3)), 0.25, rtol=1e-5)
        np.testing.assert_allclose(seen["sigma"], 0.25 * 0.1 / stats.scale, rtol=1e-6)
        chex.assert_trees_all_close(result, y, atol=1e-6)

    @pytest.mark.parametrize("prediction", ["direct", "residual"])
    def test_anchored_maps_are_equivariant(self, prediction, key):
        anchor = wne.Anchor(location=0.45, scale=25 / 255)
        f = wne.wrap(mixer(), statistics=S.haar_mad, anchor=anchor, prediction=prediction)
        assert_normalization_equivariant(f, image(), key, gain=32.0)
        assert_exact_under_powers_of_two(f, image())

    @pytest.mark.parametrize("shape", [(2, 8, 12, 1), (2, 9, 7, 1), (1, 1, 3, 2), (1, 1, 1, 1)])
    def test_sizes_are_padded_to_the_multiple_and_cropped(self, shape, key):
        def needs_fours(z):
            assert z.shape[1] % 4 == z.shape[2] % 4 == 0
            return 2 * z

        f = wne.wrap(needs_fours, multiple=4)
        y = image(shape)
        chex.assert_trees_all_close(f(y), wne.wrap(lambda z: 2 * z)(y), atol=1e-6)

    def test_the_multiple_that_a_backbone_declares_is_the_default(self):
        def needs_fours(z):
            assert z.shape[1] % 4 == z.shape[2] % 4 == 0
            return z

        needs_fours.multiple = 4
        y = image((2, 9, 7, 1))
        assert wne.wrap(needs_fours)(y).shape == y.shape

    def test_padding_reflects(self):
        z = jnp.arange(6.0).reshape(1, 6, 1)
        padded = []
        wne.process(lambda z: padded.append(z) or z, z, multiple=4)
        np.testing.assert_array_equal(padded[0].ravel(), [0, 1, 2, 3, 4, 5, 4, 3])

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"prediction": "noise"}, "prediction"),
            ({"multiple": 0}, "multiple"),
        ],
    )
    def test_wrong_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            wne.wrap(jnp.tanh, **options)(image())

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match="residual"):
            wne.wrap(lambda z: z[:, :1], prediction="residual")(image())
        with pytest.raises(ValueError, match="cannot be cropped in proportion"):
            wne.wrap(lambda z: z[:, ::2], multiple=4)(image())
        with pytest.raises(ValueError, match="one scale"):
            wne.wrap(lambda z, sigma: z, axes=(1, 2))(image(), sigma=0.1)
        with pytest.raises(ValueError, match=r"\[B\]"):
            wne.wrap(lambda z, sigma: z)(image(), sigma=jnp.ones(3))
        with pytest.raises(ValueError, match="stats"):
            wne.process(lambda z, sigma: z, image(), sigma=0.1)


class TestInputs:
    """The noise level, the mask, and other inputs in the units of y."""

    def test_the_noise_level_is_passed_by_the_backbones_keyword(self):
        seen = []

        def backbone(z, noise_std):
            seen.append(noise_std)
            return z / (1 + noise_std)

        f, y = wne.wrap(backbone, noise_argument="noise_std"), image()
        expected = 5 * f(y, sigma=0.3) + 2
        for call in ({"sigma": 1.5}, {"noise_std": 1.5}, {"noise_std": jnp.full(2, 1.5)}):
            np.testing.assert_allclose(f(5 * y + 2, **call), expected, rtol=1e-4, atol=1e-4)
        assert {level.shape for level in seen} == {(2, 1, 1, 1)}
        with pytest.raises(ValueError, match="both give the noise level"):
            f(y, sigma=0.1, noise_std=0.1)

    def test_a_positional_argument_that_needs_scaling_is_rejected(self):
        y = image()
        with pytest.raises(TypeError, match="pass sigma by keyword"):
            wne.wrap(lambda z, sigma: z)(y, 0.1)
        with pytest.raises(TypeError, match="pass noise_std by keyword"):
            wne.wrap(lambda z, t, noise_std: z, noise_argument="noise_std")(y, 1.0, 0.1)
        with pytest.raises(TypeError, match="pass guide by keyword"):
            wne.wrap(lambda z, guide: z, with_y=("guide",))(y, y)

    def test_a_positional_noise_level_of_a_module_is_rejected(self):
        class Conditioned(nn.Module):
            @nn.compact
            def __call__(self, y, sigma):
                return y * sigma

        for inside in (Conditioned(), SmoothBase(Conditioned())):
            with pytest.raises(TypeError, match="pass sigma by keyword"):
                wne.WNE(inside).apply({}, image(), 0.1)
        bound = wne.wrap(Conditioned().bind({}))  # a bound module is a function
        assert bound(image(), sigma=0.1).shape == image().shape

    def test_other_arguments_are_passed_unchanged(self):
        f, y = wne.wrap(lambda z, t, *rest, rate: z * rate + t), image()
        mean = jnp.mean(y, (1, 2, 3), keepdims=True)
        std = jnp.std(y, (1, 2, 3), keepdims=True)
        expected = mean + 2 * (y - mean) + 3 * std
        np.testing.assert_allclose(f(y, 3.0, "rest", rate=2.0), expected, rtol=1e-5)

    def test_the_mask_is_padded_and_passed_like_the_image(self):
        seen = {}

        def backbone(z, valid=None):
            seen.update(z=z, valid=valid)
            return z

        y = image((2, 6, 5, 1))
        where = jnp.asarray(np.random.default_rng(1).random((2, 6, 5, 1)) < 0.7)
        f = wne.wrap(backbone, mask_argument="valid", multiple=4)
        f(y, where=where)
        assert seen["valid"].dtype == bool
        np.testing.assert_array_equal(seen["valid"][:, :6, :5], where)
        np.testing.assert_array_equal(seen["z"] != 0, seen["valid"])
        f(y, where=where[:, :, :, :])
        f(y)
        assert seen["valid"] is None
        wne.wrap(lambda z: z)(y, where=where)  # a backbone without a mask argument gets none

    @pytest.mark.parametrize("anchor", [wne.Anchor(), wne.Anchor(0.45, 0.2)])
    def test_further_inputs_are_normalized_with_the_statistics_of_the_first(self, anchor, key):
        def backbone(z, guide, previous=None, weight=0.5):
            mixed = jnp.tanh(z + weight * jnp.mean(guide, -1, keepdims=True))
            return mixed if previous is None else mixed + previous / 3

        f = wne.wrap(backbone, with_y=("guide", "previous"), anchor=anchor, multiple=4)
        y, guide, previous = image((2, 7, 6, 1), 1), image((2, 7, 6, 3), 2), image((2, 7, 6, 1), 3)
        for others in ({"guide": guide}, {"guide": guide, "previous": previous}):
            moved = {name: 4 * x - 3 for name, x in others.items()}
            expected = 4 * f(y, **others) - 3
            np.testing.assert_allclose(f(4 * y - 3, **moved), expected, rtol=1e-4, atol=1e-4)
        # An input missing from with_y violates the identity.
        g = wne.wrap(backbone, anchor=anchor)
        difference = g(4 * y - 3, guide=4 * guide - 3) - (4 * g(y, guide=guide) - 3)
        assert jnp.abs(difference).max() > 0.05

    def test_the_difference_of_two_frames_is_in_units_of_the_first(self):
        seen = []
        f = wne.wrap(lambda z, other: seen.append(other - z) or z, with_y="other")
        y, other = image(seed=1), image(seed=2)
        f(y, other=other)
        std = jnp.std(y, (1, 2, 3), keepdims=True)
        np.testing.assert_allclose(seen[0], (other - y) / std, atol=1e-5)

    def test_an_input_of_another_shape_is_named(self):
        f = wne.wrap(lambda z, guide: z, with_y=("guide",))
        with pytest.raises(ValueError, match=r"the input guide has shape \(2, 11, 9\)"):
            f(image(), guide=image()[..., 0])

    @pytest.mark.parametrize("layout", [{}, {"batch_axes": (), "channel_axis": 0}])
    def test_a_further_input_may_be_a_pytree(self, layout):
        y = image((1, 4, 6, 3))
        y = y[0].transpose(2, 0, 1) if layout else y

        def backbone(z, frames):
            return z + jnp.abs(z - frames["before"]) + jnp.tanh(frames["after"])

        f = wne.wrap(backbone, with_y=("frames",), **layout)
        frames = {"before": y[:, ::-1], "after": jnp.roll(y, 1, 1)}
        larger = jax.tree.map(lambda frame: 4 * frame + 1, frames)
        expected = 4 * f(y, frames=frames) + 1
        np.testing.assert_allclose(f(4 * y + 1, frames=larger), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: wne.wrap(jnp.tanh)((y, y)), r"one array .* not a tuple of arrays: .*with_y"),
        (lambda y: wne.wrap(jnp.tanh)({"a": y}), "not a dict of arrays"),
        (lambda y: wne.normalize([y, y]), "not a list of arrays"),
        (lambda y: wne.normalize(y, axes="HW"), r"axes must be numbers such as \(1, 2\), not 'HW'"),
        (lambda y: wne.wrap(jnp.tanh, multiple=(8, 8))(y), r"one whole number .* not \(8, 8\)"),
        (
            lambda y: wne.normalize(y, statistics=lambda y, **_: (y.mean(), y.std())),
            r"a statistic returns Statistics\(location, scale\), not tuple",
        ),
        (lambda y: wne.wrap(jnp.tanh, batch_axes=None), r"\(\) for none, not None"),
        (lambda y: wne.wrap(jnp.tanh, batch_axes=0), r"axes such as \(0,\)"),
        (lambda y: wne.wrap(jnp.tanh, anchor=(0.5, 0.2)), r"Anchor\(location, scale\), not \(0.5"),
        (lambda y: wne.WNE(nn.Dense(1), anchor=(0.5, 0.2)), r"Anchor\(location, scale\)"),
        (
            lambda y: wne.wrap(lambda z, guide: z, with_y="guid")(y, guide=y),
            "with_y names 'guid', but the backbone takes z, guide",
        ),
        (
            lambda y: wne.wrap(lambda z, noise_std: z, noise_argument="noise")(y, noise_std=1.0),
            "noise_argument names 'noise', but",
        ),
        (
            lambda y: wne.wrap(lambda z, mask: z, mask_argument="valid")(y, where=y > 0),
            "mask_argument names 'valid', but",
        ),
        (
            lambda y: wne.WNE(nn.Dense(1), with_y="guide").init(jax.random.key(0), y),
            "with_y names 'guide', but the backbone takes inputs",
        ),
    ],
)
def test_arguments_of_another_type_give_one_line_with_the_expected_type(call, message):
    with pytest.raises(TypeError, match=message) as error:
        call(image())
    assert "\n" not in str(error.value)


def test_names_of_arguments_may_be_among_any_keywords():
    y = image()
    f = wne.wrap(lambda z, **others: z + jnp.abs(z - others["guide"]), with_y="guide")
    np.testing.assert_array_equal(f(8 * y, guide=8 * y[::-1]), 8 * f(y, guide=y[::-1]))


@pytest.mark.parametrize("numbers", [(0.5, 0.0), (0.5, -1.0), (float("nan"), 1.0), (0.0, np.inf)])
def test_an_anchor_that_cannot_be_undone_is_refused(numbers):
    for make in (partial(wne.wrap, jnp.tanh), partial(wne.WNE, nn.Dense(1))):
        with pytest.raises(ValueError, match="anchor must be a location and a positive scale"):
            make(anchor=wne.Anchor(*numbers))


class TestLayouts:
    """Networks for one image, and for channels first."""

    @staticmethod
    def channels_first(x, sigma=0.0):  # [C, H, W], as in Equinox
        assert x.ndim == 3 and x.shape[0] == 3
        return jnp.tanh(x + jnp.roll(x, 1, 1) + 0.3) - sigma * jnp.mean(x, 0, keepdims=True)

    @pytest.mark.parametrize("name", [n for n in STATISTICS if not S.has_gain(S.STATISTICS[n])])
    def test_one_channels_first_image_agrees_with_a_batch_of_one(self, name):
        options = {"statistics": S.STATISTICS[name], "multiple": 4}
        f = wne.wrap(self.channels_first, batch_axes=(), channel_axis=0, **options)
        last = lambda x: jnp.moveaxis(x[0], -1, 0)  # noqa: E731

        def of_a_batch(z, sigma):
            return jnp.moveaxis(self.channels_first(last(z), jnp.reshape(sigma, (1, 1, 1))), 0, -1)[
                None
            ]

        g, y = wne.wrap(of_a_batch, **options), image((1, 11, 9, 3))
        actual, expected = f(last(y), sigma=0.2), last(g(y, sigma=0.2))
        assert actual.shape == (3, 11, 9)
        np.testing.assert_allclose(actual, expected, atol=1e-6)

    def test_symmetries_hold_in_the_layout(self, key):
        f = jax.vmap(wne.wrap(self.channels_first, batch_axes=(), channel_axis=0))
        assert_normalization_equivariant(f, image((2, 3, 8, 8)), key, gain=8.0)

    def test_two_batch_axes_and_pooling_only_over_space(self):
        y = image((2, 3, 4, 6, 5))  # [B, T, C, H, W]
        f = wne.wrap(jnp.tanh, batch_axes=(0, 1), channel_axis=2, axes=(-2, -1))
        z = (y - y.mean((-2, -1), keepdims=True)) / y.std((-2, -1), keepdims=True)
        expected = jnp.tanh(z) * y.std((-2, -1), keepdims=True) + y.mean((-2, -1), keepdims=True)
        np.testing.assert_allclose(f(y), expected, atol=1e-5)

    def test_pytrees_masks_and_further_inputs_keep_the_layout(self):
        def backbone(x, guide, valid):
            assert guide.shape == (1, 11, 9) and valid.shape == x.shape == (3, 11, 9)
            return {"x": jnp.where(valid, x, guide), "logits": jnp.mean(x, (1, 2)), "gray": x[:1]}

        kinds = {"x": "value", "logits": "invariant", "gray": "variance"}
        f = wne.wrap(backbone, batch_axes=(), channel_axis=0, output=kinds, with_y=("guide",),
                     mask_argument="valid")  # fmt: skip
        y, guide = image((3, 11, 9), 1), image((1, 11, 9), 2)
        where = y > 0.2
        out = f(y, guide=guide, where=where)
        np.testing.assert_allclose(out["x"], jnp.where(where, y, guide), atol=1e-6)
        assert out["logits"].shape == (3,) and out["gray"].shape == (1, 11, 9)

    def test_outputs_of_another_shape_are_rejected_in_every_layout(self):
        with pytest.raises(ValueError, match="does not match statistics"):
            wne.wrap(lambda x: jnp.mean(x, 0), batch_axes=(), channel_axis=0)(image((3, 8, 8)))
        for batch_axes, channel_axis in (((0,), 0), ((4,), -1)):
            with pytest.raises(ValueError, match="batch_axes and channel_axis"):
                wne.wrap(jnp.tanh, batch_axes=batch_axes, channel_axis=channel_axis)(image())


class TestSymbolicSizes:
    """jax.export with symbolic height and width, for a network that halves the image three times."""

    @staticmethod
    def network(z):
        levels = []
        for _ in range(3):
            levels.append(z)
            z = (z[:, ::2, ::2] + z[:, 1::2, ::2] + z[:, ::2, 1::2] + z[:, 1::2, 1::2]) / 4
        for level in reversed(levels):
            z = jnp.tanh(jnp.repeat(jnp.repeat(z, 2, 1), 2, 2) + level)
        return z

    @pytest.mark.parametrize("name", STATISTICS)
    def test_padding_depends_on_the_size(self, name):
        f = wne.wrap(self.network, statistics=S.STATISTICS[name], multiple=8)
        b, h, w = export.symbolic_shape("b, h, w", constraints=("h >= 2", "w >= 2"))
        exported = export.export(jax.jit(f))(jax.ShapeDtypeStruct((b, h, w, 1), jnp.float32))
        for shape in ((2, 13, 9, 1), (1, 8, 16, 1), (3, 2, 30, 1)):
            y = image(shape)
            np.testing.assert_allclose(exported.call(y), jax.jit(f)(y), atol=3e-6)
