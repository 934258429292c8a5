"""Noises against their closed-form moments, at five standard errors of the estimate."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import convolve

from wne_jax.images import degradations as noise

N = 512  # images of N x N samples
SIGMA = 0.2
GRAY = 0.6
RAYLEIGH_MEAN = np.sqrt(np.pi / (4 - np.pi))

# name: mean, variance, fourth central moment of y - x, at x = GRAY and level = SIGMA
LAW = {
    "gaussian": (0, SIGMA**2, 3 * SIGMA**4),
    "uniform": (0, SIGMA**2, 9 / 5 * SIGMA**4),
    "laplace": (0, SIGMA**2, 6 * SIGMA**4),
    "rayleigh": (
        SIGMA * RAYLEIGH_MEAN,
        SIGMA**2,
        (32 - 3 * np.pi**2) / (4 - np.pi) ** 2 * SIGMA**4,
    ),
    "poisson": (0, SIGMA**2 * GRAY, SIGMA**8 * (GRAY / SIGMA**2 + 3 * (GRAY / SIGMA**2) ** 2)),
    "speckle": (0, (SIGMA * GRAY) ** 2, 3 * (SIGMA * GRAY) ** 4),
}


@functools.cache
def compiled(name):
    """A noise by its name; `test_contract` also calls each in eager code."""
    return jax.jit(noise.NOISES[name])


@pytest.mark.parametrize("name", LAW)
def test_moments(key, name):
    mean, variance, fourth = LAW[name]
    x = jnp.full((N, N, 1), GRAY)
    error = np.asarray(compiled(name)(key, x, SIGMA), np.float64) - GRAY
    count = error.size
    assert abs(error.mean() - mean) < 5 * np.sqrt(variance / count)
    assert abs(error.var() - variance) < 5 * np.sqrt((fourth - variance**2) / count)
    neighbours = np.mean((error[1:] - mean) * (error[:-1] - mean))
    assert abs(neighbours) < 5 * variance / np.sqrt(count)


@pytest.mark.parametrize(
    ("name", "cdf"),
    [
        ("uniform", lambda n: np.clip((n / np.sqrt(3) + 1) / 2, 0, 1)),
        ("laplace", lambda n: 0.5 + 0.5 * np.sign(n) * (1 - np.exp(-np.sqrt(2) * np.abs(n)))),
        ("rayleigh", lambda n: 1 - np.exp(-(np.maximum(n, 0) ** 2) * (4 - np.pi) / 4)),
    ],
)
def test_distribution_functions(key, name, cdf):
    """Kolmogorov's distance of the samples to the law: above 2.2 / sqrt(n) once in 8,000 keys."""
    samples = np.sort(np.asarray(compiled(name)(key, jnp.zeros((N, N, 1)), 1.0)).ravel())
    steps = np.arange(1, samples.size + 1) / samples.size
    assert np.abs(cdf(samples.astype(np.float64)) - steps).max() < 2.2 / np.sqrt(samples.size)


def test_no_draw_of_rayleigh_noise_is_infinite(key, monkeypatch):
    """Both ends of U[0, 1): of JAX's own sampler, one number in 2^23 is infinite."""
    ends = jnp.array([0, 1 - 2.0**-24]).reshape(1, 2, 1)
    monkeypatch.setattr(jax.random, "uniform", lambda *_: ends)
    low, high = noise.rayleigh(key, jnp.zeros((1, 2, 1)), 1.0).ravel()
    assert low == 0  # and at the other, the inverse of the law
    np.testing.assert_allclose(high, np.sqrt(4 / (4 - np.pi) * 24 * np.log(2)), rtol=1e-6)


def test_a_mixture_is_one_of_its_kinds_by_its_shares():
    kinds = [noise.gaussian, noise.uniform]
    keys = jax.random.split(jax.random.key(4), 400)
    x = jnp.full((4, 4, 1), GRAY)
    draw = lambda kind, keys: jax.vmap(kind, in_axes=(0, None, None))(keys, x, SIGMA)  # noqa: E731
    either = jax.jit(draw, static_argnums=0)(noise.mixed(kinds, [3, 1]), keys)
    parts = jax.vmap(lambda key: jax.random.split(key)[1])(keys)
    distance = [np.abs(either - draw(kind, parts)).max((1, 2, 3)) for kind in kinds]
    is_kind = np.array(distance) < 1e-6
    assert (is_kind.sum(axis=0) == 1).all()
    assert abs(is_kind[1].mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 400)


