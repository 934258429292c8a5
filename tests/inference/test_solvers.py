import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax.inference import solvers
from wne_jax.inference.solvers import BlockMeans, LowFrequencies, Nothing, Pixels, iterate, schedule

SHAPE = (1, 4, 6, 1)
SIZE = 24
MASK = np.arange(SIZE).reshape(SHAPE) % 3 == 0
PROJECTORS = {
    "nothing": Nothing(),
    "pixels": Pixels(MASK),
    "low frequencies": LowFrequencies(0.3),
    "block means": BlockMeans(2),
}
projectors = pytest.mark.parametrize("projector", PROJECTORS.values(), ids=PROJECTORS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def matrix(f):
    """The matrix of a linear map of SHAPE."""
    return np.stack([np.ravel(f(e.reshape(SHAPE))) for e in jnp.eye(SIZE)], axis=1).astype(float)


def affine(a, m):
    """The map y -> m + A (y - m), for matrices and vectors."""
    a, m = jnp.asarray(a, jnp.float32), jnp.asarray(m, jnp.float32).reshape(SHAPE)
    return jax.jit(lambda y: m + ((y - m).reshape(-1, SIZE) @ a.T).reshape(y.shape))


@projectors
def test_projectors_are_symmetric_idempotent_matrices(projector, key):
    p = matrix(projector)
    np.testing.assert_allclose(p, p.T, atol=1e-6)
    np.testing.assert_allclose(p @ p, p, atol=1e-6)
    rank = {Nothing: 0, Pixels: MASK.sum(), BlockMeans: 6}.get(type(projector))
    if rank is None:  # the frequencies in the disk
        radius = np.hypot(np.fft.fftfreq(4)[:, None], np.fft.fftfreq(6))
        rank = (radius <= 0.3).sum()
    assert np.trace(p) == pytest.approx(rank, abs=1e-5)
    solvers.check_projector(projector, key, (2, 4, 6, 1))


@pytest.mark.parametrize(
    "f, clause",
    [
        (lambda y: y + 1, "2 P u - 3 P v"),
        (lambda y: y / 2, "P P u differs"),
        (lambda y: jnp.broadcast_to(y[:, :, :1], y.shape), "<u, P v>"),  # oblique
        (lambda y: y[:, 1:], "shape"),
    ],
)
def test_other_maps_are_rejected_as_projectors(f, clause, key):
    with pytest.raises(AssertionError, match=clause):
        solvers.check_projector(f, key, SHAPE)


def test_a_random_mask_keeps_its_share_of_pixels_by_the_key_of_each_image(key):
    keys = jax.random.split(key, 2)
    mask = solvers.random_mask(keys, (2, 100, 100, 3), share=0.1)
    assert mask.shape == (2, 100, 100, 1) and mask.dtype == bool
    np.testing.assert_allclose(mask.mean((1, 2, 3)), 0.1, atol=4 * np.sqrt(0.09 / 1e4))
    alone = solvers.random_mask(keys[1:], (1, 100, 100, 1), share=0.1)
    np.testing.assert_array_equal(mask[1:], alone)


def test_the_start_has_the_known_part_and_noise_around_a_level(key):
    x = np.full((1, 64, 64, 1), 0.2, np.float32)
    p = BlockMeans(8)
    y = solvers.start(key, x, p, sigma=2.0, level=0.5)
    # The noise keeps its block means, but the level vanishes, because it is constant over blocks.
    assert float(y.mean()) == pytest.approx(0.2, abs=4 * 2 / 64)
    assert float(y.std()) == pytest.approx(2, rel=0.1)
    mask = np.zeros((1, 64, 64, 1), bool)
    mask[:, :32] = True
    y = np.asarray(solvers.start(key, x, Pixels(mask), sigma=1e-3, level=0.5))
    np.testing.assert_allclose(y[:, :32], 0.2, atol=1e-2)
    np.testing.assert_allclose(y[:, 32:], 0.5, atol=1e-2)


def transcribed(denoise, y, z, p, x, *, h0, beta):
    """The algorithm in NumPy with float64 matrices and vectors: every estimate and its level."""
    others, known, history = np.eye(SIZE) - p, p @ x, []
    for t in range(1, len(z) + 2):
        u = others @ (denoise(y) - y) + known - p @ y
        s = np.linalg.norm(u) / np.sqrt(SIZE)
        history.append((known + others @ y, s))
        if t <= len(z):
            h = h0 * t / (1 + h0 * (t - 1))
            gamma = np.sqrt((1 - beta * h) ** 2 - (1 - h) ** 2) * s
            y = y + h * u + gamma * z[t - 1]
    return map(np.array, zip(*history))


@projectors
def test_the_iteration_agrees_with_the_published_algorithm(projector, key):
    a, m, x, y = 0.3 * normal(SIZE, SIZE), normal(SIZE), normal(SIZE, seed=1), normal(SIZE, seed=2)
    of_step = [jax.random.fold_in(key, t) for t in range(1, 9)]
    z = [np.ravel(jax.random.normal(step, SHAPE[1:])) for step in of_step]
    estimates, levels = transcribed(
        lambda y: m + a @ (y - m), y, z, matrix(projector), x, h0=0.1, beta=0.3
    )
    options = {"projector": projector, "observed": x.reshape(SHAPE), "h0": 0.1, "beta": 0.3}
    found = iterate(
        affine(a, m), y.reshape(SHAPE), key[None], **options,
        stop_sigma=0, max_steps=8, keep=range(9),
    )  # fmt: skip
    assert found.steps == [8] and not found.converged
    np.testing.assert_allclose(found.sigma[:, 0], levels, rtol=1e-4)
    frames = np.stack([found.frames[t] for t in range(9)]).reshape(9, SIZE)
    np.testing.assert_allclose(frames, estimates, atol=1e-4)
    np.testing.assert_array_equal(found.estimate, found.frames[8])
    # It stops when the level has reached stop_sigma.
    level = 1.001 * levels[: levels.argmin() + 1].min()
    stopped = iterate(
        affine(a, m), y.reshape(SHAPE), key[None], **options, stop_sigma=level, max_steps=8
    )
    assert stopped.steps == [levels.argmin()] and stopped.converged


@pytest.mark.parametrize("h0, beta", [(0.01, 0.01), (0.3, 0.5), (0.1, 1.0)])
def test_the_schedule_has_its_published_form(h0, beta):
    for t in (1, 2, 50, 1000):
        h, noise = schedule(t, h0=h0, beta=beta)
        assert h == h0 * t / (1 + h0 * (t - 1))
        squared = (1 - beta * h) ** 2 - (1 - h) ** 2
        assert noise**2 == pytest.approx(squared, rel=1e-9, abs=1e-12)
    assert schedule(7, h0=1.0, beta=1.0) == (1.0, 0.0)


@projectors
def test_under_a_gaussian_prior_it_finds_the_conditional_mean(projector):
    # D is the posterior mean for the prior N(m, C) and noise of variance v, A = C (C + v)^-1. If D(y) - y
    # vanishes in the unknown part, y is the mean of N(m, C + v) given P y; for P = 0, it is the prior mean m.
    root, m, x = normal(SIZE, SIZE), normal(SIZE, seed=1).astype(float), normal(SIZE, seed=2)
    covariance = root @ root.T / SIZE + 0.5 * np.eye(SIZE)
    total = covariance + 1.0 * np.eye(SIZE)
    p = matrix(projector)
    gain = total @ p @ np.linalg.pinv(p @ total @ p, rcond=1e-5)
    mean = m + gain @ (p @ x - p @ m)
    denoise = affine(covariance @ np.linalg.inv(total), m)
    found = iterate(
        denoise, np.zeros(SHAPE), projector=projector, observed=x.reshape(SHAPE),
        beta=1.0, h0=0.1, stop_sigma=1e-6, max_steps=400,
    )  # fmt: skip
    assert found.converged and found.steps < 400
    np.testing.assert_allclose(np.ravel(found.estimate), mean, atol=1e-4)


def test_without_noise_each_step_multiplies_the_level_by_one_minus_h():
    # D projects onto a subspace, the prior under which all its images are equally likely. The part outside
    # of it decays.
    basis = np.linalg.qr(normal(SIZE, 5))[0]
    y = normal(SIZE, seed=3)
    found = iterate(
        affine(basis @ basis.T, 0 * y), y.reshape(SHAPE), beta=1.0, stop_sigma=0.01, h0=0.01
    )
    outside = y - basis @ basis.T @ y
    h = np.array([schedule(t, h0=0.01, beta=1.0)[0] for t in range(1, 100)])
    falls = np.concatenate([[1], np.cumprod(1 - h)])
    levels = falls * np.linalg.norm(outside) / np.sqrt(SIZE)
    assert found.steps == [np.argmax(levels <= 0.01)]
    np.testing.assert_allclose(found.sigma[:, 0], levels[: found.steps[0] + 1], rtol=1e-3)
    left = falls[found.steps[0]] * outside
    np.testing.assert_allclose(np.ravel(found.estimate), basis @ basis.T @ y + left, atol=1e-5)


def test_samples_of_a_white_prior_have_its_power(key):
    # For y = x + noise with white x of power c, the power of y determines the level: D(y) = c / power(y) y.
    def denoise(y):
        return 0.25 / jnp.mean(jnp.square(y), axis=(1, 2, 3), keepdims=True) * y

    shape = (2, 32, 32, 1)
    y = solvers.start(key, np.zeros(shape), Nothing(), level=0.0)
    found = iterate(jax.jit(denoise), y, jax.random.fold_in(key, 7), h0=0.1, beta=0.3)
    assert found.converged.all()
    np.testing.assert_allclose(jnp.square(found.estimate).mean((1, 2, 3)), 0.25, atol=0.02)
    assert abs(np.corrcoef(np.reshape(found.estimate, (2, -1)))[0, 1]) < 0.15


@pytest.fixture(scope="module")
def equivariant():
    """A nonlinear normalization-equivariant map that contracts the detail."""

    def g(z):
        near = (z + jnp.roll(z, 1, 1) + jnp.roll(z, 1, 2)) / 3
        return near + 0.1 * jnp.tanh(z - near)

    return jax.jit(wne.wrap(g))


@projectors
def test_the_trajectory_of_an_equivariant_denoiser_is_equivariant(projector, equivariant, key):
    x, y = normal(2, 4, 6, 1), normal(2, 4, 6, 1, seed=1)
    steps = range(13)

    def run(a, b):
        return iterate(
            equivariant, a * y + b, key, projector=projector, observed=a * x + b,
            h0=0.05, beta=0.4, stop_sigma=a * 0.3, max_steps=12, keep=steps,
        )  # fmt: skip

    one = run(1, 0)
    for a in (2.0**-7, 2.0**5):
        scaled = run(a, 0)
        np.testing.assert_array_equal(scaled.steps, one.steps)
        np.testing.assert_array_equal(scaled.sigma, a * one.sigma)
        for t in one.frames:
            np.testing.assert_array_equal(scaled.frames[t], a * one.frames[t])
    moved = run(3.0, -0.7)
    np.testing.assert_array_equal(moved.steps, one.steps)
    np.testing.assert_allclose(moved.sigma, 3 * one.sigma, rtol=1e-4)
    for t in one.frames:
        np.testing.assert_allclose(moved.frames[t], 3 * one.frames[t] - 0.7, atol=1e-4)


def test_the_known_part_is_kept_exactly_and_the_unknown_part_not_read(equivariant, key):
    x = normal(*SHAPE)
    found = [
        iterate(
            equivariant, np.zeros(SHAPE) + normal(*SHAPE, seed=1), key, projector=Pixels(MASK),
            observed=np.where(MASK, x, elsewhere), max_steps=5, keep=[2],
        )
        for elsewhere in (0, np.nan)
    ]  # fmt: skip
    for estimate in (found[0].estimate, found[0].frames[2]):
        np.testing.assert_array_equal(np.asarray(estimate)[MASK], x[MASK])
    np.testing.assert_array_equal(found[0].estimate, found[1].estimate)


def test_each_image_ends_separately_and_has_its_own_noise(equivariant, key):
    near, far = normal(*SHAPE), 50 * normal(*SHAPE, seed=1)
    keys = jax.random.split(key, 3)

    def run(y, keys):
        return iterate(equivariant, y, keys, h0=0.2, beta=0.9, stop_sigma=1.0, reference=0 * y)

    both = run(np.concatenate([near, far]), keys[:2])
    other = run(np.concatenate([near, 0 * far]), keys[::2])
    assert both.steps[0] < both.steps[1] and both.converged.all()
    np.testing.assert_array_equal(both.estimate[0], other.estimate[0])
    last = np.isfinite(both.sigma).sum(0) - 1
    np.testing.assert_array_equal(last, both.steps)
    assert (both.sigma[last, [0, 1]] <= 1).all() and (both.sigma[last[1] - 1, 1] > 1).all()
    final = wne.images.metrics.psnr(jnp.clip(both.estimate, 0, 1), jnp.zeros((2, *SHAPE[1:])))
    np.testing.assert_allclose(both.psnr[last, [0, 1]], final, rtol=1e-6)


def test_an_image_with_a_nonfinite_level_ends_unconverged(key):
    found = iterate(lambda y: 1e30 * y, normal(*SHAPE), beta=1.0, max_steps=50)
    assert not found.converged and found.steps < 5 and np.isfinite(found.estimate).all()


def test_any_function_can_be_a_projector():
    x = normal(*SHAPE)

    def rows(y):
        return y.at[:, 1:].set(0)

    found = iterate(lambda y: 0 * y, 0 * x, projector=rows, observed=x, beta=1.0, stop_sigma=1e-3)
    np.testing.assert_array_equal(found.estimate[:, 0], x[:, 0])
    np.testing.assert_array_equal(found.estimate[:, 1:], 0)


def test_a_custom_projector_need_not_be_a_pytree():
    class Rows(solvers.Projector):
        def __call__(self, y):
            return y.at[:, 1:].set(0)

    x = normal(*SHAPE)
    found = iterate(lambda y: 0 * y, 0 * x, projector=Rows(), observed=x, beta=1.0)
    np.testing.assert_array_equal(found.estimate[:, 0], x[:, 0])


def conditioned(y, sigma):
    return y


@pytest.mark.parametrize(
    "change, message",
    [
        ({"denoise": conditioned}, "denoise must be blind"),
        ({"beta": 0.0}, "beta must be"),
        ({"h0": 1.5}, "h0 must be"),
        ({"stop_sigma": -1.0}, "stop_sigma"),
        ({"key": None}, "key is needed"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, "one key, or"),
        ({"observed": None}, "observed is needed"),
        ({"observed": np.zeros((1, 5, 6, 1))}, "factor must divide"),
        ({"observed": np.zeros((1, 6, 6, 1))}, "observed must have the shape"),
        ({"projector": Pixels(MASK[0])}, "mask must be boolean and of rank 4"),
        ({"y": np.zeros((4, 6))}, "y must be .B, H, W, C."),
    ],
)
def test_invalid_arguments_are_rejected_in_one_line(change, message, key):
    given = {"denoise": jnp.negative, "y": np.zeros(SHAPE), "key": key}
    given |= {"projector": BlockMeans(2), "observed": np.zeros(SHAPE)} | change
    with pytest.raises(ValueError, match=message) as error:
        iterate(**given)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="share must be"):
        solvers.random_mask(key, SHAPE, share=1.1)
