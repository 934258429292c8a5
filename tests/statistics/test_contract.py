import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import statistics as S
from wne_jax.statistics import Statistics

STATISTICS = sorted(S.STATISTICS)


def image(shape=(2, 17, 12, 3), seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (3, 9, 1), (2, 3, 8, 9, 1), (2, 1, 7, 1)])
def test_every_statistic_meets_the_contract_in_every_shape(name, shape):
    """Images of ordinary sizes, gray and in colour, are in tests/test_contracts.py."""
    if name == "local_noise" and len(shape) != 4:
        pytest.skip("its scale is an image: it takes images only")
    S.check_contract(S.STATISTICS[name], image(shape))


@pytest.mark.parametrize("name", [name for name in STATISTICS if name != "local_noise"])
def test_pooled_over_space_every_channel_has_its_own_statistics(name):
    location, scale, *_ = jax.eval_shape(lambda y: S.STATISTICS[name](y, axes=(1, 2)), image())
    assert location.shape == scale.shape == (2, 1, 1, 3)


@pytest.mark.parametrize(
    "statistic, clause",
    [
        (S.root_mean_square, r"location\(a y \+ b\)"),
        (
            lambda y, *, axes, where: Statistics(*(s + 1e-3 for s in S.mean_std(y, axes=axes)[:2])),
            "location",
        ),
        (
            lambda y, *, axes, where: S.mean_std(y, axes=axes)._replace(
                scale=jnp.ones((2, 1, 1, 1))
            ),
            "scale",
        ),
        (
            lambda y, *, axes, where: S.mean_std(y)._replace(scale=jnp.zeros((2, 1, 1, 1))),
            "non-constant",
        ),
        (lambda y, *, axes, where: Statistics(y.mean((1, 2, 3)), y.std((1, 2, 3))), "shape"),
        (
            lambda y, *, axes, where: S.mean_std(y, where=where)._replace(
                scale=S.mean_std(y, where=where).scale.mean(0, keepdims=True)
            ),
            "another neighbour",
        ),
        (lambda y, *, axes, where: S.mean_std(y), "masked entry"),
        (
            lambda y, *, axes, where: Statistics(
                S.mean_std(y, where=where).location, jnp.sqrt(S.moments(y, where=where).m2)
            ),
            "gradient",
        ),
        (
            lambda y, *, axes, where: Statistics(
                y.mean(axes, keepdims=True),
                1e-20 * y.mean(axes, keepdims=True) + y.std(axes, keepdims=True),
            ),
            r"location\(c\)|scale\(c\)",  # no pivot: a constant is off by rounding
        ),
    ],
)
def test_the_contract_names_the_clause_that_fails(statistic, clause):
    with pytest.raises(AssertionError, match=clause):
        S.check_contract(statistic, image((2, 33, 31, 1)))


@pytest.mark.parametrize(
    ("statistic", "message"),
    [
        ("noise_level", r"not 'noise_level': for a name, use wne_jax\.statistics\.STATISTICS"),
        (lambda y, *, axes, where: (y.mean(), y.std()), r"returns Statistics\(.*, not tuple"),
    ],
)
def test_what_is_no_statistic_gives_one_line(statistic, message):
    with pytest.raises(TypeError, match=message):
        S.check_contract(statistic, image((2, 8, 8, 1)))


def smooth_base(y, *, axes=None, where=None):
    """A location that is an image: every value and the one to its left, where both are valid."""
    y, axes, where = S.prepare(y, axes, where)
    valid = jnp.ones(y.shape, bool) if where is None else where
    left, known = jnp.roll(y, 1, axis=2), jnp.roll(valid, 1, axis=2)
    return S.mean_std(y, axes=axes, where=where)._replace(
        location=jnp.where(known, y + 0.5 * (left - y), y)
    )


def test_a_location_may_be_an_image():
    y = image()
    assert smooth_base(y).location.shape == y.shape
    S.check_contract(smooth_base, y)
    S.check_contract(smooth_base, y, axes=(1, 2))


def test_a_location_that_is_an_image_is_checked_at_every_pixel():
    def off_at_one_pixel(y, *, axes=None, where=None):
        found = smooth_base(y, axes=axes, where=where)
        return found._replace(location=found.location.at[0, 3, 4, 0].multiply(1.01))

    with pytest.raises(AssertionError, match=r"off_at_one_pixel: location\(a y \+ b\)"):
        S.check_contract(off_at_one_pixel, image())


@dataclass(frozen=True)
class Blockwise:
    """The mean and standard deviation, with passes that are wrong in one way."""

    passes: Callable

    def __call__(self, y, *, axes=None, where=None):
        return S.mean_std(y, axes=axes, where=where)

    def over_blocks(self, blocks):
        return self.passes(*S.mean_std.over_blocks(blocks), blocks)


@pytest.mark.parametrize(
    "passes, clause",
    [
        (lambda mean, std, _: (mean, 1.001 * std), r"scale over blocks differs from scale\(y\)"),
        (lambda mean, std, _: (mean + 1e-3, std), r"location over blocks"),
        (lambda mean, std, blocks: (mean, np.float32(np.std(blocks.read(0, 5)))), "rows|scale"),
        (lambda mean, std, _: (mean, std + 1e-7), r"scale\(a y\) over blocks"),
    ],
)
def test_the_contract_covers_the_passes_over_blocks(passes, clause):
    with pytest.raises(AssertionError, match=clause):
        S.check_contract(Blockwise(passes), image())


def test_every_statistic_by_name_has_its_passes_its_name_and_is_equal_to_its_copies():
    for name, statistic in {**S.STATISTICS, "root_mean_square": S.root_mean_square}.items():
        assert statistic.name == name
        assert hasattr(statistic, "over_blocks") == (
            name != "local_noise"
        )  # whose scale is an image
        assert pickle.loads(pickle.dumps(statistic)) == copy.deepcopy(statistic) == statistic
        assert len({statistic, copy.copy(statistic)}) == 1
