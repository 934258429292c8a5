import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import wne_jax as wne
from wne_jax.symmetry import report as identities
from wne_jax.symmetry.report import CONTRASTS, measure

SIZE = 16


def images():
    return np.asarray(identities._test_images((SIZE, SIZE), 1, 0), np.float64)


def test_three_kinds_of_maps_are_distinguished():
    """A wrapped map, a linear map whose rows do not sum to one, and a map with neither symmetry."""
    for f, symmetry in [
        (wne.wrap(jnp.tanh), "normalization"),
        (lambda y: y / 2, "scale"),
        (jnp.tanh, "none"),
    ]:
        for claim in identities._ORDER:
            report = measure(f, claim=claim, size=SIZE)
            assert report.found == symmetry
            kept = identities._ORDER.index(symmetry) >= identities._ORDER.index(claim)
            assert report.kept == kept
            assert str(report).endswith(
                f"claims {claim}, measured {symmetry}: {'kept' if kept else 'broken'}"
            )


def test_defects_of_exact_maps_are_small_or_zero():
    report = measure(wne.wrap(jnp.tanh), claim="normalization", size=SIZE)
    assert report.powers_of_two and report.constants
    for value in (report.scale.worst, report.offset.worst, report.affine.worst):
        assert value < 1e-5
    assert report.euler < 1e-5 and report.row_sums < 1e-5


def test_the_measures_of_an_added_constant_have_closed_forms():
    """f(y) = y + 1 commutes with offsets only: f(a y) - a f(y) = 1 - a, f - J y = 1, J 1 = 1."""
    report = measure(lambda y: y + 1, claim="normalization", size=SIZE)
    norms = np.sqrt(np.square(images() + 1).sum((1, 2, 3)))
    expected = [abs(1 - a) / a * SIZE / norms for a in CONTRASTS]
    assert report.scale.mean == pytest.approx(np.mean(expected), rel=1e-3)
    assert report.scale.worst == pytest.approx(np.max(expected), rel=1e-3)
    assert report.offset.holds and not report.affine.holds and not report.kept
    assert report.euler == pytest.approx(np.max(SIZE / norms), rel=1e-5)
    assert report.row_sums < 1e-6
    assert not report.powers_of_two and not report.constants


def test_sigma_follows_the_contrast_of_the_images():
    """Shrinking towards the mean by the noise variance is equivariant in the pair (y, sigma)."""

    def wiener(y, sigma):
        mean = jnp.mean(y, axis=(1, 2, 3), keepdims=True)
        variance = jnp.mean(jnp.square(y - mean), axis=(1, 2, 3))
        gain = variance / (variance + jnp.square(sigma))
        gain = jnp.where(variance > 0, gain, 1).reshape(-1, 1, 1, 1)
        return mean + gain * (y - mean)

    report = measure(wiener, claim="normalization", conditioned=True, channels=3, size=SIZE)
    assert report.kept and report.powers_of_two
    fixed = measure(
        lambda y: wiener(y, jnp.full(2, 0.1)), claim="normalization", channels=3, size=SIZE
    )
    assert not fixed.kept and fixed.offset.holds


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="claim must be one of none, scale"):
        measure(jnp.abs, claim="affine")
    with pytest.raises(ValueError, match=r"keep the shape.*\(2, 16, 16, 1\) for \(2, 16, 16, 3\)"):
        measure(lambda y: y[..., :1], claim="none", channels=3, size=SIZE)
    with pytest.raises(ValueError, match="size must be 1"):
        measure(jnp.abs, claim="none", size=0)


def test_an_nnx_module_is_measured_like_any_function():
    network = nnx.Conv(1, 1, (3, 3), rngs=nnx.Rngs(0), bias_init=nnx.initializers.ones)
    report = measure(wne.NNXWNE(network), claim="normalization", size=SIZE)
    assert report.kept and report.powers_of_two and report.constants
    assert measure(network, claim="normalization", size=SIZE).found == "none"
