"""Kinds of outputs: shapes that match the statistics, pytrees, other sizes, and the table itself."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct

import wne_jax as wne
from wne_jax import outputs as O
from wne_jax import statistics as S

A, B = 2.0**3, 0.75


def image(shape=(4, 16, 16, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def smooth(z):
    return jnp.tanh(z + 0.3 * jnp.roll(z, 1, 1) + 0.2)


class TestShapesThatCannotCarryTheStatistics:
    @pytest.mark.parametrize(
        "backbone, shape",
        [
            (lambda z: jnp.mean(z, (1, 2)) @ jnp.ones((3, 10)), r"\(4, 10\)"),
            (lambda z: z.reshape(4, 16, 48)[..., :8], r"\(4, 16, 8\)"),
            (lambda z: z[..., 0], r"\(4, 16, 16\)"),
            (lambda z: jnp.sum(z, (1, 2, 3)), r"\(4,\)"),
            (lambda z: jnp.sum(z), r"\(\)"),
            (lambda z: z[:2], r"\(2, 16, 16, 3\)"),
        ],
        ids=["classes", "tokens", "no channels", "a number a sample", "one number", "half a batch"],
    )
    def test_mismatched_shapes_are_rejected_with_both_shapes_and_the_option(self, backbone, shape):
        message = shape + r".*\(4, 1, 1, 1\).*output='invariant'"
        for run in (wne.wrap(backbone), jax.jit(wne.wrap(backbone))):
            with pytest.raises(ValueError, match=message) as error:
                run(image())
            assert "\n" not in str(error.value)

    def test_another_number_of_channels_is_rejected_for_statistics_per_channel(self):
        gray = lambda z: jnp.mean(z, -1, keepdims=True)  # noqa: E731
        y = image((2, 16, 16, 3))
        with pytest.raises(ValueError, match=r"\(2, 16, 16, 1\).*\(2, 1, 1, 3\)"):
            wne.wrap(gray, axes=(1, 2))(y)
        assert wne.wrap(gray)(y).shape == (2, 16, 16, 1)

    def test_one_image_does_not_become_several(self):
        with pytest.raises(ValueError, match=r"\(4, 8, 8, 1\).*\(1, 1, 1, 1\)"):
            wne.wrap(lambda z: jnp.repeat(z, 4, 0))(image((1, 8, 8, 1)))

    def test_denormalize_also_rejects_them(self):
        _, stats = wne.normalize(image())
        with pytest.raises(ValueError, match="does not match statistics"):
            wne.denormalize(jnp.ones((4, 10)), stats)
        np.testing.assert_array_equal(
            wne.denormalize(jnp.ones((4, 10)), stats, output="invariant"), 1
        )

    def test_the_part_of_a_pytree_is_named(self):
        f = wne.wrap(lambda z: (z, {"logits": z[:, 0, 0]}))
        with pytest.raises(ValueError, match=r"the output\[1\]\['logits'\] has shape \(4, 3\)"):
            f(image())

    def test_the_message_is_one_line_in_modules(self):
        class Classifier(nn.Module):
            @nn.compact
            def __call__(self, y):
                return nn.Dense(10)(jnp.mean(y, (1, 2)))

        with pytest.raises(ValueError, match=r"\(4, 10\).*\(4, 1, 1, 1\)"):
            wne.WNE(Classifier()).init(jax.random.key(0), image())


EXPECTED = {
    "value": lambda f, a, b: a * f + b,
    "difference": lambda f, a, b: a * f,
    "variance": lambda f, a, b: a**2 * f,
    "invariant": lambda f, a, b: f,
}


class TestKinds:
    @pytest.mark.parametrize("anchor", [wne.Anchor(), wne.Anchor(0.45, 0.2)])
    @pytest.mark.parametrize("statistics", ["mean_std", "haar_mad", "min_max"])
    @pytest.mark.parametrize("name", sorted(EXPECTED))
    def test_each_follows_its_input(self, name, statistics, anchor):
        f = wne.wrap(smooth, statistics=S.STATISTICS[statistics], output=name, anchor=anchor)
        y = image((2, 9, 7, 3))
        expected = EXPECTED[name](f(y), A, B)
        np.testing.assert_allclose(f(A * y + B), expected, rtol=2e-4, atol=2e-4)

    @pytest.mark.parametrize("name", sorted(EXPECTED))
    def test_powers_of_two_are_exact(self, name):
        f, y = jax.jit(wne.wrap(smooth, output=name)), image((2, 9, 7, 3))
        for a in (2.0**-12, 2.0**9):
            np.testing.assert_array_equal(f(a * y), EXPECTED[name](f(y), a, 0))

    def test_the_table_is_a_representation_of_the_group(self):
        """act(., T1) act(., T2) = act(., T1 T2), inverses, and the identity."""
        h = image((2, 3, 3, 1))
        (a, b), (c, d) = (2.0, 0.5), (0.25, -3.0)
        for kind in O.OUTPUTS.values():
            twice = kind.act(kind.act(h, c, d), a, b)
            np.testing.assert_allclose(twice, kind.act(h, a * c, a * d + b), rtol=1e-6)
            np.testing.assert_allclose(kind.inverse(kind.act(h, a, b), a, b), h, rtol=1e-5)
            by_default = O.Kind(kind.act).inverse(h, a, b)
            np.testing.assert_allclose(by_default, kind.inverse(h, a, b), rtol=1e-5)
            np.testing.assert_array_equal(kind.act(h, 1.0, 0.0), h)

    def test_the_anchor_changes_the_units_of_the_backbone(self):
        """A backbone in other units x = c z + d gives the same outputs as one in z."""
        c, d = 0.2, 0.45
        plain = lambda z: (smooth(z), z / 3, jnp.square(z), jnp.sign(z))  # noqa: E731

        def in_other_units(x):
            value, difference, variance, invariant = plain((x - d) / c)
            return c * value + d, c * difference, c**2 * variance, invariant

        kinds, y = tuple(EXPECTED), image()
        expected = wne.wrap(plain, output=kinds)(y)
        actual = wne.wrap(in_other_units, output=kinds, anchor=wne.Anchor(d, c))(y)
        for one, other in zip(actual, expected):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

    def test_an_invariant_output_keeps_the_backbones_anchor(self):
        z, _ = wne.normalize(image())
        f = wne.wrap(lambda x: x, output="invariant", anchor=wne.Anchor(0.45, 0.2))
        np.testing.assert_allclose(f(image()), 0.2 * z + 0.45, atol=1e-6)

    def test_a_constant_image_has_its_value_no_difference_and_no_variance(self):
        y = jnp.full((2, 5, 5, 1), 0.3)
        heads = lambda z: (z + 2, z + 2, z + 2)  # noqa: E731
        f = wne.wrap(heads, output=("value", "difference", "variance"))
        for actual, expected in zip(f(y), (0.3, 0, 0)):
            np.testing.assert_array_equal(actual, np.float32(expected))
        loss = lambda y: sum(jnp.sum(part) for part in f(y))  # noqa: E731
        assert np.isfinite(jax.grad(loss)(y)).all()

    def test_values_agree_bit_for_bit_with_the_formula(self):
        """The outputs equal the formula of the paper."""
        y, c, d = image(), 0.2, 0.45
        z, stats = wne.normalize(y)
        np.testing.assert_array_equal(
            wne.denormalize(smooth(z), stats), stats.scale * smooth(z) + stats.location
        )
        anchored = wne.process(smooth, z, anchor=wne.Anchor(d, c))
        np.testing.assert_array_equal(anchored, (smooth(c * z + d) - d) / c)
        residual = wne.process(smooth, z, anchor=wne.Anchor(d, c), prediction="residual")
        np.testing.assert_array_equal(residual, z - smooth(c * z + d) / c)

    def test_a_custom_kind(self):
        """The log-variance: f(a y + b) = f(y) + 2 log a, whatever the anchor."""
        log_variance = O.Kind(lambda h, a, b: h + 2 * jnp.log(a))
        heads = lambda z: (smooth(z), jnp.square(z), jnp.log(jnp.square(z)))  # noqa: E731
        f = wne.wrap(heads, output=("value", "variance", log_variance), anchor=wne.Anchor(0.3, 0.5))
        y = image()
        _, variance, logarithm = f(y)
        np.testing.assert_allclose(jnp.log(variance), logarithm, atol=1e-4)
        np.testing.assert_allclose(f(A * y + B)[2], logarithm + 2 * np.log(A), atol=1e-3)

    def test_unknown_names_are_rejected_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"value, difference, variance, invariant.*'scale'"):
            wne.wrap(smooth, output="scale")
        for output in (None, 3, (3,), {"x": ["value", "scale"]}):
            for wrapped in (
                lambda output: wne.wrap(smooth, output=output),
                lambda output: wne.WNE(nn.Dense(3), output=output),
                lambda output: wne.NNXWNE(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), output=output),
            ):
                with pytest.raises(ValueError, match="output must be one of"):
                    wrapped(output)


class TestPytrees:
    def test_one_declaration_applies_to_all_leaves(self):
        f = wne.wrap(lambda z: [smooth(z), {"half": z[:, ::2, ::2]}])
        y = image()
        full, rest = f(y)
        np.testing.assert_array_equal(full, wne.wrap(smooth)(y))
        np.testing.assert_allclose(rest["half"], y[:, ::2, ::2], atol=1e-6)

    def test_the_structure_is_kept(self):
        out = wne.wrap(
            lambda z: {"x": z, "more": (z, None)}, output={"x": "value", "more": "difference"}
        )
        y = image()
        assert jax.tree.structure(out(y)) == jax.tree.structure({"x": 0, "more": (0, None)})
        mean = jnp.mean(y, (1, 2, 3), keepdims=True)
        np.testing.assert_allclose(out(y)["more"][0], y - mean, atol=1e-6)

    def test_lists_and_tuples_are_the_same_in_a_declaration(self):
        y = image()
        f = wne.wrap(lambda z: [z, z], output=("value", "invariant"))
        np.testing.assert_allclose(f(y)[1], wne.normalize(y)[0])

    def test_another_structure_is_rejected_in_one_line(self):
        for output in (("value",), {"mean": "value"}):
            with pytest.raises(ValueError, match="output declares the parts"):
                wne.wrap(lambda z: (z, z), output=output)(image())
        with pytest.raises(ValueError, match="returned one array"):
            wne.wrap(lambda z: z, output=("value", "variance"))(image())

    def test_labels_remain_integers(self):
        labels = wne.wrap(lambda z: jnp.argmax(z, -1), output="invariant")(image())
        assert labels.shape == (4, 16, 16) and jnp.issubdtype(labels.dtype, jnp.integer)

    def test_residuals_are_only_for_values(self):
        heads = lambda z: (z / 4, jnp.square(z))  # noqa: E731
        y = image()
        denoised, variance = wne.wrap(heads, output=("value", "variance"), prediction="residual")(y)
        plain, same = wne.wrap(heads, output=("value", "variance"))(y)
        mean = jnp.mean(y, (1, 2, 3), keepdims=True)
        np.testing.assert_allclose(denoised, y - (plain - mean), atol=1e-6)
        np.testing.assert_array_equal(variance, same)
        with pytest.raises(ValueError, match="prediction='residual' needs"):
            wne.wrap(smooth, output="difference", prediction="residual")(y)


class TestHeads:
    def test_a_gaussian_log_likelihood_changes_by_the_log_of_the_scale(self):
        """-log p of a y + b with the transformed mean and variance is that of y plus log a."""
        heads = lambda z: (smooth(z), 0.1 + jnp.square(z))  # noqa: E731
        f = wne.wrap(heads, output=("value", "variance"))
        x, y = image(seed=1), image(seed=2)

        def nll(x, y):
            mean, variance = f(y)
            return jnp.mean(jnp.square(x - mean) / variance + jnp.log(variance)) / 2

        np.testing.assert_allclose(nll(A * x + B, A * y + B), nll(x, y) + np.log(A), rtol=1e-4)

    def test_quantiles_keep_their_coverage_and_their_order(self):
        """Quantiles are values: the share of targets below them does not depend on a and b."""

        def quantiles(z):  # three quantiles as channels
            return jnp.concatenate([z - 0.7, z, z + 0.7], -1)

        f = wne.wrap(quantiles)
        x, y = image((2, 32, 32, 1), seed=3), image((2, 32, 32, 1), seed=4)
        share = lambda x, y: jnp.mean(x < f(y), (0, 1, 2))  # noqa: E731
        np.testing.assert_allclose(share(A * x + B, A * y + B), share(x, y), atol=2e-3)
        assert f(y).shape == (2, 32, 32, 3) and (jnp.diff(f(y), axis=-1) > 0).all()

    def test_super_resolution_and_classes_of_pixels(self):
        double = lambda z: jnp.repeat(jnp.repeat(z, 2, 1), 2, 2)  # noqa: E731
        y = image()
        np.testing.assert_allclose(wne.wrap(double)(y), double(y), atol=1e-6)
        classes = wne.wrap(lambda z: jnp.concatenate([z, -z], -1), output="invariant")
        np.testing.assert_allclose(classes(3 * y + 1), classes(y), atol=1e-5)
        assert classes(y).shape == (4, 16, 16, 6)


class TestPaddedSizes:
    """multiple= pads 13 x 10 to 16 x 12; outputs of another size are cropped in proportion."""

    y = image((2, 13, 10, 1))

    def test_by_two(self):
        double = lambda z: jnp.repeat(jnp.repeat(z, 2, 1), 2, 2)  # noqa: E731
        np.testing.assert_allclose(wne.wrap(double, multiple=4)(self.y), double(self.y), atol=1e-6)

    def test_by_a_half_if_that_is_whole(self):
        half = lambda z: z[:, ::2, ::2]  # noqa: E731
        f, y = wne.wrap(half, multiple=4), self.y[:, :10]
        np.testing.assert_allclose(f(y), half(y), atol=1e-6)
        with pytest.raises(ValueError, match="cannot be cropped in proportion") as error:
            f(self.y)
        assert "\n" not in str(error.value)

    def test_pooled_outputs_and_those_without_space_are_not_cropped(self):
        pooled = lambda z: (jnp.max(z, (1, 2), keepdims=True), jnp.max(z, (1, 2)))  # noqa: E731
        value, logits = wne.wrap(pooled, output=("value", "invariant"), multiple=4)(self.y)
        assert value.shape == (2, 1, 1, 1) and logits.shape == (2, 1)
        np.testing.assert_allclose(value, jnp.max(self.y, (1, 2), keepdims=True), atol=1e-6)


class Heads(nn.Module):
    """A mean and a variance, in a dictionary."""

    @nn.compact
    def __call__(self, y):
        h = nn.Conv(8, (3, 3))(y)
        return {
            "mean": nn.Conv(1, (3, 3))(nn.tanh(h)),
            "variance": jnp.square(nn.Conv(1, (1, 1))(h)),
        }


class Two(NamedTuple):
    mean: Any
    variance: Any


@struct.dataclass
class Record:
    mean: Any
    variance: Any


class TestWhatABackboneReturns:
    def test_integers_and_booleans_are_invariant_or_rejected(self):
        y = image((2, 4, 4, 3))
        labels = lambda z: {"label": jnp.argmax(z, -1, keepdims=True), "bright": z > 0}  # noqa: E731
        with pytest.raises(ValueError, match=r"\['bright'\] has dtype bool.*output='invariant'"):
            wne.wrap(labels)(y)
        with pytest.raises(ValueError, match=r"\['label'\] has dtype int32"):
            wne.wrap(labels, output={"label": "difference", "bright": "invariant"})(y)
        for name, part in wne.wrap(labels, output="invariant")(y).items():
            np.testing.assert_array_equal(part, labels(wne.normalize(y)[0])[name])

    def test_complex_numbers_keep_their_imaginary_part(self, standard_promotion):
        spectrum = lambda z: jnp.fft.fft2(z, axes=(1, 2))  # noqa: E731
        f, y = wne.wrap(spectrum, output="difference"), image((2, 4, 6, 1))
        expected = spectrum(y - jnp.mean(y, (1, 2, 3), keepdims=True))
        assert f(y).dtype == jnp.complex64
        np.testing.assert_allclose(f(y), expected, atol=1e-5)
        np.testing.assert_array_equal(f(8 * y), 8 * f(y))

    def test_none_is_rejected(self):
        with pytest.raises(ValueError, match="the backbone returned None: it must return an array"):
            wne.wrap(lambda z: None)(image())

    @pytest.mark.parametrize("make", [Two, Record])
    def test_named_tuples_and_dataclasses_are_declared_by_name(self, make):
        y, names = image((2, 4, 4, 1)), {"variance": "variance", "mean": "value"}
        declared = [names, make("value", "variance"), ("value", "variance")]
        found = [
            wne.wrap(lambda z: make(z, z * z), output=output)(y)
            for output in declared[: 3 if make is Two else 2]
        ]
        _, stats = wne.normalize(y)
        for out in found:
            assert isinstance(out, make)
            np.testing.assert_allclose(out.mean, y, atol=1e-6)
            np.testing.assert_allclose(out.variance, (y - stats.location) ** 2, atol=1e-6)


class TestModules:
    def test_a_linen_module_with_two_outputs(self):
        model = wne.WNE(Heads(), output={"mean": "value", "variance": "variance"})
        y = image((2, 8, 8, 1))
        variables = model.init(jax.random.key(0), y)
        out, moved = model.apply(variables, y), model.apply(variables, A * y + B)
        np.testing.assert_allclose(moved["mean"], A * out["mean"] + B, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(moved["variance"], A**2 * out["variance"], rtol=1e-4, atol=1e-4)
        assert hash(model) == hash(model.clone())  # required for static arguments of jit
        functional = wne.wrap(
            lambda z: Heads().apply(variables, z), output={"mean": "value", "variance": "variance"}
        )
        for name, part in functional(y).items():
            np.testing.assert_array_equal(out[name], part)

    def test_an_nnx_module_with_two_outputs(self):
        class Two(nnx.Module):
            def __init__(self, rngs):
                self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)

            def __call__(self, y):
                h = self.conv(y)
                return h[..., :1], jnp.square(h[..., 1:])

        model = wne.NNXWNE(Two(nnx.Rngs(0)), output=("value", "variance"))
        y = image((2, 8, 8, 1))
        (mean, variance), moved = model(y), model(A * y + B)
        np.testing.assert_allclose(moved[0], A * mean + B, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(moved[1], A**2 * variance, rtol=1e-4, atol=1e-4)

    def test_input_normalized_has_the_kind_invariant(self):
        y, anchor = image((2, 8, 8, 1)), wne.Anchor(0.45, 0.2)
        named = wne.InputNormalized(nn.Conv(1, (3, 3)), anchor=anchor)
        spelled = wne.WNE(nn.Conv(1, (3, 3)), output="invariant", anchor=anchor)
        variables = named.init(jax.random.key(0), y)
        np.testing.assert_array_equal(named.apply(variables, y), spelled.apply(variables, y))
        z, _ = wne.normalize(y)
        bare = nn.Conv(1, (3, 3)).apply(variables, 0.2 * z + 0.45)
        np.testing.assert_array_equal(named.apply(variables, y), bare)
