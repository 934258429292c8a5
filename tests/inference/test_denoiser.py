import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import wne_jax as wne
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import DnCNN, FDnCNN
from wne_jax.statistics import haar_sigma


def make(model, channels=1, config=None, **condition):
    example = jnp.zeros((1, 8, 8, channels))
    variables = model.init(jax.random.key(0), example, **condition)
    rng = np.random.default_rng(0)
    shaken = jax.tree.map(
        lambda v: v + 0.1 * np.abs(rng.normal(size=v.shape)).astype(v.dtype), variables
    )
    return Denoiser(model, shaken, config)


@pytest.fixture(scope="module")
def equivariant():
    return make(wne.WNE(DnCNN(depth=3, features=4)))


@pytest.fixture(scope="module")
def ordinary():
    return make(DnCNN(depth=3, features=4))


def image(dtype, shape=(12, 9), low=500, high=10_000):
    values = np.random.default_rng(1).uniform(low, high, shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values).astype(dtype)


@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 1), (12, 9, 3), (2, 12, 9, 1), (2, 5, 7, 3)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, np.float16])
def test_shape_and_dtype_come_back(equivariant, shape, dtype):
    result = equivariant(image(dtype, shape))
    assert result.shape == shape and result.dtype == dtype


@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int64, 2**53 + 1),
        (np.int64, -(2**63)),
        (">i8", 2**63 - 1),
        (np.uint64, 2**53 + 1),
        (np.uint64, 2**64 - 1),
    ],
)
def test_constants_beyond_the_integers_of_float64_come_back(equivariant, dtype, value, tile):
    flat = np.full((12, 9), value, dtype)
    np.testing.assert_array_equal(equivariant(flat, tile=tile), flat)


def test_an_offset_beyond_the_integers_of_float64_is_added_exactly_and_saturates(equivariant):
    low = image(np.int64, high=600)
    near = equivariant(low)
    for offset in (2**60 + 1, -(2**62) - 3):
        np.testing.assert_array_equal(equivariant(low + offset) - offset, near)
    top = np.iinfo(np.uint64).max - (low.max() - low).astype(np.uint64)
    highest = equivariant(top)
    shifted = near - low.max()  # exactly below the limit, or held at it
    expected = [min(int(np.iinfo(np.uint64).max) + int(step), 2**64 - 1) for step in shifted.flat]
    assert highest.ravel().tolist() == expected


@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int32])
def test_white_is_what_a_model_takes_for_one(ordinary, equivariant, dtype, tile):
    y = image(dtype, low=100, high=4000)
    unit = ordinary((y / 4096).astype(np.float32), tile=tile)
    expected = np.clip(
        unit * 4096.0, np.iinfo(dtype).min if np.dtype(dtype).kind != "f" else None, None
    )
    result = ordinary(y, white=4096, tile=tile)
    np.testing.assert_allclose(result, expected, atol=0.51 if dtype != np.float32 else 0.01)
    np.testing.assert_array_equal(equivariant(y, white=4096, tile=tile), equivariant(y, tile=tile))
    with pytest.raises(ValueError, match="white must be positive"):
        ordinary(y, white=0)


def test_a_gray_model_takes_colours_one_by_one(equivariant):
    colour = image(np.float32, (2, 6, 7, 3))
    for b in range(2):
        for c in range(3):
            alone = equivariant(colour[b, ..., c])
            np.testing.assert_allclose(equivariant(colour)[b, ..., c], alone, rtol=1e-5)


def test_the_result_is_the_functions(equivariant, ordinary):
    floats = image(np.float32, low=0.1, high=0.9)
    for denoiser in (equivariant, ordinary):
        direct = denoiser.function(floats[None, ..., None])[0, ..., 0]
        np.testing.assert_allclose(denoiser(floats), direct, atol=1e-5)


def test_integers_times_an_integer_plus_an_offset_commute_to_rounding(equivariant):
    small = image(np.uint16, low=4000, high=4300)  # far from either limit
    for a, b in ((3, 0), (7, 1234)):
        scaled, expected = equivariant(small * a + b), equivariant(small).astype(int) * a + b
        assert np.abs(scaled.astype(int) - expected).max() <= (a + 1) / 2 + 1


