import dataclasses
import math

import numpy as np
import pytest

from wne_jax.evaluation.records import (
    COLUMNS,
    Record,
    mean_over,
    read_records,
    split_by,
    write_records,
)

FULL = Record(
    experiment="matched", metric="psnr", unit="dB", dataset="Set12", image="007", degradation="jpeg",
    level=25, trained=(0, 55), model="dncnn", arm="wne", seed=3, repeat=0, value=30.1, published=30.43,
    settings={"layer": "BatchNorm", "sizes": [1, 2.5, None], "deep": {"a": True}},
)  # fmt: skip


def bare(**columns):
    return Record(experiment="e", metric="m", **columns)


HOSTILE = [
    "a,b",
    'a "b"',
    "a\nb",
    "a\r\nb",
    " a ",
    "1e3",
    "None",
    "nan",
    "ä→δ",
    "=1+1",
    "'",
    "|",
    "\0",
]
NUMBERS = [
    0.0,
    -0.0,
    1 / 3,
    1e-320,
    5e300,
    math.inf,
    -math.inf,
    float(np.float32(0.1)),
    2.0**53 + 2,
]


@pytest.mark.parametrize(
    "records",
    [
        [FULL, bare()],
        [bare(image=text, arm=text, settings={"x": text, text: 1}) for text in HOSTILE],
        [bare(value=x, published=-x, level=x, trained=(x, 1.0)) for x in NUMBERS],
        [bare(seed=2**62, repeat=-1)],
    ],
)
def test_records_are_read_back_exactly(tmp_path, records):
    path = tmp_path / "records.csv"
    write_records(records, path)
    found = read_records(path)
    assert found == records
    for one, other in zip(
        found, records
    ):  # -0.0 == 0.0 and 1 == 1.0, but they must be distinguished
        assert repr(one) == repr(other)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [p.name for p in tmp_path.iterdir()] == ["records.csv"]


def test_nan_is_read_back_and_text_stays_text(tmp_path):
    write_records([bare(value=math.nan, image="007", arm="25", model="nan")], tmp_path / "r.csv")
    (record,) = read_records(tmp_path / "r.csv")
    assert math.isnan(record.value)
    assert (record.image, record.arm, record.model) == ("007", "25", "nan")


def test_numpy_numbers_become_python_numbers():
    record = bare(
        value=np.float32(0.5), level=np.int64(25), seed=np.int32(1), trained=np.float64(5)
    )
    assert repr(record) == repr(bare(value=0.5, level=25.0, seed=1, trained=(5.0,)))


def test_columns_and_settings_are_read_alike():
    assert [FULL[name] for name in ("arm", "trained", "layer", "device")] == [
        "wne", (0.0, 55.0), "BatchNorm", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"image": 7}, "image must be text, not 7"),
        ({"experiment": None}, "experiment must be text, not None"),
        ({"unit": ""}, "unit is empty"),
        ({"value": "30"}, "value must be a number"),
        ({"seed": 1.5}, "seed must be a number"),
        ({"settings": {"arm": "wne"}}, "'arm' is a column"),
    ],
)
def test_a_field_of_another_type_is_rejected(columns, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Record(**{"experiment": "e", "metric": "m"} | columns)


@pytest.mark.parametrize(
    "records, message",
    [
        ([], "no records"),
        ([FULL, bare(settings={"sizes": (1, 2)})], "plain JSON"),
        ([FULL, bare(settings={"x": math.nan})], "JSON"),
    ],
)
def test_a_failed_write_leaves_the_old_file(tmp_path, records, message):
    path = tmp_path / "records.csv"
    write_records([FULL], path)
    with pytest.raises(ValueError, match=message):
        write_records(records, path)
    assert read_records(path) == [FULL]
    assert [p.name for p in tmp_path.iterdir()] == ["records.csv"]


def test_a_file_with_another_schema_is_rejected(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("image,psnr\n007,30\n")
    with pytest.raises(ValueError, match="must have the columns experiment, metric"):
        read_records(path)
    write_records([FULL, FULL], path)
    for old, new, message in (
        ("30.1", "thirty", "row 2: could not convert"),
        ("matched,", ",", "row 2: experiment must be text"),
        ("matched,", "matched,more,", "row 2"),
    ):
        broken = tmp_path / "broken.csv"
        broken.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_records(broken)
    path.write_text("")
    with pytest.raises(ValueError, match="must have the columns"):
        read_records(path)


def test_means_ignore_records_without_a_value():
    rows = [
        bare(arm="a", value=1),
        bare(arm="a", value=4),
        bare(arm="a"),
        bare(arm="b", published=2),
    ]
    assert mean_over(rows, by=["arm"]) == {("a",): 2.5}
    assert mean_over(rows, "published", by=["arm"]) == {("b",): 2.0}


def test_records_are_split_by_columns_and_settings():
    rows = [bare(arm=a, settings={"size": s}) for a in "ab" for s in ([1, 2], None)]
    assert list(split_by(rows, ["size", "arm"])) == [
        ((1, 2), "a"), (None, "a"), ((1, 2), "b"), (None, "b"),
    ]  # fmt: skip
    again = [r for of in split_by(rows, ["size"]).values() for r in of]
    assert sorted(map(repr, again)) == sorted(map(repr, rows))


def test_records_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.value = 31.0
