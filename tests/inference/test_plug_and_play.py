import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax.data import load_images
from wne_jax.images import degradations, psnr
from wne_jax.inference.plug_and_play import half_quadratic_splitting, proximal_gradient
from wne_jax.layers import gaussian_blur
from wne_jax.operators import (
    Blur,
    Downsample,
    Identity,
    Mask,
    degrade,
    gaussian_kernel,
    motion_kernel,
)

KEEP = np.random.default_rng(0).random((1, 12, 8, 1)) < 0.7
OPERATORS = {
    "blur": Blur(gaussian_kernel(1.0)),
    "reflect": Blur(motion_kernel(3.0, 45.0), boundary="reflect"),
    "downsample": Downsample(2),
    "mask": Mask(KEEP),
}


def shrink(x, sigma):
    """A normalization-equivariant denoiser: a blend with a blur that increases with the noise level."""
    spread = jnp.std(x, axis=(1, 2, 3))
    share = sigma / (sigma + jnp.where(spread > 0, spread, 1))
    return x + share[:, None, None, None] * (gaussian_blur(x, 1.0) - x)


def nothing(x, sigma):
    return x


def observed(operator, shape=(2, 12, 8, 1)):
    x = jax.random.normal(jax.random.key(1), shape)
    return degrade(operator, degradations.gaussian)(jax.random.key(2), x, 0.1)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_fit_agrees_with_dense_linear_algebra(name):
    """One step with the identity as denoiser: (A^T A + alpha) x = A^T y + alpha z."""
    operator, shape = OPERATORS[name], (1, 12, 8, 1)
    y = observed(operator, shape)
    matrix = np.asarray(jax.jacobian(operator)(jnp.zeros(shape)), np.float64).reshape(y.size, -1)
    start = half_quadratic_splitting(lambda x, sigma: 0 * x, y, operator, sigma=0.1, steps=1)
    z = _first_estimate(operator, y)
    assert start.residual[0, 0] == pytest.approx(
        np.sqrt(np.mean((matrix @ z - np.ravel(y)) ** 2)), 1e-3
    )
    alpha = 0.23  # the only step has the noise level
    normal = matrix.T @ matrix + alpha * np.eye(matrix.shape[1])
    expected = np.linalg.solve(normal, matrix.T @ np.ravel(y) + alpha * z)
    found = half_quadratic_splitting(nothing, y, operator, sigma=0.1, steps=1)
    np.testing.assert_allclose(np.ravel(found.estimate), expected, atol=2e-4)


def _first_estimate(operator, y):
    seen, weights = (np.ravel(operator.adjoint(v)) for v in (y, jnp.ones_like(y)))
    enough = weights > 1e-3 * weights.max()
    return np.where(enough, seen / np.where(enough, weights, 1), seen.sum() / weights.sum())


@pytest.mark.parametrize("solve", [half_quadratic_splitting, proximal_gradient])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_whole_restoration_is_normalization_equivariant(name, solve):
    """Also for a mask, if brightness is added only to observed pixels."""
    operator = OPERATORS[name]
    y = observed(operator)
    one = operator(jnp.ones((2, 12, 8, 1)))
    plain = solve(shrink, y, operator, sigma=0.1, steps=4)
    a, b = 3.0, -0.7
    changed = solve(shrink, a * y + b * one, operator, sigma=a * 0.1, steps=4)
    np.testing.assert_allclose(changed.estimate, a * plain.estimate + b, atol=5e-4)
    np.testing.assert_allclose(changed.residual, a * plain.residual, rtol=1e-3)
    exact = solve(shrink, 8 * y, operator, sigma=0.8, steps=4)
    assert (exact.estimate == 8 * plain.estimate).all()


def test_the_noise_is_estimated_in_the_units_of_the_image():
    y = observed(Identity(), (1, 64, 64, 1)) * 0.1
    y = y * 0.2  # mostly noise
    plain, larger = (
        half_quadratic_splitting(nothing, c * y, Identity(), steps=2) for c in (1, 256)
    )
    assert plain.sigma[0] > 0 and larger.sigma[0] == 256 * plain.sigma[0]


def test_gradient_descent_reaches_the_observation():
    operator = Blur(gaussian_kernel(0.5))
    y = operator(jax.random.normal(jax.random.key(1), (1, 16, 16, 1)))
    found = proximal_gradient(nothing, y, operator, sigma=1e-3, steps=40, step_size=1.5)
    assert found.residual[-1, 0] < 0.05 * found.residual[0, 0]
    assert not found.diverged.any()


def test_divergence_is_reported():
    operator = Blur(gaussian_kernel(0.5))
    y = observed(operator, (1, 16, 16, 1))
    assert proximal_gradient(
        nothing, y, operator, sigma=0.01, steps=30, step_size=4.0
    ).diverged.all()
    assert not half_quadratic_splitting(shrink, y, operator, sigma=0.01).diverged.any()


def test_the_packaged_denoiser_sharpens_a_photograph():
    x = load_images("embedded", split="test")[1].pixels[None, 96:192, 192:288] / 255.0
    x = jnp.asarray(x, jnp.float32)
    operator = Blur(gaussian_kernel(1.6))
    y = degrade(operator, degradations.gaussian)(jax.random.key(0), x, 2.55 / 255)
    denoise = wne.Denoiser.default().function
    found = half_quadratic_splitting(denoise, y, operator, sigma=2.55 / 255, reference=x)
    assert found.psnr[-1, 0] > float(psnr(y, x)[0]) + 2
    assert found.psnr.shape == (9, 1) and found.residual[-1, 0] < 2 * 2.55 / 255


def test_a_blind_denoiser_is_given_no_level():
    f, y = wne.Denoiser(wne.wrap(jnp.tanh)).function, jnp.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match=r"takes no sigma: .* pass lambda x, sigma: f\(x\)"):
        half_quadratic_splitting(f, y, Identity(), sigma=0.1)
    found = half_quadratic_splitting(lambda x, sigma: f(x), y, Identity(), sigma=0.1, steps=1)
    np.testing.assert_allclose(found.estimate, y, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more"),
        ({"weight": 0.0}, "weight must be above 0"),
        ({"y": jnp.ones((4, 4))}, r"y must be \[B, H, W, C\]"),
    ],
)
def test_invalid_arguments_are_rejected(options, message):
    y = options.pop("y", jnp.ones((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=message):
        half_quadratic_splitting(nothing, y, Identity(), **options)
