"""`python -m wne_jax train`, with networks of a few features."""

import dataclasses
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from wne_jax.cli import main as commands
from wne_jax.cli import training_run
from wne_jax.cli.train import Train
from wne_jax.cli.train_options import Network
from wne_jax.cli.training_run import anchored, measure_anchor, model_config, train_config
from wne_jax.config import ModelConfig, SmoothBase, WrapperConfig
from wne_jax.data import build_corpus, load_images
from wne_jax.evaluation.sweeps import noisy_and_clean
from wne_jax.images.metrics import psnr
from wne_jax.inference.denoiser import Denoiser
from wne_jax.testing import random_variables
from wne_jax.training import Compute, Diverged, OptimizerConfig, TrainConfig, load_config
from wne_jax.training.config import differences

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = ("--patch", 12, "--batch", 2, "--steps", 3)
TINY = ("--option", "depth=3", "features=4", *SMALL)
BARE = ModelConfig("dncnn", {"depth": 3, "features": 4, "batch_norm": False})


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folders of images: `clean`, `noisy` with pairs of them, `bursts/0` and `bursts/1` with two shots."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for scene in range(2):
        clean = np.repeat(np.repeat(rng.integers(40, 200, (4, 4, 3)), 6, 0), 6, 1)
        shots = np.clip(clean + rng.normal(0, 20, (2, *clean.shape)), 0, 255)
        places = ("clean/{}.png", "noisy/{}.png", "bursts/{}/0.png", "bursts/{}/1.png")
        for place, pixels in zip(places, (clean, *shots, shots[0])):
            path = root / place.format(scene)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def bare(tmp_path):
    """A file of a bare network, and its denoiser."""
    variables = random_variables(BARE.build(), jnp.zeros((1, 8, 8, 1)))
    denoiser = Denoiser(BARE.build(), variables, BARE)
    denoiser.save(tmp_path / "bare.safetensors")
    return tmp_path / "bare.safetensors", denoiser


def train(*arguments) -> int:
    return commands.main(["train", *map(str, arguments)])


