"""Which statistics of the wrapper preserve the translation equivariance of a backbone?"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wne_jax as wne
from wne_jax.layers import conv
from wne_jax.layers.spectra import without_nyquist
from wne_jax.statistics import STATISTICS
from wne_jax.symmetry.actions import Shift, Translation
from wne_jax.symmetry.equivariance import assert_normalization_equivariant, defect

KERNELS = [
    np.random.default_rng(i).normal(0, 0.3, (3, 3, *io)) for i, io in enumerate([(2, 4), (4, 2)])
]


def backbone(z):
    """Circular convolutions and gates from a spatial mean, which depend on the scale of z."""
    first, last = (jnp.asarray(kernel, z.dtype) for kernel in KERNELS)
    h = conv(z, first, padding="circular") + 0.5
    h = h * jax.nn.sigmoid(jnp.mean(jnp.square(h), axis=(1, 2), keepdims=True))
    return z - conv(h, last, padding="circular")


def images(height, width, dtype=jnp.float32):
    """Smooth in one half, with noise everywhere, so that tiles differ and medians are not 0."""
    noise = np.random.default_rng(2).normal(0, 0.1, (3, height, width, 2))
    ramp = np.linspace(0, 1, height).reshape(1, -1, 1, 1) ** 2
    return jnp.asarray(ramp + noise, dtype)


def translations(dtype=jnp.float32):
    dy, dx = np.random.default_rng(3).uniform(0, 12, (2, 3))
    return Translation(jnp.asarray(dy, dtype), jnp.asarray(dx, dtype))


def largest(f, action, y):
    return float(jax.jit(lambda y: defect(f, action, y))(y).max())


@pytest.mark.parametrize("axes", [None, (1, 2)], ids=["over channels", "per channel"])
@pytest.mark.parametrize("name", ["mean_std", "high_pass"])
def test_moments_and_the_high_pass_preserve_translations_up_to_rounding(name, axes):
    f = wne.wrap(backbone, statistics=STATISTICS[name], axes=axes)
    assert largest(f, translations(), images(15, 13)) < 1e-6
    with jax.enable_x64(True):
        y = images(15, 13, jnp.float64)
        assert largest(f, translations(jnp.float64), y) < 1e-14


@pytest.mark.parametrize("name", ["mean_std", "high_pass"])
def test_errors_on_even_sizes_come_only_from_nyquist_bins(name):
    f, y = wne.wrap(backbone, statistics=STATISTICS[name]), images(12, 16)
    assert largest(f, translations(), y) > 1e-5
    assert largest(f, translations(), without_nyquist(y)) < 1e-6
    assert largest(f, Shift(3, -5), y) < 1e-6


def test_the_wrapped_network_has_both_symmetries(key):
    f, y = jax.jit(wne.wrap(backbone)), images(15, 13)
    assert_normalization_equivariant(f, y, key, samples=3, gain=8)
    both = wne.symmetry.actions.Affine(3.0, -0.7) @ translations()
    assert largest(f, both, y) < 1e-5


@pytest.mark.parametrize("name", ["noise_level", "haar_mad", "median_mad", "min_max"])
def test_medians_and_extremes_preserve_translations_only_nearly(name):
    f, y = wne.wrap(backbone, statistics=STATISTICS[name]), images(15, 13)
    assert 1e-4 < largest(f, translations(), y) < 0.2
    moved = largest(f, Shift(4, -3), y)
    # Details and blocks end at the border, and blocks lie on a grid; the others depend on values only.
    bordered = {"haar_mad": (1e-4, 0.01), "noise_level": (1e-4, 0.2)}
    lowest, highest = bordered.get(name, (0, 1e-6))
    assert lowest <= moved < highest


def test_statistics_of_tiles_do_not_preserve_shifts():
    def by_tiles(y):
        tiles = y.reshape(-1, 3, 5, 13, 2)  # tiles of five rows
        z, stats = wne.normalize(tiles, axes=(2, 3, 4))
        return wne.denormalize(backbone(z.reshape(y.shape)).reshape(tiles.shape), stats).reshape(
            y.shape
        )

    y = images(15, 13)
    assert largest(by_tiles, Shift(5, 2), y) < 1e-6  # whole tiles
    assert largest(by_tiles, Shift(2, 0), y) > 0.05
    assert largest(by_tiles, translations(), y) > 0.05
