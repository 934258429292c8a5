import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.layers import PRESETS, Normalization, normalization
from wne_jax.symmetry.actions import Shift, Translation
from wne_jax.symmetry.equivariance import cosine_error, defect
from wne_jax.symmetry.translation import shift_equivariant, translation_equivariant

SETS = ["".join(c) for n in range(5) for c in itertools.combinations("BHWC", n)]
FLOOR, BROKEN = 1e-12, 1e-6  # relative errors in float64; none may lie between


def measured(shape, *, centrings=SETS, scalings=SETS, without_nyquist=False):
    """Relative L2 errors of all 4096 layers under a shift and a translation, by (kind, c, s, a)."""
    rng = np.random.default_rng(0)
    shift, translation = Shift(2, -1), Translation(1.37, -0.6)
    with jax.enable_x64(True):
        x = rng.normal(size=shape)
        if without_nyquist:
            x = np.fft.fft2(x, axes=(1, 2))
            x[:, [n // 2 for n in shape[1:2] if n % 2 == 0]] = 0
            x[:, :, [n // 2 for n in shape[2:3] if n % 2 == 0]] = 0
            x = np.fft.ifft2(x, axes=(1, 2)).real
        x = jnp.asarray(x)
        stacked = jnp.stack([x, shift(x), translation(x)])
        affine = {
            a: rng.normal(size=(2, *(n if d in a else 1 for n, d in zip(shape, "BHWC"))))
            for a in SETS
        }
        errors = {}
        for c, s in itertools.product(centrings, scalings):
            normalized = jax.vmap(lambda x: normalization(x, centring=c, scaling=s))(stacked)  # noqa: B023
            normalized = np.asarray(normalized)
            outputs = np.concatenate([gamma * normalized + beta for gamma, beta in affine.values()])
            still, shifted, translated = np.moveaxis(outputs.reshape(len(SETS), 3, *shape), 1, 0)
            for kind, action, moved in (
                ("shift", shift, shifted),
                ("translation", translation, translated),
            ):
                expected = np.asarray(action(still.reshape(-1, *shape[1:]))).reshape(still.shape)
                error = np.sqrt(((moved - expected) ** 2).sum((1, 2, 3, 4)))
                error /= np.sqrt((expected**2).sum((1, 2, 3, 4)))
                errors |= {(kind, c, s, a): e for a, e in zip(affine, error)}
    return errors


def predicted(c, s, a):
    layer = Normalization(centring=c, scaling=s, affine=a)
    return {"shift": shift_equivariant(layer), "translation": translation_equivariant(layer)}


def test_the_theorems_agree_with_measurement_on_every_choice_of_dimensions():
    counts = {"shift": 0, "translation": 0, "no division": 0}
    for (kind, c, s, a), error in measured((2, 5, 7, 3)).items():
        holds = predicted(c, s, a)[kind].holds
        assert error < FLOOR if holds else error > BROKEN, (kind, c, s, a, error)
        counts[kind] += holds
        counts["no division"] += holds and kind == "translation" and s == ""
    # 16 x 16 layers without space in the affine step, for each of its 4 sets; 4 scaling sets with H and W.
    assert counts == {"shift": 1024, "translation": 4 * 16 * (4 + 1), "no division": 64}


def test_errors_on_even_sizes_come_only_from_nyquist_bins():
    for (kind, c, s, a), error in measured((2, 6, 8, 3), without_nyquist=True).items():
        holds = predicted(c, s, a)[kind].holds
        assert error < FLOOR if holds else error > BROKEN, (kind, c, s, a, error)
    missed = 0
    whole = [s for s in SETS if s == "" or {"H", "W"} <= set(s)]
    for (kind, c, s, a), error in measured((2, 6, 8, 3), scalings=whole).items():
        if predicted(c, s, a)[kind] and error > FLOOR:
            assert kind == "translation" and s and error < 0.3
            missed += 1
    assert missed == 256


def test_on_a_single_row_scaling_over_columns_is_enough():
    errors = measured((2, 1, 7, 3), centrings=[""], scalings=["C", "W"])
    assert not translation_equivariant(Normalization(centring="", scaling="W", affine=None))
    assert errors["translation", "", "W", ""] < FLOOR < BROKEN < errors["translation", "", "C", ""]


@pytest.mark.parametrize(
    "name, shifts, translations",
    [  # Scanvic et al. 2025, table 1
        ("BatchNorm", True, True),
        ("InstanceNorm", True, True),
        ("LayerNorm-CHW", False, False),
        ("LayerNorm-C", True, False),
        ("LayerNorm-AF", True, True),
    ],
)
def test_verdicts_on_the_papers_five_layers_equal_its_table(name, shifts, translations):
    layer = PRESETS[name]()
    assert shift_equivariant(layer).holds is shifts
    assert translation_equivariant(layer).holds is translations


@pytest.mark.parametrize(
    "layer, shifts, translations, word",
    [
        (
            {"centring": "", "scaling": "C", "affine": "C", "use_bias": False},
            True,
            False,
            "aliasing",
        ),
        ({"centring": "", "scaling": "C", "affine": "C", "rms": True}, True, False, "over H and W"),
        ({"centring": "HWC", "scaling": "HWC", "affine": "C", "groups": 3}, True, True, "pooled"),
        ({"centring": "C", "scaling": "", "affine": "C"}, True, True, "divides by nothing"),
        ({"centring": "C", "scaling": "HC", "affine": None}, True, False, "over W"),
        (
            {"centring": "B", "scaling": "B", "affine": "C", "momentum": 0.9},
            True,
            False,
            "aliasing",
        ),
    ],
    ids=str,
)
def test_verdicts_on_other_options_are_correct(layer, shifts, translations, word):
    layer = Normalization(**layer)
    assert (bool(shift_equivariant(layer)), bool(translation_equivariant(layer))) == (
        shifts,
        translations,
    )
    assert word in translation_equivariant(layer).why
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 5, 6)), jnp.float32)
    f = lambda x: layer.init_with_output(jax.random.key(0), x)[0]  # noqa: E731
    for action, holds in ((Shift(2, 3), shifts), (Translation(0.5, 2.2), translations)):
        assert (float(defect(f, action, x).max()) < 1e-5) == holds


def test_running_averages_are_constants_in_evaluation():
    everywhere = PRESETS["BatchNorm"](use_running_average=True)
    by_place = everywhere.copy(centring="B", scaling="B")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)
    for layer, holds in ((everywhere, True), (by_place, False)):
        shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
        variables = jax.tree.map(
            lambda s: jnp.arange(1.0, 1.0 + int(np.prod(s.shape))).reshape(s.shape), shapes
        )
        f = lambda x: layer.apply(variables, x)  # noqa: B023, E731
        for verdict, action in (
            (shift_equivariant(layer), Shift(1, 2)),
            (translation_equivariant(layer), Translation(1.5, 0.3)),  # also on an even size
        ):
            assert verdict.holds is holds
            assert (float(defect(f, action, x).max()) < 1e-5) == holds
    assert "running average" in shift_equivariant(by_place).why


def test_a_nan_error_does_not_count_as_zero():
    x = jnp.ones((1, 3, 3, 2)).at[0, 1, 1, 0].set(jnp.nan)
    for action in (Shift(1, 0), Translation(0.5, 0.0)):
        assert np.isnan(defect(nn.relu, action, x))
        assert np.isnan(cosine_error(action(x), x))


def test_displacements_wrap_around_the_map():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 7, 2)), jnp.float32)
    np.testing.assert_array_equal(Shift(5 * 3 + 1, -7)(x), Shift(1, 0)(x))
    np.testing.assert_allclose(Translation(16.5, -7.0)(x), Translation(1.5, 0.0)(x), atol=1e-5)
