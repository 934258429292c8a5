"""A Denoiser of every kind of model: any library, any number of channels, images and volumes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import wne_jax as wne
from wne_jax.cli.denoise_files import Settings, check_settings
from wne_jax.config import ModelConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.exporting import load_exported
from wne_jax.models import DnCNN
from wne_jax.symmetry.report import measure
from wne_jax.testing import random_variables, tiny


class Net(nnx.Module):
    """A network of any number of channels, with batch normalization and no argument for it."""

    def __init__(self, channels=1, *, rngs):
        self.channels = channels
        self.first = nnx.Conv(channels, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.last = nnx.Conv(4, channels, (3, 3), rngs=rngs)

    def __call__(self, y):
        return y - self.last(jnp.tanh(self.norm(self.first(y))))


class Trains(nn.Module):
    """Its call is that of training unless it is told otherwise, as in many examples."""

    @nn.compact
    def __call__(self, y, training: bool = True):
        h = nn.BatchNorm(use_running_average=not training)(nn.Conv(4, (3, 3))(y))
        return y - nn.Conv(y.shape[-1], (3, 3))(nn.Dropout(0.5, deterministic=not training)(h))


class OnlyOn(nn.Module):
    """A bare network that takes nothing but multiples of 32."""

    multiple = 32

    @nn.compact
    def __call__(self, y):
        if y.shape[1] % 32 or y.shape[2] % 32:
            raise ValueError("sides")
        return nn.Conv(y.shape[-1], (3, 3))(y)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)


class TestKinds:
    """What is denoised is what the model itself computes, in evaluation."""

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_an_nnx_module(self, wrapped, tmp_path):
        network = Net(rngs=nnx.Rngs(0))
        model = wne.NNXWNE(network) if wrapped else network
        denoise = Denoiser(model)
        y = pixels(2, 9, 11, 1)
        found = denoise(y)
        network.eval()
        np.testing.assert_allclose(found, model(y), atol=1e-5)
        assert (denoise.symmetry == "normalization") == wrapped
        denoise.save(tmp_path / "x.safetensors")
        again = Denoiser.load(tmp_path / "x.safetensors", allow_imports=True)
        np.testing.assert_array_equal(again(y), found)
        assert again.config == ModelConfig(f"{__name__}:Net", {}, "wne" if wrapped else None)

    def test_a_function_wrapped_and_told_the_level(self):
        f = wne.wrap(lambda z, sigma: z - sigma * jnp.tanh(z), noise_argument="sigma")
        denoise = Denoiser(f)
        y = pixels(1, 9, 11, 3)
        assert denoise.conditioned and denoise.symmetry == "normalization"
        expected = np.stack([np.asarray(f(c, sigma=0.1)) for c in np.moveaxis(y, -1, 0)[..., None]])
        np.testing.assert_allclose(denoise(y, 0.1), np.moveaxis(expected[..., 0], 0, -1), atol=1e-6)
        together = Denoiser(f, channels=3)
        np.testing.assert_allclose(together(y, 0.1), f(y, sigma=0.1), atol=1e-6)
        np.testing.assert_array_equal(together(4 * y, 0.4), 4 * together(y, 0.1))

    def test_a_bound_linen_module(self):
        net = tiny("dncnn", depth=3)
        bound = net.bind(random_variables(net, jnp.ones((1, 8, 8, 1))))
        y = pixels(1, 9, 11, 1)
        np.testing.assert_allclose(Denoiser(bound)(y), bound(y), atol=1e-5)

    def test_a_network_that_trains_by_default_is_evaluated(self, key):
        model = Trains()
        variables = model.init(key, jnp.ones((1, 8, 8, 1)), training=False)
        y = pixels(2, 9, 11, 1)
        expected = model.apply(variables, y, training=False)
        np.testing.assert_allclose(Denoiser(model, variables)(y), expected, atol=1e-5)

    def test_a_bare_network_of_large_multiples_is_tried_on_an_image_that_it_takes(self, key):
        variables = OnlyOn().init(key, jnp.ones((1, 32, 32, 3)))
        assert Denoiser(OnlyOn(), variables).channels == 3

    @pytest.mark.parametrize("kind", ["nnx", "function"])
    def test_it_is_exported(self, kind, tmp_path):
        pytest.importorskip("flatbuffers")
        model = wne.NNXWNE(Net(rngs=nnx.Rngs(0))) if kind == "nnx" else wne.wrap(jnp.tanh)
        denoise = Denoiser(model)
        denoise.export(tmp_path / "x.bin")
        y = pixels(2, 9, 11, 1)
        np.testing.assert_allclose(load_exported(tmp_path / "x.bin")(y), denoise(y), atol=1e-6)

    def test_what_cannot_be_saved_says_so(self, tmp_path):
        with pytest.raises(ValueError, match=r"functions have no configuration: .*export"):
            Denoiser(wne.wrap(jnp.tanh)).save(tmp_path / "x.safetensors")
        with pytest.raises(TypeError, match="its variables are missing"):
            Denoiser(Trains())

    def test_a_function_that_takes_no_images_says_so(self):
        with pytest.raises(ValueError, match=r"takes no batch \(1, 16, 16, 1\), nor one of 3 chan"):
            Denoiser(wne.wrap(lambda z: z @ jnp.ones((5, 5))))


class TestChannels:
    """Any number: it is found from the variables, and the image must have it."""

    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_of_a_linen_and_of_an_nnx_network(self, channels, tmp_path):
        net = wne.WNE(tiny("dncnn", depth=3))
        linen = Denoiser(net, random_variables(net, jnp.ones((1, 8, 8, channels))))
        in_nnx = Denoiser(wne.NNXWNE(Net(channels, rngs=nnx.Rngs(0))))
        y = pixels(9, 11, channels)
        for denoise in (linen, in_nnx):
            assert denoise.channels == channels
            np.testing.assert_array_equal(denoise(4 * y), 4 * denoise(y))
            denoise.save(tmp_path / "x.safetensors")
            again = Denoiser.load(tmp_path / "x.safetensors", allow_imports=True)
            assert again.channels == channels
            np.testing.assert_array_equal(again(y), denoise(y))
            with pytest.raises(ValueError, match=f"the model takes {channels}"):
                denoise(pixels(9, 11, 7))

    def test_a_noise_map_is_no_channel_of_the_image(self, key):
        net = tiny("fdncnn", conditioned=True)
        y = jnp.ones((1, 8, 8, 4))
        assert Denoiser(net, net.init(key, y, sigma=0.1)).channels == 4


@pytest.fixture(scope="module")
def denoise():
    net = wne.WNE(DnCNN(depth=3, features=4, ndim=3))
    return Denoiser(net, random_variables(net, jnp.ones((1, 6, 6, 6, 1))))


class TestVolumes:
    """A model of three spatial axes denoises [D, H, W], [D, H, W, C] and [B, D, H, W, C]."""

    @pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 1), (2, 5, 6, 7, 1), (5, 6, 7, 3)])
    def test_every_shape_comes_back(self, denoise, shape):
        y = pixels(*shape)
        found = denoise(y)
        assert found.shape == shape and denoise.ndim == 3
        batch = y[None, ..., None] if y.ndim == 3 else y if y.ndim == 5 else y[None]
        planes = np.moveaxis(batch, -1, 0).reshape(-1, *batch.shape[1:4], 1)
        expected = np.asarray(denoise.model.apply(denoise.variables, planes))
        expected = np.moveaxis(expected.reshape(-1, len(batch), *batch.shape[1:4]), 0, -1)
        np.testing.assert_allclose(found, expected.reshape(shape), atol=1e-5)

    def test_it_is_equivariant_in_whole_numbers_and_floats(self, denoise):
        y = pixels(5, 6, 7)
        np.testing.assert_array_equal(denoise(8 * y), 8 * denoise(y))
        counts = np.rint(1000 * y + 2000).astype(np.uint16)
        assert denoise(counts).dtype == np.uint16
        np.testing.assert_allclose(denoise(counts), denoise(counts.astype(float)), atol=0.51)

    def test_the_report_measures_volumes(self, denoise):
        report = measure(denoise.function, claim=denoise.symmetry, ndim=3, size=8)
        assert report.kept and report.powers_of_two

    def test_an_ensemble_turns_height_and_width(self, denoise):
        y = pixels(5, 6, 6)
        turned = np.rot90(y, axes=(1, 2))
        np.testing.assert_allclose(
            denoise(turned, self_ensemble=True),
            np.rot90(denoise(y, self_ensemble=True), axes=(1, 2)), atol=1e-5,
        )  # fmt: skip

    def test_it_is_exported_and_saved(self, denoise, tmp_path):
        pytest.importorskip("flatbuffers")
        y = pixels(2, 5, 6, 7, 1)
        denoise.export(tmp_path / "x.bin")
        np.testing.assert_allclose(load_exported(tmp_path / "x.bin")(y), denoise(y), atol=1e-6)
        denoise.save(tmp_path / "x.safetensors")
        np.testing.assert_array_equal(Denoiser.load(tmp_path / "x.safetensors")(y), denoise(y))

    def test_what_is_no_volume_is_refused(self, denoise):
        with pytest.raises(ValueError, match=r"\[D, H, W\], \[D, H, W, C\] or \[B, D, H, W, C\]"):
            denoise(pixels(6, 7))
        with pytest.raises(ValueError, match="a volume is denoised as a whole"):
            denoise(pixels(5, 6, 7), tile=16)
        with pytest.raises(
            ValueError, match=r"takes volumes, but files are denoised image by image"
        ):
            check_settings(denoise, Settings())
        gray = Denoiser(jax.nn.relu)
        with pytest.raises(ValueError, match="a model of volumes declares ndim = 3"):
            gray(pixels(1, 5, 6, 7, 1))


@pytest.mark.parametrize(
    ("backbone", "output", "returned"),
    [
        (lambda z: (z, z * z), ("value", "variance"), "a tuple"),
        (lambda z: z.mean((1, 2)), "invariant", r"shape \(1, 1\)"),
        (lambda z: jnp.repeat(z, 2, 1), "value", r"shape \(1, 16, 9, 1\)"),
    ],
    ids=["two outputs", "classes", "another size"],
)
def test_a_model_that_returns_no_image_like_its_input_is_refused(backbone, output, returned):
    denoise = Denoiser(wne.wrap(backbone, output=output))
    with pytest.raises(ValueError, match=rf"\(1, 8, 9, 1\), and this one returned {returned}"):
        denoise(pixels(8, 9))
