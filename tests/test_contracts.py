"""One table of contracts that every model, bare or wrapped, passes."""

import functools
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import models, protocol
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry.equivariance import (
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
    defect,
)

PLAIN = {"depth": 4, "features": 8}
SMALL = {
    "dncnn": PLAIN,
    "fdncnn": PLAIN,
    "drunet": {"features": (8, 8), "blocks": 1},
    "swinir": {"groups": 1, "blocks": 2, "features": 8, "heads": 2, "window": 4},
    "restormer": {"dim": 4, "blocks": (1, 1), "heads": (1, 2), "refinement_blocks": 0},
}


@dataclass(frozen=True)
class Case:
    """A model, the wrapper around it, and the equivariance that it claims."""

    backbone: str
    wrapper: str = "none"
    mode: str = "ordinary"
    channels: int = 1
    conditioned: bool = False
    claims: str = "none"

    def __str__(self):
        kind = [self.backbone, self.mode, self.wrapper, f"{self.channels}ch"]
        return "-".join([*kind, "sigma"] if self.conditioned else kind)

    def build(self):
        options = SMALL[self.backbone]
        if hasattr(models.MODELS[self.backbone], "mode"):
            options = options | {"mode": self.mode, "conditioned": self.conditioned}
        backbone = models.build(self.backbone, **options)
        if self.wrapper == "none":
            return backbone
        if self.wrapper == "scale":
            return wne.ScaleEquivariant(backbone)
        return wne.WNE(backbone, statistics=STATISTICS[self.wrapper])


def table():
    modes = {
        "dncnn": ("ordinary", "scale-equivariant"),
        "fdncnn": ("ordinary", "scale-equivariant", "normalization-equivariant"),
    }
    own = {
        "ordinary": "none",
        "scale-equivariant": "scale",
        "normalization-equivariant": "normalization",
    }
    for backbone, known in modes.items():
        for mode in known:
            for channels, conditioned in ((1, False), (3, True)):
                case = functools.partial(
                    Case, backbone, mode=mode, channels=channels, conditioned=conditioned
                )
                yield case(claims=own[mode])
                if mode == "ordinary":
                    yield from (case(wrapper=name, claims="normalization") for name in STATISTICS)
                    yield case(wrapper="scale", claims="scale")
    # These compile for seconds each: fewer combinations, which the others have shown not to interact.
    yield Case("drunet")
    yield Case("drunet", "haar_mad", channels=3, conditioned=True, claims="normalization")
    yield Case("drunet", mode="scale-equivariant", claims="scale")
    yield Case("drunet", mode="normalization-equivariant", conditioned=True, claims="normalization")
    for backbone in ("swinir", "restormer"):
        yield Case(backbone)
        yield Case(backbone, "mean_std", claims="normalization")
        yield Case(backbone, "haar_mad", channels=3, claims="normalization")


CASES = list(table())
SIGMA = 0.1


