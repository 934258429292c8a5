from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import series
from experiments.parts.forecasting import (
    EPSILON,
    SERIES,
    Mixer,
    all_windows,
    random_windows,
    revin,
    split,
    with_epsilon,
    wne,
)
from experiments.parts.pairs import augmented, pairs_of, relative_error
from experiments.series import CONSTANT, Options, main, require_identities
from wne_jax import WNE
from wne_jax.evaluation.records import mean_over, read_records
from wne_jax.symmetry import Affine, defect

HISTORY = jax.random.normal(jax.random.key(1), (2, 16, 3))


def network(wrapper):
    """A wrapped mixer with random variables, as a function."""
    model = wrapper(Mixer(horizon=4, features=8))
    variables = jax.jit(model.init)(jax.random.key(0), HISTORY)
    variables = jax.tree.map(lambda v: v + 0.1, variables)  # biases, too
    return jax.jit(lambda y: model.apply(variables, y))


@pytest.fixture(scope="module")
def forecast():
    """Mixers bare, behind RevIN, behind WNE over time, and behind WNE over time and channels."""
    wrappers = {"bare": lambda mixer: mixer, "revin": revin, "wne": wne, "pooled": WNE}
    return {name: network(wrapper) for name, wrapper in wrappers.items()}


def untrained(model, draw, *, seeds, steps):
    """Networks of random variables in place of trained ones, which saves compiling."""
    variables = jax.jit(model.init)(jax.random.key(0), draw(jax.random.key(0)).x)
    variables = jax.tree.map(lambda v: v + 0.1, variables)  # biases, too
    return [jax.jit(partial(model.apply, variables)) for _ in seeds]


def test_wne_breaks_in_no_units_and_revin_in_small_ones(tmp_path, monkeypatch, standard_promotion):
    monkeypatch.setattr(series, "SEEDS", 1)
    monkeypatch.setattr(series, "train", untrained)
    monkeypatch.setattr(series, "SERIES", {"EEG": SERIES["EEG"]})
    main(Options(workdir=tmp_path / "results", history=16, horizon=4))
    records = read_records(tmp_path / "results/records.csv")
    scales = [r for r in records if r.degradation == "scale"]
    error = mean_over(scales, by=["arm", "level"])
    at_one = error["wne", 1.0]
    assert all(abs(error["wne", a] / at_one - 1) < 1e-4 for a in series.SCALES)
    assert error["revin", 1e6] < 1.01 * error["revin", 1.0]
    assert error["revin", 1e-6] > 100 * error["revin", 1.0]
    assert error["bare", 1e-6] > 100 * error["bare", 1.0]
    moved = mean_over([r for r in records if r.degradation is None], by=["arm"])
    assert moved["wne",] == 0 < min(moved["bare",], moved["revin",])
    assert {p.name for p in (tmp_path / "results").iterdir()} >= {"table.md", "scales.png"}


def test_the_forecast_of_a_constant_channel_is_forced_when_each_channel_has_its_own_units(forecast):
    silent = HISTORY.at[..., 0].set(CONSTANT)
    for name, forced in {"wne": True, "pooled": False, "revin": False, "bare": False}.items():
        assert bool((forecast[name](silent)[..., 0] == jnp.float32(CONSTANT)).all()) == forced, name
    everywhere = jnp.full_like(HISTORY, CONSTANT)
    assert bool((forecast["pooled"](everywhere) == jnp.float32(CONSTANT)).all())


def test_the_identities_hold_with_wne_and_are_violated_without(forecast):
    require_identities(forecast["wne"], HISTORY)
    for name in ("bare", "revin", "pooled"):
        with pytest.raises(AssertionError, match="is not equivariant"):
            require_identities(forecast[name], HISTORY)


def test_revin_is_almost_equivariant_in_large_units_only(forecast):
    f = forecast["revin"]
    assert float(defect(f, Affine(1e3, 5.0), HISTORY).max()) < 1e-4
    assert float(defect(f, Affine(1e-4, 0.0), HISTORY).max()) > 1


def test_revin_is_its_published_formula(forecast):
    mixer = Mixer(horizon=4, features=8)
    variables = jax.jit(revin(mixer).init)(jax.random.key(0), HISTORY)
    variables = jax.tree.map(lambda v: v + 0.1, variables)
    gain, bias = (np.asarray(variables["params"][name])[None, None] for name in ("gain", "bias"))
    y = np.asarray(HISTORY, np.float64)
    mean, deviation = y.mean(1, keepdims=True), np.sqrt(y.var(1, keepdims=True) + EPSILON)
    z = np.asarray((y - mean) / deviation * gain + bias, np.float32)
    h = np.asarray(jax.jit(mixer.apply)({"params": variables["params"]["backbone"]}, z))
    expected = (h - bias) / gain * deviation + mean
    np.testing.assert_allclose(forecast["revin"](HISTORY), expected, rtol=1e-4, atol=1e-4)
    assert float(with_epsilon(0 * HISTORY, axes=(1,)).scale.min()) == pytest.approx(EPSILON**0.5)


@pytest.mark.parametrize("name", SERIES)
def test_windows_are_parts_of_a_standardized_series(name):
    first, later = split(SERIES[name]())
    np.testing.assert_allclose(np.std(first, axis=0), 1, rtol=1e-3)
    found = all_windows(later, 16, 4)
    np.testing.assert_array_equal(found.x[7], later[7:23])
    np.testing.assert_array_equal(found.y[7], later[23:27])
    assert len(found.x) == len(later) - 19
    drawn = random_windows(first, 16, 4)(jax.random.key(0))
    assert any(np.array_equal(drawn.x[0], first[i : i + 16]) for i in range(len(first)))


def test_augmentation_changes_history_and_future_alike():
    def draw(key):
        return pairs_of(HISTORY, HISTORY[:, -4:])

    x, y, unit = augmented(draw, jax.random.key(0))
    np.testing.assert_array_equal(x[:, -4:], y)
    np.testing.assert_allclose(np.std(x, axis=1), unit[..., 0] * np.std(HISTORY, axis=1), rtol=1e-4)
    assert relative_error(x[:, -4:], y, 0 * y) == 0


def test_a_window_longer_than_the_series_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="is longer than the test part of EEG, 240 values"):
        next(series.measure(Options(history=400), "EEG"))
