"""Tables 1 and 7 to 9, and the sweeps of Figures 3 to 19, with one folder of tiny networks."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import defects, input_only, matched, robustness
from experiments.harness import folders, networks, published, sizes, tables
from experiments.harness.options import SHOWN, Networks
from experiments.report.gather import Run
from experiments.report.sections import assign
from wne_jax.data import load_images
from wne_jax.evaluation.records import INPUT, mean_over, read_records
from wne_jax.evaluation.sweeps import noisy_and_clean
from wne_jax.images import metrics
from wne_jax.images.reading import write_image
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config

SMALL = {"depth": 3, "features": 4}
LEVELS = (10.0, 25.0, 60.0)


def write_network(options, arm):
    """Write a finished run without training: all parameters are random, including offsets."""
    config = options.config(arm, 25.0)
    folder, model = networks.folder_of(options, arm, config), config.model.build()
    folder.mkdir(parents=True)
    save_config(config, folder / "config.json")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)
    moved = lambda leaf: leaf + rng.uniform(0, 0.1, leaf.shape).astype(leaf.dtype)  # noqa: E731
    variables |= {"params": jax.tree.map(moved, variables["params"])}
    Denoiser(model, variables, config.model).save(folder / networks.WEIGHTS)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All four scripts, on one folder called Set12 and one folder of networks."""
    root = tmp_path_factory.mktemp("evidence")
    (root / "Set12").mkdir()
    image = load_images("embedded", split="test")[1]
    write_image(root / "Set12" / f"{image.name}.png", image.pixels[100:148, 100:148])
    tiny = sizes.PRESETS["tiny"]
    backbones = tiny.networks | {"dncnn": SMALL, "fdncnn": SMALL}
    train = {"steps": 3, "batch": 2, "patch": 16}
    preset = dataclasses.replace(tiny, networks=backbones, train=train)
    set12 = f"folder:{root / 'Set12'}"
    common = {"networks": root / "networks", "data": set12, "test": (set12,)}
    at_25 = common | {"test_sigmas_255": LEVELS, "train_sigmas_255": ((25.0,),)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.PRESETS, "tiny", preset)
        patch.setattr(networks, "_load", functools.cache(networks._load))  # compile each once
        for arm in ("baseline", "se-arch", "ne-arch", "wne", "wne-wiener-cap", "input-only"):
            write_network(Networks(networks=root / "networks", data=set12), arm)
        robustness.main(robustness.Options(workdir=root / "robustness", **at_25))
        arms = ("baseline", "wne", "wne-wiener-cap", "ne-arch")
        defects.main(defects.Options(arms=arms, workdir=root / "defects", **at_25))
        input_only.main(input_only.Options(workdir=root / "input_only", **at_25))
        matched.main(matched.Options(
            train_sigmas_255=((25.0,), (50.0,)), tables=("1",), stage="eval",
            workdir=root / "matched", **common,
        ))  # fmt: skip
        with pytest.raises(FileExistsError, match="replace them with --overwrite"):
            matched.main(matched.Options(workdir=root / "matched", **common))
        # An error trains nothing.
        assert not (root / "networks/tiny/dncnn-baseline-10").exists()
        yield root


def read(workdir):
    return read_records(workdir / folders.RECORDS)


def test_interpolated_published_levels_agree_with_the_papers_table():
    table = {  # read independently at 5, 10, 25, 50, 75, 100
        ("dncnn_sigma25", "baseline"): (30.32, 30.38, 30.50, 16.96, 12.86, 11.08),
        ("dncnn_sigma25", "ne-arch"): (36.14, 34.22, 30.37, 27.03, 25.04, 23.66),
        ("dncnn_sigma10", "wne"): (37.78, 34.78, 30.27, 26.63, 24.57, 23.18),
        ("dncnn_sigma50", "wne"): (33.03, 32.33, 30.13, 27.22, 25.32, 23.96),
        ("swinir_sigma25", "wne"): (35.72, 34.45, 30.65, 27.44, 25.56, 24.15),
    }
    for (name, arm), expected in table.items():
        curve = published.curve(name, "Set12")
        ours = [published.between_levels(curve, arm, level) for level in SHOWN]
        np.testing.assert_allclose(ours, expected, atol=0.05)
    assert published.between_levels(curve, "wne", 4) is None
    assert published.between_levels(curve, "se-arch", 25) is None


