import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.harness import networks, published, sizes
from experiments.harness.options import Networks
from experiments.noise2noise import VIEWS, Options, main
from experiments.parts.restoration import denoise_until, kept_steps, projector, solve
from wne_jax.data import NamedImage
from wne_jax.evaluation.records import read_records
from wne_jax.images.reading import write_image
from wne_jax.inference import solvers
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config

TASKS = ("denoising", "inpainting")


def photograph(shape, seed=0):
    """Smooth random images, which differ from white noise."""
    x = np.random.default_rng(seed).normal(size=(*shape, 1))
    for axis in (0, 1):
        for _ in range(12):
            x = (x + np.roll(x, 1, axis)) / 2
    return NamedImage(
        f"photograph{seed}", np.rint(255 * (x - x.min()) / np.ptp(x)).astype(np.uint8)
    )


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """The experiment on two small images with networks of random weights."""
    root = tmp_path_factory.mktemp("noise2noise")
    (root / "Set12").mkdir()
    for seed in range(2):
        write_image(root / f"Set12/{seed}.png", photograph((32, 40), seed).pixels)
    small = {"dncnn": {"depth": 3, "features": 4}}
    with pytest.MonkeyPatch.context() as patch:
        tiny = dataclasses.replace(sizes.PRESETS["tiny"], networks=small)
        patch.setitem(sizes.PRESETS, "tiny", tiny)
        there = Networks(networks=root / "networks")
        for arm in ("n2n", "n2n-wne", "baseline"):
            config = there.config(arm, 10.0)
            model = config.model.build()
            variables = jax.jit(model.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 1)))
            folder = networks.folder_of(there, arm, config)
            folder.mkdir(parents=True)
            save_config(config, folder / "config.json")
            Denoiser(model, variables, config.model).save(folder / networks.WEIGHTS)
        options = Options(
            networks=root / "networks", stage="eval", test=(f"folder:{root / 'Set12'}",),
            test_sigmas_255=(10.0, 50.0), problems=TASKS[1:], max_steps=6, denoising_steps=4,
            workdir=root / "run",
        )  # fmt: skip
        main(options)
        yield options


@pytest.fixture(scope="module")
def finished(options):
    return options.workdir


@pytest.fixture(scope="module")
def records(finished):
    return read_records(finished / "records.csv")


def iterations(records, metric):
    return [r for r in records if r.metric == metric and r["result"] and r.value is not None]


def test_every_result_has_its_published_figure_or_is_not_run(finished, records):
    tables = VIEWS[1].pivot(records)
    (stopped,) = (table for title, table in tables.items() if "denoising" in title)
    for column, figure in published.RESIDUAL_STOPPED["wne"].items():
        assert stopped.cells[("n2n-wne",), (column,)].published == figure
        assert stopped.cells[("n2n-wne-wiener-cap",), (column,)].value is None
    (inpainting,) = (table for title, table in tables.items() if "inpainting" in title)
    found = {column: inpainting.cells[("n2n",), (column,)].published
             for (column,) in inpainting.columns}  # fmt: skip
    assert found == published.INPAINTING["baseline"]
    table = (finished / "table.md").read_text()
    assert "| wne | not run" in table and "| n2n-wne-wiener-cap | not run |" in table
    assert "images 2, size at most 64x64; at most 6 steps" in table and "revision" in table


def test_all_arms_start_from_the_same_pixels_and_stop_at_the_maximum(records):
    assert {(r["task"], r.arm) for r in iterations(records, "steps")} == {
        (task, arm) for task in TASKS for arm in ("n2n", "n2n-wne")
    }
    found = {(r["task"], r.arm, r.image, r["result"]): r.value
             for metric in ("psnr", "steps") for r in iterations(records, metric)}  # fmt: skip
    for (task, arm, image, result), value in found.items():
        if result == "steps":
            assert value <= (4 if task == "denoising" else 6)
            if task == "denoising":
                assert found[task, arm, image, "steps to best"] <= value
                assert found[task, arm, image, "final"] <= found[task, arm, image, "best"]
    curves = [r for r in records if r.metric == "psnr_at_step"]
    for task in TASKS:
        for image in ("0", "1"):
            start = [r.value for r in curves if (r["task"], r.image, r["step"]) == (task, image, 0)]
            assert len(start) == 2 and start[0] == start[1]


