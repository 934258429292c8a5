import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import wne_jax as wne
from wne_jax import config, protocol
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.data import load_images
from wne_jax.evaluation.sweeps import noisy_and_clean
from wne_jax.images.metrics import psnr
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import DnCNN
from wne_jax.statistics import fixed_noise, haar_mad
from wne_jax.symmetry.equivariance import (
    assert_exact_under_powers_of_two,
    assert_normalization_equivariant,
)
from wne_jax.testing import random_variables
from wne_jax.wrappers.one_level import (
    ANCHOR,
    ENERGY,
    OneLevel,
    one_level,
    wiener_gain,
)

TRAINED = 0.1


def images(sigma=0.05, shape=(2, 14, 11, 1)):
    rng = np.random.default_rng(0)
    smooth = 0.4 + 0.2 * np.sin(np.arange(shape[1]) / 3)[None, :, None, None]
    return jnp.asarray(smooth + sigma * rng.normal(size=shape), jnp.float32)


def smoother(u):
    """A nonlinear map with a bias, which is not equivariant."""
    return 0.6 * u + 0.3 * jnp.tanh(jnp.roll(u, 1, axis=1)) + 0.02


def test_at_the_training_level_the_output_is_that_of_the_network():
    u = images()
    result = one_level(smoother, u, trained_sigma=TRAINED, location=0.45, sigma=TRAINED)
    np.testing.assert_allclose(result, smoother(u), atol=1e-6)


def test_above_the_training_level_it_agrees_with_a_noise_anchor():
    y, sigma = images(), 0.35
    adaptive = wne.wrap(
        lambda u, sigma: one_level(smoother, u, trained_sigma=TRAINED, location=0.45, sigma=sigma),
        anchor=ANCHOR,
    )
    anchored = wne.wrap(smoother, statistics=fixed_noise(sigma), anchor=wne.Anchor(0.45, TRAINED))
    np.testing.assert_allclose(adaptive(y, sigma=sigma), anchored(y), atol=2e-6)


def test_the_output_is_continuous_at_the_training_level():
    u = images()

    @jax.jit
    def at(sigma):
        return one_level(smoother, u, trained_sigma=TRAINED, location=0.45, sigma=sigma)

    for sigma in (0.5 * TRAINED, TRAINED, 2 * TRAINED):
        step = jnp.abs(at(sigma * (1 + 1e-4)) - at(sigma * (1 - 1e-4))).max()
        assert 0 < step < 1e-3


def test_pure_noise_is_removed_completely():
    # On a flat image, a network that returns the mean removes all noise and no texture.
    clean = jnp.full((1, 40, 40, 1), 0.45)
    noise = 0.02 * jax.random.normal(jax.random.key(0), clean.shape)
    f = jax.jit(lambda u: one_level(lambda z: 0 * z + 0.45, u, trained_sigma=TRAINED, location=0.45,
                                    sigma=0.02))  # fmt: skip
    result = f(clean + noise)
    assert jnp.std(result - clean) < 0.35 * jnp.std(noise)


def test_the_gain_is_that_of_wiener():
    r = jnp.full((1, 9, 9, 1), 0.3)
    np.testing.assert_allclose(wiener_gain(r, 0.1), 1 / 9, rtol=1e-5)
    np.testing.assert_array_equal(wiener_gain(r, 0.5), 1)
    np.testing.assert_array_equal(wiener_gain(0 * r, 0.1), 1)
    field = np.asarray(images(0.3))
    power = gaussian_filter(field**2, (0, ENERGY, ENERGY, 0), mode="mirror", truncate=4.0)
    expected = np.minimum(1, 0.04 / power)
    np.testing.assert_allclose(wiener_gain(jnp.asarray(field), 0.2), expected, rtol=1e-4)


def frozen(network=None):
    network = DnCNN(depth=3, features=4, batch_norm=False) if network is None else network
    model = wne.WNE(OneLevel(network, TRAINED), anchor=ANCHOR)
    return model, random_variables(model, images(), spread=0.5)


@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_wrapped_it_is_exactly_equivariant(sigma, key):
    model, variables = frozen()
    f = jax.jit(lambda y: model.apply(variables, y))
    y = images(sigma)
    assert_normalization_equivariant(f, y, key, samples=4, gain=30.0)
    assert_exact_under_powers_of_two(f, y)
    constant = jnp.full_like(y, 0.3)
    np.testing.assert_array_equal(f(constant), constant)


