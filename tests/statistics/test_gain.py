"""The normal form of noise that grows with intensity, against the transform of Anscombe, and around maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax import protocol
from wne_jax import statistics as S
from wne_jax.inference.denoiser import Denoiser
from wne_jax.statistics.gain import KNEE, slope, stabilized, unstabilized
from wne_jax.symmetry import (
    analysis,
    assert_equivariant,
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.symmetry.actions import Affine
from wne_jax.testing import random_variables, tiny

KINDS = ("value", "difference", "variance", "invariant")


def image(shape=(2, 12, 10, 1), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 0.2, shape), jnp.float32)


def with_gain(k):
    """Mean, standard deviation, and k of it as gain."""

    def statistic(y, *, axes=None, where=None):
        location, scale, _ = S.mean_std(y, axes=axes, where=where)
        return S.Statistics(location, scale, k * scale)

    statistic.has_gain = True
    return statistic


@pytest.mark.parametrize("k", [0.0, 1e-4, 0.3, 2.0, 50.0])
def test_both_directions_increase_and_undo_each_other(k):
    u, k = jnp.linspace(-30, 30, 4001), jnp.full((1,), k)
    z = stabilized(u, k)
    np.testing.assert_allclose(unstabilized(z, k), u, atol=2e-5)
    assert (jnp.diff(z) > 0).all() and (jnp.diff(unstabilized(u, k)) > 0).all()
    if k == 0:
        np.testing.assert_array_equal(z, u)


def test_it_is_the_generalized_anscombe_transform():
    """2 / alpha sqrt(alpha y + 3 / 8 alpha^2 + beta), minus its value at m."""
    alpha, beta, m = 1.7, 3.0, 20.0
    y = np.linspace(0, 100, 50)
    transform = lambda y: 2 / alpha * np.sqrt(alpha * y + 0.375 * alpha**2 + beta)  # noqa: E731
    s = np.sqrt(alpha * m + beta + 0.375 * alpha**2)
    with jax.enable_x64(True):
        z = stabilized(jnp.asarray((y - m) / s), jnp.full((1,), alpha / s))
    np.testing.assert_allclose(z, transform(y) - transform(m), atol=1e-12)


@pytest.mark.parametrize("photons, tolerance", [(5, 0.05), (10, 0.02), (20, 0.01), (45, 0.01)])
def test_noise_of_photons_and_reading_has_variance_1(photons, tolerance):
    rng = np.random.default_rng(0)
    y = rng.poisson(photons, 10**6) + rng.normal(0, 1.0, 10**6)
    s = np.float32(np.sqrt(10 + 1 + 0.375))
    z = stabilized(jnp.asarray((y - 10) / s, jnp.float32), jnp.full((1,), 1 / s))
    assert abs(np.var(z) - 1) < tolerance


@pytest.mark.parametrize("k", [0.2, 20.0])
def test_every_gain_is_normalization_equivariant(k):
    f, y = wne.wrap(jnp.tanh, statistics=with_gain(k)), image()
    assert_normalization_equivariant(f, y, jax.random.key(0), gain=4 + k)
    assert_exact_under_powers_of_two(f, y)
    for unbiased in (False, True):
        g = wne.wrap(lambda z: z, statistics=with_gain(k), unbiased=unbiased)
        moved = k * S.mean_std(y).scale / 4 if unbiased else 0
        np.testing.assert_allclose(g(y) - y, moved + 0 * y, atol=3e-6 * (1 + k))
        assert_normalization_equivariant(g, y, jax.random.key(0), gain=4 + k)


def test_without_slope_the_coordinates_are_linear():
    y = image()
    expected, found = (wne.normalize(y, statistics=s)[0] for s in (S.mean_std, with_gain(0.0)))
    np.testing.assert_array_equal(found, expected)
    outputs = [wne.wrap(jnp.tanh, statistics=s)(y) for s in (S.mean_std, with_gain(0.0))]
    np.testing.assert_allclose(*outputs, atol=1e-7)


def test_constants_stay_and_gradients_are_finite():
    for y in (image(), jnp.full((2, 5, 5, 1), 0.3), image() - 10):
        for k in (0.0, 3.0):
            f = wne.wrap(jnp.tanh, statistics=with_gain(k), unbiased=True)
            gradient = jax.grad(lambda y, f=f: jnp.sum(jnp.square(f(y))))(y)
            assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(f(jnp.full((2, 5, 5, 1), 0.3)), np.float32(0.3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("anchor", [wne.Anchor(), wne.Anchor(0.5, 0.25)])
def test_outputs_follow_their_input(kind, anchor):
    f = wne.wrap(jnp.tanh, statistics=with_gain(3.0), output=kind, anchor=anchor)
    for action in (Affine(3.0, 0.5), Affine(0.01, -2.0)):
        assert_equivariant(f, action, image(), output=kind, gain=64)


def test_differences_and_variances_take_the_slope_at_the_input():
    y = image()
    z, stats = wne.normalize(y, statistics=with_gain(5.0))
    back = lambda z: wne.denormalize(z, stats)  # noqa: E731
    value, steep = jax.jvp(back, (z,), (jnp.ones_like(z),))
    np.testing.assert_allclose(value, y, atol=1e-6)
    np.testing.assert_allclose(slope(z, stats), steep, rtol=1e-6)
    assert np.isclose(slope(z, stats), KNEE * stats.scale).any()  # some pixels are below the knee
    one = jnp.ones_like(z)
    difference = wne.denormalize(one, stats, output="difference", z=z)
    variance = wne.denormalize(one, stats, output="variance", z=z)
    np.testing.assert_allclose(difference, steep, rtol=1e-6)
    np.testing.assert_allclose(variance, steep**2, rtol=1e-5)


def test_what_cannot_follow_a_curve_is_refused():
    y = image((2, 8, 8, 1))
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 1\).*\(2, 8, 8, 1\)"):
        wne.wrap(lambda z: z[:, ::2, ::2], statistics=with_gain(1.0), output="difference")(y)
    _, stats = wne.normalize(y, statistics=with_gain(1.0))
    with pytest.raises(ValueError, match="needs z"):
        wne.denormalize(y, stats, output="variance")
    half = wne.wrap(lambda z: z[:, ::2, ::2], statistics=with_gain(1.0))(y)  # values may be fewer
    np.testing.assert_allclose(half, y[:, ::2, ::2], atol=1e-6)


def test_a_residual_and_further_inputs_are_in_the_curved_coordinates():
    y, guide = image(), image(seed=1)
    options = {"statistics": with_gain(2.0), "anchor": wne.Anchor(0.5, 0.25)}
    direct = wne.wrap(lambda x: x - jnp.sin(x), **options)(y)
    residual = wne.wrap(jnp.sin, prediction="residual", **options)(y)
    np.testing.assert_allclose(residual, direct, atol=1e-6)
    same = wne.wrap(lambda x, guide: guide, with_y=("guide",), **options)(y, guide=guide)
    np.testing.assert_allclose(same, guide, atol=2e-6)


def test_a_conditioned_backbone_is_told_that_its_noise_is_1():
    y, anchor = image(), wne.Anchor(0.0, 0.25)
    told = wne.wrap(lambda x, sigma: x + sigma, statistics=with_gain(1.0), anchor=anchor)
    expected = wne.wrap(lambda x: x + 0.25, statistics=with_gain(1.0), anchor=anchor)
    np.testing.assert_array_equal(told(y), expected(y))
    with pytest.raises(ValueError, match="leave it out"):
        told(y, sigma=0.1)
    model = wne.WNE(tiny("dncnn", conditioned=True), with_gain(1.0), anchor=anchor)
    assert protocol.takes_sigma(model) is None
    variables = random_variables(model, y)
    bare = lambda x: model.backbone.apply(variables, x, sigma=0.25)  # noqa: E731
    f = wne.wrap(bare, statistics=with_gain(1.0), anchor=anchor)
    np.testing.assert_allclose(model.apply(variables, y), f(y), atol=1e-6)
    with pytest.raises(ValueError, match="takes no sigma"):
        Denoiser(model, variables)(y[..., 0], 0.1)


def test_what_is_inside_says_whether_it_takes_a_gain():
    with pytest.raises(ValueError, match="training contrast"):
        wne.WNE(
            wne.wrappers.OneLevel(tiny("dncnn"), 0.1), with_gain(1.0), anchor=wne.Anchor(0.5, 0.2)
        )
    with pytest.raises(ValueError, match="contrast 1"):
        wne.WNE(wne.wrappers.Rescaled(tiny("dncnn"), "blend"), with_gain(1.0))
    with pytest.raises(ValueError, match="wiener_cap"):
        wne.WNE(wne.wrappers.SmoothBase(tiny("dncnn"), 4.0, 1.3), with_gain(1.0))


def test_the_line_of_a_camera_follows_its_image():
    y = 100 * image() + 30
    alpha, beta, a, b = 2.0, 5.0, 4.0, 7.0
    stats = S.fixed_noise(alpha=alpha, beta=beta)(y)
    mean = np.mean(y, axis=(1, 2, 3))
    np.testing.assert_allclose(
        np.ravel(stats.scale) ** 2, alpha * mean + beta + 0.375 * alpha**2, rtol=1e-5
    )
    moved = S.fixed_noise(alpha=a * alpha, beta=a**2 * beta - a * b * alpha)(a * y + b)
    np.testing.assert_allclose(moved.scale, a * stats.scale, rtol=1e-5)
    np.testing.assert_array_equal(moved.gain, a * stats.gain)
    blocks = S.Blocks(np.asarray(y[0]), np.asarray, rows=5)
    found = S.fixed_noise(alpha=alpha, beta=beta).over_blocks(blocks)
    np.testing.assert_allclose(found, [part[0].item() for part in stats], rtol=1e-6)
    constant = S.fixed_noise(alpha=alpha, beta=beta)(0 * y + 1)
    assert not constant.scale.any() and not constant.gain.any()


@pytest.mark.parametrize(
    "options", [{}, {"sigma": 1.0, "alpha": 1.0, "beta": 1.0}, {"alpha": 1.0}, {"beta": 1.0}]
)
def test_a_level_or_a_line_is_given(options):
    with pytest.raises(ValueError, match="sigma, or alpha and beta"):
        S.fixed_noise(**options)


@pytest.mark.parametrize("line", [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_lines_that_are_none_are_refused(line):
    with pytest.raises(ValueError, match="alpha must be positive, and beta finite"):
        S.fixed_noise(alpha=line[0], beta=line[1])


def test_tiles_have_the_gain_of_the_whole_image():
    y = np.asarray(image((1, 61, 90, 1)))
    model = wne.WNE(tiny("dncnn"), statistics=with_gain(1.5), unbiased=True)
    denoise = Denoiser(model, random_variables(model, y))
    with pytest.warns(UserWarning, match="no passes over blocks"):
        tiled = denoise(y, tile=32)
    np.testing.assert_allclose(tiled, denoise(y), atol=1e-5)
    model = wne.WNE(tiny("dncnn"), statistics=S.fixed_noise(alpha=0.1, beta=0.02))
    denoise = Denoiser(model, random_variables(model, y))
    np.testing.assert_allclose(denoise(y, tile=32), denoise(y), atol=1e-5)


def test_nnx_is_wrapped_alike():
    y = image()
    f = wne.NNXWNE(jnp.tanh, statistics=with_gain(2.0), unbiased=True)
    assert protocol.takes_sigma(f) is None
    np.testing.assert_array_equal(
        f(y), wne.wrap(jnp.tanh, statistics=with_gain(2.0), unbiased=True)(y)
    )


def test_the_normalized_problem_is_in_the_curved_coordinates():
    clean, a, b = image(), 3.0, -1.0
    noisy = clean + 0.1 * image(seed=2)
    problem = analysis.normalized_problem(noisy, clean, statistics=with_gain(2.0))
    np.testing.assert_allclose(wne.denormalize(problem.target, problem.stats), clean, atol=1e-6)
    moved = analysis.normalized_problem(a * noisy + b, a * clean + b, statistics=with_gain(2.0))
    np.testing.assert_allclose(moved.target, problem.target, atol=1e-4)
