import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments import _published
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import sweep as evaluation
from wne_jax.evaluation.records import mean_over
from wne_jax.evaluation.sweep import (
    defect_sweep,
    noisy_and_clean,
    psnr_sweep,
    quality_sweep,
    ssim_sweep,
)


def images():
    rng = np.random.default_rng(0)
    shapes = {"a": (16, 20, 1), "b": (16, 20, 1), "c": (24, 16, 1), "d": (16, 20, 1)}
    return [NamedImage(n, rng.integers(0, 256, s).astype(np.uint8)) for n, s in shapes.items()]


def halve(y):
    return y / 2


MODELS = {"same": lambda y: y, "half": halve}
KEY = jax.random.key(7)


def test_values_are_scikit_images_and_the_estimate_alone_is_clipped():
    records = psnr_sweep(MODELS, images(), (25, 75), KEY, progress=False)
    assert list(records[0]) == ["image", "sigma_255", "repeat", "model", "input_psnr", "psnr"]
    assert len(records) == 4 * 2 * 2
    for record in records:
        image = next(i for i in images() if i.name == record["image"])
        noisy, clean = (np.asarray(x[0]) for x in noisy_and_clean(image, record["sigma_255"], KEY))
        estimate = np.clip(MODELS[record["model"]](noisy), 0, 1)
        before = peak_signal_noise_ratio(clean, noisy, data_range=1)
        after = peak_signal_noise_ratio(clean, estimate, data_range=1)
        np.testing.assert_allclose(
            (record["input_psnr"], record["psnr"]), (before, after), rtol=1e-4
        )
    # The input is not clipped: its PSNR is that of the noise.
    means = mean_over(records, "input_psnr", by=["sigma_255"])
    np.testing.assert_allclose(means[75,], -20 * np.log10(75 / 255), atol=0.3)


