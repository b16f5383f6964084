"""Arrow files: both forms, in batches; and what datasets itself writes."""

from __future__ import annotations

import pytest
from data_files import good_rows, refusal

from loraloom.data.formats.row import Findings
from loraloom.data.rows import read_rows, scan_rows
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings

pa = pytest.importorskip("pyarrow")
SETTINGS = DataSettings(train="data.arrow")


def write_arrow(path, rows, form="stream", chunk=7):
    table = pa.Table.from_pylist(rows)
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return path


@pytest.mark.parametrize("form", ["stream", "file"])
@pytest.mark.parametrize("number", [1, 20, 3_000])
def test_both_forms_are_read(tmp_path, form, number):
    path = write_arrow(tmp_path / "data.arrow", good_rows(number), form, chunk=2_500)
    rows = list(read_rows(path, SETTINGS, shown_as="data.arrow"))
    assert [row.values for row in rows] == good_rows(number)
    assert [row.number for row in rows] == list(range(1, number + 1))
    assert rows[0].line is None


@pytest.mark.parametrize("form", ["stream", "file"])
def test_what_is_no_whole_file_is_refused(tmp_path, form):
    path = write_arrow(tmp_path / "data.arrow", good_rows(200), form)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"ARROW1", b"nothing of the kind"):
        path.write_bytes(damaged)
        message = refusal(lambda: list(read_rows(path, SETTINGS, shown_as="data.arrow")))
        assert "data.arrow: is not a complete Arrow file" in message


def test_a_stream_that_breaks_off_between_batches_is_noted(tmp_path):
    path = write_arrow(tmp_path / "data.arrow", good_rows(20))
    content = path.read_bytes()
    findings = Findings()
    list(scan_rows(path, SETTINGS, shown_as="data.arrow", findings=findings))
    assert findings.notes == []
    path.write_bytes(content[:-8])
    rows = list(scan_rows(path, SETTINGS, shown_as="data.arrow", findings=findings))
    assert len(rows) == 20
    assert "data.arrow has no end mark, so rows may be missing" in findings.notes[0]


def test_what_save_to_disk_writes_is_read_in_its_order(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = good_rows(40)
    whole = datasets.Dataset.from_list(rows)
    whole.shuffle(seed=1).save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict(train=whole.select(range(30)), test=whole.select(range(30, 40))).save_to_disk(
        tmp_path / "dict"
    )
    datasets.load_from_disk(tmp_path / "one").map(lambda row: {"response": "mapped"})  # leaves a cache there
    assert list((tmp_path / "one").glob("cache-*.arrow"))

    one = split_examples(DataSettings(train="one", eval=0).in_folder(tmp_path))
    expected = [row["instruction"] for row in datasets.load_from_disk(tmp_path / "one")]
    assert [example.source for example in one.train] == expected
    assert len(one.files) == 3
    assert {example.response for example in one.train} == {row["response"] for row in rows}

    parts = split_examples(DataSettings(train="dict", eval=0, test="dict").in_folder(tmp_path))
    assert [example.source for example in parts.train] == [row["instruction"] for row in rows[:30]]
    assert [example.source for example in parts.test] == [row["instruction"] for row in rows[30:]]
