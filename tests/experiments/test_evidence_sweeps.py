"""Tables 1 and 7 to 9, and Figures 3 to 19 that are sweeps over noise levels: one folder of tiny networks."""

import dataclasses
import functools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import (
    _arms,
    _comparison,
    _gather,
    _published,
    _runs,
    _sweeps,
    defects,
    input_only,
    matched,
    report,
    robustness,
)
from wne_jax.data import load_images
from wne_jax.evaluation import records as results
from wne_jax.evaluation.sweep import noisy_and_clean
from wne_jax.images import metrics
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config

SMALL = {"depth": 3, "features": 4}
LEVELS = (10.0, 25.0, 60.0)


def write_network(options, arm):
    """A finished run, but for the training: all parameters are random, offsets too."""
    config = options.config(arm, 25.0)
    folder, model = options.runs / _runs.name_of(arm, config), config.model.build()
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)
    moved = lambda leaf: leaf + rng.uniform(0, 0.1, leaf.shape).astype(leaf.dtype)  # noqa: E731
    variables |= {"params": jax.tree.map(moved, variables["params"])}
    Denoiser(model, variables, config.model).save(folder / _runs.WEIGHTS)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All four scripts, on one folder called Set12 and one folder of networks."""
    root = tmp_path_factory.mktemp("evidence")
    (root / "Set12").mkdir()
    image = load_images("embedded", split="test")[1]
    write_image(root / "Set12" / f"{image.name}.png", image.pixels[100:148, 100:148])
    tiny = _arms.PRESETS["tiny"]
    networks = tiny.networks | {"dncnn": SMALL, "fdncnn": SMALL}
    train = {"steps": 3, "batch": 2, "patch": 16}
    preset = dataclasses.replace(tiny, networks=networks, train=train)
    set12 = f"folder:{root / 'Set12'}"
    common = {"runs": root / "trained", "data": set12, "test": (set12,)}
    at_25 = common | {"test_sigmas_255": LEVELS, "level_255": 25.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_arms.PRESETS, "tiny", preset)
        patch.setattr(_runs, "_load", functools.cache(_runs._load))  # each compiles once
        for arm in ("baseline", "se-arch", "ne-arch", "wne", "wne-capped", "input-only"):
            write_network(_runs.Runs(runs=root / "trained", data=set12), arm)
        robustness.main(robustness.Options(
            levels_255=(25.0,), test_sigmas_255=LEVELS, workdir=root / "robustness", **common,
        ))  # fmt: skip
        arms = ("baseline", "wne", "wne-capped", "ne-arch")
        defects.main(defects.Options(arms=arms, workdir=root / "defects", **at_25))
        input_only.main(input_only.Options(workdir=root / "input_only", **at_25))
        matched.main(matched.Options(
            levels_255=(25.0, 50.0), tables=("1",), train=False, workdir=root / "matched", **common,
        ))  # fmt: skip
        with pytest.raises(FileExistsError, match="--resume replaces them"):
            matched.main(matched.Options(workdir=root / "matched", **common))
    assert not (root / "trained/dncnn-baseline-10").exists()  # what is refused trains nothing
    return root


def cells(workdir):
    return {(c["result"], c["row"], c["column"]): c for c in _comparison.read(workdir)}


def test_published_levels_between_two_of_the_sweep_are_those_of_the_papers_table():
    table = {  # read off by others, at 5, 10, 25, 50, 75, 100
        ("dncnn_sigma25", "baseline"): (30.32, 30.38, 30.50, 16.96, 12.86, 11.08),
        ("dncnn_sigma25", "ne-arch"): (36.14, 34.22, 30.37, 27.03, 25.04, 23.66),
        ("dncnn_sigma10", "wne"): (37.78, 34.78, 30.27, 26.63, 24.57, 23.18),
        ("dncnn_sigma50", "wne"): (33.03, 32.33, 30.13, 27.22, 25.32, 23.96),
        ("swinir_sigma25", "wne"): (35.72, 34.45, 30.65, 27.44, 25.56, 24.15),
    }
    for (name, arm), expected in table.items():
        curve = _sweeps.published_curve(name, "Set12")
        ours = [_sweeps.published_at(curve, arm, level) for level in _sweeps.SHOWN]
        np.testing.assert_allclose(ours, expected, atol=0.05)
    assert _sweeps.published_at(curve, "wne", 4) is None
    assert _sweeps.published_at(curve, "se-arch", 25) is None


def test_published_curves_are_those_of_set12_alone():
    assert _sweeps.published_curve("dncnn_sigma25", "Set12") == _published.sweep("dncnn_sigma25")
    assert _sweeps.published_curve("dncnn_sigma25", "embedded") == []
    assert _sweeps.published_curve("dncnn_sigma17", "Set12") == []
    options = matched.Options(levels_255=(25.0,))
    for name, number in (("Set12", 12), ("embedded", 0)):
        made = matched.compare(options, [], {False: [name], True: [name]})
        assert len(made) == 15 and sum(c["published"] != "" for c in made) == number


def test_matched_tables_have_every_published_row_and_its_figure(done):
    found = cells(done / "matched")
    for (table, backbone, arm), sets in _published.MATCHED.items():
        for level, published in zip(_published.LEVELS, sets.get("Set12", ())):
            if level in (25, 50):
                place = (f"{table}: PSNR (dB) at the training level, Set12", f"{backbone} {arm}")
                assert found[*place, str(level)]["published"] == published
    assert not any(c["published"] for (_, row, _), c in found.items() if "noise" in row)


def test_what_is_not_trained_is_an_empty_labelled_cell(done):
    found = cells(done / "matched")
    trained = {row for (_, row, _), c in found.items() if c["ours"] != ""}
    assert trained == {
        *(f"dncnn {arm}" for arm in ("baseline", "wne", "wne-capped")),
        *(f"fdncnn {arm}" for arm in ("se-arch", "ne-arch")),
    }
    for (_, _, level), cell in found.items():
        assert cell["ours"] == "" or level == "25"  # trained there alone
    table = (done / "matched/table.md").read_text()
    assert "| swinir wne | not run (30.65) | not run (27.47) |" in table
    assert "Table 9" in table and "| restormer colour wne | not run | not run |" in table


def test_matched_numbers_are_those_of_the_robustness_sweep_and_of_both_tables(done):
    ours = cells(done / "matched")
    sweep = results.read_csv(done / "robustness/quality.csv")
    means = results.mean_over(sweep, "psnr", by=["model", "sigma_255"])
    for model in ("dncnn baseline", "dncnn wne", "fdncnn ne-arch"):
        place = ("Table 1: PSNR (dB) at the training level, Set12", model, "25")
        assert ours[place]["ours"] == pytest.approx(means[model.split()[1], 25], abs=1e-4)
        assert (
            f"| {model} | **{ours[place]['ours']:.2f}** ("
            in (done / "matched/table.md").read_text()
        )
    swept = cells(done / "robustness")["PSNR (dB), Set12, dncnn trained at 25", "wne", "60"]
    assert swept["ours"] == pytest.approx(means["wne", 60])
    assert 25 < swept["published"] < 27.07  # between the levels 75 and 50


def test_psnr_and_ssim_are_of_the_same_estimates(done):
    image = load_images(f"folder:{done / 'Set12'}")[0]
    denoise = Denoiser.load(done / "trained/dncnn-wne-25/denoiser.safetensors").function
    noisy, clean = noisy_and_clean(image, 60.0, jax.random.key(1))
    estimate = denoise(noisy).clip(0, 1)
    (record,) = [
        r for r in results.read_csv(done / "robustness/quality.csv")
        if (r["image"], r["sigma_255"], r["model"]) == (image.name, 60, "wne")
    ]  # fmt: skip
    for name, measure in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        assert record[name] == pytest.approx(float(measure(estimate, clean)[0]), rel=1e-4)
        assert record[f"input_{name}"] == pytest.approx(float(measure(noisy, clean)[0]), rel=1e-4)


def test_the_defect_of_what_is_equivariant_is_rounding_and_no_other(done):
    records = results.read_csv(done / "defects/defect.csv")
    assert {r["sigma_255"] for r in records} == set(LEVELS)
    for record in records:
        exact = record["model"] in ("wne", "wne-capped", "ne-arch")
        assert (record["defect"] < 1e-5) if exact else (record["defect"] > 1e-4), record


def test_what_one_set_of_images_gives_two_scripts_is_the_same(done):
    whole, again = (
        results.mean_over(results.read_csv(path), "psnr", by=["model", "image", "sigma_255"])
        for path in (done / "robustness/quality.csv", done / "defects/psnr.csv")
    )
    shared = whole.keys() & again.keys()
    assert len(shared) == 4 * 3
    for place in shared:
        assert again[place] == pytest.approx(whole[place], abs=1e-4)


def test_input_only_output_is_the_same_for_any_contrast_and_brightness(done):
    folder = done / "trained/dncnn-input-only-25/denoiser.safetensors"
    f = Denoiser.load(folder).function
    y, _ = noisy_and_clean(load_images(f"folder:{done / 'Set12'}")[0], 25.0, jax.random.key(2))
    np.testing.assert_array_equal(f(4 * y), f(y))
    np.testing.assert_allclose(f(0.3 * y + 0.2), f(y), atol=1e-5)


def test_brightness_contrast_and_structure_are_the_whole_squared_error(done):
    records = results.read_csv(done / "input_only/quality.csv")
    assert len(records) == 3 * 3
    for r in records:
        for before in ("", "input_"):
            parts = sum(r[before + part] for part in input_only.ERRORS)
            assert -10 * np.log10(parts) == pytest.approx(r[f"{before}psnr"], abs=1e-3)


def test_an_offset_is_a_brightness_error_and_a_stretch_a_contrast_error():
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    for part, estimate in (("brightness", x + 0.1), ("contrast", 1.5 * x - 0.5 * x.mean())):
        values = {name: float(f(estimate, x)[0]) for name, f in input_only.ERRORS.items()}
        assert values.pop(part) == pytest.approx(float(jnp.mean((estimate - x) ** 2)), rel=1e-4)
        assert np.abs([*values.values()]).max() < 1e-6
    assert float(input_only.gain(3 * x + 1, x)[0]) == pytest.approx(3, rel=1e-5)


def test_figures_are_drawn_and_say_where_they_come_from(done):
    names = {
        "robustness": ("psnr-Set12-dncnn-25", "ssim-Set12-dncnn-25"),
        "defects": ("defect-Set12", "psnr-Set12"),
        "input_only": ("psnr-Set12", "errors-Set12", "gain-Set12", "panel-Set12"),
    }
    for folder, figures in names.items():
        assert {path.stem for path in (done / folder).glob("*.png")} == set(figures)
        for figure in figures:
            with Image.open(done / folder / f"{figure}.png") as png:
                assert min(png.size) > 300 and "revision" in png.info["Description"]


def test_tables_say_what_the_networks_were_trained_with(done):
    for folder in ("robustness", "defects", "input_only", "matched"):
        text = (done / folder / "table.md").read_text()
        assert "dncnn (depth 3, features 4), 3 steps of 2 crops 16x16 of folder:" in text
        assert "seed 0" in text and "revision" in text


def test_results_of_networks_that_are_gone_go_too_and_other_files_stay(done, tmp_path):
    set12 = f"folder:{done / 'Set12'}"
    common = {"test": (set12,), "resume": True, "train": False, "runs": tmp_path / "none"}
    for script in (robustness, defects, input_only, matched):
        workdir = tmp_path / script.__name__.rpartition(".")[2]
        shutil.copytree(done / workdir.name, workdir)
        (workdir / "mine.txt").touch()
        (tmp_path / "none").mkdir(exist_ok=True)
        script.main(script.Options(workdir=workdir, **common))
        left = {path.name for path in workdir.iterdir()}
        assert left == {"config.json", "comparison.csv", "table.md", "mine.txt"}
        assert all(c["ours"] == "" for c in _comparison.read(workdir))


def test_a_folder_of_networks_that_is_not_there_spoils_nothing(done):
    before = (done / "robustness/table.md").read_bytes()
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        robustness.main(robustness.Options(
            test=(f"folder:{done / 'Set12'}",), resume=True, train=False, runs=Path("nowhere"),
            workdir=done / "robustness",
        ))  # fmt: skip
    assert (done / "robustness/table.md").read_bytes() == before


def test_tables_say_how_published_figures_are_to_be_read(done):
    for folder in ("robustness", "defects"):
        assert _sweeps.INTERPOLATED in (done / folder / "table.md").read_text()
    assert f"- {matched.TWICE}" in (done / "matched/table.md").read_text()
    twice = {key[1:] for key in _published.MATCHED if key[0] == "Table 1"} & {
        key[1:] for key in _published.MATCHED if key[0] == "Table 7"
    }
    assert twice == {("fdncnn", "se-arch"), ("fdncnn", "ne-arch")}  # whom it names


def test_each_backbone_has_its_folder_and_the_report_finds_both(tmp_path):
    runs = []
    for backbone in ("dncnn", "swinir"):
        folder = tmp_path / robustness.Options(backbone=backbone).folder
        command = f"python -m experiments.robustness --backbone {backbone}"
        source = {"command": command, "config": {"backbone": backbone}}
        runs.append(_gather.Run(folder, source, [], {"table.md": ""}, ()))
    assert [run.folder.name for run in runs] == ["robustness", "robustness-swinir"]
    found = {section.name: of for section, of in report.assign(runs)}
    assert found["robustness"] == runs