def test_poisson_counts_photons(key):
    x = jnp.linspace(-0.5, 1.0, N * N).reshape(N, N, 1)
    y = np.asarray(compiled("poisson")(key, x, 0.25))
    np.testing.assert_array_equal(y * 16, np.round(y * 16))
    assert (y[np.asarray(x) <= 0] == 0).all()


@pytest.mark.parametrize("sigma", [2.0**-7, 2.0**-8, 2.0**-9, 2.0**-12])
def test_poisson_deviation_is_sigma_at_any_number_of_photons(key, sigma):
    """JAX's sampler alone, in float32, misses this by 7 % at 2^21 photons and by 22 % at 2^28."""
    x = jnp.full((N, N, 1), 0.25)
    error = np.asarray(compiled("poisson")(key, x, sigma), np.float64) - 0.25
    assert abs(error.std() / (0.5 * sigma) - 1) < 5 / np.sqrt(2 * error.size)
    assert abs(error.mean()) < 5 * 0.5 * sigma / N


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_salt_and_pepper_fractions(key, dtype):
    x = jnp.full((N, N, 1), 0.5, dtype)
    y = np.asarray(compiled("salt_and_pepper")(key, x, 0.1), np.float32)
    tolerance = 5 * np.sqrt(0.05 * 0.95 / y.size) + (2e-4 if dtype == jnp.bfloat16 else 0)
    assert abs(np.mean(y == 0) - 0.05) < tolerance
    assert abs(np.mean(y == 1) - 0.05) < tolerance
    assert set(np.unique(y)) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("shape", [(16, 16, 1), (3, 7, 2), (1, 1, 1)])
def test_correlated_variance_is_exact(shape):
    """The filter is linear: its matrix A, from unit impulses, has rows of square sum one."""
    with jax.enable_x64(True):
        impulses = np.eye(int(np.prod(shape))).reshape(-1, *shape)
        white = iter(impulses)

        def respond(_, shape, dtype):
            return jnp.asarray(next(white), dtype)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax.random, "normal", respond)
            columns = [noise.correlated(None, jnp.zeros(shape, jnp.float64), 1.0) for _ in impulses]
        variance = np.sum(np.square(np.stack(columns)), axis=0)
    np.testing.assert_allclose(variance, 1.0, rtol=1e-12)


def test_correlated_autocorrelation(key):
    """White noise through a Gaussian of one pixel has autocorrelation exp(-d^2 / 4), over borders too."""
    x = jnp.zeros((8, N, N, 1))
    n = np.asarray(compiled("correlated")(key, x, SIGMA), np.float64) / SIGMA
    error = 5 * np.sqrt(
        4 * np.pi / n.size
    )  # of a variance estimate: 2 / n times the sum of exp(-d^2 / 2)
    assert abs(np.mean(n**2) - 1) < error
    for distance in (1, 2, 3):
        for axis in (1, 2):
            rho = np.mean(n * np.roll(n, distance, axis))
            assert (
                abs(rho - np.exp(-(distance**2) / 4)) < error + 2e-4
            )  # the filter is cut at 4 pixels


def test_coloured_is_correlated_with_a_width_of_each_image(key):
    """Through a Gaussian of w pixels the correlation of neighbours at distance d is exp(-d^2 / 4 w^2)."""
    x = jnp.zeros((16, 256, 256, 1))
    n = np.asarray(compiled("coloured")(key, x, SIGMA), np.float64) / SIGMA
    np.testing.assert_allclose(n.var(axis=(1, 2, 3)), 1, atol=0.06)
    rho = [
        [np.mean(each * np.roll(each, d, axis)) for d, axis in ((1, 0), (1, 1), (2, 0))]
        for each in n
    ]
    down, across, two = np.array(rho).T
    np.testing.assert_allclose(down, across, atol=0.05)
    width = 1 / np.sqrt(-4 * np.log(np.maximum(down, 1e-6)))
    assert 0.2 < width.min() < 0.6 < 0.9 < width.max() < 1.3
    coarse = down > 0.3  # where taps at whole pixels stand for the Gaussian
    assert coarse.sum() > 5
    np.testing.assert_allclose(two[coarse], down[coarse] ** 4, atol=0.06)