def test_units_do_not_matter_to_an_equivariant_model_and_are_the_full_scale_to_another(ordinary):
    bytes_ = image(np.uint8, low=20, high=200)
    unit = (bytes_ / np.float32(255)).astype(np.float32)
    expected = np.rint(np.clip(ordinary(unit).astype(np.float64), 0, 1) * 255)
    assert np.abs(ordinary(bytes_).astype(int) - expected).max() <= 1
    with pytest.raises(TypeError, match="int32"):
        ordinary(image(np.int32))


def test_large_integers_and_float64_keep_their_digits(equivariant):
    contrast = image(np.float64, low=0, high=1)
    far = equivariant(1e9 + contrast)
    np.testing.assert_allclose(far - 1e9, equivariant(contrast), atol=1e-5)
    whole = image(np.int32, low=0, high=200)
    shifted = equivariant(whole + 2**30)
    assert np.abs((shifted - 2**30) - equivariant(whole)).max() <= 1


def test_integers_saturate_and_floats_are_not_clipped():
    grow = Denoiser(wne.WNE(Twice()), {})
    two_levels = np.array([[0, 255], [0, 255]], np.uint8)
    np.testing.assert_array_equal(grow(two_levels), two_levels)
    np.testing.assert_allclose(
        grow(two_levels.astype(np.float32)), [[-127.5, 382.5]] * 2, rtol=1e-6
    )


class Twice(nn.Module):
    def __call__(self, y, sigma=None):
        return 2 * y


def test_a_conditioned_model_gets_sigma_in_the_images_units():
    denoiser = make(wne.WNE(FDnCNN(depth=3, features=4, conditioned=True)), sigma=1.0)
    assert denoiser.conditioned and denoiser.channels == 1
    floats = image(np.float64, low=0, high=1)
    np.testing.assert_allclose(
        denoiser(255 * floats, 25.0), 255 * denoiser(floats, 25 / 255), rtol=1e-4
    )
    with pytest.raises(ValueError, match="needs sigma"):
        denoiser(floats)
    plain = make(FDnCNN(depth=3, features=4, conditioned=True), sigma=1.0)
    bytes_ = image(np.uint8, low=20, high=200)
    as_unit = plain((bytes_ / np.float32(255)).astype(np.float32), 25 / 255)
    assert np.abs(plain(bytes_, 25.0) - np.clip(as_unit, 0, 1) * 255).max() <= 0.51


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (np.zeros(5), ValueError, "shape"),
        (np.zeros((0, 4)), ValueError, "shape"),
        (np.zeros((2, 3, 4)), ValueError, "4 channels"),
        (np.zeros((4, 4), bool), TypeError, "bool"),
        (np.zeros((4, 4), complex), TypeError, "complex"),
        (np.full((4, 4), np.nan), ValueError, "16 NaN"),
    ],
)
def test_what_is_no_image_is_refused(equivariant, wrong, error, message):
    with pytest.raises(error, match=message):
        equivariant(wrong)