@functools.cache
def prepared(case):
    """The model, variables moved away from their initial values, and the compiled function."""
    model = case.build()
    condition = {"sigma": SIGMA} if case.conditioned else {}
    # Drawn by NumPy: compiling the initializers of a transformer would take longer than all else here.
    shapes = jax.eval_shape(model.init, jax.random.key(0), images(case), **condition)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            noise /= np.sqrt(np.prod(leaf.shape[:-1]))
        elif path[-1].key != "bias":
            noise = 1 + 0.1 * np.abs(noise)
        return jnp.asarray(noise, leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    compiled = jax.jit(
        lambda y, sigma: model.apply(variables, y, **({"sigma": sigma} if condition else {}))
    )
    return model, variables, compiled


def images(case, shape=(2, 12, 10), seed=0):
    return jnp.asarray(
        np.random.default_rng(seed).normal(0.4, 0.2, (*shape, case.channels)), jnp.float32
    )


def following(compiled, y):
    """The model as a function of y alone, whose sigma follows the contrast, as its contract says."""
    reference = jnp.std(y, axis=(1, 2, 3))
    return lambda moved: compiled(moved, SIGMA * jnp.std(moved, axis=(1, 2, 3)) / reference)


each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_any_size_comes_back_in_its_shape_and_dtype(case):
    _, _, compiled = prepared(case)
    shapes = [(3, 7, 5), (1, 1, 1)]
    if SMALL[case.backbone] is PLAIN:  # the others compile for seconds at each size
        shapes += [(1, 12, 10), (1, 1, 9)]
    for shape in shapes:
        y = images(case, shape)
        chex.assert_shape(compiled(y, SIGMA), y.shape)
        assert compiled(y, SIGMA).dtype == jnp.float32 and np.isfinite(compiled(y, SIGMA)).all()


@each_case
def test_a_wrapper_adds_no_parameter(case):
    _, variables, _ = prepared(case)
    bare = Case(case.backbone, mode=case.mode, channels=case.channels, conditioned=case.conditioned)
    chex.assert_trees_all_equal_shapes(variables, prepared(bare)[1])


@each_case
def test_an_image_does_not_depend_on_its_neighbours_bit_for_bit(case):
    _, _, compiled = prepared(case)
    y, other = images(case), images(case, seed=9) * 50 + 7
    mixed = jnp.stack([y[0], other[1]])
    np.testing.assert_array_equal(compiled(y, SIGMA)[0], compiled(mixed, SIGMA)[0])


@each_case
def test_the_claim_is_kept(case):
    model, _, compiled = prepared(case)
    y = images(case)
    f = following(compiled, y)
    gain = float(4 + jnp.max(jnp.abs(f(y) - y)) / jnp.std(y))  # random networks amplify
    assert protocol.symmetry(model) == case.claims and (gain < 100 or case.claims == "none")
    if case.claims == "normalization":
        assert_normalization_equivariant(f, y, jax.random.key(1), samples=4, gain=gain)
        constant = jnp.full_like(y, 0.3)
        if case.wrapper != "none":
            np.testing.assert_array_equal(compiled(constant, SIGMA), constant)
    if case.claims == "scale":
        for a in (0.01, 3.7, 200.0):
            assert_equivariant(f, wne.symmetry.actions.Scale(a), y, gain=gain)


@each_case
def test_no_more_than_the_claim_is_there(case):
    _, _, compiled = prepared(case)
    y = images(case)
    f = following(compiled, y)
    if case.claims != "normalization":
        assert defect(f, wne.symmetry.actions.Offset(0.5), y).min() > 1e-3
    if case.claims == "none":
        assert defect(f, wne.symmetry.actions.Scale(3.0), y).min() > 1e-3


@pytest.mark.parametrize("case", [case for case in CASES if case.wrapper != "none"], ids=str)
def test_powers_of_two_are_exact_under_every_wrapper(case):
    model, variables, _ = prepared(case)

    def f(y):
        sigma = (
            SIGMA * jnp.max(jnp.abs(y)) / jnp.max(jnp.abs(images(case)))
        )  # exact under powers of two
        return model.apply(variables, y, **({"sigma": sigma} if case.conditioned else {}))

    f = jax.jit(f)
    assert_exact_under_powers_of_two(f, images(case))


# One wrapper stands for all here, and the ordinary mode for the others.
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.wrapper in ("mean_std", "none") and c.mode == "ordinary"],
    ids=str,
)
def test_bfloat16_computes_within_its_precision(case, standard_promotion):
    model, variables, compiled = prepared(case)
    y = images(case)
    coarse = getattr(model, "backbone", model).clone(dtype=jnp.bfloat16, parent=None)
    coarse = model.clone(backbone=coarse) if case.wrapper != "none" else coarse
    condition = {"sigma": jnp.float32(SIGMA)} if case.conditioned else {}
    result = jax.jit(coarse.apply)(variables, y, **condition)
    assert result.dtype == jnp.float32
    difference = np.abs(result - compiled(y, SIGMA)).max()
    assert 0 < difference < 0.05 * np.abs(compiled(y, SIGMA)).max()


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_image_models_say_that_they_take_rank_four(name, rank):
    for model in (models.build(name), wne.WNE(models.build(name))):
        with pytest.raises(ValueError, match="rank 4"):
            model.init(jax.random.key(0), jnp.ones((1,) * rank))
