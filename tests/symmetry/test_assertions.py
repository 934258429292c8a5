"""Assertions for every kind of output, output actions, channels and traced code, and their messages."""

import os
import re
import subprocess
import sys
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import wne_jax as wne
from wne_jax.symmetry import equivariance as E
from wne_jax.symmetry.actions import Affine, Offset, Scale, Shift, Translation
from wne_jax.symmetry.rounding import rounding_tolerance


def image(shape=(2, 12, 8, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def smooth(z):
    return jnp.tanh(z + 0.3 * jnp.roll(z, 1, 1) + 0.2)


def double(y):
    return jnp.repeat(jnp.repeat(y, 2, 1), 2, 2)


KINDS = ("value", "difference", "variance", "invariant")


class TestKinds:
    @pytest.mark.parametrize("anchor", [wne.Anchor(), wne.Anchor(0.45, 0.2)])
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_wrapped_function_has_only_its_declared_kind(self, kind, anchor, key):
        f = jax.jit(wne.wrap(smooth, output=kind, anchor=anchor))
        y = image()
        E.assert_normalization_equivariant(f, y, key, output=kind, gain=8.0)
        E.assert_exact_under_powers_of_two(f, y, output=kind)
        for other in set(KINDS) - {kind}:
            with pytest.raises(AssertionError, match="not equivariant to Affine"):
                E.assert_equivariant(f, Affine(3.7, 1.2), y, output=other, gain=8.0)

    def test_each_output_of_a_pytree_has_its_own_kind(self, key):
        kinds = {"x": "value", "more": ("variance", "invariant")}
        f = wne.wrap(lambda z: {"x": smooth(z), "more": [jnp.square(z), z[:, 0, 0]]}, output=kinds)
        y = image()
        E.assert_normalization_equivariant(f, y, key, output=kinds, samples=3, gain=8.0)
        E.assert_exact_under_powers_of_two(f, y, output=kinds)
        wrong = {"x": "value", "more": ("difference", "invariant")}
        with pytest.raises(AssertionError, match=r"of \['more'\]\[0\], a difference of"):
            E.assert_equivariant(f, Scale(3.0), y, output=wrong, gain=8.0)
        defects = E.defect(f, Scale(3.0), y, output=wrong)
        np.testing.assert_allclose(defects["more"][0], 2, rtol=1e-4)  # 9 v against 3 v
        assert defects["x"].max() < 1e-5 and defects["more"][1].max() < 1e-5

    def test_a_custom_kind(self, key):
        log_variance = wne.outputs.Kind(lambda h, a, b: h + 2 * jnp.log(a))
        f = wne.wrap(lambda z: smooth(z), output=log_variance)
        E.assert_normalization_equivariant(f, image(), key, output=log_variance, gain=4.0)
        with pytest.raises(AssertionError):
            E.assert_equivariant(f, Scale(2.0), image(), output="invariant")

    def test_the_tolerance_equals_the_documented_formula(self):
        """A variance has a s times the tolerance of a value, an invariant output 1 / (a s) times."""
        y, action = image(), Affine(3.0, -2.0)
        s = np.std(y, (1, 2, 3), keepdims=True)
        eps = np.finfo(np.float32).eps
        value = 32 * 3 * s * eps * (1 + np.abs(y).max((1, 2, 3), keepdims=True) / s + 2 / (3 * s))
        for kind, factor in [
            ("value", 1),
            ("difference", 1),
            ("variance", 3 * s),
            ("invariant", 1 / (3 * s)),
        ]:
            allowed = rounding_tolerance(action, y, output=kind)
            np.testing.assert_allclose(allowed, value * factor, rtol=1e-5)


class TestOutputActions:
    def test_a_shift_by_one_is_a_shift_by_two_at_twice_the_size(self):
        y = image()
        E.assert_equivariant(double, Shift(1, -3), y, output_action=Shift(2, -6))
        with pytest.raises(AssertionError, match="Shift"):
            E.assert_equivariant(double, Shift(1, -3), y, output_action=Shift(1, -3))
        E.assert_equivariant(
            wne.wrap(double), Affine(2.5, 1.0) @ Shift(1, 2), y,
            output_action=Affine(2.5, 1.0) @ Shift(2, 4),
        )  # fmt: skip

    def test_an_action_that_cannot_act_on_the_output_is_rejected(self):
        y = image()
        for f in (double, lambda y: y[..., 0], lambda y: jnp.mean(y, (1, 2))):
            for action in (Shift(1, 0), Translation(0.5, 0.0) @ Scale(2.0)):
                with pytest.raises(
                    ValueError, match=r"pass output_action=|does not match statistics"
                ):
                    E.assert_equivariant(f, action, y)
                with pytest.raises(ValueError, match="pass output_action="):
                    E.assert_equivariant(f, action, y, output="invariant")

    @pytest.mark.parametrize(
        "f, shape",
        [
            (lambda y: jnp.mean(y, (1, 2)), r"\(2, 3\)"),
            (lambda y: y.reshape(2, 12, 24), r"\(2, 12, 24\)"),
            (lambda y: y[..., 0], r"\(2, 12, 8\)"),
            (lambda y: jnp.mean(y), r"\(\)"),
            (lambda y: y[0], r"\(12, 8, 3\)"),
            (lambda y: y[:1], r"\(1, 12, 8, 3\)"),
        ],
        ids=["classes", "tokens", "no channels", "a number", "no batch", "half a batch"],
    )
    def test_shapes_that_do_not_follow_the_input_are_rejected(self, f, shape, key):
        for check in (
            lambda: E.assert_equivariant(f, Affine(2.0, 1.0), image()),
            lambda: E.assert_normalization_equivariant(f, image(), key),
            lambda: E.defect(f, Affine(2.0, 1.0), image()),
        ):
            with pytest.raises(ValueError, match=shape) as error:
                check()
            assert "\n" not in str(error.value)

    def test_invariance_accepts_any_shape_and_any_action(self):
        y = image()
        pooled = lambda y: jnp.argmax(jnp.mean(y, (1, 2)), -1)  # noqa: E731
        for action in (Affine(3.0, 0.5), Shift(3, 1), Affine(3.0, 0.5) @ Shift(3, 1)):
            E.assert_invariant(pooled, action, y)
        classes = wne.wrap(lambda z: jnp.mean(smooth(z), (1, 2)), output="invariant")
        E.assert_invariant(classes, Affine(3.0, 0.5) @ Shift(3, 1), y, gain=2.0)
        with pytest.raises(AssertionError, match=r"not invariant to Affine.* but f\(y\) = "):
            E.assert_invariant(lambda y: jnp.mean(y, (1, 2)), Offset(0.5), y)
        with pytest.raises(ValueError, match="keep the batch axis"):
            E.assert_invariant(jnp.max, Scale(2.0), y)

    def test_other_invalid_arguments_are_rejected(self, key):
        y = image()
        with pytest.raises(ValueError, match="samples must be a whole number, 1 or more, not 0"):
            E.assert_normalization_equivariant(smooth, y, key, samples=0)
        with pytest.raises(ValueError, match="samples must be a whole number, 1 or more, not 0"):
            E.normalization_defect(smooth, y, key, samples=0)
        with pytest.raises(ValueError, match=r"samples must be a whole number, .* not 1\.5"):
            E.assert_normalization_equivariant(smooth, y, key, samples=1.5)
        with pytest.raises(ValueError, match="exponents must hold one or more"):
            E.assert_exact_under_powers_of_two(smooth, y, exponents=())
        for gain in (
            0.0,
            -1.0,
            float("inf"),
            float("nan"),
        ):  # an assertion that always or never fails
            with pytest.raises(ValueError, match="gain must be positive and finite"):
                E.assert_equivariant(smooth, Scale(2.0), y, gain=gain)
        with pytest.raises(ValueError, match=r"y must be one array .* not a tuple"):
            E.assert_equivariant(smooth, Scale(2.0), (y, y))
        with pytest.raises(ValueError, match="output declares the parts"):
            E.assert_equivariant(lambda y: (y, y), Scale(2.0), y, output=("value",))
        with pytest.raises(ValueError, match="different structures"):
            E.assert_equivariant(lambda y: y if y.max() > 2 else (y,), Scale(99.0), y)


class TestChannels:
    a, b = jnp.array([0.5, 2.0, 30.0]).reshape(1, 1, 1, 3), jnp.array([0.0, -1.0, 4.0])
    action = Affine(a, b.reshape(1, 1, 1, 3))

    @pytest.mark.parametrize("name", ["mean_std", "haar_mad"])
    def test_each_channel_has_its_own_contrast_if_axes_are_spatial_only(self, name, key):
        f = wne.wrap(jnp.tanh, statistics=wne.statistics.STATISTICS[name], axes=(1, 2))
        y = image()
        E.assert_equivariant(f, self.action, y, axes=(1, 2), gain=4.0)
        E.assert_normalization_equivariant(f, y, key, axes=(1, 2), gain=4.0)
        together = wne.wrap(smooth)
        with pytest.raises(AssertionError, match="not equivariant"):
            E.assert_equivariant(together, self.action, y, axes=(1, 2), gain=4.0)
        with pytest.raises(AssertionError, match="not equivariant"):
            E.assert_normalization_equivariant(together, y, key, axes=(1, 2), gain=4.0)

    def test_the_message_has_the_numbers_of_the_channel(self):
        f = lambda y: y.at[..., 2].add(100.0)  # noqa: E731
        with pytest.raises(AssertionError, match=r"Affine\(a=30.0, b=4.0\).* at \(0, 0, 0, 2\)"):
            E.assert_equivariant(f, self.action, jnp.ones((1, 1, 1, 3)), axes=(1, 2))

    def test_channel_parameters_compose_with_instance_parameters_and_invert(self):
        y, by_instance = image(), Affine(jnp.array([2.0, 3.0]), jnp.array([1.0, -1.0]))
        for first, second in ((self.action, by_instance), (by_instance, self.action)):
            np.testing.assert_allclose((first @ second)(y), first(second(y)), rtol=1e-5, atol=1e-5)
            moved = (Shift(1, 0) @ first) @ second
            a, b = moved.contrast_and_brightness()
            np.testing.assert_allclose(jnp.roll(a * y + b, 1, 1), moved(y), rtol=1e-5, atol=1e-5)
        mixed = Affine(jnp.array([2.0, 3.0]), self.action.b)
        np.testing.assert_allclose(mixed.inverse()(mixed(y)), y, atol=1e-5)

    def test_parameters_that_would_change_the_shape_are_rejected(self):
        for shape in ((1, 3), (1, 1, 1, 4), (3, 1, 1, 1), (1, 1, 1, 1, 3)):
            with pytest.raises(ValueError, match="does not broadcast"):
                Affine(jnp.ones(shape))(image())
        with pytest.raises(ValueError, match="does not match statistics"):
            E.assert_equivariant(lambda y: jnp.mean(y, -1, keepdims=True), self.action, image())


class TestMessages:
    def test_the_first_line_has_action_violation_position_and_tolerance(self):
        with pytest.raises(AssertionError) as error:
            E.assert_equivariant(jnp.square, Affine(3.0, 1.0), image())
        first = str(error.value).splitlines()[0]
        for part in (
            "square is not equivariant to Affine(a=3.0, b=1.0)",
            " at (",
            "rounding allows",
        ):
            assert part in first
        assert "looks like rounding" not in str(error.value)

    def test_the_message_has_the_gain_that_fourier_features_need(self):
        """Features at 2^6 pi, as in diffusion models, amplify rounding; everything else is exact."""
        f = wne.wrap(lambda z: z + jnp.sin(2**6 * np.pi * z) / 2)
        with pytest.raises(AssertionError, match=r"looks like rounding.*gain=\d+ would") as error:
            E.assert_equivariant(f, Affine(1.7, 0.1), image())
        assert "is not equivariant" in str(error.value).splitlines()[0]
        gain = float(str(error.value).split("gain=")[1].split()[0])
        E.assert_equivariant(f, Affine(1.7, 0.1), image(), gain=gain)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_the_message_has_the_compute_dtype_that_coarse_arithmetic_needs(self, dtype, key):
        model = wne.WNE(nn.Conv(3, (3, 3), dtype=dtype), dtype=getattr(jnp, dtype))
        y = image((2, 32, 32, 3))
        with jax.numpy_dtype_promotion("standard"):
            variables = model.init(jax.random.key(0), y)
            f = lambda y: model.apply(variables, y)  # noqa: E731
            with pytest.raises(AssertionError, match=f"rounding.*compute_dtype=jnp.{dtype} would"):
                E.assert_normalization_equivariant(f, y, key)
            E.assert_normalization_equivariant(f, y, key, compute_dtype=getattr(jnp, dtype))

    def test_a_small_defect_is_not_reported_as_rounding(self):
        with pytest.raises(AssertionError, match=r"it is not rounding: f\(2 y\) also differs"):
            E.assert_equivariant(lambda y: y + 1e-3 * y**2, Affine(1.7, 0.1), image())

    def test_values_of_1e25_are_measured(self, key):
        y = 1e25 * image()
        blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
        E.assert_normalization_equivariant(blur, y, key)
        with pytest.raises(AssertionError, match=r"differ|not equivariant"):
            E.assert_equivariant(lambda y: y + 1e24, Scale(2.0), y)
        with pytest.raises(ValueError, match=r"overflow float32, y reaches \d\.\d+e\+25") as error:
            E.assert_normalization_equivariant(wne.wrap(blur), y, key)
        assert "NaN" not in str(error.value) and "\n" not in str(error.value)


class TestCauses:
    """The second line of a message states the cause of the violation, if it can be determined."""

    @staticmethod
    def message(f, y=None):
        y = image() if y is None else y
        with pytest.raises(AssertionError) as error:
            E.assert_normalization_equivariant(f, y, jax.random.key(0), samples=4)
        return str(error.value)

    def test_nan(self):
        said = self.message(lambda y: y + jnp.where(y > 0.4, jnp.nan, 0))
        assert said.endswith("\nf(y) itself has NaN or infinite values")

    def test_random_numbers(self):
        keys = iter(jax.random.split(jax.random.key(0), 100))
        f = wne.wrap(lambda z: z + 0.1 * jax.random.normal(next(keys), z.shape))
        assert "\nf(y) differs between calls, as with dropout" in self.message(f)

    def test_amplified_rounding(self):
        steep = wne.wrap(lambda z: 1e6 * smooth(z), output="invariant")
        check = partial(
            E.assert_normalization_equivariant, steep, image(), jax.random.key(0),
            samples=1, output="invariant",
        )  # fmt: skip
        with pytest.raises(AssertionError) as error:
            check()
        said = str(error.value)
        gain = float(re.search(r"looks like rounding, .* gain=(\d+) would allow it$", said)[1])
        check(gain=gain)

    def test_a_partial_function_has_the_name_of_the_function(self):
        assert self.message(partial(jnp.clip, min=0.4)).startswith("clip is not equivariant")

    def test_invalid_actions_and_outputs_are_rejected(self):
        with pytest.raises(
            TypeError, match=r"one of wne_jax\.symmetry, for example Affine.* not \(2\.0, 0\.5\)"
        ):
            E.assert_equivariant(smooth, (2.0, 0.5), image())
        with pytest.raises(ValueError, match="f returned None: it must return an array"):
            E.assert_equivariant(lambda y: None, Scale(2.0), image())


class Everywhere(chex.TestCase):
    """The same numbers under jit, pmap and on any device."""

    @chex.all_variants(with_pmap=True)
    def test_the_violation(self):
        def measured(y):
            good = E.violation(wne.wrap(smooth), Affine(3.0, 0.5), y, gain=4.0)
            return good, E.violation(jnp.square, Affine(3.0, 0.5), y)

        good, bad = self.variant(measured)(image())
        assert good.shape == bad.shape == (2,) and (good <= 1).all() and (bad > 1e4).all()
        assert jnp.isinf(E.violation(lambda y: y * jnp.nan, Scale(2.0), image())).all()

    @chex.all_variants(with_pmap=True)
    def test_a_wrapped_function_of_every_kind(self):
        f = wne.wrap(lambda z: (smooth(z), smooth(z), smooth(z), smooth(z)), output=KINDS)
        for one, other in zip(self.variant(f)(image()), f(image())):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.skipif(jax.device_count() > 1, reason="pmap was tested above")
def test_assertions_under_pmap_on_two_devices():
    """JAX fixes the number of devices at its start, so this needs a new process."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "Everywhere"]
    done = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout


class TestTraced:
    def checked(self, f):
        def run(y):
            E.assert_equivariant(f, Affine(3.0, 0.5), y, gain=4.0)
            E.assert_normalization_equivariant(f, y, jax.random.key(0), samples=2, gain=4.0)
            E.assert_exact_under_powers_of_two(f, y, exponents=(-3, 5))
            return f(y)

        return jax.jit(run)

    def test_assertions_run_under_chexify(self):
        good = chex.chexify(self.checked(wne.wrap(smooth)), async_check=False)
        chex.assert_trees_all_close(good(image()), wne.wrap(smooth)(image()), atol=1e-6)
        bad = chex.chexify(self.checked(smooth), async_check=False)
        with pytest.raises(
            checkify.JaxRuntimeError, match=r"smooth is not equivariant to Affine.*what rounding"
        ):
            bad(image())

    def test_assertions_run_under_checkify(self):
        error, _ = checkify.checkify(self.checked(wne.wrap(smooth)))(image())
        assert error.get() is None
        error, _ = checkify.checkify(self.checked(jnp.tanh))(image())
        assert "tanh is not equivariant to Affine" in error.get()
