import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments.harness import published
from wne_jax.data import NamedImage, load_images
from wne_jax.evaluation import sweeps as evaluation
from wne_jax.evaluation.records import INPUT, mean_over
from wne_jax.evaluation.sweeps import Defect, Quality, noisy_and_clean, sweep


def images():
    rng = np.random.default_rng(0)
    shapes = {"a": (16, 20, 1), "b": (16, 20, 1), "c": (24, 16, 1), "d": (16, 20, 1)}
    return [NamedImage(n, rng.integers(0, 256, s).astype(np.uint8)) for n, s in shapes.items()]


def halve(y):
    return y / 2


MODELS = {"same": lambda y: y, "half": halve}
KEY = jax.random.key(7)


def test_psnr_equals_scikit_image_and_only_the_estimate_is_clipped():
    records = sweep(MODELS, images(), (25, 75), KEY, progress=False)
    assert len(records) == 4 * 2 * 3
    for record in records:
        image = next(i for i in images() if i.name == record.image)
        noisy, clean = (np.asarray(x[0]) for x in noisy_and_clean(image, record.level, KEY))
        shown = noisy if record.arm == INPUT else np.clip(MODELS[record.arm](noisy), 0, 1)
        expected = peak_signal_noise_ratio(clean, shown, data_range=1)
        np.testing.assert_allclose(record.value, expected, rtol=1e-4)
    # The input is not clipped: its PSNR is that of the noise.
    means = mean_over(records, by=["arm", "level"])
    np.testing.assert_allclose(means[INPUT, 75], -20 * np.log10(75 / 255), atol=0.3)


def test_records_have_their_description():
    (before, after) = sweep(
        {"half": halve}, images()[:1], (25,), KEY, progress=False, degradation="laplace",
        experiment="mine", dataset="noise", trained=(0, 55), model="dncnn", seed=3,
    )  # fmt: skip
    assert (before.arm, after.arm) == (INPUT, "half")
    for record in (before, after):
        assert (record.experiment, record.metric, record.unit) == ("mine", "psnr", "dB")
        assert (record.dataset, record.image, record.degradation) == ("noise", "a", "laplace")
        assert (record.level, record.repeat, record.seed) == (25, 0, 3)
        assert (record.model, record.trained) == ("dncnn", (0, 55))