def test_ssim_values_are_scikit_images():
    for record in ssim_sweep({"half": halve}, images()[2:3], (50,), KEY, progress=False):
        noisy, clean = (np.asarray(x[0, ..., 0]) for x in noisy_and_clean(images()[2], 50, KEY))
        expected = structural_similarity(
            clean, np.clip(noisy / 2, 0, 1), data_range=1, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        np.testing.assert_allclose(record["ssim"], expected, atol=1e-5)


def test_several_measures_at_once_are_those_of_their_own_sweeps_and_denoise_once():
    calls = []

    def counting(y):
        calls.append(y.shape)
        return y / 2

    sweep = ({"half": counting}, images()[:2], (25, 50), KEY)
    both = quality_sweep(*sweep, progress=False)
    assert len(calls) == 2
    alone = zip(*(f(*sweep, progress=False) for f in (psnr_sweep, ssim_sweep)))
    assert both == [psnr | ssim for psnr, ssim in alone]  # bit for bit


def test_noise_is_keyed_by_image_level_and_repeat_and_never_by_the_model():
    whole = psnr_sweep(MODELS, images(), (25, 50), KEY, repeats=2, progress=False)
    part = psnr_sweep({"half": halve}, images()[1:3], (50,), KEY, repeats=2, progress=False)
    assert part and all(
        any(
            r["psnr"] == pytest.approx(p["psnr"], abs=1e-5)
            for r in whole
            if all(r[k] == p[k] for k in ("image", "sigma_255", "repeat", "model"))
        )
        for p in part
    )
    by_place = mean_over(whole, "input_psnr", by=["image", "sigma_255", "repeat"])
    assert len(set(by_place.values())) == len(by_place) == 16
    for model in MODELS:
        of_model = [r["input_psnr"] for r in whole if r["model"] == model]
        assert of_model == [r["input_psnr"] for r in whole if r["model"] == "same"]


def test_each_size_compiles_once_and_short_chunks_are_filled(monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_PIXELS", 2 * 16 * 20)
    shapes = []

    def traced(y):
        shapes.append(y.shape)
        return y

    psnr_sweep({"f": jax.jit(traced)}, images(), (5, 25, 50), KEY, repeats=2, progress=False)
    assert shapes == [(2, 16, 20, 1), (1, 24, 16, 1)]


def test_a_conditioned_function_is_told_the_level():
    told = []

    def f(y, sigma):
        told.append(sigma)
        return y

    f.conditioned = True
    psnr_sweep({"f": f}, images()[:1], (51, 102), KEY, progress=False)
    assert told == [0.2, 0.4]
    with pytest.raises(ValueError, match="the defect is of blind denoisers; f is told"):
        defect_sweep({"f": f}, images()[:1], (51,), KEY, progress=False)


def test_the_defect_is_that_of_each_image_whatever_its_neighbours():
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    models = {"blur": blur, "square": jnp.square}
    whole = defect_sweep(models, images(), (25,), KEY, progress=False, samples=3)
    alone = defect_sweep(models, images()[1:2], (25,), KEY, progress=False, samples=3)
    for record in alone:
        same = next(r for r in whole if r["image"] == "b" and r["model"] == record["model"])
        assert record["defect"] == pytest.approx(same["defect"], rel=1e-4, abs=1e-8)
    for record in whole:
        assert (record["defect"] < 1e-6) == (record["model"] == "blur")


def test_all_models_see_the_same_pixels():
    seen = {"one": [], "two": []}
    models = {name: lambda y, of=of: of.append(y) or y for name, of in seen.items()}
    psnr_sweep(models, images()[:1], (5, 25), KEY, repeats=2, progress=False)
    assert len(seen["one"]) == 4
    for one, two in zip(*seen.values()):
        np.testing.assert_array_equal(one, two)


def test_levels_that_cannot_be_are_refused():
    for level in (-25.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="levels must be 0 or more"):
            psnr_sweep(MODELS, images(), (level,), KEY, progress=False)


def test_an_unknown_noise_is_named():
    with pytest.raises(ValueError, match="gaussian"):
        noisy_and_clean(images()[0], 25.0, KEY, noise="pink")
    with pytest.raises(ValueError, match="gaussian"):
        psnr_sweep(MODELS, images(), (25,), KEY, noise="pink", progress=False)


def test_jpeg_in_a_sweep_is_pillows():
    colour = NamedImage(
        "e", np.random.default_rng(1).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    )
    for image in (images()[0], colour):
        for record in psnr_sweep(MODELS, [image], (10, 90), KEY, noise="jpeg", progress=False):
            file = io.BytesIO()
            quality = int(record["sigma_255"])
            Image.fromarray(image.pixels.squeeze()).save(file, "JPEG", quality=quality)
            compressed = np.asarray(Image.open(file)).reshape(image.pixels.shape) / 255
            clean = image.pixels / 255
            estimate = MODELS[record["model"]](compressed)
            expected = [
                peak_signal_noise_ratio(clean, x, data_range=1) for x in (compressed, estimate)
            ]
            np.testing.assert_allclose((record["input_psnr"], record["psnr"]), expected, rtol=1e-5)
            noisy, _ = noisy_and_clean(image, quality, KEY, noise="jpeg")
            np.testing.assert_allclose(noisy[0], compressed, atol=1e-7)


def test_quantization_error_in_a_sweep_is_that_of_its_step():
    rng = np.random.default_rng(0)
    image = NamedImage("f", rng.uniform(size=(64, 64, 1)).astype(np.float32))
    records = psnr_sweep({"same": MODELS["same"]}, [image], (2, 9), KEY, noise="quantize",
                         progress=False)  # fmt: skip
    for record, levels in zip(records, (2, 9)):  # uniform over a step: its square over 12
        expected = 10 * np.log10(12 * (levels - 1) ** 2)
        assert record["input_psnr"] == pytest.approx(expected, abs=0.15)


def test_degradations_without_a_noise_level_refuse_what_needs_one():
    def told(y, sigma):
        return y

    told.conditioned = True
    with pytest.raises(ValueError, match="'jpeg', which has no noise level"):
        psnr_sweep({"told": told}, images(), (50,), KEY, noise="jpeg", progress=False)
    with pytest.raises(ValueError, match=r"levels of 'jpeg' must be whole numbers, not 2\.5"):
        psnr_sweep(MODELS, images(), (2.5,), KEY, noise="jpeg", progress=False)


def test_jpeg_of_set12_is_as_far_from_the_images_as_published(wne_data):
    published = {r["sigma_255"]: r["input_psnr"] for r in _published.sweep("jpeg_qf_from_uniform")}
    assert (min(published), max(published)) == (5, 85)
    set12 = load_images(f"folder:{wne_data / 'Set12'}", split="test")
    records = psnr_sweep(
        {"same": lambda y: y}, set12, (5, 45, 85), KEY, noise="jpeg", progress=False
    )
    for (quality,), psnr in mean_over(records, "input_psnr", by=["sigma_255"]).items():
        assert psnr == pytest.approx(published[quality], abs=0.001)