def test_published_curves_exist_only_for_set12():
    assert published.curve("dncnn_sigma25", "Set12") == published.sweep("dncnn_sigma25")
    assert published.curve("dncnn_sigma25", "embedded") == []
    assert published.curve("dncnn_sigma17", "Set12") == []
    options = matched.Options(train_sigmas_255=((25.0,),))
    for name, number in (("Set12", 12), ("embedded", 0)):
        made = matched.cells(options, {False: [name], True: [name]})
        assert len(made) == 15 and sum(c.published is not None for c in made) == number


def test_matched_tables_have_every_published_row_and_its_figure(done):
    theirs = {
        (f"Table {r['table']}", r.model, r.arm, r.level): r.published
        for r in read(done / "matched")
        if r.published is not None and r.dataset == "Set12"
    }
    expected = {
        (*key, level): figure
        for key, sets in published.MATCHED.items()
        for level, figure in zip(published.LEVELS, sets.get("Set12", ()))
        if level in (25, 50)
    }
    assert theirs == expected


def test_cells_of_missing_networks_are_empty_and_labelled(done):
    measured = [r for r in read(done / "matched") if r.value is not None]
    assert {(r.model, r.arm) for r in measured} == {
        *(("dncnn", arm) for arm in ("baseline", "wne", "wne-wiener-cap")),
        *(("fdncnn", arm) for arm in ("se-arch", "ne-arch")),
    }
    assert {(r.level, r.trained) for r in measured} == {(25, (25,))}  # trained only there
    table = (done / "matched/table.md").read_text()
    assert "| swinir wne | not run (30.65) | not run (27.47) |" in table
    assert "Table 9" in table and "| restormer wne | not run | not run |" in table


def test_matched_numbers_equal_those_of_the_robustness_sweep(done):
    ours = mean_over(read(done / "matched"), by=["table", "model", "arm", "level"])
    means = mean_over(
        [r for r in read(done / "robustness") if r.metric == "psnr"], by=["arm", "level"]
    )
    text = (done / "matched/table.md").read_text()
    for model, arm in (("dncnn", "baseline"), ("dncnn", "wne"), ("fdncnn", "ne-arch")):
        value = ours[1, model, arm, 25]
        assert value == pytest.approx(means[arm, 25], abs=1e-4)
        assert f"| {model} {arm} | **{value:.2f}** (" in text
    assert ours[7, "fdncnn", "ne-arch", 25] == ours[1, "fdncnn", "ne-arch", 25]
    (theirs,) = [
        r.published
        for r in read(done / "robustness")
        if (r.arm, r.level, r.metric, r.value) == ("wne", 60, "psnr", None)
    ]
    assert 25 < theirs < 27.07  # between the levels 75 and 50


def test_psnr_and_ssim_are_of_the_same_estimates(done):
    image = load_images(f"folder:{done / 'Set12'}")[0]
    denoise = Denoiser.load(done / "networks/tiny/dncnn-wne-25/denoiser.safetensors").function
    noisy, clean = noisy_and_clean(image, 60.0, jax.random.key(1))
    estimate = denoise(noisy).clip(0, 1)
    values = {
        (r.arm, r.metric): r.value
        for r in read(done / "robustness")
        if r.value is not None and (r.image, r.level) == (image.name, 60)
    }
    for name, measure in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        for arm, shown in (("wne", estimate), (INPUT, noisy)):
            expected = float(measure(shown, clean)[0])
            assert values[arm, name] == pytest.approx(expected, rel=1e-4)


def test_only_equivariant_networks_have_a_defect_of_rounding(done):
    records = [r for r in read(done / "defects") if r.metric == "defect" and r.value is not None]
    assert {r.level for r in records} == set(LEVELS)
    for record in records:
        exact = record.arm in ("wne", "wne-wiener-cap", "ne-arch")
        assert (record.value < 1e-5) if exact else (record.value > 1e-4), record


def test_two_scripts_give_equal_results_on_the_same_images(done):
    whole, again = (
        mean_over(
            [r for r in read(done / name) if r.metric == "psnr"], by=["arm", "image", "level"]
        )
        for name in ("robustness", "defects")
    )
    shared = [place for place in whole if place in again and place[0] != INPUT]
    assert len(shared) == 4 * 3
    for place in shared:
        assert again[place] == pytest.approx(whole[place], abs=1e-4)


