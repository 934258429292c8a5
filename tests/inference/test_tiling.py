import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wne_jax as wne
from wne_jax import protocol
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.data import load_images
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.tiling import _weights, plan, run_tiled
from wne_jax.models import DnCNN, FDnCNN
from wne_jax.statistics import Statistics, haar_mad, mean_std, min_max
from wne_jax.testing import random_variables

DEPTH = 3
NE = "normalization-equivariant"
MODELS = {
    "dncnn-zeros": DnCNN(depth=DEPTH, features=8),
    "dncnn-reflect": DnCNN(depth=DEPTH, features=8, padding="reflect"),
    "fdncnn": FDnCNN(depth=DEPTH, features=8),
    "fdncnn-scale": FDnCNN(depth=DEPTH, features=8, mode="scale-equivariant"),
    "fdncnn-ne": FDnCNN(depth=DEPTH, features=8, mode=NE),
}


TRACED = []


class Pooled(nn.Module):
    """A network in two resolutions: every output knows its own cell of 8x8 and the eight around it."""

    multiple: int = 8
    receptive_radius: int | None = (
        15  # from the last pixel of a cell to the first of the cell before
    )

    @nn.compact
    def __call__(self, y, sigma=None, *, train=False):
        TRACED.append(y.shape)
        batch, height, width, channels = y.shape
        cells = y.reshape(batch, height // 8, 8, width // 8, 8, channels)
        coarse = nn.Conv(channels, (3, 3))(jnp.tanh(cells.mean((2, 4))))
        return y + jnp.repeat(jnp.repeat(coarse, 8, axis=1), 8, axis=2)


def image(shape, dtype=np.float32, seed=0):
    y = np.random.default_rng(seed).normal(0.5, 0.2, shape)
    return y.astype(dtype) if dtype == np.float32 else np.clip(65535 * y, 0, 65535).astype(dtype)


@functools.cache
def denoiser(model, channels=1):
    """With random variables throughout (at its initial ones a residual stack is the identity)."""
    y = jax.ShapeDtypeStruct((1, 8, 8, channels), jnp.float32)
    condition = protocol.condition(model, jnp.ones(1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), y, **condition)
    rng = np.random.default_rng(1)
    return Denoiser(
        model, jax.tree.map(lambda x: rng.uniform(0, 0.3, x.shape).astype(np.float32), shapes)
    )


def tiled(denoise, y, *, halo, **options):
    """The result by tiles whose halo is given."""
    denoise.receptive_radius = halo
    return denoise(y, **options)


@pytest.mark.parametrize("name", MODELS)
def test_tiles_equal_the_whole_image_and_a_halo_one_too_small_is_seen(name):
    denoise, y = denoiser(wne.WNE(MODELS[name])), image((40, 61, 1))
    whole = denoise(y)
    assert np.abs(whole - y).max() > 1e-2  # the network does something
    exact = tiled(denoise, y, tile=16, halo=DEPTH)
    np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))
    # Tiles of 16 rows, two halos of 2 in common: they end at rows 16, 28 and 40, none with room to spare.
    wrong = tiled(denoise, y, tile=16, halo=DEPTH - 1)
    assert np.abs(wrong - whole).max() > 1e-4 * np.ptp(whole)


@pytest.mark.parametrize("name", ["dncnn-zeros", "fdncnn-ne"])
@pytest.mark.parametrize("shape", [(16, 37, 1), (9, 7, 1), (40, 1, 1), (1, 1, 1)])
def test_images_smaller_than_a_tile_or_one_pixel_wide_are_those_of_the_whole(name, shape):
    denoise, y = denoiser(wne.WNE(MODELS[name])), image(shape)
    whole = denoise(y)
    exact = tiled(denoise, y, tile=16, halo=DEPTH)
    np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))


@pytest.mark.parametrize("shape", [(61, 90, 3), (5, 3, 1), (1, 66, 1)])
def test_a_network_that_pools_is_tiled_at_multiples_of_its_cells_and_compiles_once(shape):
    denoise, y = denoiser(wne.WNE(Pooled()), shape[-1]), image(shape)
    whole = denoise(y)
    TRACED.clear()
    exact = denoise(y, tile=48)
    assert len(TRACED) <= 1  # none where the whole image had the size of a tile
    np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))


def test_tiles_off_the_cells_of_a_network_that_pools_are_seen():
    model = wne.WNE(Pooled())
    denoise, y = denoiser(model), image((64, 90, 1))
    out, shifted = np.zeros_like(y), np.zeros_like(y)
    for target, multiple in ((out, 8), (shifted, 3)):
        run_tiled(
            lambda x: denoise.function(x, stats=wne.statistics.mean_std(y[None])), y, target,
            tile=48, halo=15, multiple=multiple, to_model=np.asarray, from_model=np.asarray,
        )  # fmt: skip
    whole = denoise(y)
    np.testing.assert_allclose(out, whole, rtol=0, atol=1e-5 * np.ptp(whole))
    assert np.abs(shifted - whole).max() > 1e-3 * np.ptp(whole)


