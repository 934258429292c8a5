"""PSNR and SSIM against scikit-image and against values known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wne_jax.images.metrics import psnr, ssim


def pair(channels: int, noise: float, dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Two crops of a photograph, one of them noisy beyond the unit range."""
    photo = skimage.data.astronaut() / 255.0
    reference = np.stack([photo[:64, 200:251], photo[100:164, 100:151]])[..., :channels]
    estimate = reference + noise * np.random.default_rng(0).normal(size=reference.shape)
    return estimate.astype(dtype), reference.astype(dtype)


def skimage_ssim(estimate, reference, data_range=1.0) -> list[float]:
    return [
        structural_similarity(
            e,
            r,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=data_range,
            channel_axis=-1,
        )
        for e, r in zip(estimate.astype(np.float64), reference.astype(np.float64), strict=True)
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.4])
def test_equal_to_skimage(channels, noise):
    estimate, reference = pair(channels, noise)
    expected = [
        peak_signal_noise_ratio(r, e, data_range=1)
        for e, r in zip(estimate, reference, strict=True)
    ]
    np.testing.assert_allclose(psnr(estimate, reference), expected, rtol=1e-5)
    np.testing.assert_allclose(
        ssim(estimate, reference), skimage_ssim(estimate, reference), atol=1e-5
    )


def test_double_precision_stays():
    with jax.enable_x64(True):
        estimate, reference = pair(3, 0.1, np.float64)
        value = ssim(estimate, reference)
        assert value.dtype == psnr(estimate, reference).dtype == jnp.float64
        np.testing.assert_allclose(value, skimage_ssim(estimate, reference), rtol=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_data_range_is_a_unit(metric):
    """Images and range scaled by a power of two give the same value; 8-bit units the same up to rounding."""
    estimate, reference = pair(3, 0.1)
    value = metric(estimate, reference)
    np.testing.assert_allclose(
        metric(4 * estimate, 4 * reference, data_range=4.0), value, rtol=1e-6
    )
    np.testing.assert_allclose(
        metric(255 * estimate, 255 * reference, data_range=255), value, rtol=1e-5
    )


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_symmetry_jit_and_independence_of_neighbours(metric):
    estimate, reference = pair(3, 0.2)
    value = metric(estimate, reference)
    np.testing.assert_allclose(metric(reference, estimate), value, atol=5e-6)
    np.testing.assert_allclose(jax.jit(metric)(estimate, reference), value, atol=5e-6)
    np.testing.assert_allclose(metric(estimate[1:], reference[1:]), value[1:], atol=5e-6)


def test_equal_images():
    _, reference = pair(3, 0.0)
    assert np.isposinf(psnr(reference, reference)).all()
    np.testing.assert_allclose(ssim(reference, reference), 1.0, atol=1e-6)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_constant_images_by_hand(a, b):
    """Without variance SSIM is its luminance term; PSNR of constants is -20 log10 |a - b|."""
    x, r = jnp.full((1, 16, 16, 1), a), jnp.full((1, 16, 16, 1), b)
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    np.testing.assert_allclose(ssim(x, r), [luminance], atol=1e-3)  # (eps_f32 ~ 1e-7) / (C2 = 9e-4)
    if abs(a - b) > 1e-3:
        np.testing.assert_allclose(psnr(x, r), [-20 * np.log10(abs(a - b))], atol=2e-3)


def test_nothing_is_clipped():
    reference = jnp.ones((1, 16, 16, 1))
    assert psnr(reference + 0.1, reference)[0] == pytest.approx(20.0, abs=1e-4)
    assert ssim(reference + 0.5, reference)[0] < 0.95


def test_half_precision_is_computed_in_single():
    estimate, reference = (jnp.asarray(x, jnp.bfloat16) for x in pair(1, 0.1))
    value = ssim(estimate, reference)
    assert value.dtype == psnr(estimate, reference).dtype == jnp.float32
    np.testing.assert_allclose(
        value, skimage_ssim(np.asarray(estimate), np.asarray(reference)), atol=1e-5
    )


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_arguments_are_checked(metric):
    image = jnp.zeros((1, 16, 16, 1))
    with pytest.raises(ValueError, match=r"\(1, 16, 16, 1\) and reference \(1, 16, 16, 3\)"):
        metric(image, jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"x\[None\]"):
        metric(image[0], image[0])
    with pytest.raises(TypeError, match="reference has dtype uint8"):
        metric(image, image.astype(jnp.uint8))


def test_ssim_needs_its_window():
    ssim(jnp.zeros((1, 11, 11, 1)), jnp.zeros((1, 11, 11, 1)))
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(jnp.zeros((1, 10, 16, 1)), jnp.zeros((1, 10, 16, 1)))
