"""Tasks: the degradation, the batch, the network that suits it, and what a trained file does."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.cli.denoise_files import Settings, check_settings
from wne_jax.config import ModelConfig, WrapperConfig
from wne_jax.data import build_corpus, stream_crops
from wne_jax.images.degradations import NOISES
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.layers import pixel_shuffle
from wne_jax.operators import BayerMosaic, Downsample
from wne_jax.symmetry.actions import Affine
from wne_jax.symmetry.equivariance import assert_equivariant
from wne_jax.training import TrainConfig, draw_batch, fit, load_corpus, make_train_step
from wne_jax.training.checkpoints import Checkpoints
from wne_jax.training.config import differences
from wne_jax.training.objectives import OBJECTIVES
from wne_jax.training.step import data_key
from wne_jax.training.tasks import Task

pytestmark = pytest.mark.usefixtures("standard_promotion")

NAMES = ["denoise", "deblur", "superres:2", "demosaic", "inpaint"]
SMALL = ModelConfig(options={"depth": 2, "features": 4}, wrapper="wne")


def config(name, **changes):
    task = Task.parse(name)
    common = {"patch": 16, "batch": 2, "steps": 4, "save_every": 2, "sigma_255": 10.0}
    channels = 3 if name == "demosaic" else 1
    return TrainConfig(
        **{"model": task.fitted(SMALL), "task": name, "channels": channels, **common} | changes
    )


def corpus(channels=1):
    rng = np.random.default_rng(0)
    return build_corpus([rng.integers(0, 256, (24, 30, channels)).astype(np.uint8)])


@functools.partial(jax.jit, static_argnums=0)
def observe(name, clean, level=0.0):
    return Task.parse(name).observe(jax.random.key(0), clean, NOISES["gaussian"], level)


@pytest.fixture
def clean():
    return jax.random.uniform(jax.random.key(3), (16, 20, 3))


@pytest.mark.parametrize("name", NAMES)
def test_an_observation_without_noise_is_linear_and_keeps_constants_where_it_is_known(name, clean):
    y, where = observe(name, clean)
    moved, same = observe(name, 2 * clean - 0.7)
    if where is not None:
        np.testing.assert_array_equal(where, same)
        assert not y[~where[..., 0]].any() and 0.3 < where.mean() < 0.7
    expected = 2 * y - 0.7 if where is None else jnp.where(where, 2 * y - 0.7, 0)
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_observations_are_those_of_their_operators(clean):
    np.testing.assert_array_equal(observe("denoise", clean).y, clean)
    np.testing.assert_array_equal(observe("superres:2", clean).y, Downsample(2)(clean[None])[0])
    y = observe("demosaic", clean).y
    np.testing.assert_array_equal(y[..., 0], clean[::2, ::2, 0])
    np.testing.assert_array_equal(y[..., 3], clean[1::2, 1::2, 2])
    np.testing.assert_array_equal(pixel_shuffle(y[None], 2), BayerMosaic()(clean[None]))
    y, where = observe("inpaint:0.2", clean, level=0.1)
    assert 0.1 < where.mean() < 0.3 and not y[~where[..., 0]].any()
    np.testing.assert_allclose(jnp.std((y - clean)[where[..., 0]]), 0.1, rtol=0.2)


def test_soft_ne_moves_scene_and_known_pixels_together(clean):
    common = {"noise": NOISES["gaussian"], "level": 0.1, "task": Task.parse("inpaint")}
    one, moved = (
        OBJECTIVES[o](jax.random.key(5), clean, **common) for o in ("supervised", "soft-ne")
    )
    a = moved.sigma / one.sigma
    b = (moved.clean - a * one.clean)[0, 0, 0]
    np.testing.assert_allclose(moved.noisy, jnp.where(one.where, a * one.noisy + b, 0), atol=1e-6)


def test_a_batch_is_a_function_of_corpus_seed_and_step():
    run, images = config("inpaint"), corpus()
    draw = jax.jit(lambda source, t, i: draw_batch(run, source, t, i))
    whole = draw(images, jnp.int32(3), jnp.arange(2))
    chex.assert_trees_all_equal(draw(images, jnp.int32(3), jnp.arange(2)), whole)
    assert not np.array_equal(whole.noisy, draw(images, jnp.int32(4), jnp.arange(2)).noisy)
    stream = stream_crops(
        data_key(run), images, np.arange(2), size=16, start=3, stop=4, factor=run.factor
    )
    chex.assert_trees_all_equal(draw(next(stream), jnp.int32(3), jnp.arange(2)), whole)


def test_a_resumed_run_equals_an_uninterrupted_one_and_its_file_says_the_task(
    tmp_path, monkeypatch
):
    run, images = config("inpaint"), corpus()
    whole = fit(run, tmp_path / "whole", corpus=images, progress=False)
    save = Checkpoints.save

    def save_and_stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", save_and_stop)
        fit(run, tmp_path / "run", corpus=images, progress=False)
    resumed = fit(run, tmp_path / "run", corpus=images, resume=True, progress=False)
    chex.assert_trees_all_equal(resumed, whole)
    other = dataclasses.replace(run, task="inpaint:0.3")
    with pytest.raises(ValueError, match=r"other values of task"):
        fit(other, tmp_path / "run", corpus=images, resume=True)
    denoiser = Denoiser.load(tmp_path / "run")
    denoiser.save(tmp_path / "again.safetensors")
    assert Denoiser.load(tmp_path / "again.safetensors").task == denoiser.task == "inpaint:0.5"


def made(name, wrapper="wne"):
    """A restorer with random variables."""
    task = Task.parse(name)
    model = task.fitted(dataclasses.replace(SMALL, wrapper=wrapper))
    y = jnp.zeros(task.input_shape(16, 3 if name == "demosaic" else 1))
    module = model.build()
    variables = jax.jit(module.init)(jax.random.key(0), y)
    variables = jax.tree.map(lambda p: p + 0.1, variables)  # the last layer begins at zero
    return Denoiser(module, variables, model, task=str(task))


def test_a_restorer_of_every_task_is_equivariant(clean):
    for name in NAMES[1:]:  # the network of "denoise" is that of "deblur"
        seen = observe(name, clean if name == "demosaic" else clean[..., :1], level=0.1)
        where = None if seen.where is None else seen.where[None]
        f = functools.partial(made(name).function, where=where)
        x = f(seen.y[None])
        assert x.shape == (1, 16, 20, 3 if name == "demosaic" else 1)
        assert_equivariant(f, Affine(3.0, -0.7), seen.y[None], gain=4.0)


def test_missing_pixels_influence_nothing_and_are_filled(clean):
    y, where = (np.asarray(part) for part in observe("inpaint", clean[..., :1], level=0.1))
    restore = made("inpaint")
    hidden = np.where(where, y, np.nan)[..., 0]
    found = restore(hidden, where=where[..., 0])
    other = np.where(where[..., 0], y[..., 0], np.float32(9))
    np.testing.assert_array_equal(found, restore(other, where=where[..., 0]))
    assert found.shape == hidden.shape and np.isfinite(found).all()
    np.testing.assert_allclose(
        found, restore.function(y[None], where=where[None])[0, ..., 0], atol=1e-4
    )
    assert np.isfinite(restore(y[..., 0])).all()  # nothing is missing


def test_a_restorer_enlarges_images_as_people_have_them():
    restore = made("superres:2")
    gray = np.random.default_rng(0).integers(0, 256, (10, 12)).astype(np.uint8)
    found = restore(gray)
    assert found.shape == (20, 24) and found.dtype == np.uint8
    colour = np.stack([gray, gray[::-1], gray], -1)
    np.testing.assert_array_equal(restore(colour)[..., 0], found)
    assert restore(colour[None]).shape == (1, 20, 24, 3)
    for options in ({"tile": 64}, {"strength": 0.5}, {"where": gray > 9}):
        with pytest.raises(ValueError, match="superres:2"):
            restore(gray, **options)
    assert made("demosaic")(np.zeros((8, 6, 4), np.float32)).shape == (16, 12, 3)


def test_a_noise_level_of_zero_is_not_a_scale_to_deblur_by():
    restore = made("deblur", WrapperConfig("wne", "noise_level"))
    with pytest.raises(ValueError, match="sigma must be above 0 for the task deblur"):
        restore(np.zeros((16, 16)), 0.0)


def test_at_the_start_a_network_repeats_the_pixels():
    for backbone, options in (("dncnn", SMALL.options), ("swinir", {"groups": 1, "blocks": 1})):
        model = ModelConfig(backbone, {**options, "upscale": 2}).build()
        y = jax.random.uniform(jax.random.key(0), (1, 5, 9, 1))
        variables = jax.jit(model.init)(jax.random.key(1), y)
        tail = "conv_1" if backbone == "dncnn" else "conv_last"
        variables["params"][tail] = jax.tree.map(jnp.zeros_like, variables["params"][tail])
        expected = y.repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_array_equal(jax.jit(model.apply)(variables, y), expected)


def test_pairs_have_two_sizes(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 15, 1)).astype(np.uint8)
    large = small.repeat(2, 0).repeat(2, 1)  # so the two can be compared
    for folder, image in (("small", small), ("large", large)):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png", image)
    run = config("superres:2", data=f"pairs:{tmp_path}/small:{tmp_path}/large")
    images = load_corpus(run)
    batch = jax.jit(lambda t: draw_batch(run, images, t))(jnp.int32(0))
    assert batch.noisy.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(batch.noisy.repeat(2, 1).repeat(2, 2), batch.clean)
    with pytest.raises(ValueError, match="the shots differ"):
        load_corpus(dataclasses.replace(run, task="deblur"))
    with pytest.raises(ValueError, match="do not differ by a factor of 4"):
        load_corpus(dataclasses.replace(run, task="superres:4"))


def test_the_command_refuses_files_whose_result_is_another_file():
    check_settings(made("deblur"), Settings())
    for name in ("superres:2", "demosaic", "inpaint"):
        with pytest.raises(ValueError, match=f"of the task {Task.parse(name)}") as found:
            check_settings(made(name), Settings())
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sharpen"}, "task must be one of denoise"),
        ({"task": "superres:5"}, "takes 2, 3 or 4, not 5"),
        ({"task": "superres:two"}, "must be NAME or NAME:NUMBER"),
        ({"task": "denoise:2"}, "takes no number"),
        ({"task": "inpaint:1"}, "between 0 and 1"),
        ({"task": "superres:3", "patch": 16}, "patch must be a multiple of 3"),
        ({"task": "demosaic"}, "channels must be 3"),
        ({"task": "deblur", "objective": "noise2noise"}, "for the task denoise"),
    ],
)
def test_invalid_tasks_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as found:
        TrainConfig(**changes)
    assert "\n" not in str(found.value)


def test_a_network_that_does_not_suit_the_task_is_refused():
    for name, model, message in (
        ("superres:2", SMALL, "needs a network of upscale = 2"),
        ("denoise", Task.parse("superres:2").fitted(SMALL), "needs a network of upscale = 1"),
        ("inpaint", SMALL, "needs a network that takes a mask"),
    ):
        with pytest.raises(ValueError, match=message):
            make_train_step(config(name, model=model))


def test_the_task_is_part_of_the_identity():
    one, two = (TrainConfig(task=name) for name in ("deblur", "deblur:2"))
    assert differences(one, TrainConfig(task="deblur:1.6")) == []
    assert differences(one, two) == ["task"]
