"""Values that are no text become text without a change."""

from __future__ import annotations

import datetime
import json
import sys
import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.data.examples import Examples, read_examples
from loraloom.data.formats.json_text import StrictDecoder
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.recipe.legacy import MEANT_IN_0_1

Load = Callable[..., Examples]
NO_YES = {"_type": "ClassLabel", "names": ["no", "yes"]}


@pytest.fixture
def parquet(tmp_path: Path) -> Load:
    """Write a Parquet file with a column `response` and read it back as examples."""
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")

    def load(values: list[Any], kind: Any, feature: dict[str, Any] | None = None, **options: Any) -> Examples:
        table = arrow.table(
            {"instruction": [f"q{n}" for n in range(len(values))], "response": arrow.array(values, kind)}
        )
        if feature is not None:  # as `datasets` leaves it in a file's schema
            features = {"instruction": {"dtype": "string", "_type": "Value"}, "response": feature}
            table = table.replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": features}})}
            )
        writer.write_table(table, tmp_path / "a.parquet")
        settings = DataSettings(train="a.parquet", **{"stringify": True, **options})
        return read_examples(tmp_path / "a.parquet", settings, shown_as="a.parquet")

    return load


def answers(examples: Examples) -> list[str]:
    return [example.response for example in examples.examples]


@pytest.mark.parametrize(
    "written", ["3.10", "1e5", "1E-7", "-0", "-0.0", "0.1", "12", "123456789012345678901", "1.0"]
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_number_in_json_is_written_as_the_file_writes_it(tmp_path, name, written):
    row = f'{{"instruction": "q", "response": {written}}}'
    (tmp_path / name).write_text(f"[{row}]" if name == "a.json" else row)
    read = read_examples(tmp_path / name, DataSettings(train=name, stringify=True), shown_as=name)
    assert answers(read) == [written]


def test_0_1_wrote_numbers_as_python_prints_them(tmp_path, parquet):
    import pyarrow as arrow

    then = {"number_format": MEANT_IN_0_1["data", "number_format"]}
    rows = [f'{{"instruction": "{n}", "response": {n}}}' for n in ("3.10", "1e5", "-0")]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    settings = DataSettings(train="a.jsonl", stringify=True, **then)
    assert answers(read_examples(tmp_path / "a.jsonl", settings, shown_as="a.jsonl")) == [
        "3.1",
        "100000.0",
        "0",
    ]
    assert answers(parquet([3.8], arrow.float32(), **then)) == ["3.799999952316284"]
    assert answers(parquet([1, 0], arrow.int64(), NO_YES, **then)) == ["1", "0"]
    assert answers(parquet([Decimal("0.0000001")], arrow.decimal128(9, 7), **then)) == ["1E-7"]


def test_a_float_of_each_width_is_as_short_as_reads_back(parquet):
    import pyarrow as arrow

    assert answers(parquet([3.8, 0.1, 2.0, 1e20], arrow.float32())) == ["3.8", "0.1", "2.0", "1e+20"]
    assert answers(parquet([3.8, 0.1], arrow.float64())) == ["3.8", "0.1"]
    assert answers(parquet([numpy.float16(3.8)], arrow.float16())) == ["3.8"]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_float32_reads_back(values):
    from loraloom.data.formats.cells import _shortest

    for value in values:
        text = _shortest(32)(value).written
        assert numpy.float32(text) == numpy.float32(value)
        assert len(text) <= len(repr(value))


def test_decimals_dates_and_truth_values_are_text_too(parquet):
    import pyarrow as arrow

    assert answers(parquet([Decimal("3.10"), Decimal("0.01")], arrow.decimal128(9, 2))) == ["3.10", "0.01"]
    assert answers(parquet([Decimal("0.0000001")], arrow.decimal128(9, 7))) == ["0.0000001"]
    assert answers(parquet([True, False], arrow.bool_())) == ["true", "false"]
    assert answers(parquet([datetime.date(2024, 1, 2)], arrow.date32())) == ["2024-01-02"]
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5)
    assert answers(parquet([moment], arrow.timestamp("s"))) == ["2024-01-02 03:04:05"]


@pytest.mark.parametrize("value", [True, datetime.date(2024, 1, 2), 1.5])
def test_what_is_no_text_is_refused_with_the_fix(parquet, value):
    with pytest.raises(DataError, match=r"must be text.*data\.stringify: true"):
        parquet([value], None, stringify=False)


def test_class_labels_are_read_by_their_names_and_noted(parquet):
    import pyarrow as arrow

    read = parquet([1, 0, 1], arrow.int64(), NO_YES, stringify=False)
    assert answers(read) == ["yes", "no", "yes"]
    assert any("class labels were read as names in these columns: `response`" in note for note in read.notes)
    with pytest.raises(DataError, match="row 2: `response` is null"):  # -1 is no label
        parquet([1, -1], arrow.int64(), NO_YES)


def test_a_file_that_datasets_wrote_keeps_its_class_names(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        instruction=datasets.Value("string"),
        response=datasets.ClassLabel(names=["no", "yes"]),
        score=datasets.List(datasets.Value("float32")),
        labels=datasets.List(datasets.ClassLabel(names=["a", "b"])),
        nested={"label": datasets.ClassLabel(names=["x", "y"])},
    )
    row = {"instruction": "q", "response": 1, "score": [3.8], "labels": [1, 0], "nested": {"label": 1}}
    made = datasets.Dataset.from_list([row], features=features)
    made.to_parquet(tmp_path / "a.parquet")
    from loraloom.data.rows import read_rows

    expected = {**row, "response": "yes", "labels": ["b", "a"], "nested": {"label": "y"}}
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *args, **kwargs: made
    monkeypatch.setitem(sys.modules, "datasets", module)
    for name in ("a.parquet", "hub:owner/name"):
        (read,) = read_rows(tmp_path / "a.parquet", DataSettings(train=name), shown_as=name)
        assert read.values == {**expected, "score": [pytest.approx(3.8)]}
        assert read.values["score"][0].written == "3.8"


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_decoded_number_is_equal_to_what_json_reads(value):
    for keep_written in (True, False):
        decoded, _ = StrictDecoder(keep_written=keep_written).decode(json.dumps(value))
        assert decoded == value
        assert isinstance(decoded, type(value))