def bilinear(raw):
    """Bayer's mosaic (RGGB) interpolated by the textbook's kernels, inside of the border."""
    red = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    green = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    rows, columns = np.indices(raw.shape) % 2
    at = [(rows == 0) & (columns == 0), rows != columns, (rows == 1) & (columns == 1)]
    kernels = [red, green, red]
    return np.stack([convolve(raw * a, k, mode="constant") for a, k in zip(at, kernels)], -1)


def test_the_noise_of_a_camera_is_interpolated_from_its_mosaic(key):
    """Each pixel has its own colour's noise, and of the other two what the kernels make of neighbours."""
    level, x = 0.05, jnp.full((64, 64, 3), GRAY)
    gain = np.sqrt(np.mean([9 / 16, 5 / 8, 9 / 16]))
    n = gain * (np.asarray(compiled("camera")(key, x, level)) - np.asarray(noise.quantize(x, 256)))
    rows, columns = np.indices((64, 64)) % 2
    raw = np.where(rows != columns, n[..., 1], np.where(rows == 0, n[..., 0], n[..., 2]))
    inside = slice(1, -1)
    rounding = 1.5 * gain / 255
    assert np.abs(bilinear(raw) - n)[inside, inside].max() < 2 * rounding
    assert np.abs(n).max() > 10 * rounding


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gray", [0.0, 0.5, 1.0])
def test_the_variance_of_a_camera_grows_with_the_light(key, channels, gray):
    level = 0.05
    y = compiled("camera")(key, jnp.full((N, N, channels), gray), level)
    expected = level**2 * (0.9 * gray + 0.1) + 1 / 255**2 / 12
    np.testing.assert_allclose(np.var(np.asarray(y, np.float64)), expected, rtol=0.02)
    assert abs(np.mean(np.asarray(y, np.float64)) - gray) < 1e-3
    values = np.asarray(y, np.float64) * 255
    np.testing.assert_allclose(values, np.round(values), atol=1e-4)


def test_a_camera_writes_jpeg(key):
    x = jax.random.uniform(jax.random.key(3), (2, 24, 16, 3))
    y = np.asarray(noise.camera(key, x, 0.1))
    expected = np.stack([noise.jpeg(image, 75) for image in y])
    np.testing.assert_array_equal(noise.camera_jpeg(key, x, 0.1), expected)
    np.testing.assert_array_equal(jax.jit(noise.camera_jpeg)(key, x, 0.0), x)
    with pytest.raises(ValueError, match="2 channels"):
        noise.camera(key, x[..., :2], 0.1)


def test_varying_ramp(key):
    n = np.asarray(compiled("varying")(key, jnp.zeros((64, 256, 128, 1)), SIGMA), np.float64)
    ramp = np.linspace(0.5, 1.5, 128)
    expected = SIGMA * ramp / np.sqrt(np.mean(ramp**2))
    columns = n.std(axis=(0, 1, 3))
    assert (np.abs(columns / expected - 1) < 5 / np.sqrt(2 * 64 * 256)).all()
    assert abs(np.mean(n**2) / SIGMA**2 - 1) < 5 * np.sqrt(
        2 * np.mean(ramp**4) / np.mean(ramp**2) ** 2 / n.size
    )
    one = noise.varying(key, jnp.zeros((5, 1, 1)), SIGMA)
    np.testing.assert_array_equal(one, noise.gaussian(key, jnp.zeros((5, 1, 1)), SIGMA))


@pytest.mark.parametrize("name", noise.NOISES)
def test_contract(key, name):
    """Level 0 changes nothing, a key fixes the result, eager, jit and vmap over keys agree."""
    f, jitted = noise.NOISES[name], compiled(name)
    x = jax.random.uniform(jax.random.key(7), (2, 9, 6, 3), minval=-0.2)
    np.testing.assert_array_equal(jitted(key, x, 0.0), x)
    y = jitted(key, x, 0.1)
    assert y.shape == x.shape
    np.testing.assert_array_equal(jitted(key, x, 0.1), y)
    assert not np.array_equal(jitted(jax.random.key(1), x, 0.1), y)
    np.testing.assert_allclose(f(key, x, 0.1), y, atol=1e-6)
    keys, levels = jax.random.split(key, 2), jnp.array([0.1, 0.3])
    mapped = jax.jit(jax.vmap(f))(keys, x, levels)
    for i in range(2):
        np.testing.assert_allclose(mapped[i], jitted(keys[i], x[i], levels[i]), atol=1e-6)
    for dtype in (jnp.bfloat16, jnp.float16):
        assert jax.eval_shape(f, key, x.astype(dtype), 0.1).dtype == dtype


