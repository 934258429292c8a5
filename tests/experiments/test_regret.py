import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _arms, _comparison, _runs
from experiments.regret import (
    Options,
    cut,
    main,
    paste,
    published_regret,
    rank,
    regrets,
    specialists_at,
    verdicts,
    wanted_networks,
    with_all_seeds,
)
from wne_jax.evaluation import records as results
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config

SMALL = {"depth": 2, "features": 4}


@pytest.fixture(scope="module")
def regret(tmp_path_factory):
    """Networks of random weights in place of trained ones, and what the script makes of them."""
    folder = tmp_path_factory.mktemp("regret")
    tiny = _arms.PRESETS["tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.networks, "dncnn", SMALL)
        options = Options(
            arms=("wne", "wne-noise", "wne-detail"), train_255=(25.0,), test_sigmas_255=(5.0, 25.0),
            windows=(16, 32), crop=64, runs=folder / "trained", train=False, workdir=folder / "out",
        )  # fmt: skip
        candidates, specialists = wanted_networks(options)
        for network in {*candidates, *specialists}:
            config = options.config(network.arm, network.level)
            run = options.runs / _runs.name_of(network.arm, config)
            run.mkdir(parents=True, exist_ok=True)
            save_config(config, run / "config.json")
            variables = config.model.build().init(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))
            Denoiser(config.model.build(), variables, config.model).save(run / _runs.WEIGHTS)
        main(options)
    return options


def test_regret_is_the_specialist_minus_the_candidate(regret):
    rows = results.read_csv(regret.workdir / "regret.csv")
    own = specialists_at(results.read_csv(regret.workdir / "specialists.csv"), regret.specialists)
    assert {r["test"] for r in rows} == {5, 25} == set(own)
    for row in rows:
        np.testing.assert_allclose(row["regret"], own[row["test"]] - row["psnr"], atol=1e-9)
    # A specialist is one of two, so the better one regrets nothing at its own level.
    at_home = [r["regret"] for r in rows if r["arm"] in regret.specialists and r["test"] == 25]
    assert min(at_home) == pytest.approx(0, abs=1e-9)
    cells = _comparison.read(regret.workdir)
    assert {c["ours"] for c in cells} >= {r["regret"] for r in rows}
    for name in ("regret.png", "coordinates.png", "table.md", "windows.csv", "changes.csv"):
        assert (regret.workdir / name).stat().st_size > 0


def test_changes_of_contrast_and_brightness_leave_the_wrapped_networks_alone(regret):
    rows = results.read_csv(regret.workdir / "changes.csv")
    means = results.mean_over([r | {"arm": r["arm"]} for r in rows], "psnr", by=["arm"])
    for arm in ("wne", "wne-noise", "wne-detail"):
        values = [r["psnr"] for r in rows if r["arm"] == arm]
        number = len(values) // 5
        np.testing.assert_allclose(values[:number] * 5, values, atol=1e-3)
    assert len(means) == 4


def test_each_choice_keeps_what_it_promises_in_the_coordinates_of_the_backbone(regret):
    points = results.read_csv(regret.workdir / "coordinates.csv")
    of = lambda arm: np.array(  # noqa: E731
        [(p["contrast"], p["noise"]) for p in points if p["arm"] == arm]
    )
    contrast, noise = of("wne").T
    np.testing.assert_allclose(contrast**2 + noise**2, 1, atol=0.15)  # y has variance 1
    assert np.median(np.abs(of("wne-noise")[:, 1] - 1)) < 0.15  # the noise has
    np.testing.assert_array_equal(of("wne-noise")[:, 1], of("wne-detail")[:, 1])
    assert (of("wne-detail")[:, 0] < of("wne-noise")[:, 0]).all()  # a blur takes contrast away


def test_the_published_regrets_are_those_of_the_sweeps():
    # Of the issue: about 2.6 dB at (50, 10), 0.8 at (25, 10), 0.5 at (10, 50).
    assert published_regret(50, 10) == pytest.approx(2.6, abs=0.1)
    assert published_regret(25, 10) == pytest.approx(0.8, abs=0.1)
    assert published_regret(10, 50) == pytest.approx(0.5, abs=0.15)
    assert published_regret(25, 5) is None


