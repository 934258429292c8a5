import re

from wne_jax.evaluation.records import Record
from wne_jax.evaluation.tables import Cell, View, markdown, markdown_table, number_format, pivot


def psnr(arm, level, value=None, published=None, **columns):
    return Record(
        experiment="e", metric="psnr", unit="dB", arm=arm, level=level, value=value, published=published,
        **columns,
    )  # fmt: skip


RECORDS = [
    psnr("wne", 5, 34.0, image="007"),
    psnr("wne", 5, 35.0, image="a,b"),
    psnr("wne", 5, published=35.5),  # for the dataset, without an image
    psnr("wne", 10, published=31.0),
    psnr("bare", 5, 30.0, image="007"),
]


def test_a_cell_has_our_mean_and_the_published_mean():
    table = pivot(RECORDS, rows=["arm"], columns=["level"])
    assert (table.rows, table.columns) == ((("wne",), ("bare",)), ((5.0,), (10.0,)))
    assert table.cells[("wne",), (5.0,)] == Cell(34.5, 35.5, "dB")
    assert table.cells[("wne",), (5.0,)].difference == -1.0
    assert table.cells[("wne",), (10.0,)] == Cell(None, 31.0, "dB")
    assert (("bare",), (10.0,)) not in table.cells


def test_markdown_has_not_run_cells_and_empty_gaps():
    assert markdown(pivot(RECORDS, rows=["arm"], columns=["level"]), corner="arm").splitlines() == [
        "| arm | 5 | 10 |",
        "|---|---|---|",
        "| wne | **34.50** (35.50, -1.00) | not run (31.00) |",
        "| bare | **30.00** | |",
    ]
    ours = [r for r in RECORDS if r.published is None]
    assert (
        markdown(pivot(ours, rows=["arm"], columns=["level"])).splitlines()[2] == "| wne | 34.50 |"
    )


def test_rows_and_columns_from_settings_and_several_columns():
    rows = [
        psnr(arm, 5, value, model="dncnn", trained=trained, settings={"layer": layer})
        for value, (arm, layer, trained) in enumerate(
            [("wne", "conv", 25), ("wne", "norm", 25), ("wne", "norm", (0, 55))]
        )
    ]
    table = pivot(rows, rows=["model", "arm", "layer"], columns=["trained"])
    assert markdown(table).splitlines() == [
        "| | 0 to 55 | 25 |",
        "|---|---|---|",
        "| dncnn wne conv | | 0.00 |",
        "| dncnn wne norm | 2.00 | 1.00 |",
    ]


def test_number_formats_depend_on_unit_and_size():
    assert number_format([Cell(0.01, unit="dB")]) == ".2f"
    assert number_format([Cell(0.01, unit="dB"), Cell(0.9)]) == ".4f"
    assert number_format([Cell(30.0), Cell(0.5)]) == ".2f"
    assert number_format([Cell(None, 2e-7)]) == ".1e"
    assert number_format([Cell(0.0), Cell(1.5)]) == ".3f"
    assert number_format([]) == number_format([Cell(None)]) == ".2f"


def test_texts_are_escaped_in_a_markdown_table():
    table = markdown_table(["a|b", "c\nd"], [["|", ""], ["x", "y  z"]])
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    assert [[text.strip() for text in row] for row in rows] == [
        [r"a\|b", "c d"], ["---", "---"], [r"\|", ""], ["x", "y z"],
    ]  # fmt: skip


def test_columns_of_numbers_ascend_and_others_keep_their_order():
    by_level = pivot([psnr("b", x, 1) for x in (50, 5, 10)], rows=["arm"], columns=["level"])
    assert by_level.columns == ((5.0,), (10.0,), (50.0,))
    by_training = [psnr("b", 5, 1, trained=x) for x in (50, (0, 55), 25)]
    assert pivot(by_training, rows=["arm"], columns=["trained"]).columns == (
        ((0.0, 55.0),), ((25.0,),), ((50.0,),),
    )  # fmt: skip
    by_arm = pivot([psnr(arm, 5, 1) for arm in "bac"], rows=["level"], columns=["arm"])
    assert by_arm.columns == (("b",), ("a",), ("c",))


def test_a_view_makes_one_table_per_metric_dataset_and_training():
    records = [
        Record(experiment="e", metric=metric, unit=unit, dataset=name, trained=trained, arm="wne",
               level=level, value=1, settings={"layer": "norm"})
        for metric, unit in (("psnr", "dB"), ("some_defect", None))
        for name in ("Set12", "BSD68")
        for trained in (25, (0, 55), ())
        for level in (5, 10)
    ]  # fmt: skip
    tables = View().pivot(records)
    assert list(tables)[:2] == [
        "PSNR (dB), Set12, trained at 25",
        "PSNR (dB), Set12, trained at 0 to 55",
    ]
    assert list(tables)[-1] == "some defect, BSD68" and len(tables) == 12
    assert all(len(table.cells) == 2 for table in tables.values())
    ((one, table),) = (
        View(("arm",), ("level",), ("layer", "metric"), {"metric": ["psnr"], "level": [5]})
        .pivot(records)
        .items()
    )
    assert one == "layer norm, PSNR" and table.columns == ((5.0,),)
