"""The contracts for extensions detect errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wne_jax.models import CLASSIFIERS, MODELS
from wne_jax.statistics import Statistics, mean_std
from wne_jax.testing import TINY, check_backbone, check_statistic, random_variables, tiny


def declaring(function, **facts):
    """A function with declarations."""
    for name, value in facts.items():
        setattr(function, name, value)
    return function


def halves(y):
    """A backbone that needs even sides but does not declare it."""
    if y.shape[1] % 2 or y.shape[2] % 2:
        raise ValueError("even sides, please")
    return y


def undecided(y):
    return y if isinstance(y, jax.core.Tracer) else 0.9 * y


@pytest.mark.parametrize(
    ("backbone", "complaint"),
    [
        (lambda y: y[:, 1:], r"<lambda>: the output is \(2, 7, 9, 1\) for \(2, 8, 9, 1\)"),
        (lambda y: y.astype(jnp.bfloat16), "the output is bfloat16 for float32"),
        (lambda y: y / 0, "the output is not finite"),
        (undecided, r"undecided: compiled, the output differs by 1\.\de-01 of it"),
        (lambda y: y[::-1], "depends on its neighbours"),
        (
            declaring(lambda y: jnp.roll(y, 3, axis=2), receptive_radius=2),
            "changes the output 3 pixels away, but receptive_radius is 2",
        ),
        (lambda y, sigma: y, "the noise level changes nothing"),
        (declaring(lambda y: y + 0.1, symmetry="scale"), r"not equivariant to Affine\(a=0.01"),
        (declaring(lambda y: 0.9 * y, symmetry="normalization"), "not equivariant to Affine"),
        (declaring(lambda y: y, symmetry="both"), "none, scale or normalization; not 'both'"),
        (lambda y: jnp.where(y > 0, jnp.sqrt(y), 0), "a gradient on an image is not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_false_declarations_are_detected(backbone, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_backbone(backbone)


def test_an_undeclared_multiple_is_detected():
    with pytest.raises(ValueError, match="even sides, please"):
        check_backbone(halves)
    check_backbone(declaring(lambda y: halves(y), multiple=2))


def test_every_kind_of_backbone_is_checked():
    check_backbone(declaring(lambda y: jnp.roll(y, 3, axis=2), receptive_radius=3))
    check_backbone(lambda y, sigma: y * (1 - jnp.reshape(jnp.asarray(sigma), (-1, 1, 1, 1))))
    check_backbone(nn.Conv(1, (3, 3)))
    check_backbone(nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0)), np.random.rand(2, 5, 4, 3))


def test_a_statistic_with_an_epsilon_is_detected():
    def with_epsilon(y, *, axes=None, where=None):
        location, scale, *_ = mean_std(y, axes=axes, where=where)
        return Statistics(location, scale + 1e-5)

    with pytest.raises(AssertionError, match=r"with_epsilon: scale\(a y \+ b\) differs"):
        check_statistic(with_epsilon)


def test_every_network_that_is_built_by_name_has_a_tiny_one():
    assert TINY.keys() == (MODELS | CLASSIFIERS).keys()


def test_random_variables_fit_the_network_and_differ_from_initial_ones(key):
    y = jnp.ones((1, 8, 8, 1))
    net = tiny("dncnn")
    start, moved = net.init(key, y), random_variables(net, y, seed=3)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, moved)
    assert all(np.all(a != b) for a, b in zip(*map(jax.tree.leaves, (start, moved)), strict=True))
    for a, b in zip(*(jax.tree.leaves(random_variables(net, y, seed=s)) for s in (3, 4))):
        assert not np.array_equal(a, b)
    kernel = random_variables(nn.Dense(64), jnp.ones((1, 400)))["params"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), 400**-0.5, rtol=0.02)
    assert float(jnp.std(net.apply(moved, y))) > 0.01  # padding affects the borders


def test_a_backbone_of_several_outputs_is_named():
    with pytest.raises(AssertionError, match="returns a tuple, not one image: check one of its"):
        check_backbone(lambda y: (y, y))
