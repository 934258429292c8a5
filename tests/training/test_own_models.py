"""A network and a statistic of one's own, named by an import path or given from Python, go everywhere."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from PIL import Image

import wne_jax as wne
from wne_jax import protocol, statistics
from wne_jax.cli import main as commands
from wne_jax.cli.training_run import check_own_statistic
from wne_jax.config import ModelConfig, SmoothBase, WrapperConfig, config_of, model_from_values
from wne_jax.data import build_corpus
from wne_jax.inference.denoiser import Denoiser
from wne_jax.models import build, option_defaults
from wne_jax.training import TrainConfig, create_state, fit, make_train_step, package
from wne_jax.weights import WeightsError, load_model
from wne_jax.wrappers import fill, variables_of

pytestmark = pytest.mark.usefixtures("standard_promotion")

NETS = '''
import jax.numpy as jnp
from flax import linen as nn, nnx


class Plain(nn.Module):
    """Neither `train` nor a noise level."""

    features: int = 4

    @nn.compact
    def __call__(self, y):
        h = jnp.tanh(nn.Conv(self.features, (3, 3))(y))
        return nn.Conv(y.shape[-1], (3, 3))(h)


class Told(nn.Module):
    """Batch normalization, and the level under a name of its own."""

    noise_argument = "noise_std"
    multiple = 2

    @nn.compact
    def __call__(self, y, noise_std, *, train=False):
        assert y.shape[1] % 2 == y.shape[2] % 2 == 0
        h = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(y))
        return y - jnp.reshape(noise_std, (-1, 1, 1, 1)) * nn.Conv(1, (3, 3))(jnp.tanh(h))


class InNNX(nnx.Module):
    receptive_radius = 2

    def __init__(self, features=4, *, rngs):
        self.first = nnx.Conv(1, features, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.last = nnx.Conv(features, 1, (3, 3), rngs=rngs)

    def __call__(self, y, train=False):
        h = self.norm(self.first(y), use_running_average=not train)
        return self.last(jnp.tanh(h))


def wide(features=6):
    return Plain(features)


def nothing():
    return 3


class Two(nn.Module):
    @nn.compact
    def __call__(self, y):
        return nn.Conv(1, (3, 3))(y), y
'''

STATS = '''
from wne_jax.statistics import Statistics, mean_std


def mine(y, *, axes=None, where=None):
    """Twice the standard deviation."""
    location, scale, *_ = mean_std(y, axes=axes, where=where)
    return Statistics(location, 2 * scale)


def with_epsilon(y, *, axes=None, where=None):
    location, scale, *_ = mean_std(y, axes=axes, where=where)
    return Statistics(location, scale + 0.1)
'''

OWN = WrapperConfig("wne", "own_models.stats:mine")


@pytest.fixture(autouse=True)
def package_of_ones_own(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("own") / "own_models"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "nets.py").write_text(NETS)
    (folder / "stats.py").write_text(STATS)
    monkeypatch.syspath_prepend(folder.parent)
    for name in ("own_models", "own_models.nets", "own_models.stats"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)


def corpus():
    rng = np.random.default_rng(0)
    return build_corpus([rng.integers(0, 256, (20, 24, 1)).astype(np.uint8)])


def run_of(model, **changes):
    settings = {"patch": 12, "batch": 2, "steps": 2, "log_every": 1, "save_every": 1} | changes
    return TrainConfig(model=model, **settings)


@pytest.mark.parametrize(
    ("name", "options", "collections"),
    [
        ("Plain", {"features": 3}, {"params"}),
        ("Told", {}, {"params", "batch_stats"}),
        ("InNNX", {"features": 3}, {"params", "batch_stats"}),
        ("wide", {}, {"params"}),
    ],
)
def test_it_is_trained_saved_loaded_and_denoises(name, options, collections, tmp_path):
    model = ModelConfig(f"own_models.nets:{name}", options, OWN)
    before = create_state(run_of(model))
    state = fit(run_of(model), tmp_path / "run", corpus=corpus(), progress=False)
    assert set(state.variables()) == collections
    for kind in collections:
        moved = jax.tree.map(
            lambda a, b: bool(jnp.any(a != b)), state.variables()[kind], before.variables()[kind]
        )
        assert any(jax.tree.leaves(moved)), kind
    file = tmp_path / "run/denoiser.safetensors"
    config, variables = load_model(file, allow_imports=True)
    assert config == model
    chex.assert_trees_all_equal(variables, jax.tree.map(np.asarray, state.variables()))
    denoise = Denoiser.load(tmp_path / "run", allow_imports=True)
    y = np.random.default_rng(1).normal(0.5, 0.2, (9, 7)).astype(np.float32)
    sigma = (0.1, 0.3) if denoise.conditioned else (None, None)
    np.testing.assert_array_equal(denoise(4 * y, sigma[0] and 0.4), 4 * denoise(y, sigma[0]))
    np.testing.assert_allclose(
        denoise(3 * y - 1, sigma[1]), 3 * denoise(y, sigma[0]) - 1, atol=1e-4
    )


def test_what_a_class_declares_is_found(tmp_path):
    told, in_nnx = (build(f"own_models.nets:{name}") for name in ("Told", "InNNX"))
    assert protocol.condition(wne.WNE(told), 0.1) == {"noise_std": 0.1}
    assert protocol.multiple(wne.WNE(told)) == 2
    assert protocol.receptive_radius(wne.WNE(in_nnx)) == 2
    assert protocol.mode(wne.WNE(in_nnx), train=True) == {"train": True}
    assert list(option_defaults("own_models.nets:InNNX")) == ["features"]


def test_a_file_that_names_an_import_path_runs_no_code_unless_it_may(tmp_path):
    model = ModelConfig("own_models.nets:Plain", {}, OWN)
    fit(run_of(model), tmp_path / "run", corpus=corpus(), progress=False)
    file = tmp_path / "run/denoiser.safetensors"
    evil = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"
    folder = next(p for p in map(__import__("pathlib").Path, __import__("sys").path)
                  if (p / "own_models").is_dir()) / "own_models"  # fmt: skip
    for name in ("nets", "stats"):
        (folder / f"{name}.py").write_text(evil)
        __import__("sys").modules.pop(f"own_models.{name}")
    both = (
        r"own_models\.nets:Plain and own_models\.stats:mine, whose code would be run: allow_imports"
    )
    for load in (load_model, Denoiser.load):
        with pytest.raises(WeightsError, match=both):
            load(file)
    with pytest.raises(WeightsError, match=both):
        package(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"names own_models\.stats:mine, whose code"):
        load_model(file, allow_imports=["own_models.nets:Plain"])
    assert model_from_values(dataclasses.asdict(model)) == model  # values alone run nothing
    assert not (folder / "ran").exists()
    with pytest.raises(WeightsError, match=r"own_models\.nets has no Plain"):
        load_model(file, allow_imports=True)
    assert (folder / "ran").exists()


def test_an_unfinished_run_is_packaged_and_a_run_starts_from_another(tmp_path):
    model = ModelConfig("own_models.nets:Plain", {}, "wne")
    state = fit(run_of(model), tmp_path / "one", corpus=corpus(), progress=False)
    package(tmp_path / "one", tmp_path / "x.safetensors", allow_imports=True)
    for start in ("one", "x.safetensors"):
        begun = run_of(model, init=str(tmp_path / start), steps=1)
        fit(begun, tmp_path / f"from-{start}", corpus=corpus(), progress=False)
    other = run_of(ModelConfig("dncnn", {"depth": 3, "features": 4}), init=str(tmp_path / "one"))
    with pytest.raises(WeightsError, match="whose code would be run"):
        fit(other, tmp_path / "other", corpus=corpus(), progress=False)
    assert int(state.step) == 2


def test_a_module_from_python_is_trained_as_it_is(tmp_path):
    import own_models.nets as nets
    import own_models.stats as stats

    module = wne.WNE(wne.wrappers.smooth_base.SmoothBase(nets.Plain(3), 1.5), statistics=stats.mine)
    expected = ModelConfig("own_models.nets:Plain", {"features": 3}, OWN, SmoothBase(1.5))
    assert config_of(module) == expected
    given = fit(
        run_of(ModelConfig()), tmp_path / "a", corpus=corpus(), model=module, progress=False
    )
    named = fit(run_of(expected), tmp_path / "b", corpus=corpus(), progress=False)
    chex.assert_trees_all_equal(given, named)
    saved = json.loads((tmp_path / "a/config.json").read_text())["model"]
    assert saved["backbone"] == "own_models.nets:Plain"
    assert Denoiser.load(tmp_path / "a", allow_imports=True).model == module


def test_an_nnx_module_from_python_is_trained_from_its_own_variables(tmp_path):
    import own_models.nets as nets

    module = wne.NNXWNE(nets.InNNX(rngs=nnx.Rngs(7)))
    before = variables_of(module)
    trained = fit(
        run_of(ModelConfig()), tmp_path / "a", corpus=corpus(), model=module, progress=False
    ).variables()
    chex.assert_trees_all_equal(variables_of(module), before)
    expected = ModelConfig("own_models.nets:InNNX", {}, "wne")
    again = fit(
        run_of(expected), tmp_path / "b", corpus=corpus(), variables=before, progress=False
    ).variables()
    chex.assert_trees_all_equal(trained, again)
    fill(module, trained)
    chex.assert_trees_all_equal(variables_of(module), trained)
    y = jnp.asarray(np.random.default_rng(1).normal(0.5, 0.2, (1, 9, 7, 1)), jnp.float32)
    found = Denoiser.load(tmp_path / "a", allow_imports=True).function(y)
    np.testing.assert_allclose(module(y), found, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wne.WNE(nn.Conv(1, (3, 3)), axes=(1,)), "a wrapper may have only"),
        (lambda: type("Local", (nn.Module,), {"__qualname__": "f.<locals>.Local"})(), "top level"),
        (lambda: wne.WNE(nn.Dense(1), statistics=lambda y, **_: None), "top level of a module"),
        (lambda: jnp.tanh, "functions have no configuration: name a function"),
    ],
)
def test_a_module_that_no_configuration_rebuilds_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        config_of(make())


def test_a_class_of_a_script_or_notebook_is_warned_of(monkeypatch):
    import __main__

    inner = type("Inner", (nn.Module,), {"__module__": "__main__", "__qualname__": "Inner"})
    monkeypatch.setattr(__main__, "Inner", inner, raising=False)
    with pytest.warns(UserWarning, match="can be loaded only there: move it to a module"):
        assert config_of(inner()).backbone == "__main__:Inner"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_models.nets:Absent", r"own_models\.nets has no Absent"),
        ("own_models.absent:Plain", r"there is no module own_models\.absent; install it"),
        ("own_models.nets:", "of the form package.module:Name"),
        ("own_models.nets:nothing", "must return a Linen module, not a int"),
        ("vgg", "there is no model 'vgg'; use dncnn, .*, or package.module:Name"),
    ],
)
def test_a_name_of_nothing_is_one_line(name, message):
    with pytest.raises(ValueError, match=message):
        build(name)
    with pytest.raises(TypeError, match=r"Plain has no option 'width'; it has features"):
        build("own_models.nets:Plain", width=3)
    with pytest.raises(TypeError, match=r"flax\.linen:Dense needs the option 'features'"):
        build("flax.linen:Dense", use_bias=False)
    with pytest.raises(TypeError, match="an import path such as nets:MyNet, not a class"):
        ModelConfig(nn.Dense, {"features": 1})
    with pytest.raises(ValueError, match="statistics must be one of mean_std"):
        statistics.named("mode")


def test_a_network_of_two_outputs_is_refused_before_there_is_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"returns a tuple .* needs one image"):
        fit(run_of(ModelConfig("own_models.nets:Two")), tmp_path / "run", corpus=corpus())
    assert not (tmp_path / "run").exists()


def test_a_statistic_that_is_not_equivariant_is_noted(capsys):
    for name, noted in (("mine", False), ("with_epsilon", True)):
        wrapper = WrapperConfig("wne", f"own_models.stats:{name}")
        check_own_statistic(ModelConfig("own_models.nets:Plain", {}, wrapper))
        assert ("the network will not be equivariant" in capsys.readouterr().err) == noted


def test_a_precision_that_a_network_does_not_offer_is_one_line():
    run = run_of(ModelConfig("own_models.nets:Plain"), precision="bfloat16")
    with pytest.raises(ValueError, match=r"needs an option dtype, which own_models\.nets:Plain"):
        make_train_step(run)


def test_the_commands_take_import_paths(tmp_path, capsys):
    rng = np.random.default_rng(0)
    clean = tmp_path / "clean"
    clean.mkdir()
    Image.fromarray(rng.integers(0, 256, (20, 24)).astype(np.uint8)).save(clean / "0.png")
    run = tmp_path / "run"
    arguments = ["train", "--data", f"folder:{clean}", "-o", run, "--steps", 2, "--patch", 12,
                 "--batch", 2, "--backbone", "own_models.nets:Plain", "--option", "features=3",
                 "--statistics", "own_models.stats:mine"]  # fmt: skip
    assert commands.main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    assert "--allow-imports" in capsys.readouterr().out
    denoise = ["denoise", "--weights", run, clean / "0.png", "-o", tmp_path / "x.png"]
    assert commands.main([str(a) for a in denoise]) == 2
    assert "whose code would be run" in capsys.readouterr().err
    assert commands.main([*(str(a) for a in denoise), "--allow-imports"]) == 0
    assert np.asarray(Image.open(tmp_path / "x.png")).shape == (20, 24)
