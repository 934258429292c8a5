"""Tests of every plain model: sizes, symmetry, independence in the batch, precision, invalid arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models import MODELS, DnCNN, FDnCNN, build
from wne_jax.testing import random_variables

SMALL = {"depth": 4, "features": 8}
SE, NE = "scale-equivariant", "normalization-equivariant"
VARIANTS = [(DnCNN, "ordinary"), (DnCNN, SE), (FDnCNN, "ordinary"), (FDnCNN, SE), (FDnCNN, NE)]
variants = pytest.mark.parametrize(("model", "mode"), VARIANTS)


def images(shape=(2, 9, 8, 1), seed=3):
    return jax.random.uniform(jax.random.key(seed), shape)


@functools.cache
def ready(model, **options):
    """The model as a jitted function of images `[B, H, W, 1]` and sigma, in evaluation mode."""
    net = model(**SMALL, **options)
    variables = random_variables(net, images(), 0.1 if options.get("conditioned") else None)
    return jax.jit(lambda y, sigma=None: net.apply(variables, y, sigma))


def defect(f, y, a, b, sigma=None):
    """The largest relative error of f(a y + b, a sigma) = a f(y, sigma) + b."""
    expected = a * f(y, sigma) + b
    moved = f(a * y + b, None if sigma is None else a * sigma)
    return float(jnp.abs(moved - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize(
    ("model", "mode", "count"),
    [
        (DnCNN, "ordinary", 668_225),
        (FDnCNN, "ordinary", 665_920),
        (FDnCNN, SE, 664_704),
        (FDnCNN, NE, 664_704),
    ],
)
def test_parameter_counts_of_the_papers(model, mode, count):
    variables = jax.eval_shape(model(mode=mode).init, jax.random.key(0), images((1, 16, 16, 1)))
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == count


@variants
@pytest.mark.parametrize("conditioned", [False, True])
def test_modes_have_exactly_their_declared_symmetry(model, mode, conditioned):
    y = images()
    f = ready(model, mode=mode, conditioned=conditioned)
    sigma = jnp.array([0.1, 0.2]) if conditioned else None
    scale = max(defect(f, y, a, 0.0, sigma) for a in (0.25, 3.0))
    offset = max(defect(f, y, 1.0, b, sigma) for b in (-2.0, 5.0))
    both = defect(f, y, 3.0, -2.0, sigma)
    assert scale < 1e-5 if mode in (SE, NE) else scale > 1e-3
    assert max(offset, both) < 2e-5 if mode == NE else offset > 1e-3


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_other_paddings_keep_the_symmetry(padding):
    y = images()
    f = ready(FDnCNN, mode=NE, padding=padding)
    assert defect(f, y, 3.0, -2.0) < 2e-5


def test_powers_of_two_are_exact_bit_for_bit():
    y = images()
    for model, mode in VARIANTS[1::2] + VARIANTS[4:]:
        f = ready(model, mode=mode)
        np.testing.assert_array_equal(f(2.0**-9 * y), 2.0**-9 * f(y))


@variants
def test_any_size_and_number_of_channels(model, mode):
    net = model(**SMALL, mode=mode)
    for shape in ((1, 1, 1, 1), (1, 2, 5, 3), (2, 7, 4, 1)):
        out, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), images(shape))
        assert out.shape == shape and out.dtype == jnp.float32
    tiny = ready(model, mode=mode)(images((1, 1, 2, 1)))
    assert bool(jnp.all(jnp.isfinite(tiny)))


@variants
@pytest.mark.parametrize("train", [False, True])
@jax.numpy_dtype_promotion("standard")  # Linen's BatchNorm promotes bfloat16 to float32 implicitly
def test_bfloat16_computes_in_bfloat16_with_float32_parameters(model, mode, train):
    y = images()
    half, full = (model(**SMALL, mode=mode, dtype=d) for d in (jnp.bfloat16, None))
    variables = random_variables(half, y)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def run(net):
        apply = functools.partial(net.apply, train=train, mutable=["batch_stats"])
        return jax.jit(apply)(variables, y)[0]

    a, b = run(half), run(full)
    assert a.dtype == jnp.float32
    error = float(jnp.abs(a - b).max() / jnp.abs(b).max())
    assert 1e-5 < error < 0.1


@variants
@pytest.mark.parametrize("conditioned", [False, True])
def test_only_conditioned_models_accept_sigma(model, mode, conditioned):
    y = images()
    net = model(**SMALL, mode=mode, conditioned=conditioned)
    if not conditioned:
        with pytest.raises(ValueError, match="blind model"):
            net.init(jax.random.key(0), y, 0.1)
        return
    with pytest.raises(ValueError, match="needs sigma"):
        net.init(jax.random.key(0), y)
    with pytest.raises(ValueError, match=r"scalar or \[B\] = \[2\]; its shape is \(3,\)"):
        net.init(jax.random.key(0), y, jnp.zeros(3))
    f = ready(model, mode=mode, conditioned=True)
    expected = f(y, jnp.array([0.1, 0.1]))
    for sigma in (0.1, jnp.full((2, 1, 1, 1), 0.1), np.float64(0.1)):
        np.testing.assert_array_equal(f(y, sigma), expected)
    assert float(jnp.abs(f(y, 0.5) - expected).max()) > 1e-4


@variants
def test_integers_are_cast_and_other_ranks_rejected(model, mode):
    net = model(**SMALL, mode=mode)
    y = jnp.arange(2 * 5 * 4).reshape(2, 5, 4, 1)
    variables = random_variables(net, y)
    np.testing.assert_array_equal(
        net.apply(variables, y), net.apply(variables, y.astype("float32"))
    )
    with pytest.raises(ValueError, match=r"rank 4; its shape is \(5, 4, 1\)"):
        net.init(jax.random.key(0), y[0])


@pytest.mark.parametrize("name", ["dncnn", "fdncnn"])
def test_build(name):
    assert build(name, depth=3) == MODELS[name](depth=3)
    with pytest.raises(TypeError, match=r"no option 'dept'; it has depth, features, mode, .*"):
        build(name, dept=3)
    with pytest.raises(ValueError, match=r"ordinary, scale-equivariant.*not 'odd'"):
        build(name, mode="odd")
    with pytest.raises(ValueError, match="2 or more, not 1"):
        build(name, depth=1)
    with pytest.raises(ValueError, match="zeros, reflect, circular; not 'same'"):
        build(name, padding="same")


def test_error_messages_name_alternatives():
    with pytest.raises(ValueError, match="'unet'; use dncnn, fdncnn"):
        build("unet")
    with pytest.raises(ValueError, match="FDnCNN has that mode"):
        DnCNN(mode=NE)
    with pytest.raises(ValueError, match="reflect, circular; not 'zeros', for mode 'normalization"):
        FDnCNN(mode=NE, padding="zeros")
    with pytest.raises(ValueError, match="even in number, not 7"):
        FDnCNN(mode=NE, depth=2, features=7).init(jax.random.key(0), images())
