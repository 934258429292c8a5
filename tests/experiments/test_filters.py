import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from experiments import filters
from experiments.harness import folders
from experiments.harness.networks import WEIGHTS, folder_of
from wne_jax.evaluation.records import read_records
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config


def write_network(options, arm):
    """Write a network with random weights in place of a trained one."""
    config = options.config(arm, 25.0)
    model, example = config.model.build(), jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), example)
    variables = jax.tree.map(lambda v: v + 0.02, variables)  # biases, too
    folder = folder_of(options, arm, config)
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    Denoiser(model, variables, config.model).save(folder / WEIGHTS)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The experiment on one image, with networks of random weights."""
    folder, rng = tmp_path_factory.mktemp("filters"), np.random.default_rng(0)
    coarse = rng.uniform(20, 230, (12, 11, 1)).repeat(8, axis=0).repeat(8, axis=1)
    (folder / "images").mkdir()
    pixels = (coarse + rng.normal(0, 9, coarse.shape)).astype(np.uint8)
    write_image(folder / "images" / "blocks.png", pixels)
    images = f"folder:{folder / 'images'}"
    options = filters.Options(
        data=images, test=(images,), networks=folder / "networks", stage="eval", size=48, window=17,
        workdir=folder / "filters",
    )  # fmt: skip
    for arm in ("baseline", "wne"):
        write_network(options, arm)
    filters.main(options)
    return options


def test_chosen_pixels_are_flat_edge_and_texture():
    clean = np.full((64, 64), 0.5)
    clean[:, 20:30] = 1.0
    clean[36:60, 36:60] = stats.norm.ppf(
        (np.random.default_rng(0).permutation(576) + 0.5) / 576
    ).reshape(24, 24)
    pixels = filters.choose_pixels(clean, 6)
    assert pixels["edge"][1] in (19, 20, 29, 30)
    assert min(pixels["texture"]) >= 36 and max(pixels["texture"]) < 60
    row, column = pixels["flat"]
    assert np.ptp(clean[row - 3 : row + 4, column - 3 : column + 4]) == 0


def test_only_filters_of_the_wrapped_network_sum_to_one(ran):
    records = read_records(ran.workdir / folders.RECORDS)
    values = {(r.arm, r.level, r.metric): r.value for r in records if r.value is not None}
    assert {key[:2] for key in values} == {(m, s) for m in ("baseline", "wne") for s in (10, 50)}
    for level in (10, 50):
        assert values["wne", level, "rho"] < 1e-5 > values["wne", level, "row_sum_error"]
        assert values["baseline", level, "row_sum_error"] > 1e-2
    with Image.open(ran.workdir / "filters-dncnn.png") as figure:
        assert min(figure.size) > 300
    assert "| dncnn ne-arch | not run | not run |" in (ran.workdir / "table.md").read_text()


def test_invalid_options_raise_before_training(tmp_path):
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images/small.png", np.zeros((96, 60, 1), np.uint8))
    small = f"folder:{tmp_path / 'images'}"
    places = {"networks": tmp_path / "networks", "workdir": tmp_path / "run"}
    for options, message in (
        ({"window": 4}, "window must be odd"),
        ({"window": 1}, r"at least 3 and below --size \(128\), not 1"),
        ({"window": 129}, "window must be odd, at least 3 and below --size"),
        ({"test": (small,)}, "size is 128, but images/small is 96x60"),
        (
            {"train_sigmas_255": ((10.0,), (25.0,))},
            "takes one level or one range LOW:HIGH, not 10 25",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            filters.main(filters.Options(**options, **places))
    assert not any(folder.exists() for folder in places.values())


def test_results_of_deleted_networks_are_kept(ran, tmp_path):
    shutil.copytree(ran.workdir, tmp_path / "filters")
    (tmp_path / "none").mkdir()
    again = dataclasses.replace(ran, networks=tmp_path / "none", workdir=tmp_path / "filters")
    before = {path.name: path.read_bytes() for path in (tmp_path / "filters").iterdir()}
    with pytest.raises(FileNotFoundError, match="holds none of"):
        filters.main(dataclasses.replace(again, overwrite=True))
    filters.main(dataclasses.replace(again, resume=True))
    after = {path.name: path.read_bytes() for path in (tmp_path / "filters").iterdir()}
    assert after == before