def test_ssim_equals_scikit_image():
    records = sweep({"half": halve}, images()[2:3], (50,), KEY, measures=["ssim"], progress=False)
    noisy, clean = (np.asarray(x[0, ..., 0]) for x in noisy_and_clean(images()[2], 50, KEY))
    for record, shown in zip(records, (noisy, np.clip(noisy / 2, 0, 1)), strict=True):
        expected = structural_similarity(
            clean, shown, data_range=1, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        np.testing.assert_allclose(record.value, expected, atol=1e-5)


def test_several_measures_equal_separate_sweeps_and_denoise_once():
    calls = []

    def counting(y):
        calls.append(y.shape)
        return y / 2

    arguments = ({"counting": counting}, images()[:2], (25, 50), KEY)
    both = sweep(*arguments, measures=["psnr", "ssim"], progress=False)
    assert len(calls) == 2
    for metric in ("psnr", "ssim"):
        alone = sweep(*arguments, measures=[metric], progress=False)
        assert [r for r in both if r.metric == metric] == alone  # bit for bit


def test_a_custom_measure():
    bias = Quality("bias", lambda x, clean: jnp.mean(x - clean, axis=(1, 2, 3)), "of 1")
    records = sweep({"black": jnp.zeros_like}, images()[:1], (5,), KEY, measures=[bias],
                    progress=False)  # fmt: skip
    assert [(r.arm, r.metric, r.unit) for r in records] == [
        (INPUT, "bias", "of 1"), ("black", "bias", "of 1"),
    ]  # fmt: skip
    mean = np.mean(images()[0].pixels) / 255
    np.testing.assert_allclose([r.value for r in records], [0, -mean], atol=0.01)
    with pytest.raises(ValueError, match="among psnr, ssim, defect, not 'lpips'"):
        sweep(MODELS, images(), (25,), KEY, measures=["lpips"], progress=False)


def test_noise_depends_on_image_level_and_repeat_but_not_on_the_model():
    whole = sweep(MODELS, images(), (25, 50), KEY, repeats=2, progress=False)
    part = sweep({"half": halve}, images()[1:3], (50,), KEY, repeats=2, progress=False)
    place = lambda r: (r.arm, r.image, r.level, r.repeat)  # noqa: E731
    values = {place(r): r.value for r in whole}
    assert len(part) == 2 * 2 * 2
    for record in part:
        assert record.value == pytest.approx(values[place(record)], abs=1e-5)
    of_input = [r.value for r in whole if r.arm == INPUT]
    assert len(set(of_input)) == len(of_input) == 16
    for arm in MODELS:
        alone = sweep({arm: MODELS[arm]}, images(), (25, 50), KEY, repeats=2, progress=False)
        assert [r.value for r in alone if r.arm == INPUT] == of_input


def test_each_size_compiles_once_and_short_chunks_are_filled(monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_PIXELS", 2 * 16 * 20)
    shapes = []

    def traced(y):
        shapes.append(y.shape)
        return y

    sweep({"f": jax.jit(traced)}, images(), (5, 25, 50), KEY, repeats=2, progress=False)
    assert shapes == [(2, 16, 20, 1), (1, 24, 16, 1)]


def test_a_conditioned_function_receives_the_level():
    told = []

    def f(y, sigma):
        told.append(sigma)
        return y

    sweep({"f": f}, images()[:1], (51, 102), KEY, progress=False)
    assert told == [0.2, 0.4]
    with pytest.raises(
        ValueError, match="the defect is defined for blind denoisers only, but f takes"
    ):
        sweep({"f": f}, images()[:1], (51,), KEY, measures=["defect"], progress=False)


def test_the_defect_of_an_image_does_not_depend_on_its_batch():
    blur = lambda y: (y + jnp.roll(y, 1, 1)) / 2  # noqa: E731
    arguments = {"measures": [Defect(samples=3)], "progress": False}
    models = {"blur": blur, "square": jnp.square}
    whole = sweep(models, images(), (25,), KEY, **arguments)
    alone = sweep(models, images()[1:2], (25,), KEY, **arguments)
    assert len(whole) == 4 * 2 and len(alone) == 2  # the input has none
    for record in alone:
        same = next(r for r in whole if (r.image, r.arm) == ("b", record.arm))
        assert record.value == pytest.approx(same.value, rel=1e-4, abs=1e-8)
    for record in whole:
        assert (record.value < 1e-6) == (record.arm == "blur")


def test_all_models_see_the_same_pixels():
    seen = {"one": [], "two": []}
    models = {name: lambda y, of=of: of.append(y) or y for name, of in seen.items()}
    sweep(models, images()[:1], (5, 25), KEY, repeats=2, progress=False)
    assert len(seen["one"]) == 4
    for one, two in zip(*seen.values()):
        np.testing.assert_array_equal(one, two)


def test_invalid_levels_are_rejected():
    for level in (-25.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="levels must be 0 or more"):
            sweep(MODELS, images(), (level,), KEY, progress=False)


def test_an_unknown_noise_is_rejected():
    with pytest.raises(ValueError, match="gaussian"):
        noisy_and_clean(images()[0], 25.0, KEY, degradation="pink")
    with pytest.raises(ValueError, match="gaussian"):
        sweep(MODELS, images(), (25,), KEY, degradation="pink", progress=False)


def test_jpeg_in_a_sweep_equals_pillow():
    colour = NamedImage(
        "e", np.random.default_rng(1).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    )
    for image in (images()[0], colour):
        for record in sweep(MODELS, [image], (10, 90), KEY, degradation="jpeg", progress=False):
            file, quality = io.BytesIO(), int(record.level)
            Image.fromarray(image.pixels.squeeze()).save(file, "JPEG", quality=quality)
            compressed = np.asarray(Image.open(file)).reshape(image.pixels.shape) / 255
            shown = compressed if record.arm == INPUT else MODELS[record.arm](compressed)
            expected = peak_signal_noise_ratio(image.pixels / 255, shown, data_range=1)
            np.testing.assert_allclose(record.value, expected, rtol=1e-5)
            noisy, _ = noisy_and_clean(image, quality, KEY, degradation="jpeg")
            np.testing.assert_allclose(noisy[0], compressed, atol=1e-7)
            assert record.degradation == "jpeg"


def test_quantization_error_in_a_sweep_follows_from_its_step():
    rng = np.random.default_rng(0)
    image = NamedImage("f", rng.uniform(size=(64, 64, 1)).astype(np.float32))
    records = sweep({}, [image], (2, 9), KEY, degradation="quantize", progress=False)
    for record, levels in zip(
        records, (2, 9), strict=True
    ):  # uniform over a step: variance step^2 / 12
        expected = 10 * np.log10(12 * (levels - 1) ** 2)
        assert record.value == pytest.approx(expected, abs=0.15)


def test_degradations_without_a_noise_level_reject_conditioned_functions():
    def told(y, sigma):
        return y

    told.takes_sigma = "required"
    with pytest.raises(ValueError, match="'jpeg', which has no noise level"):
        sweep({"told": told}, images(), (50,), KEY, degradation="jpeg", progress=False)
    with pytest.raises(ValueError, match=r"levels of 'jpeg' must be whole numbers, not 2\.5"):
        sweep(MODELS, images(), (2.5,), KEY, degradation="jpeg", progress=False)


def test_psnr_of_jpeg_on_set12_equals_the_published_one(wne_data):
    curve = published.sweep("jpeg_qf_from_uniform")
    theirs = {r.level: r.published for r in curve if r.arm == INPUT}
    assert (min(theirs), max(theirs)) == (5, 85)
    set12 = load_images(f"folder:{wne_data / 'Set12'}", split="test")
    records = sweep({}, set12, (5, 45, 85), KEY, degradation="jpeg", progress=False)
    for (quality,), psnr in mean_over(records, by=["level"]).items():
        assert psnr == pytest.approx(theirs[quality], abs=0.001)
