"""Images of many sizes share programs, and each comes out as it does by itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax import protocol
from wne_jax.config import ModelConfig, SmoothBase, WrapperConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.few_shapes import shared_side
from wne_jax.testing import TINY, random_variables

NOISE_LEVEL = WrapperConfig("wne", "noise_level")
RNG = np.random.default_rng(0)


def denoiser(backbone, wrapper=NOISE_LEVEL, inside=None, **options):
    config = ModelConfig(backbone, TINY[backbone] | options, wrapper, inside)
    model = config.build()
    y, level = jnp.zeros((1, 16, 16, 1)), protocol.condition(model, 0.1)
    return Denoiser(model, random_variables(model, y, **level), config)


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("dncnn", {}),
        ("fdncnn", {"mode": "scale-equivariant"}),
        ("ffdnet", {"conditioned": True}),
        ("drunet", {"residual": True}),
        ("drunet", {"mode": "scale-equivariant", "wrapper": None}),
    ],
)
def test_an_image_in_a_larger_array_is_the_image_by_itself(backbone, options):
    f = denoiser(backbone, **options)
    sigma = 0.1 if f.conditioned else None
    for shape in ((37, 45), (3, 2), (16, 33)):
        image = RNG.normal(5, 3, shape).astype(np.float32)
        alone = f(image, sigma)
        beside = f(image, sigma, tile=64, few_shapes=True)
        np.testing.assert_allclose(beside, alone, atol=2e-5 * np.abs(alone).max())
        assert np.abs(alone - image).max() > 0.1  # it does something


def test_tiles_share_shapes_as_whole_images_do():
    f = denoiser("drunet", blocks=1)
    image = RNG.integers(0, 256, (150, 40, 3), dtype=np.uint8)
    few = f(image, tile=96, few_shapes=True)
    assert np.abs(few.astype(int) - f(image)).max() <= 1  # rounding to whole numbers
    assert (few != f(image)).mean() < 0.01


def test_many_sizes_take_few_programs(monkeypatch):
    f = denoiser("dncnn")
    shapes = set()
    function = f.function

    def watched(y, *rest, **options):
        shapes.add(y.shape)
        return function(y, *rest, **options)

    f.function = watched
    for side in range(40, 65, 3):
        f(RNG.normal(size=(side, 100 - side)).astype(np.float32), tile=128, few_shapes=True)
    assert shapes == {(1, 48, 64, 1), (1, 64, 64, 1), (1, 64, 48, 1)}
    assert function._apply._cache_size() == len(shapes)


@pytest.mark.parametrize("multiple", [1, 8, 12])
def test_shared_sides_are_few_and_not_much_larger(multiple):
    sizes = np.arange(1, 4000)
    sides = np.array([shared_side(int(size), multiple) for size in sizes])
    assert (sides >= sizes).all() and (sides % multiple == 0).all() and (np.diff(sides) >= 0).all()
    assert len(set(sides[199:1600])) <= 10
    large = sizes >= 16 * np.lcm(16, multiple) / 4
    assert (sides[large] / sizes[large]).max() < 1.5


def test_where_few_shapes_do_not_apply():
    image = np.zeros((8, 8), np.float32)
    ordinary = denoiser("dncnn")
    for f, options in (
        (ordinary, {}),
        (ordinary, {"tile": 64, "self_ensemble": True}),
        (denoiser("dncnn", padding="reflect"), {"tile": 64}),
        (denoiser("fdncnn", mode="normalization-equivariant"), {"tile": 64}),
        (denoiser("dncnn", inside=SmoothBase(2.0)), {"tile": 64}),
        (denoiser("swinir"), {"tile": 64}),
    ):
        with pytest.raises(ValueError, match="few_shapes needs tile, a model that declares"):
            f(image, few_shapes=True, **options)