def mistake(capsys, *arguments) -> str:
    """Run a command that must exit with code 2, and return its single line on stderr."""
    capsys.readouterr()
    assert train(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def test_a_network_is_trained_and_denoises(tmp_path, images, capsys):
    run = tmp_path / "my run"
    assert train(
        "--data", f"folder:{images / 'clean'}", "-o", run, "--channels", 3, "--train-sigmas-255", "0:55",
        "--backbone", "fdncnn", "--option", "depth=3", "--option", "features=4", "conditioned=true",
        "--statistics", "high_pass", *SMALL,
    ) == 0  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    config = load_config(run / "config.json")
    assert config.sigma_255 == (0, 55) and config.steps == 3 and config.init is None
    options = {"depth": 3, "features": 4, "conditioned": True}
    assert config.model == ModelConfig("fdncnn", options, wrapper=WrapperConfig("wne", "high_pass"))
    assert said[-2] == f"trained: {run}"
    program, _, command = said[-1].removeprefix("use it: ").partition(" wne_jax ")
    for name, value in (("IN...", images / "clean/0.png"), ("OUT", f"'{tmp_path}/x.png'")):
        command = command.replace(name, str(value))
    typed = shlex.split(command.replace("LEVEL", "20"))
    assert program == "python -m" and commands.main(typed) == 0
    assert np.asarray(Image.open(tmp_path / "x.png")).shape == (24, 24, 3)


def test_defaults_agree_with_train_config_with_exceptions():
    config = train_config(Train(data="embedded", out="run"), None)
    assert differences(config, TrainConfig()) == ["model.wrapper", "save_every", "steps"]


def test_options_reach_the_configuration(monkeypatch):
    seen = {}
    monkeypatch.setattr(training_run, "load_corpus", lambda config, data_dir: data_dir)
    monkeypatch.setattr(
        training_run, "fit", lambda config, out, **how: seen.update(how, config=config)
    )
    assert train(
        "--data", "embedded", "-o", "run", "--data-dir", "sets", "--resume", "--loss", "l1",
        "--optimizer", "adamw", "--learning-rate", 0.01, "--schedule", "constant", "--ema", 0.9,
        "--clip", 1, "--accumulate", 2, "--precision", "bfloat16", "--seed", 5, "--anchor", 0.5, 1,
        "--log-every", 7, "--save-every", 8, "--noise", "poisson", "--parallel", "pmap",
        "--corpus", "host", "--statistics", "haar_mad", "--smooth-base", 4, "--wiener-cap", 1.3,
    ) == 0  # fmt: skip
    assert seen.pop("config") == TrainConfig(
        model=ModelConfig(
            wrapper=WrapperConfig("wne", "haar_mad", anchor=(0.5, 1)),
            inside=SmoothBase(4, wiener_cap=1.3),
        ),
        loss="l1", steps=2000, accumulate=2,
        optimizer=OptimizerConfig("adamw", 0.01, "constant", ema=0.9, clip=1.0), seed=5,
        precision="bfloat16", log_every=7, save_every=8, noise="poisson",
    )  # fmt: skip
    assert seen == {"resume": True, "corpus": Path("sets"), "compute": Compute("pmap", "host")}
    network = Network(backbone="swinir", option=(("window=4", "groups=1"), ("blocks=2",)))
    assert model_config(network, None).options == {"window": 4, "groups": 1, "blocks": 2}


def test_a_bare_network_is_wrapped_in_its_own_coordinates(tmp_path, images, bare, capsys):
    """On an image with that location and scale, the wrapped network equals the bare one."""
    path, before = bare
    run = tmp_path / "run"
    pairs = f"pairs:{images / 'noisy'}:{images / 'clean'}"
    arguments = ("--data", pairs, "-o", run, "--init", path, *SMALL,
                 "--learning-rate", 1e-12, "--steps", 1)  # fmt: skip
    assert train(*arguments) == 0
    config = load_config(run / "config.json")
    location, scale = config.model.wrapper.anchor
    assert config.init == str(path) and config.model.wrapper.kind == "wne"
    assert 0.2 < location < 0.8 and 0.05 < scale < 0.4
    after = Denoiser.load(run)
    y = np.random.default_rng(1).normal(size=(16, 16))
    y = location + scale * (y - y.mean()) / y.std()
    assert np.abs(before(y) - y).max() > 0.1
    np.testing.assert_allclose(after(y), before(y), atol=1e-5)
    assert "resume it, or choose another" in mistake(capsys, *arguments)
    assert train(*arguments, "--resume") == 0  # the measured anchor is the same


def test_a_bare_network_may_get_a_smooth_base_and_a_wiener_cap(tmp_path, images, bare):
    """With a noise level as scale, the anchor's scale is the noise level, and the cap is in its units."""
    path, _ = bare
    arguments = ("--data", f"folder:{images / 'clean'}", "-o", tmp_path / "run", "--init", path, *SMALL,
                 "--learning-rate", 1e-12, "--steps", 1, "--statistics", "haar_mad",
                 "--smooth-base", 2, "--wiener-cap", 1.3)  # fmt: skip
    assert train(*arguments) == 0
    wrapper = load_config(tmp_path / "run/config.json").model.wrapper
    assert wrapper.statistic == "haar_mad" and 0.05 < wrapper.anchor[1] < 0.2
    inside = SmoothBase(2.0, wiener_cap=1.3)
    expected = Denoiser.load(path, wrapper=wrapper, inside=inside)
    y = np.random.default_rng(1).normal(0.5, 0.1, size=(16, 16)).astype(np.float32)
    found = Denoiser.load(tmp_path / "run")
    assert found.config == expected.config
    np.testing.assert_allclose(found(y), expected(y), atol=1e-5)
    free = Denoiser.load(path, wrapper=wrapper, inside=SmoothBase(2.0))
    assert np.abs(free(y) - y).std() > np.abs(found(y) - y).std()  # the network removes too much


def test_a_published_network_with_a_smooth_base_gains_below_its_level(wne_weights, wne_data):
    path = wne_weights / "dncnn_gray_sigma25.matconvnet.mat"
    pytest.importorskip("h5py", reason="reading MatConvNet files needs h5py")
    wrapper = WrapperConfig("wne", "haar_mad", anchor=(0.45, 25 / 255))
    image = load_images("folder:Set12", split="test")[4]
    image = image._replace(pixels=image.pixels[64:192, 64:192])
    noisy, clean = noisy_and_clean(image, 10.0, jax.random.key(0))
    quality = {}
    for cap in (None, 1.3):
        denoise = Denoiser.load(
            path, wrapper=wrapper, inside=SmoothBase(8.0, wiener_cap=cap)
        ).function
        quality[cap] = psnr(denoise(noisy).clip(0, 1), clean)[0]
    assert quality[1.3] > quality[None] + 2  # 27.5 and 30.4 dB here


def test_the_anchor_describes_the_inputs_of_the_training():
    """On constant images with noise, a bare network had the noise level as scale, a wrapped one 1."""
    corpus = build_corpus([np.full((80, 80, 1), 128, np.uint8)])
    config = TrainConfig(
        model=ModelConfig(wrapper=WrapperConfig("wne", "high_pass")), sigma_255=(51,), patch=72
    )
    location, scale = measure_anchor(config, corpus, BARE)
    assert location == pytest.approx(128 / 255, abs=0.002) and scale == pytest.approx(0.2, rel=0.03)
    wrapped = dataclasses.replace(BARE, wrapper=WrapperConfig(anchor=(0.5, 0.1)))
    location, scale = measure_anchor(config, corpus, wrapped)
    assert location == pytest.approx(0.5, abs=0.001) and scale == pytest.approx(0.1, rel=0.03)


def test_a_wrapped_network_keeps_its_wrapper_by_default(bare):
    _, denoiser = bare
    wrapper = WrapperConfig("wne", "high_pass", anchor=(0.4, 0.1))
    wrapped = dataclasses.replace(BARE, wrapper=wrapper)
    for options, expected in [
        ({}, wrapper),
        ({"statistics": "mean_std"}, dataclasses.replace(wrapper, statistic="mean_std")),
        ({"anchor": (0.0, 2.0)}, dataclasses.replace(wrapper, anchor=(0, 2))),
        ({"wrapper": "input"}, dataclasses.replace(wrapper, kind="input")),
        ({"wrapper": "scale"}, WrapperConfig("scale", anchor=(0.4, 0.1))),
        ({"wrapper": "none"}, None),
    ]:
        changed = dataclasses.replace(wrapped, wrapper=expected)
        assert model_config(Network(**options), wrapped) == changed
    capped = ModelConfig(
        wrapper=WrapperConfig("wne", "haar_mad"), inside=SmoothBase(4.0, wiener_cap=1.3)
    )
    assert model_config(Network(), capped) == capped
    wider = dataclasses.replace(capped, inside=SmoothBase(8.0))
    assert model_config(Network(smooth_base=8.0), capped) == wider
    looser = dataclasses.replace(capped, inside=SmoothBase(4.0, wiener_cap=2.0))
    assert model_config(Network(wiener_cap=2.0), capped) == looser
    assert model_config(Network(wrapper="none"), capped) == ModelConfig()
    assert model_config(Network(), BARE).wrapper == WrapperConfig()
    given = Denoiser(wrapped.build(), denoiser.variables, wrapped)
    run = Train(data="embedded", out="run", network=Network(init="x.safetensors"))
    config = train_config(run, given)
    assert anchored(run, config, None, given) is config  # not measured


def test_a_file_that_fits_two_models_is_read_by_its_mode(tmp_path, images, capsys):
    kernels = {
        f"fdncnn.{2 * i}.weight": (*io, 3, 3) for i, io in enumerate([(4, 1), (4, 4), (1, 4)])
    }
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in kernels.items()}
    save_file({k: v.astype(np.float32) for k, v in tensors.items()}, tmp_path / "x.safetensors")
    arguments = ("--data", f"repeats:{images / 'bursts'}", "-o", tmp_path / "run", *SMALL,
                 "--init", tmp_path / "x.safetensors")  # fmt: skip
    assert "choose one with mode=" in mistake(capsys, *arguments)
    assert train(*arguments, "--mode", "scale-equivariant") == 0
    assert Denoiser.load(tmp_path / "run").config.options["mode"] == "scale-equivariant"


