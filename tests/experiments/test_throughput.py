"""The throughput experiment: records, goals, and a run without PyTorch."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from PIL import Image

from experiments import throughput
from experiments.parts import peak
from experiments.parts.throughput_tables import goals, to_records, to_rows
from wne_jax.evaluation.records import read_records, write_records

STACK = {"depth": 3, "features": 4}
CASES = {
    "dncnn": throughput.Case("dncnn", STACK, 2, 16),
    "fdncnn": throughput.Case("fdncnn", STACK, 2, 16),
    "ne-arch": throughput.Case("fdncnn", STACK | {"mode": "normalization-equivariant"}, 2, 16),
}
pytestmark = pytest.mark.usefixtures("standard_promotion")


def record(model, variant, precision, task, seconds, ratio=None, spread=0.01):
    spread = {"ratio_q1": ratio - spread, "ratio_q3": ratio + spread} if ratio else {}
    names = {"model": model, "variant": variant, "precision": precision, "task": task}
    return names | {"seconds": seconds, "ratio": ratio, "ratio_q1": None} | spread


def gpu_records(ours=1.0, eager=1.4, half=0.5, wrapper=1.005, affine=1.1, pipeline=1.02):
    return [
        record("fdncnn", "jax", "float32", "training", ours, ours / eager),
        record("fdncnn", "jax", "bfloat16", "training", half, 0.6),
        record("fdncnn", "jax wrapped", "float32", "training", wrapper, wrapper),
        record("fdncnn", "torch eager", "float32", "training", eager),
        record("ne-arch", "jax", "float32", "training", affine, 0.7),
        record("dncnn", "device corpus", "float32", "input pipeline", 1.0, pipeline),
    ]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"wrapper": 1.011}, [0]),
        ({"eager": 1.29}, [1]),
        ({"half": 0.6}, [2]),
        ({"affine": 1.16}, [3]),
        ({"pipeline": 1.031}, [4]),
    ],
)
def test_each_goal_is_judged_by_its_worst_case(change, missed):
    records = gpu_records(**({"half": 0.5, "eager": 1.4} | change))
    verdicts = [row["verdict"] for row in goals(records, on_gpu=True)]
    assert verdicts == ["missed" if i in missed else "reached" for i in range(5)]


def test_gpu_goals_are_not_judged_on_a_cpu():
    rows = goals(gpu_records(wrapper=1.019, half=9.0), on_gpu=False)
    assert [r["verdict"] for r in rows[:4]] == [
        "reached", "not measured here", "not measured here", "reached",
    ]  # fmt: skip
    assert rows[0]["worst case"] == "1.019 (fdncnn, training, float32)"
    assert goals(gpu_records(wrapper=1.021), on_gpu=False)[0]["verdict"] == "missed"
    assert {r["verdict"] for r in goals([], on_gpu=True)} == {"not measured here"}


def test_operations_are_counted_for_convolutions():
    config = throughput.make_config(CASES["fdncnn"], "float32")
    y = jnp.zeros((2, 16, 16, 1))
    model = config.model.build()
    lowered = jax.jit(model.apply).lower(jax.eval_shape(model.init, jax.random.key(0), y), y)
    kernels = 9 * (4 + 4 * 4 + 4)
    inside = 2 * 2 * 16 * 16 * kernels  # one product and one sum each, at every pixel
    assert throughput.count_flops(lowered) == pytest.approx(inside, rel=0.12)  # fewer at borders


def test_uncounted_operations_are_left_empty():
    class Lowered:
        def __init__(self, costs):
            self.costs = costs

        def cost_analysis(self):
            return self.costs

        def compile(self):
            return self

    assert throughput.count_flops(Lowered([{"flops": 3.0}])) == 3.0
    for costs in (None, [], {}, {"flops": -1.0}):
        assert throughput.count_flops(Lowered(costs)) is None


def test_measurements_can_be_written_and_read(tmp_path):
    empty = {"ratio_to": None, "ratio": None, "ratio_q1": None, "ratio_q3": None}
    place = {"precision": "float32", "task": "training", "batch": 8, "size": 64}
    rows = [
        {"model": "dncnn", "variant": variant, **place, "seconds": 0.5, "seconds_q1": 0.25,
         "seconds_q3": 1.0, "rate": 16.0, "unit": "patches/s", "flops": flops,
         "share_of_peak": flops and flops / 1e3, "peak_flops": 2e3, "peak_from": "matmul"} | ratio
        for variant, flops, ratio in (
            ("jax", 1e3, {"ratio_to": "torch eager", "ratio": 1.5, "ratio_q1": 1.25, "ratio_q3": 2.0}),
            ("torch eager", None, empty),
        )
    ]  # fmt: skip
    write_records([r for row in rows for r in to_records(row)], tmp_path / "records.csv")
    assert to_rows(read_records(tmp_path / "records.csv")) == rows


def test_a_slice_of_a_known_device_is_measured(monkeypatch):
    class Device:
        device_kind, platform = "NVIDIA H200", "cpu"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert peak.peak_flops("bfloat16") == (989.4e12, "published")
    Device.device_kind += " MIG 1g.18gb"
    value, origin = peak.peak_flops("float32")
    assert origin == "matmul" and 1e9 < value < 1e14


@pytest.fixture
def quickly_compiled():
    """Disable most optimizations, because compilation takes most of the time here."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("quickly_compiled")
def test_it_runs_without_torch_and_reports_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(throughput.PRESETS, "tiny", CASES)
    monkeypatch.setitem(sys.modules, "torch", None)
    models, workdir = ("dncnn",), tmp_path / "run"
    options = throughput.Options(models=models, rounds=2, workdir=workdir)
    with pytest.warns(UserWarning, match="PyTorch is not installed; its rows are left out"):
        throughput.main(options)
    records = to_rows(read_records(workdir / "records.csv"))
    both = {(m, v, t) for m in models for v in ("jax", "jax wrapped")
            for t in ("training", "inference")}  # fmt: skip
    places = {"constant batch", "device corpus", "host corpus"}
    pipeline = {("dncnn", place, "input pipeline") for place in places}
    found = {(r["model"], r["variant"], r["task"]) for r in records}
    assert both < found and found - both <= pipeline and len(found - both) >= 2
    for r in records:
        work = 2 if r["unit"] == "patches/s" else 2 * 16 * 16 / 1e6
        assert r["rate"] * r["seconds"] == pytest.approx(work)
        assert (r["ratio_to"] is None) == (r["variant"] in ("jax", "constant batch"))
        if r["flops"] is not None:
            share = r["flops"] / r["seconds"] / r["peak_flops"]
            assert r["share_of_peak"] == pytest.approx(share) and 0 < share < 1
    text = (workdir / "table.md").read_text()
    assert "| NE-arch over FDnCNN" in text and "measured)" in text and "revision" in text
    assert "not measured here" in capsys.readouterr().out
    with Image.open(workdir / "throughput.png") as figure:
        assert min(figure.size) > 300
    throughput.main(replace(options, stage="report"))  # only from the records
    assert (workdir / "table.md").read_text() == text
    with pytest.raises(FileExistsError, match="already holds results"):
        throughput.main(options)