def test_specialists_are_the_better_of_means_over_seeds():
    own = [
        {"arm": "a", "test": 5.0, "psnr": 30.0},
        {"arm": "a", "test": 5.0, "psnr": 34.0},
        {"arm": "b", "test": 5.0, "psnr": 31.0},
    ]
    assert specialists_at(own, ["a", "b"]) == {5.0: 32.0}
    assert specialists_at(own, ["a", "b", "c"]) == {}  # the missing one might be the best
    rows = regrets([{"arm": "c", "train": "25", "test": 5.0, "psnr": 31.5}], {5.0: 32.0})
    assert rows[0]["regret"] == 0.5 and rank(rows) == {"c": (1, 0.5, 0.5)}


def test_the_aims_are_judged_from_the_regrets():
    def row(arm, test, regret):
        return {"arm": arm, "train": "25", "test": test, "regret": regret}

    rows = [row("wne", 5.0, 4.0), row("wne", 25.0, 0.2), row("wne-noise", 5.0, 1.0)]
    rows += [row("wne-noise", 25.0, 0.3), row("baseline", 25.0, 0.1)]
    found = verdicts(rows, "wne-noise")
    assert found["below mean_std"] == "1 of 2"
    assert found["worst, of mean_std's"] == "0.25"
    assert found["within 0.3 dB"] == "1 of 2"
    assert found["lost to the baseline at its level"] == "+0.20"


def test_what_is_missing_neither_helps_nor_hides(regret, tmp_path, monkeypatch):
    monkeypatch.setitem(_arms.PRESETS["tiny"].networks, "dncnn", SMALL)
    trained = tmp_path / "trained"
    shutil.copytree(regret.runs, trained)
    shutil.rmtree(trained / "dncnn-wne-noise-25")
    main(dataclasses.replace(regret, runs=trained, workdir=tmp_path / "out"))
    cells = {(c["row"], c["column"]): c["ours"] for c in _comparison.read(tmp_path / "out")}
    assert cells["wne-noise", "5"] == "" and cells["wne", "5"] != ""
    shutil.rmtree(trained / "dncnn-baseline-5")  # no specialist at 5 any more
    main(dataclasses.replace(regret, runs=trained, workdir=tmp_path / "out", resume=True))
    cells = {(c["row"], c["column"]): c["ours"] for c in _comparison.read(tmp_path / "out")}
    assert cells["wne", "5"] == "" and cells["wne", "25"] != ""


def test_a_seed_that_is_missing_takes_its_arm_out():
    rows = [{"arm": a, "train": "25", "seed": s} for a, s in (("a", 0), ("a", 1), ("b", 0))]
    assert {r["arm"] for r in with_all_seeds(rows, 2)} == {"a"}


def test_windows_are_pasted_where_they_were_cut(key):
    image = jax.random.normal(key, (1, 12, 12, 2))
    np.testing.assert_array_equal(paste(cut(image, 4), 12), image)
    np.testing.assert_array_equal(cut(image, 4)[5], image[0, 4:8, 8:12])


def test_windows_that_do_not_divide_the_crop_are_refused():
    with pytest.raises(ValueError, match="windows must divide crop"):
        main(Options(windows=(48,), crop=256))


def test_mistakes_are_refused_and_what_is_there_stays(regret):
    before = {p.name: p.read_bytes() for p in regret.workdir.iterdir() if p.is_file()}
    again = dataclasses.replace(regret, resume=True)
    for change, error, message in (
        ({"runs": regret.runs / "nowhere"}, FileNotFoundError, "no folder"),
        ({"windows": (0,)}, ValueError, "windows must divide"),
        ({"arms": ("multi-noise",)}, ValueError, "multi-noise is trained at 0 to 55"),
    ):
        with pytest.raises(error, match=message):
            main(dataclasses.replace(again, **change))
    assert before == {p.name: p.read_bytes() for p in regret.workdir.iterdir() if p.is_file()}
