import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import folders, networks, sizes
from experiments.parts.regret_measures import cut, paste
from experiments.regret import (
    Options,
    main,
    published_regret,
    rank,
    regrets,
    specialists_at,
    verdicts,
    wanted_networks,
    with_all_seeds,
)
from wne_jax.evaluation.records import Record, mean_over, read_records
from wne_jax.inference.denoiser import Denoiser
from wne_jax.training.config import save_config

SMALL = {"depth": 2, "features": 4}


@pytest.fixture(scope="module")
def regret(tmp_path_factory):
    """The experiment with networks of random weights in place of trained ones."""
    folder = tmp_path_factory.mktemp("regret")
    tiny = sizes.PRESETS["tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.networks, "dncnn", SMALL)
        options = Options(
            arms=("wne", "wne-noise", "wne-smooth-base"), train_sigmas_255=((25.0,),),
            test_sigmas_255=(5.0, 25.0), windows=(16, 32), crop=64, networks=folder / "networks",
            stage="eval", workdir=folder / "out",
        )  # fmt: skip
        candidates, specialists = wanted_networks(options)
        for network in {*candidates, *specialists}:
            config = options.config(network.arm, network.level)
            run = networks.folder_of(options, network.arm, config)
            run.mkdir(parents=True, exist_ok=True)
            save_config(config, run / "config.json")
            initial = jax.jit(config.model.build().init)
            variables = initial(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))
            Denoiser(config.model.build(), variables, config.model).save(run / networks.WEIGHTS)
        main(options)
    return options


def read(workdir, *metrics):
    records = read_records(workdir / folders.RECORDS)
    return [r for r in records if r.metric in metrics and r.value is not None]


def test_regret_is_the_specialist_minus_the_candidate(regret):
    own = specialists_at(read(regret.workdir, "specialist"), regret.specialists)
    psnr = mean_over(read(regret.workdir, "psnr"), by=["arm", "level"])
    rows = read(regret.workdir, "regret")
    assert {r.level for r in rows} == {5, 25} == set(own) and len(rows) == len(psnr) == 4 * 2
    for row in rows:
        np.testing.assert_allclose(row.value, own[row.level] - psnr[row.arm, row.level], atol=1e-9)
    # The specialist is the best arm, so its regret is 0 at its own level.
    at_home = [r.value for r in rows if r.arm in regret.specialists and r.level == 25]
    assert min(at_home) == pytest.approx(0, abs=1e-9)
    for name in ("regret.png", "coordinates.png", "table.md"):
        assert (regret.workdir / name).stat().st_size > 0


def test_windows_are_measured_at_every_side(regret):
    found = {(r.arm, r["window"]) for r in read(regret.workdir, "psnr_in_windows")}
    assert found == {(arm, side) for arm in regret.compared for side in (16, 32, 64)}


def test_changes_of_contrast_and_brightness_do_not_affect_wrapped_networks(regret):
    rows = read(regret.workdir, "psnr_under_a_change")
    assert {r.arm for r in rows} == set(regret.compared)
    for arm in ("wne", "wne-noise", "wne-smooth-base"):
        values = [r.value for r in rows if r.arm == arm]
        number = len(values) // 5
        np.testing.assert_allclose(values[:number] * 5, values, atol=1e-3)


def test_each_statistic_normalizes_its_own_quantity(regret):
    def of(arm):
        values = [
            [r.value for r in read(regret.workdir, metric) if r.arm == arm]
            for metric in ("contrast", "noise")
        ]
        return np.array(values)

    contrast, noise = of("wne")
    np.testing.assert_allclose(contrast**2 + noise**2, 1, atol=0.15)  # y has variance 1
    assert np.median(np.abs(of("wne-noise")[1] - 1)) < 0.15  # the noise has variance 1
    np.testing.assert_array_equal(of("wne-noise")[1], of("wne-smooth-base")[1])
    assert (of("wne-smooth-base")[0] < of("wne-noise")[0]).all()  # removing a blur reduces contrast


def test_published_regrets_are_computed_from_the_sweeps():
    # By hand: about 2.6 dB at (50, 10), 0.8 at (25, 10), 0.5 at (10, 50).
    assert published_regret(50, 10) == pytest.approx(2.6, abs=0.1)
    assert published_regret(25, 10) == pytest.approx(0.8, abs=0.1)
    assert published_regret(10, 50) == pytest.approx(0.5, abs=0.15)
    assert published_regret(25, 5) is None