def test_other_misuses_are_refused(equivariant):
    with pytest.raises(ValueError, match="blind"):
        equivariant(image(np.float32), 0.1)
    colour = make(wne.WNE(DnCNN(depth=3, features=4)), channels=3)
    assert colour.channels == 3
    with pytest.raises(ValueError, match="takes 3"):
        colour(image(np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        Denoiser(DnCNN(depth=3, features=8), equivariant.variables)
    with pytest.raises(ValueError, match="do not fit"):
        Denoiser(DnCNN(depth=3, features=4), {"params": equivariant.variables["params"]})
    conditioned = make(FDnCNN(depth=3, features=4, conditioned=True), sigma=1.0)
    for sigma in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            conditioned(image(np.float32), sigma)


@pytest.mark.parametrize("exponent", [-80, -30, 40, 80])
def test_any_range_a_float_can_hold(equivariant, exponent):
    y = np.stack([image(np.float64), 1e-3 * image(np.float64)])[..., None]
    np.testing.assert_array_equal(equivariant(2.0**exponent * y), 2.0**exponent * equivariant(y))


def test_constants_come_back_exactly(equivariant):
    for dtype, value in ((np.uint8, 77), (np.float32, 0.1), (np.float64, 1e9 + 0.1)):
        constant = np.full((9, 8), value, dtype)
        np.testing.assert_array_equal(equivariant(constant), constant)


@pytest.fixture(scope="module")
def by_noise():
    config = ModelConfig(
        "dncnn", {"depth": 3, "features": 4}, wrapper=WrapperConfig("wne", "haar_mad")
    )
    return make(config.build(), config=config)


def test_a_file_rebuilds_the_denoiser_bit_for_bit(by_noise, equivariant, tmp_path):
    by_noise.save(tmp_path / "x.safetensors")
    again = Denoiser.load(tmp_path / "x.safetensors")
    y = image(np.float32)
    assert again.config == by_noise.config
    np.testing.assert_array_equal(again(y), by_noise(y))
    rewrapped = Denoiser.load(tmp_path / "x.safetensors", wrapper=WrapperConfig())
    np.testing.assert_array_equal(rewrapped(y), equivariant(y))
    equivariant.save(tmp_path / "y.safetensors")  # its configuration is found
    found = Denoiser.load(tmp_path / "y.safetensors")
    assert found.model == equivariant.model
    np.testing.assert_array_equal(found(y), equivariant(y))


def test_a_given_level_stands_for_the_estimated_one(by_noise):
    y = image(np.float32, (16, 14))
    estimated = float(haar_sigma(y[None, ..., None])[0])
    np.testing.assert_allclose(by_noise(y, estimated), by_noise(y), rtol=1e-5)
    expected = 3 * by_noise(y, 20.0) + 7
    np.testing.assert_allclose(
        by_noise(3 * y + 7, 60.0), expected, rtol=1e-4, atol=1e-6 * np.ptp(expected)
    )
    assert by_noise.takes_sigma and np.abs(by_noise(y, 20.0) - by_noise(y)).max() > 1


def test_strength_interpolates(by_noise):
    y = image(np.float32)
    full = by_noise(y)
    np.testing.assert_allclose(by_noise(y, strength=0.0), y, rtol=1e-6)
    np.testing.assert_array_equal(by_noise(y, strength=1.0), full)
    np.testing.assert_allclose(
        by_noise(y, strength=0.25), y + 0.25 * (full - y), rtol=1e-5, atol=1e-3
    )
    with pytest.raises(ValueError, match="strength"):
        by_noise(y, strength=-1.0)


def test_the_ensemble_commutes_with_flips_and_turns(by_noise):
    y = image(np.float32, (12, 9))
    whole = by_noise(y, self_ensemble=True)
    assert np.abs(whole - by_noise(y)).max() > 1
    for move in (np.flipud, np.fliplr, np.rot90, np.transpose):
        np.testing.assert_allclose(by_noise(move(y), self_ensemble=True), move(whole), atol=0.1)


@pytest.mark.parametrize("shape", [(70, 90), (70, 90, 3), (2, 70, 90, 1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiles_fill_the_given_array_with_the_result_of_the_whole(by_noise, shape, dtype):
    y, out, seen = image(dtype, shape), np.empty(shape, dtype), []
    result = by_noise(y, tile=32, out=out, progress=lambda *part: seen.append(part))
    assert result is out and seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    np.testing.assert_allclose(out.astype(float), by_noise(y), rtol=1e-5, atol=1.01)
    with pytest.raises(ValueError, match="out must be"):
        by_noise(y, out=out[:1])


def test_the_packaged_denoiser_denoises():
    denoise = Denoiser.default()
    clean = np.repeat(np.repeat(image(np.float64, (8, 8), 0, 200), 16, 0), 16, 1)
    noisy = clean + np.random.default_rng(3).normal(0, 20, clean.shape)
    assert denoise.symmetry == "normalization" and denoise.channels == 1
    assert np.square(denoise(noisy) - clean).mean() < np.square(noisy - clean).mean() / 5


def test_a_folder_without_weights_is_refused_in_one_line_that_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Denoiser.load(tmp_path)
    assert "\n" not in str(error.value)
    assert f"python -m wne_jax package {tmp_path} writes" in str(error.value)


def test_a_folder_of_a_finished_run_is_read_by_its_file_of_weights(equivariant, tmp_path):
    config = ModelConfig(options={"depth": 3, "features": 4}, wrapper="wne")
    Denoiser(equivariant.model, equivariant.variables, config).save(
        tmp_path / "denoiser.safetensors"
    )
    y = image(np.float32)
    np.testing.assert_array_equal(Denoiser.load(tmp_path)(y), equivariant(y))


@pytest.mark.parametrize("noise", ["auto", "white", "photon"])
def test_an_assumption_on_the_noise_is_saved(noise, tmp_path):
    denoiser = Denoiser.pretrained("gray").with_noise(noise)
    denoiser.save(tmp_path / "x.safetensors")
    assert Denoiser.load(tmp_path / "x.safetensors").model == denoiser.model
