import numpy as np
import pytest
from PIL import Image

from wne_jax.evaluation import plotting
from wne_jax.evaluation.origin import footer, provenance
from wne_jax.evaluation.records import INPUT, Record

SOURCE = provenance({"seed": 0})


def psnr(arm, level, value=None, published=None):
    return Record(
        experiment="e",
        metric="psnr",
        unit="dB",
        arm=arm,
        level=level,
        value=value,
        published=published,
    )


def sweep():
    """Two arms over three levels, 3 dB apart; each mean is over two images."""
    lines = {INPUT: (48, 20), "bare": (40, 10), "wne": (43, 10)}
    return [
        psnr(arm, s, at - slope * np.log10(s) + off)
        for arm, (at, slope) in lines.items()
        for s in (5, 25, 90)
        for off in (-1, 1)
    ]


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_quality_curves_have_the_input_quality_as_x_axis_and_marks(tmp_path):
    records = sweep()
    figure = plotting.quality_curves(records, trained=(25.0,), title="a title")
    lines = lines_of(figure.axes[0])
    inputs = [48 - 20 * np.log10(s) for s in (5, 25, 90)]
    for arm, at in (("bare", 40), ("wne", 43)):
        outputs = [at - 10 * np.log10(s) for s in (5, 25, 90)]
        np.testing.assert_allclose(lines[arm].get_xydata(), np.stack([inputs, outputs], -1))
    np.testing.assert_allclose(lines["trained at 25"].get_xdata(), inputs[1])
    assert "output = input" in lines and "published" not in lines and INPUT not in lines
    assert figure.axes[0].get_xlabel() == "input PSNR (dB)"
    assert figure.axes[0].get_title() == "a title"
    plotting.save(figure, tmp_path / "psnr.png", SOURCE)
    with Image.open(tmp_path / "psnr.png") as png:
        assert png.info["Description"] == footer(SOURCE)
        assert len(np.unique(np.asarray(png.convert("L")))) > 20  # something is drawn
    ranged = plotting.quality_curves(records, trained=(0.0, 55.0)).axes[0]
    assert "trained on" in [patch.get_label() for patch in ranged.patches]
    with pytest.raises(ValueError, match="the arm 'input'"):
        plotting.quality_curves([r for r in records if r.arm != INPUT], trained=(25.0,))


def test_published_curves_are_drawn_only_behind_their_own_arm():
    def published(at, **outputs):
        points = [psnr(arm, at, published=y) for arm, y in outputs.items()]
        return [psnr(INPUT, at, published=48 - 20 * np.log10(at)), *points]

    records = [*sweep(), *published(5, wne=50, unknown=50), *published(90, wne=50, unknown=50)]
    axes = plotting.quality_curves(records, trained=(25.0,)).axes[0]
    lines = lines_of(axes)
    (dashed,) = [x for x in axes.get_lines() if len(x.get_xdata()) and np.all(x.get_ydata() == 50)]
    np.testing.assert_allclose(sorted(dashed.get_xdata()), [48 - 20 * np.log10(s) for s in (90, 5)])
    assert dashed.get_color() == lines["wne"].get_color() != lines["bare"].get_color()
    assert dashed.get_zorder() < lines["wne"].get_zorder() and axes.get_ylim()[1] > 50
    assert "published" in lines and "unknown" not in lines
    # Points beyond our levels do not extend the axes.
    beyond = [*published(1, wne=80), *published(25, wne=30), *published(255, wne=-20)]
    with_points = plotting.quality_curves([*sweep(), *beyond], trained=(25.0,)).axes[0]
    assert (
        with_points.get_ylim()
        == plotting.quality_curves(sweep(), trained=(25.0,)).axes[0].get_ylim()
    )


def test_an_arm_keeps_its_colour_if_another_is_missing():
    def colours(records, **arms):
        axes = plotting.quality_curves(records, trained=(25.0,), **arms).axes[0]
        return {name: line.get_color() for name, line in lines_of(axes).items()}

    alone = [r for r in sweep() if r.arm != "bare"]
    named = {"arms": ("bare", "wne")}
    assert colours(alone, **named)["wne"] == colours(sweep())["wne"] != colours(alone)["wne"]
    assert "bare" not in colours(alone, **named)


def test_level_curves_are_means_and_their_labels_do_not_overlap():
    records = [
        Record(experiment="e", metric=metric, arm=arm, level=level, value=factor * level)
        for level in (50.0, 5.0, 49.0)
        for arm, factor in (("a", 1), ("a", 3), ("b", 1))
        for metric in ("defect", "psnr")
    ]  # fmt: skip
    figure = plotting.level_curves(
        records, "defect", label="defect", trained=(5.0,), logarithmic=True
    )
    axes = figure.axes[0]
    lines = lines_of(axes)
    np.testing.assert_allclose(lines["a"].get_xydata(), [[5, 10], [49, 98], [50, 100]])
    np.testing.assert_allclose(lines["trained at 5"].get_xdata(), 5)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {text.get_text() for text in axes.get_xticklabels()} == {"5", "50"}


def test_panels_show_each_image_from_black_to_white():
    images = {"clean": np.full((4, 4, 1), 0.25), "noisy": np.full((4, 4, 3), 2.0)}
    figure = plotting.image_panel([images, images], row_labels=["low", "high"])
    gray, colour = (axes.get_images()[0] for axes in figure.axes[:2])
    assert gray.get_clim() == (0, 1) and np.all(gray.get_array() == 0.25)
    assert colour.get_array().max() == 1
    assert [axes.get_title() for axes in figure.axes[:2]] == ["clean", "noisy"]
    assert figure.axes[2].get_ylabel() == "high"


def test_ratios_are_drawn_at_their_values():
    records = [
        Record(experiment="e", metric="time_ratio", arm=arm, value=ratio, settings={"quantile": q})
        for arm, ratios in (("wrapper", (1.0, 1.01, 1.05)), ("architecture", (1.3, 1.4, 1.45)))
        for q, ratio in zip((0.25, 0.5, 0.75), ratios)
    ]
    axes = plotting.ratio_bars(records, rows=["arm"]).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), [1.01, 1.4])
    (spread,) = axes.containers[0][2]
    np.testing.assert_allclose(
        [bar[:, 0] for bar in spread.get_segments()], [[1, 1.05], [1.3, 1.45]]
    )
    assert [text.get_text() for text in axes.get_yticklabels()] == ["wrapper", "architecture"]


def test_spectra_are_averaged_over_maps_and_the_cut_off_is_marked():
    records = [
        Record(
            experiment="e",
            metric="power",
            arm=arm,
            value=g * p,
            settings={"map": m, "frequency": f},
        )
        for arm, g in ((INPUT, 1.0), ("LayerNorm-C", 10.0))
        for m, p in (("one", 1.0), ("two", 3.0))
        for f in (0.6, 0.1)
    ]
    axes = plotting.spectrum_curves(records, cutoff=0.35, title="maps").figure.axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["LayerNorm-C"], [[0.1, 20], [0.6, 20]])
    np.testing.assert_allclose(lines["cut-off"][:, 0], 0.35)
    assert axes.get_yscale() == "log"