@pytest.mark.parametrize("name", noise.NOISES)
def test_one_level_an_image(key, name):
    """A batch with levels [s, t] is, image by image, the batch at s and the batch at t under one key."""
    f = compiled(name)
    x = jax.random.uniform(jax.random.key(7), (2, 9, 6, 1))
    both = f(key, x, jnp.array([0.1, 0.3]))
    for i, level in enumerate((0.1, 0.3)):
        np.testing.assert_allclose(both[i], f(key, x, level)[i], atol=1e-6)


def test_float64_stays(key):
    with jax.enable_x64(True):
        x = jnp.full((4, 4, 1), 0.5, jnp.float64)
        for name, f in noise.NOISES.items():
            assert jax.eval_shape(f, key, x, 0.1).dtype == jnp.float64, name


def test_arguments_are_checked(key):
    with pytest.raises(TypeError, match="uint8"):
        noise.gaussian(key, np.zeros((4, 4, 1), np.uint8), 0.1)
    with pytest.raises(ValueError, match=r"x has shape \(4, 4\)"):
        noise.gaussian(key, jnp.zeros((4, 4)), 0.1)
    for x in (jnp.zeros((4, 4, 1)), jnp.zeros((3, 4, 4, 1))):
        with pytest.raises(ValueError, match=r"level has shape \(4,\)"):
            noise.gaussian(key, x, jnp.ones(4))


def test_draw_level(key):
    fixed = noise.draw_level(key, 0.1, (5,))
    assert fixed.dtype == jnp.float32 and (fixed == np.float32(0.1)).all()
    assert noise.draw_level(key, 0.1).shape == ()
    drawn = np.asarray(noise.draw_level(key, (0.1, 0.5), (10_000,)))
    assert drawn.min() >= np.float32(0.1) and drawn.max() <= 0.5
    assert abs(drawn.mean() - 0.3) < 5 * 0.4 / np.sqrt(12 * 10_000)
    assert abs(drawn.var() - 0.4**2 / 12) < 5 * 0.4**2 / np.sqrt(180 * 10_000)
    logarithms = np.log(noise.draw_level(key, noise.LogUniform(0.01, 1), (10_000,)))
    assert logarithms.min() >= np.log(np.float32(0.01)) and logarithms.max() <= 0
    width = -np.log(0.01)
    assert abs(logarithms.mean() + width / 2) < 5 * width / np.sqrt(12 * 10_000)
    assert abs(logarithms.var() - width**2 / 12) < 5 * width**2 / np.sqrt(180 * 10_000)
    for bad in (
        -0.1,
        (0.5, 0.1),
        (0.1, 0.2, 0.3),
        float("nan"),
        (0.0, float("inf")),
        noise.LogUniform(0, 1),
    ):
        with pytest.raises(ValueError, match="level is"):
            noise.draw_level(key, bad)


@given(st.integers(2, 256), st.integers(0, 2**16))
def test_quantize_rounds_to_a_lattice(levels, seed):
    x = np.random.default_rng(seed).uniform(-0.5, 1.5, 64).astype(np.float32)
    y = np.asarray(noise.quantize(x, levels), np.float64)
    assert np.abs(y - x).max() <= 0.5 / (levels - 1) + 1e-6
    np.testing.assert_allclose(y * (levels - 1), np.round(y * (levels - 1)), atol=1e-4)
    np.testing.assert_array_equal(noise.quantize(y.astype(np.float32), levels), y)


def test_quantize_refuses_one_level():
    with pytest.raises(ValueError, match="levels is 1"):
        noise.quantize(jnp.zeros(3), 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [5, 60, 100])
def test_jpeg_equals_pillow(channels, quality):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 17, channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0"
    )
    with Image.open(buffer) as image:
        expected = np.asarray(image).reshape(pixels.shape)
    y = noise.jpeg(pixels / np.float32(255), quality)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected / np.float32(255))


def test_jpeg_checks_its_arguments():
    x = np.zeros((8, 8, 1), np.float32)
    for quality in (0, 101):
        with pytest.raises(ValueError, match=f"quality is {quality}"):
            noise.jpeg(x, quality)
    with pytest.raises(ValueError, match=r"\(8, 8, 2\)"):
        noise.jpeg(np.zeros((8, 8, 2), np.float32), 50)