def test_invalid_options_give_one_line_and_create_no_folder(tmp_path, images, bare, capsys):
    path, _ = bare
    clean, run = f"folder:{images / 'clean'}", tmp_path / "run"
    for arguments, reason in [
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "nothing"), "known schemes are"),
        (("--data", clean, "--patch", 25), "smaller than min_size 25"),
        (("--data", clean, "--backbone", "vgg"), "there is no model 'vgg'"),
        (("--data", clean, "--option", "depth"), "must be NAME=VALUE"),
        (("--data", clean, "--option", "width=3"), "no option 'width'; it has depth, features"),
        (("--data", clean, "--option", "batch_norm=True"), "a value like true"),
        (("--data", clean, "--option", "depth=3.5"), "a value like 20"),
        (("--data", clean, "--option", "depth=true"), "a value like 20"),
        (("--data", clean, "--statistics", "mode"), "statistics must be one of"),
        (("--data", clean, "--statistics", "mean_std", "--wrapper", "scale"), "leave it out"),
        (("--data", clean, "--anchor", 0, 2, "--wrapper", "none"), "anchor"),
        (("--data", clean, "--wiener-cap", 1.3), "--wiener-cap needs --smooth-base"),
        (("--data", clean, "--smooth-base", 4, "--wiener-cap", 1.3), "a statistic whose scale is"),
        (("--data", clean, "--smooth-base", 0), "sigma_px must be positive"),
        (("--data", clean, "--anchor", 0, 0), "anchor must be a location and a positive scale"),
        (("--data", clean, "--noise", "loud"), "noise must be one of"),
        (("--data", clean, "--mode", "ordinary"), "need --init"),
        (("--data", clean, "--learning-rate", 0), "learning_rate must be positive"),
        (("--data", clean, "--init", tmp_path / "no.pth"), "no.pth"),
        (("--data", clean, "--init", path, "--option", "depth=3"), "--init sets them"),
        (("--data", clean, "--init", path, "--channels", 3), "takes 1"),
        (
            ("--data", f"repeats:{images}", "--train-sigmas-255", 25),
            "already has noise: leave them out",
        ),
        (("--data", f"sidd:{images}", "--noise", "poisson"), "already has noise: leave them out"),
        (("--data", clean, "--processes", 2), "need a coordinator"),
        (("--data", clean, "--coordinator", "here:1"), "needs processes and process-id"),
    ]:
        assert reason in mistake(capsys, *arguments, "-o", run)
    for arguments in (
        ("--data", clean),
        ("--data", clean, "-o", run, "--loss", "l3"),
        ("--data", clean, "-o", run, "--train-sigmas-255", "50:5"),
    ):
        with pytest.raises(SystemExit) as stopped:
            train(*arguments)
        assert stopped.value.code == 2
    assert not run.exists()


def test_divergence_is_reported_as_an_error(tmp_path, images, capsys, monkeypatch):
    def diverge(*arguments, **options):
        raise Diverged("not finite at step 3")

    monkeypatch.setattr(training_run, "fit", diverge)
    said = mistake(capsys, "--data", f"folder:{images / 'clean'}", "-o", tmp_path / "run", *TINY)
    assert said == "error: not finite at step 3"


def test_a_process_joins_the_others_before_jax_is_used(tmp_path):
    """Otherwise joining would fail, and that error would hide the one about the images."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "wne_jax", "train", "--data", "folder:nowhere", "-o", tmp_path / "run",
         "--coordinator", f"localhost:{port}", "--processes", "1", "--process-id", "0"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "cannot join" not in done.stderr
    assert "nowhere" in done.stderr.splitlines()[-1]