@pytest.mark.parametrize("name", ["none", "scale", "wne", "ne-arch"])
def test_every_kind_of_equivariance_is_tiled_in_its_own_units(name):
    backbone = MODELS["fdncnn-ne" if name == "ne-arch" else "dncnn-zeros"]
    wrappers = {"wne": wne.WNE, "scale": wne.ScaleEquivariant}
    denoise = denoiser(wrappers[name](backbone) if name in wrappers else backbone)
    y = image((21, 30, 1), np.uint16)
    exact = tiled(denoise, y, tile=16, halo=DEPTH)
    assert np.abs(exact.astype(int) - denoise(y)).max() <= 1


def test_a_noise_level_that_is_given_takes_the_place_of_the_estimate():
    denoise, y = denoiser(wne.WNE(MODELS["fdncnn"], statistics=haar_mad)), image((21, 30, 1))
    for sigma in (0.05, 1e-3, 0.0):  # the second far below any floor
        whole = denoise(y, sigma)
        exact = tiled(denoise, y, tile=16, halo=DEPTH, sigma=sigma)
        np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))
    assert np.abs(whole - denoise(y)).max() > 1e-3
    constant = np.full_like(y, 0.3)
    np.testing.assert_array_equal(
        tiled(denoise, constant, tile=16, halo=DEPTH, sigma=0.1), constant
    )


def test_a_conditioned_model_is_told_the_noise_level_on_every_tile():
    model = wne.WNE(FDnCNN(depth=DEPTH, features=8, conditioned=True))
    y, sigma = image((21, 30, 1), np.uint16), 3000.0
    denoise = denoiser(model)
    exact = tiled(denoise, y, tile=16, halo=DEPTH, sigma=sigma)
    assert np.abs(exact.astype(int) - denoise(y, sigma)).max() <= 1


def test_a_self_ensemble_of_tiles_is_that_of_the_whole():
    denoise, y = denoiser(wne.WNE(MODELS["fdncnn"])), image((21, 30, 1))
    options = {"self_ensemble": True, "strength": 0.7}
    whole = denoise(y, **options)
    exact = tiled(denoise, y, tile=16, halo=DEPTH, **options)
    np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))