def test_input_only_output_is_the_same_for_any_contrast_and_brightness(done):
    folder = done / "networks/tiny/dncnn-input-only-25/denoiser.safetensors"
    f = Denoiser.load(folder).function
    y, _ = noisy_and_clean(load_images(f"folder:{done / 'Set12'}")[0], 25.0, jax.random.key(2))
    np.testing.assert_array_equal(f(4 * y), f(y))
    np.testing.assert_allclose(f(0.3 * y + 0.2), f(y), atol=1e-5)


def test_brightness_contrast_and_structure_errors_sum_to_the_squared_error(done):
    found = mean_over(
        [r for r in read(done / "input_only") if r.image], by=["arm", "level", "metric"]
    )
    places = {place[:2] for place in found}
    assert len(places) == 4 * 3  # the input is one of them
    for place in places:
        parts = sum(found[*place, f"{part}_error"] for part in input_only.ERRORS)
        assert -10 * np.log10(parts) == pytest.approx(found[*place, "psnr"], abs=1e-3)


def test_an_offset_is_a_brightness_error_and_a_stretch_a_contrast_error():
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    for part, estimate in (("brightness", x + 0.1), ("contrast", 1.5 * x - 0.5 * x.mean())):
        values = {name: float(f(estimate, x)[0]) for name, f in input_only.ERRORS.items()}
        assert values.pop(part) == pytest.approx(float(jnp.mean((estimate - x) ** 2)), rel=1e-4)
        assert np.abs([*values.values()]).max() < 1e-6
    assert float(input_only.gain(3 * x + 1, x)[0]) == pytest.approx(3, rel=1e-5)


def test_figures_are_drawn_with_their_origin(done):
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


def test_tables_state_the_training_settings(done):
    for folder in ("robustness", "defects", "input_only", "matched"):
        text = (done / folder / "table.md").read_text()
        assert "dncnn (depth 3, features 4), 3 steps of 2 crops 16x16 of folder:" in text
        assert "seed 0" in text and "revision" in text


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def again(done, script, workdir, **changes):
    """Run one of the scripts on the same images at the same levels."""
    name = script.__name__.rpartition(".")[2]
    set12 = f"folder:{done / 'Set12'}"
    config = json.loads((done / name / "config.json").read_text())["config"]
    options = {
        field.name: config[field.name]
        for field in dataclasses.fields(script.Options)
        if field.name in ("train_sigmas_255", "test_sigmas_255", "arms", "tables")
    }
    options = {k: v if v is None else tuple(map(tuple_of, v)) for k, v in options.items()}
    options |= {"data": set12, "test": (set12,), "workdir": workdir} | changes
    script.main(script.Options(**options))


def tuple_of(value):
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("script", [robustness, defects, input_only, matched])
def test_a_missing_folder_of_networks_removes_no_result(done, tmp_path, script):
    name = script.__name__.rpartition(".")[2]
    workdir = tmp_path / name
    shutil.copytree(done / name, workdir)
    (workdir / "mine.txt").touch()
    (tmp_path / "none").mkdir()
    before = contents(workdir)
    nothing = {"networks": tmp_path / "none", "stage": "eval"}
    with pytest.raises(FileNotFoundError, match="holds none of"):
        again(done, script, workdir, overwrite=True, **nothing)
    assert contents(workdir) == before
    again(done, script, workdir, resume=True, **nothing)
    assert contents(workdir).keys() == before.keys()
    assert read(workdir) == read(done / name)
    assert (workdir / "table.md").read_bytes() == before["table.md"]


def test_tables_explain_the_published_figures(done):
    for folder in ("robustness", "defects"):
        assert tables.INTERPOLATED in (done / folder / "table.md").read_text()
    assert f"- {matched.TWICE}" in (done / "matched/table.md").read_text()
    twice = {key[1:] for key in published.MATCHED if key[0] == "Table 1"} & {
        key[1:] for key in published.MATCHED if key[0] == "Table 7"
    }
    assert twice == {("fdncnn", "se-arch"), ("fdncnn", "ne-arch")}  # those named in the note


def test_each_backbone_has_its_own_folder_and_the_report_finds_both(tmp_path):
    runs = []
    for backbone in ("dncnn", "swinir"):
        folder = tmp_path / robustness.Options(backbone=backbone).folder
        command = f"python -m experiments.robustness --backbone {backbone}"
        source = {"command": command, "config": {"backbone": backbone}}
        runs.append(Run(folder, source, [], ()))
    assert [run.folder.name for run in runs] == ["robustness", "robustness-swinir"]
    found = {section.name: of for section, of in assign(runs)}
    assert found["robustness"] == runs