def test_one_pass_of_denoising_equals_the_sweep(records):
    swept = {
        (r.arm, r.image): r.value
        for r in records
        if (r.metric, r.level, r["task"]) == ("psnr", 10, None) and r.value is not None
    }
    assert {arm for arm, _ in swept} == {"input", "n2n", "n2n-wne", "baseline"}
    for r in iterations(records, "psnr"):
        if (r["task"], r["result"]) == ("denoising", "one pass"):
            assert r.value == pytest.approx(swept[r.arm, r.image], abs=1e-4)


def test_figures_and_a_small_animation_are_written(finished):
    names = {path.name for path in finished.iterdir()}
    assert {f"{task}-Set12.png" for task in TASKS} <= names
    assert {f"trajectories-{task}-Set12.png" for task in TASKS} <= names
    for task in TASKS[1:]:
        path = finished / f"trajectories-{task}-Set12.gif"
        with Image.open(path) as animation:
            assert animation.is_animated and animation.n_frames == 7
        assert path.stat().st_size < 1.5e6


def test_kept_steps_include_the_first_and_the_last():
    for last in (0, 1, 7, 1000):
        steps = kept_steps(last)
        assert steps[0] == 0 and steps[-1] == last and len(steps) == len(set(steps)) <= 64


def test_problems_are_orthogonal_projectors(key):
    keys = jax.random.split(key, 2)
    for problem in ("inpainting", "hole", "lowpass", "blocks"):
        p = projector(problem, keys, (2, 32, 40, 1))
        solvers.check_projector(p, key, (2, 32, 40, 1))


def test_an_ideal_denoiser_takes_the_steps_of_the_schedule(key):
    images = [photograph((32, 40), seed) for seed in range(2)]
    clean = jnp.stack([jnp.asarray(image.pixels, jnp.float32) / 255 for image in images])

    def oracle(y):
        return clean

    # The level decreases by the factor 1 - beta h per step, from about 1 to 0.01, up to random deviations.
    h = np.array([solvers.schedule(t, h0=0.01, beta=0.01)[0] for t in range(1, 1000)])
    expected = np.argmax(np.cumprod(1 - 0.01 * h) <= 0.01)
    found = solve("inpainting", oracle, images, key, max_steps=999)
    for outcome in found:
        assert outcome.record["steps"] == pytest.approx(expected, rel=0.2)
        assert outcome.record["converged"] and outcome.sigma[-1] <= 0.01 < outcome.sigma[-2]
        # The remaining error is the level: PSNR = -20 log10 s, or more due to the known part.
        assert 0 <= outcome.record["final"] + 20 * np.log10(outcome.sigma[-1]) < 1
        assert outcome.record["one_pass"] > 90 and outcome.record["ssim"] > 0.9
    for outcome in denoise_until(oracle, images, key, sigma_255=10.0, max_steps=100):
        # Without noise the factor is 1 - h, from 10 to 1: the published networks need 22.8 and 25.0.
        assert outcome.record["steps"] == outcome.record["steps_to_best"] == 22


def test_images_are_cropped_to_whole_blocks(key):
    image = photograph((34, 43))
    (found,) = solve("blocks", lambda y: 0.9 * y, [image], key, max_steps=1)
    clean = image.pixels[:32, :40] / 255
    np.testing.assert_allclose(found.clean, clean, atol=1e-6)
    means = clean.reshape(8, 4, 10, 4, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(found.observed[::4, ::4], means, atol=1e-6)


def test_each_backbone_has_its_own_folder():
    assert Options().folder == Path("runs/noise2noise")
    assert Options(backbone="swinir").folder == Path("runs/noise2noise-swinir")
    assert Options(backbone="swinir", workdir=Path("mine")).folder == Path("mine")


def test_results_of_deleted_networks_are_kept(options, tmp_path):
    shutil.copytree(options.workdir, tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    again = {"resume": True, "networks": tmp_path / "none", "workdir": tmp_path / "run"}
    main(dataclasses.replace(options, **again))
    after = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert after.keys() == before.keys()
    for name in before:
        if name.startswith(("records", "denoising", "inpainting", "trajectories")):
            assert after[name] == before[name]