def record(arm, level, value, metric="psnr", seed=0):
    return Record(experiment="regret", metric=metric, unit="dB", arm=arm, level=level, trained=25,
                  seed=seed, value=value)  # fmt: skip


def test_specialists_are_the_best_means_over_seeds():
    own = [record("a", 5, 30.0), record("a", 5, 34.0, seed=1), record("b", 5, 31.0)]
    assert specialists_at(own, ["a", "b"]) == {5.0: 32.0}
    assert specialists_at(own, ["a", "b", "c"]) == {}  # the missing one might be the best
    rows = regrets([record("c", 5, 31.5)], {5.0: 32.0})
    assert (
        rows[0].value == 0.5 and rows[0].metric == "regret" and rank(rows) == {"c": (1, 0.5, 0.5)}
    )


def test_verdicts_are_computed_from_the_regrets():
    values = {"wne": (4.0, 0.2), "wne-noise": (1.0, 0.3)}
    rows = [
        record(arm, level, value, "regret")
        for arm, of_arm in values.items()
        for level, value in zip((5, 25), of_arm)
    ]
    found = verdicts([*rows, record("baseline", 25, 0.1, "regret")], "wne-noise")
    assert found["below mean_std"] == "1 of 2"
    assert found["worst regret / mean_std's"] == "0.25"
    assert found["within 0.3 dB"] == "1 of 2"
    assert found["gap to the baseline at its level"] == "+0.20"


def test_missing_networks_do_not_change_other_results(regret, tmp_path, monkeypatch):
    monkeypatch.setitem(sizes.PRESETS["tiny"].networks, "dncnn", SMALL)
    shutil.copytree(regret.networks, tmp_path / "networks")
    some = dataclasses.replace(regret, networks=tmp_path / "networks", workdir=tmp_path / "out")

    def found():
        return {(r.arm, r.level) for r in read(tmp_path / "out", "regret")}

    shutil.rmtree(tmp_path / "networks/tiny/dncnn-wne-noise-25")
    main(some)
    assert ("wne-noise", 5) not in found() and ("wne", 5) in found()
    before = found()
    main(dataclasses.replace(some, networks=regret.networks, resume=True))  # adds missing results
    assert found() == before | {("wne-noise", 5), ("wne-noise", 25)}
    assert sorted(map(str, read(tmp_path / "out", "psnr"))) == sorted(
        map(str, read(regret.workdir, "psnr"))
    )
    shutil.rmtree(tmp_path / "networks/tiny/dncnn-baseline-5")  # now there is no specialist at 5
    main(dataclasses.replace(some, overwrite=True))
    assert ("wne", 5) not in found() and ("wne", 25) in found()


def test_an_arm_with_a_missing_seed_is_left_out():
    rows = [record(arm, 5, 30.0, seed=seed) for arm, seed in (("a", 0), ("a", 1), ("b", 0))]
    assert {r.arm for r in with_all_seeds(rows, 2)} == {"a"}


def test_paste_is_the_inverse_of_cut(key):
    image = jax.random.normal(key, (1, 12, 12, 2))
    np.testing.assert_array_equal(paste(cut(image, 4), 12), image)
    np.testing.assert_array_equal(cut(image, 4)[5], image[0, 4:8, 8:12])


def test_windows_must_divide_the_crop():
    with pytest.raises(ValueError, match="--windows must divide --crop"):
        main(Options(windows=(48,), crop=256))


def test_invalid_options_raise_and_keep_existing_results(regret):
    before = {p.name: p.read_bytes() for p in regret.workdir.iterdir() if p.is_file()}
    again = dataclasses.replace(regret, overwrite=True)
    for change, error, message in (
        ({"networks": regret.networks / "nowhere"}, FileNotFoundError, "holds none of"),
        ({"windows": (0,)}, ValueError, "windows must divide"),
        ({"arms": ("multi-noise",)}, ValueError, "multi-noise is trained at 0 to 55"),
        ({"train_sigmas_255": ((0.0, 55.0),)}, ValueError, "needs at least one single level"),
    ):
        with pytest.raises(error, match=message):
            main(dataclasses.replace(again, **change))
    assert before == {p.name: p.read_bytes() for p in regret.workdir.iterdir() if p.is_file()}
