"""Several files as one part: their rows, their groups, and what becomes of a changed one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from data_files import good_rows, refusal, restored, write_lines

from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import split_examples
from loraloom.errors import RunError
from loraloom.recipe import DataSettings
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run
from loraloom.session.provenance import check_same_retained


@pytest.fixture
def folder(tmp_path):
    """data/ with three files of three formats and two layouts; two rows stand in two of them."""
    inside = tmp_path / "data"
    inside.mkdir()
    rows = good_rows(30)
    write_lines(inside / "a.jsonl", rows[:12])
    with gzip.open(inside / "b.json.gz", "wt") as file:
        json.dump(rows[10:20], file)
    lines = [f"{row['instruction']},{row['response']}" for row in rows[20:]]
    (inside / "c.csv").write_text("\n".join(["prompt,completion", *lines]))
    return tmp_path


def split_of(folder, train="data", **options):
    return split_examples(DataSettings(train=train, **options).in_folder(folder))


def test_every_row_knows_its_file_and_every_file_its_sum(folder):
    split = split_of(folder, eval=0)
    assert [example.id for example in split.train] == [
        *(("data/a.jsonl", number) for number in range(1, 13)),
        *(("data/b.json.gz", number) for number in range(1, 11)),
        *(("data/c.csv", number) for number in range(1, 11)),
    ]
    assert len({example.id for example in split.train}) == 32
    assert list(split.files) == ["data/a.jsonl", "data/b.json.gz", "data/c.csv"]
    assert len(set(split.files.values())) == 3
    assert any("data/a.jsonl (and 1 other file as well) was read as instruction" in n for n in split.notes)
    assert any("data/c.csv was read as prompt/completion" in note for note in split.notes)


def test_the_order_is_that_of_names_whatever_the_folder_says(folder, monkeypatch):
    before = split_of(folder, eval=5)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(listed(self))))
    assert split_of(folder, eval=5) == before


@pytest.mark.parametrize("seed", range(8))
def test_a_source_in_two_files_is_on_one_side(folder, seed):
    split = split_of(folder, eval=10, split_seed=seed)
    held_out = {example.source for example in split.eval}
    assert not held_out & {example.source for example in split.train}
    assert len(split.eval) == 10


def test_groups_of_earlier_files_are_joined_by_later_ones(tmp_path):
    def talk(*questions):
        turns = [({"role": "user", "content": q}, {"role": "assistant", "content": "x"}) for q in questions]
        return {"messages": [turn for pair in turns for turn in pair]}

    write_lines(tmp_path / "1.jsonl", [talk("one"), talk("two"), talk("three")])
    write_lines(tmp_path / "2.jsonl", [talk("one", "two")])
    split = split_of(tmp_path, ["1.jsonl", "2.jsonl"], eval=1)
    assert [example.source for example in split.eval] == ["three"]


def test_a_list_of_one_is_as_the_file_alone(folder):
    alone, listed = split_of(folder, "data/a.jsonl", eval=4), split_of(folder, ["data/a.jsonl"], eval=4)
    assert alone == listed


def test_leakage_between_parts_of_several_files_names_both_rows(folder):
    rows = [{"instruction": "held", "response": "x"}, good_rows()[12]]
    write_lines(folder / "held.jsonl", rows)
    message = refusal(split_of, folder, eval=["held.jsonl"])
    assert "held.jsonl:2: row 2 has the same source as row 3 of data/b.json.gz" in message


def test_a_file_of_two_parts_is_refused(folder):
    message = refusal(split_of, folder, eval="data/c.csv")
    assert "data.eval: names the same file as data.train (found: data/c.csv)" in message
    assert "Change data.train so that it excludes the file" in message


def test_problems_of_every_file_come_at_once(folder):
    write_lines(folder / "data" / "d.jsonl", [{"instruction": "x"}, {"instruction": 1, "response": "y"}])
    (folder / "data" / "e.csv").write_text("")
    message = refusal(split_of, folder, eval="gone/*.json")
    assert "data.eval: matches no file" in message
    message = refusal(split_of, folder)
    assert "data/d.jsonl:1: row 1: `response` is missing" in message
    assert "data/d.jsonl:2: row 2" in message
    assert "data/e.csv: contains no rows" in message


def test_mapped_columns_are_those_of_every_file(folder):
    message = refusal(split_of, folder, columns={"instruction": "instruction", "response": "response"})
    assert "there is no column `instruction` in data/c.csv" in message


class TestRestore:
    SETTINGS = DataSettings(train="data", eval=6)

    @pytest.fixture
    def saved(self, folder):
        return json.loads(json.dumps(split_examples(self.SETTINGS.in_folder(folder)).to_json()))

    def test_the_same_rows_come_back(self, saved, folder):
        assert restored(saved, self.SETTINGS.in_folder(folder)) == split_examples(
            self.SETTINGS.in_folder(folder)
        )

    @pytest.mark.parametrize("name", ["a.jsonl", "b.json.gz", "c.csv"])
    def test_a_change_of_any_file_is_found(self, saved, folder, name):
        path = folder / "data" / name
        path.write_bytes(path.read_bytes() + b"\n")
        message = refusal(restored, saved, self.SETTINGS.in_folder(folder))
        assert f"data/{name}: has changed since it was split" in message
        assert message.count("sha256") == 1

    def test_a_file_that_is_gone_is_named(self, saved, folder):
        (folder / "data" / "b.json.gz").unlink()
        assert "data/b.json.gz: no such file" in refusal(restored, saved, self.SETTINGS.in_folder(folder))

    def test_a_file_that_came_later_is_not_read_and_is_said(self, saved, folder):
        before = split_examples(self.SETTINGS.in_folder(folder))
        write_lines(folder / "data" / "later.jsonl", [{"instruction": "new", "response": "new"}])
        now = restored(saved, self.SETTINGS.in_folder(folder))
        assert (now.train, now.eval, now.files) == (before.train, before.eval, before.files)
        assert any("not among the files that were split: `data/later.jsonl`" in note for note in now.notes)

    @pytest.mark.parametrize("name", ["test.jsonl", "sub.parquet"])
    def test_no_file_that_came_later_stands_in_the_way(self, folder, name):
        (folder / "data" / "a.jsonl").rename(folder / "data" / "train.jsonl")
        saved = split_examples(self.SETTINGS.in_folder(folder)).to_json()
        (folder / "data" / name).write_text("")
        assert restored(saved, self.SETTINGS.in_folder(folder)).to_json() == saved

    def test_a_file_that_the_recipe_adds_by_name_is_another_split(self, saved, folder):
        write_lines(folder / "more.jsonl", good_rows(2))
        settings = DataSettings(train=["data", "more.jsonl"], eval=6)
        message = refusal(restored, saved, settings.in_folder(folder))
        assert "split.json: is a split of files other than the recipe's" in message
        assert "`more.jsonl`" in message


def test_a_run_names_what_changed_of_rows_to_retain(folder):
    settings = DataSettings(train="starter", retain="data")
    run = Run(folder / "run")
    sums = read_retained(settings.in_folder(folder)).sha256
    before = Provenance(started="", folder="/", versions={}, seeds={}, choices={}, retain=dict(sums))
    check_same_retained(before, read_retained(settings.in_folder(folder)), run)
    write_lines(folder / "data" / "a.jsonl", good_rows(3))
    (folder / "data" / "c.csv").unlink()
    with pytest.raises(RunError) as caught:
        check_same_retained(before, read_retained(settings.in_folder(folder)), run)
    assert "data/a.jsonl, data/c.csv" in str(caught.value)
    assert "b.json" not in str(caught.value)


def test_rows_to_retain_may_be_several_files(folder):
    settings = DataSettings(train="starter", retain=["data/a.jsonl", "data/c*"])
    retained = read_retained(settings.in_folder(folder))
    assert len(retained.examples) == 22
    assert list(retained.sha256) == ["data/a.jsonl", "data/c.csv"]
