"""Every model and statistic with a name fulfils its contract, and a wrapper adds exactly its symmetry."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import protocol
from wne_jax.models import MODELS
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry import (
    Offset,
    Scale,
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    defect,
)
from wne_jax.testing import check_backbone, check_statistic, random_variables, tiny

SE, NE = "scale-equivariant", "normalization-equivariant"
SYMMETRIES = {"ordinary": "none", SE: "scale", NE: "normalization"}
SIGMA = 0.1

VARIANTS = [
    *((name, {}) for name in MODELS),
    ("dncnn", {"mode": SE}),
    ("fdncnn", {"mode": SE}),
    ("fdncnn", {"mode": NE}),
    ("drunet", {"mode": SE}),
    ("dncnn", {"conditioned": True}),
    ("dncnn", {"mode": SE, "conditioned": True}),
    ("fdncnn", {"conditioned": True}),
    ("fdncnn", {"mode": NE, "conditioned": True}),
    ("ffdnet", {"conditioned": True}),
    ("drunet", {"conditioned": True}),
    ("drunet", {"mode": NE, "conditioned": True}),
]
each_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)


def images(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def compiled(model, y):
    """A compiled function of images and noise level, with random variables."""
    variables = random_variables(model, y, **protocol.condition(model, SIGMA))
    return jax.jit(
        lambda y, sigma=SIGMA: model.apply(variables, y, **protocol.condition(model, sigma))
    )


@each_variant
def test_every_model_is_a_backbone(name, options):
    model = tiny(name, **options)
    assert protocol.symmetry(model) == SYMMETRIES[options.get("mode", "ordinary")]
    channels = 3 if "conditioned" in options else 1
    side = max(8, protocol.multiple(model))
    check_backbone(model, images((2, side, side + protocol.multiple(model), channels)))


@each_variant
def test_a_bare_model_has_exactly_its_declared_symmetry(name, options):
    model, y = tiny(name, **options), images((2, 8, 12, 1))
    f, claim = compiled(model, y), protocol.symmetry(model)
    if claim != "normalization":
        assert defect(f, Offset(0.5), y).min() > 1e-3
    if claim == "none":
        assert defect(f, Scale(3.0), y).min() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_images_of_any_size(name):
    for shape in ((3, 7, 5, 1), (1, 1, 1, 1)):
        y = images(shape)
        result = compiled(tiny(name), y)(y)
        chex.assert_shape(result, shape)
        assert np.isfinite(result).all()


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize("name", MODELS)
def test_image_models_say_that_they_take_rank_four(name, rank):
    for model in (tiny(name), wne.WNE(tiny(name))):
        with pytest.raises(ValueError, match="rank 4"):
            model.init(jax.random.key(0), jnp.ones((1,) * rank))


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_fulfils_the_contract(name):
    check_statistic(STATISTICS[name])


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("name", [*STATISTICS, "scale"])
def test_every_wrapper_adds_its_symmetry(name, conditioned):
    backbone = tiny("dncnn", conditioned=conditioned)
    y = images((2, 12, 10, 3 if conditioned else 1))
    if name == "scale":
        model = wne.ScaleEquivariant(backbone)
    else:
        model = wne.WNE(backbone, statistics=STATISTICS[name])
    f = compiled(model, y)

    def following(moved):  # the noise level follows the contrast, exactly under powers of two
        size = lambda y: jnp.max(y, axis=(1, 2, 3)) - jnp.min(y, axis=(1, 2, 3))  # noqa: E731
        return f(moved, SIGMA * size(moved) / size(y))

    gain = float(4 + jnp.max(jnp.abs(f(y) - y)) / jnp.std(y))  # random networks amplify rounding
    assert gain < 100
    assert_exact_under_powers_of_two(following, y)
    if name == "scale":
        assert protocol.symmetry(model) == "scale"
        for a in (0.01, 3.7, 200.0):
            assert_equivariant(following, Scale(a), y, gain=gain)
        assert defect(following, Offset(0.5), y).min() > 1e-3
    else:
        assert protocol.symmetry(model) == "normalization"
        assert_normalization_equivariant(following, y, jax.random.key(1), samples=4, gain=gain)
        constant = jnp.full_like(y, 0.3)
        np.testing.assert_array_equal(f(constant), constant)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_wrapped_model_computes_in_bfloat16_within_its_precision(channels, standard_promotion):
    y = images((2, 12, 10, channels))
    variables = random_variables(tiny("dncnn"), y)
    full, coarse = (
        jax.jit(wne.WNE(tiny("dncnn", dtype=dtype)).apply)(variables, y)
        for dtype in (None, jnp.bfloat16)
    )
    assert coarse.dtype == jnp.float32
    assert 0 < np.abs(coarse - full).max() < 0.05 * np.abs(full).max()