@pytest.mark.parametrize("halo", [DEPTH, None])
def test_from_file_to_file_in_sixteen_bits(tmp_path, halo):
    model = wne.WNE(MODELS["dncnn-zeros"], statistics=haar_mad)
    denoise, y = denoiser(model), image((70, 45, 1), np.uint16)
    np.save(tmp_path / "in.npy", y)
    mapped = np.load(tmp_path / "in.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint16, y.shape)

    steps = []
    denoise.receptive_radius = halo
    denoise(mapped, tile=24, out=out, progress=lambda *step: steps.append(step))
    out.flush()
    difference = np.load(tmp_path / "out.npy").astype(int) - denoise(y)
    if halo is None:  # blended: pixels close to the border of a tile enter with a small weight
        assert 1 < np.abs(difference).max() < 0.1 * np.ptp(y)
    else:
        assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 0.02  # ties in rounding
    assert steps == [(i, len(steps)) for i in range(1, len(steps) + 1)]


def mean_and_spread(y, *, axes=None, where=None):
    """A statistic without passes over blocks."""
    return Statistics(mean_std(y, axes=axes, where=where).location, min_max(y).scale)


def smooth_location(y, *, axes=None, where=None):
    """A statistic whose location is an image: the mean of three columns, no further than a halo."""
    around = (jnp.roll(y, 1, 2) + y + jnp.roll(y, -1, 2)) / 3
    return mean_std(y, axes=axes, where=where)._replace(location=around)


@pytest.mark.parametrize("statistic", [mean_and_spread, smooth_location])
def test_a_function_of_ones_own_is_computed_once_on_the_whole_image(statistic):
    denoise, y = denoiser(wne.WNE(Pooled(), statistics=statistic)), image((61, 90, 1))
    whole = denoise(y)
    with pytest.warns(UserWarning, match=f"{statistic.__name__} has no passes") as notes:
        exact = denoise(y, tile=48)
    assert len(notes) == 1
    np.testing.assert_allclose(exact, whole, rtol=0, atol=1e-5 * np.ptp(whole))


def test_a_model_that_pools_its_axes_otherwise_is_refused():
    denoise, y = denoiser(wne.WNE(MODELS["fdncnn"], axes=(1,))), image((21, 30, 1))
    with pytest.raises(ValueError, match=r"axes \(1,\) cannot be tiled"):
        tiled(denoise, y, tile=16, halo=DEPTH)


sizes = st.integers(1, 90)


@given(sizes, sizes, st.integers(0, 6), st.sampled_from([1, 2, 8]), st.integers(1, 5))
def test_every_pixel_is_kept_from_one_tile_away_from_its_border(h, w, halo, multiple, spare):
    side = (-(-2 * halo // multiple) + spare) * multiple
    tiles = plan(h, w, tile=side, halo=halo, multiple=multiple)
    for size, spans, extent in zip((h, w), (tiles.rows, tiles.columns), tiles.size, strict=True):
        padded = -(-size // multiple) * multiple
        assert extent == min(side, padded)
        assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
        assert spans[-1].stop == size and spans[-1].origin + extent == padded
        for span in spans:
            assert span.start < span.stop and span.origin % multiple == 0
            before, after = span.start - span.origin, span.origin + extent - span.stop
            assert (before >= halo or span.origin == 0) and before >= 0
            assert (after >= halo or span.origin + extent == padded) and after >= 0


@given(sizes, st.integers(0, 6), st.sampled_from([1, 2, 8]), st.integers(1, 5))
def test_blending_weights_sum_to_one_and_are_positive(size, halo, multiple, spare):
    side = (-(-2 * halo // multiple) + spare) * multiple
    (_, extent), _, spans = plan(1, size, tile=side, halo=halo, multiple=multiple)
    total = np.zeros(-(-size // multiple) * multiple)
    for span, weight in zip(spans, _weights(spans, extent), strict=True):
        assert weight.min() > 0
        total[span.origin : span.origin + extent] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("shape", [(45, 70, 3), (33, 8, 1), (3, 1, 1)])
@pytest.mark.parametrize("multiple", [1, 4])
def test_the_identity_on_tiles_is_the_identity_bit_for_bit(blend, shape, multiple):
    y, out = image(shape), np.zeros(shape, np.float32)
    run_tiled(
        np.asarray, y, out, tile=16, halo=5, multiple=multiple, blend=blend, to_model=np.asarray,
        from_model=np.asarray,
    )  # fmt: skip
    np.testing.assert_array_equal(out, y)


def test_blending_fades_between_tiles_that_disagree():
    number = iter(range(100))
    y, out = np.zeros((8, 60, 1), np.float32), np.zeros((8, 60, 1), np.float32)
    run_tiled(
        lambda y: y + next(number), y, out, tile=20, halo=5, blend=True, to_model=np.asarray,
        from_model=np.asarray,
    )  # fmt: skip
    steps = np.diff(out[0, :, 0])
    assert out.min() == 0 and out.max() == 4 and np.all(steps >= 0) and steps.max() < 0.2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"tile": 8}, "9 or more, not 8"),
        ({"tile": 16, "multiple": 8, "halo": 5}, "multiple of 8, 24 or more, not 16"),
        ({"tile": 20, "multiple": 8}, "multiple of 8"),
        ({"halo": -1}, "halo 0 or more"),
        ({"multiple": 0}, "multiple must be 1 or more"),
        ({"out": np.zeros((9, 8, 1))}, "one shape"),
        ({"function": lambda y: y[:, 1:]}, r"keep the shape .*\(1, 9, 9, 1\)"),
    ],
)
def test_what_cannot_be_tiled_is_refused(arguments, message):
    y = image((9, 9, 1))
    options = {
        "function": np.asarray, "out": np.zeros_like(y), "tile": 12, "halo": 4,
        "to_model": np.asarray, "from_model": np.asarray,
    } | arguments  # fmt: skip
    with pytest.raises(ValueError, match=message):
        run_tiled(options.pop("function"), y, options.pop("out"), **options)


def test_a_result_in_place_of_its_input_is_refused():
    y = image((9, 9, 1))
    with pytest.raises(ValueError, match="memory of image"):
        run_tiled(np.asarray, y, y[:], tile=12, halo=4, to_model=np.asarray, from_model=np.asarray)


def test_blended_tiles_of_a_global_network_come_near_the_whole_as_they_grow():
    options = {"dim": 8, "blocks": (1, 1), "heads": (1, 2), "refinement_blocks": 1}
    config = ModelConfig("restormer", options, wrapper=WrapperConfig("wne", "haar_mad"))
    model, rng = config.build(), np.random.default_rng(0)
    denoise = Denoiser(model, random_variables(model, jnp.zeros((1, 16, 16, 1))), config)
    image = load_images("embedded", split="test")[0].pixels[:192, :192]
    image = image / np.float32(255) + rng.normal(0, 0.1, image.shape).astype(np.float32)
    whole = denoise(image)
    change = np.linalg.norm(whole - image)
    shares = [np.linalg.norm(denoise(image, tile=t) - whole) / change for t in (64, 128)]
    assert 0 < shares[1] < shares[0] < 0.1 and shares[1] < 0.03


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("drunet", {"features": (4, 4), "blocks": 1}),
        ("drunet", {"features": (4, 4), "blocks": 1, "mode": "normalization-equivariant"}),
        ("swinir", {"groups": 1, "blocks": 2, "features": 8, "heads": 2, "window": 4}),
    ],
)
def test_networks_with_strides_and_windows_are_tiled_exactly(backbone, options):
    config = ModelConfig(backbone, options, wrapper=WrapperConfig("wne", "haar_mad"))
    model, rng = config.build(), np.random.default_rng(0)
    denoise = Denoiser(model, random_variables(model, jnp.zeros((1, 16, 16, 1))), config)
    image = rng.normal(0.4, 0.2, (121, 99)).astype(np.float32)  # of no multiple
    whole, tiled = denoise(image), denoise(image, tile=64)
    assert np.abs(whole - image).max() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.ptp(whole))