@pytest.mark.skipif(
    jax.__version_info__ >= (0, 11) or jax.default_backend() != "cpu",
    reason="the compiler has no such options",
)
def test_the_noise_level_does_not_depend_on_compilation():
    # With these settings, XLA once computed the details of the image twice with different rounding; the
    # median of one was compared with the other.
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    }
    model, variables = frozen()
    y = images(0.3)
    f = jax.jit(lambda y: model.apply(variables, y)).lower(y).compile(compiler_options=options)
    gain, offset = np.float32(0.012424299493432045), np.float32(-5.1684965001186356e-05)
    np.testing.assert_allclose((f(gain * y + offset) - offset) / gain, f(y), atol=2e-6)


def test_it_adds_no_parameter_and_takes_the_level():
    model, variables = frozen()
    bare = DnCNN(depth=3, features=4, batch_norm=False)
    shapes = jax.eval_shape(bare.init, jax.random.key(0), images())
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    assert model.takes_sigma == "optional" and protocol.takes_sigma(bare) is None
    assert wne.WNE(bare, statistics=haar_mad).takes_sigma == "statistic"


def test_the_output_depends_only_on_the_receptive_field():
    model, variables = frozen()
    radius = model.backbone.receptive_radius
    assert radius == 2 * (3 + 6) + 3
    u = 0.45 + 0.02 * jax.random.normal(jax.random.key(1), (1, 60, 3, 1))
    f = jax.jit(lambda u: model.backbone.apply(variables, u, sigma=0.02))
    changed = jnp.abs(f(u.at[0, 30].add(0.3)) - f(u))[0].max((1, 2))
    assert changed[30 - radius + 1 : 30 + radius].max() > 0
    np.testing.assert_array_equal(changed[: 30 - radius], 0)
    np.testing.assert_array_equal(changed[30 + radius + 1 :], 0)


def test_a_level_of_another_batch_size_is_rejected():
    for wrong in (jnp.ones(3), jnp.ones((2, 2))):
        with pytest.raises(ValueError, match=r"scalar or \[B\] = \[2\]"):
            one_level(smoother, images(), trained_sigma=TRAINED, location=0.45, sigma=wrong)
        with pytest.raises(ValueError, match=r"scalar or \[B\] = \[2\]"):
            fixed_noise(wrong)(images())


def test_tiles_give_the_result_of_the_whole_image():
    model, variables = frozen()
    denoise = Denoiser(model, variables)
    image = np.asarray(images(0.02, (1, 150, 130, 1)))[0]
    np.testing.assert_allclose(denoise(image, tile=64), denoise(image), atol=2e-5)
    np.testing.assert_allclose(denoise(image, 0.2, tile=64), denoise(image, 0.2), atol=2e-5)


def test_a_published_network_gains_below_and_above_its_level(wne_weights, wne_data):
    path = wne_weights / "dncnn_gray_sigma25.matconvnet.mat"
    pytest.importorskip("h5py", reason="reading MatConvNet files needs h5py")
    plain = Denoiser.load(path).function
    blind = Denoiser.load(
        path, wrapper=WrapperConfig(anchor=ANCHOR), inside=config.OneLevel(25)
    ).function
    image = load_images("folder:Set12", split="test")[4]
    image = image._replace(pixels=image.pixels[64:160, 64:160])
    gains = {}
    for sigma in (10.0, 25.0, 50.0):
        noisy, clean = noisy_and_clean(image, sigma, jax.random.key(0))
        before, after = (psnr(f(noisy).clip(0, 1), clean)[0] for f in (plain, blind))
        gains[sigma] = float(after - before)
    # On all of Set12 it is within 0.1 dB at 25; a single crop varies more.
    assert gains[10.0] > 2 and abs(gains[25.0]) < 0.4 and gains[50.0] > 5


def test_unsuitable_wrappers_are_rejected_by_module_and_configuration():
    net = OneLevel(DnCNN(depth=3, features=4), trained_sigma=TRAINED)
    with pytest.raises(ValueError, match="mean and contrast of its training images as anchor"):
        wne.WNE(net)
    with pytest.raises(ValueError, match="mean and contrast of its training images as anchor"):
        ModelConfig(wrapper="wne", inside=config.OneLevel(25))
    with pytest.raises(ValueError, match="images of its training contrast"):
        wne.WNE(net, statistics=haar_mad, anchor=ANCHOR)
    with pytest.raises(ValueError, match="images of its training contrast"):
        ModelConfig(wrapper=WrapperConfig("wne", "haar_mad", ANCHOR), inside=config.OneLevel(25))
    for level in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="trained_sigma must be positive"):
            OneLevel(DnCNN(), trained_sigma=level)
    with pytest.raises(ValueError, match="must be blind"):
        OneLevel(DnCNN(conditioned=True), trained_sigma=TRAINED)
    assert type(ModelConfig(inside=config.OneLevel(25)).build()) is OneLevel  # unit range
