"""Splits: the same everywhere, no source on two sides, exact where groups allow."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from data_files import good_rows, refusal, restored, write_lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraloom.data.splitting.groups import source_key
from loraloom.data.splitting.split import split_examples
from loraloom.errors import RunError
from loraloom.recipe import DataSettings
from loraloom.run.documents.split import SplitRecord


@pytest.fixture
def split(tmp_path):
    """Write rows as the training file, and split them."""

    def write_and_split(rows, **options):
        write_lines(tmp_path / "train.jsonl", rows)
        return split_examples(DataSettings(train="train.jsonl", **options).in_folder(tmp_path))

    return write_and_split


def sources(examples):
    return {source_key(example.source) for example in examples}


@pytest.mark.parametrize(
    ("part", "expected"), [(0.2, 20), (0.005, 1), (7, 7), (99, 99), (0, 0), ("0.25", 25), (0.999, 100)]
)
def test_shares_and_counts_are_exact_where_rows_stand_alone(split, part, expected):
    if expected == 100:
        assert "none would be left to train on" in refusal(split, good_rows(100), eval=part)
        return
    done = split(good_rows(100), eval=part)
    assert (len(done.eval), len(done.train), len(done.test)) == (expected, 100 - expected, 0)


def test_every_row_is_in_one_part_in_file_order(split):
    done = split(good_rows(50), eval=0.2, test=5)
    rows = [[example.row for example in part] for part in (done.train, done.eval, done.test)]
    assert [len(part) for part in rows] == [35, 10, 5]
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(1, 51))
    assert all(part == sorted(part) for part in rows)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.sampled_from("abcdefghij"), min_size=6, max_size=40),
    share=st.floats(0.05, 0.5),
    count=st.integers(0, 2),
    seed=st.integers(0, 5),
)
def test_no_source_is_on_two_sides(split, texts, share, count, seed):
    if len(set(texts)) < 4:
        return
    rows = [{"instruction": text, "response": str(i)} for i, text in enumerate(texts)]
    done = split(rows, eval=share, test=count, split_seed=seed)
    assert len(done.train) + len(done.eval) + len(done.test) == len(rows)
    assert done.train
    assert done.eval
    assert not sources(done.train) & sources(done.eval)
    assert not sources(done.train) & sources(done.test)
    assert not sources(done.eval) & sources(done.test)


def test_conversations_stay_whole_and_the_difference_is_told(split):
    rows = [
        {"messages": [{"role": r, "content": f"{r}{i}.{t}"} for t in range(3) for r in ("user", "assistant")]}
        for i in range(10)
    ]
    done = split(rows, eval=10)
    assert len(done.eval) == 9
    assert not {e.row for e in done.train} & {e.row for e in done.eval}
    assert any("eval has 9 rows instead of the requested 10" in note for note in done.notes)
    assert done.to_json()["eval"][0] == ["train.jsonl", done.eval[0].row, 1]


def test_the_split_depends_on_its_seed_and_on_nothing_else(split, tmp_path):
    first = split(good_rows(200), eval=0.2, test=0.1)
    assert split(good_rows(200), eval=0.2, test=0.1) == first
    assert split(good_rows(200), eval=0.2, test=0.1, split_seed=43).eval != first.eval
    assert split(good_rows(200), eval=0.2).eval == first.eval
    script = (
        "import sys, json\nfrom pathlib import Path\n"
        "from loraloom.data.splitting.split import split_examples\nfrom loraloom.recipe import DataSettings\n"
        "settings = DataSettings(train='train.jsonl', eval=0.2, test=0.1)\n"
        "print(json.dumps(split_examples(settings.in_folder(Path(sys.argv[1]))).to_json()))\n"
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)\n"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout) == first.to_json()


def test_the_split_of_twenty_rows_stays_what_it_is(split):
    """A change here would give every user's next run other rows than their last."""
    assert [row for _, row in split(good_rows(), eval=5).to_json()["eval"]] == PINNED_EVAL_ROWS


PINNED_EVAL_ROWS = [5, 6, 10, 15, 20]


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (1, {"eval": 0.1}, "train.jsonl: contains 1 row, but a split needs at least 2"),
        (20, {"eval": 20}, "data.eval: requests 20 rows, but train.jsonl has 20"),
        (20, {"eval": 5, "test": 30}, "data.test: requests 30 rows"),
        (20, {"eval": 10, "test": 10}, "10 rows for eval and 10 rows for test would leave none"),
        (2, {"eval": 0.1, "test": 0.1}, "leave none of the 2 rows"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(split, rows, options, told):
    assert told in refusal(split, good_rows(rows), **options)


def test_one_row_may_be_trained_on_without_a_split(split):
    assert len(split(good_rows(1), eval=0).train) == 1


def test_rows_of_one_source_cannot_be_split(split):
    rows = [{"instruction": "same", "response": str(i)} for i in range(20)]
    assert "stay together" in refusal(split, rows, eval=0.2)


def test_a_part_may_be_a_file_of_its_own(split, tmp_path):
    write_lines(tmp_path / "held.jsonl", [{"prompt": "p", "completion": "c"}])
    done = split(good_rows(), eval=0.1, test="held.jsonl")
    assert (len(done.train), len(done.eval), len(done.test)) == (18, 2, 1)
    assert list(done.files) == ["train.jsonl", "held.jsonl"]
    assert done.to_json()["test"] == [["held.jsonl", 1]]


@pytest.mark.parametrize("part", ["eval", "test"])
def test_a_source_in_two_files_is_refused_with_both_rows(split, tmp_path, part):
    held = [{"instruction": f"新 {i}", "response": "b"} for i in range(20)]
    held[4] = {"instruction": "  问题   7 ", "response": "another"}
    held[9] = good_rows()[2]
    write_lines(tmp_path / "held.jsonl", held)
    message = refusal(split, good_rows(), **{"eval": 0, part: "held.jsonl"})
    assert "held.jsonl:5: row 5 has the same source as row 7 of train.jsonl:7" in message
    assert "held.jsonl:10: row 10 has the same source as row 3 of train.jsonl:3" in message
    assert "2 problems in all" in message


def test_a_source_in_the_eval_and_test_files_is_refused(split, tmp_path):
    for name in ("e.jsonl", "t.jsonl"):
        write_lines(tmp_path / name, [{"instruction": "held", "response": "a"}])
    assert "t.jsonl:1: row 1 has the same source as row 1 of e.jsonl:1" in refusal(
        split, good_rows(), eval="e.jsonl", test="t.jsonl"
    )


@pytest.mark.parametrize("name", ["train.jsonl", "./train.jsonl"])
def test_one_file_for_two_parts_is_refused(split, name):
    assert "data.eval: names the same file as data.train" in refusal(split, good_rows(), eval=name)


def test_the_starter_splits_by_share_and_by_its_own_files(tmp_path, monkeypatch):
    starter = pytest.importorskip("loraloom.starter")
    for start, name in enumerate(("train", "eval", "test")):
        rows = [{"instruction": f"{name}{i}", "response": "a"} for i in range(20 + start)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    monkeypatch.setattr(starter, "data_file", lambda name: tmp_path / f"{name}.json")
    by_share = split_examples(DataSettings(train="starter", eval=0.25).in_folder(tmp_path))
    assert (len(by_share.train), len(by_share.eval)) == (15, 5)
    assert list(by_share.files) == ["starter:train.json"]
    own = split_examples(DataSettings(train="starter", eval="starter", test="starter").in_folder(tmp_path))
    assert (len(own.train), len(own.eval), len(own.test)) == (20, 21, 22)


class TestRestore:
    SETTINGS = DataSettings(train="train.jsonl", eval=0.2, test="held.jsonl")

    @pytest.fixture
    def saved(self, tmp_path):
        write_lines(tmp_path / "train.jsonl", good_rows())
        write_lines(tmp_path / "held.jsonl", [{"instruction": "h", "response": "a"}])
        return json.loads(json.dumps(split_examples(self.SETTINGS.in_folder(tmp_path)).to_json()))

    def test_the_same_split_comes_back_whatever_the_shares_say_now(self, saved, tmp_path):
        before = split_examples(self.SETTINGS.in_folder(tmp_path))
        now = self.SETTINGS.model_copy(update={"eval": 0.5, "split_seed": 1})
        again = restored(saved, now.in_folder(tmp_path))
        assert (again.train, again.eval, again.test) == (before.train, before.eval, before.test)
        assert again.to_json() == saved

    def test_a_changed_file_is_refused_with_both_hashes(self, saved, tmp_path):
        write_lines(tmp_path / "train.jsonl", [*good_rows(), {}])
        message = refusal(restored, saved, self.SETTINGS.in_folder(tmp_path))
        assert "train.jsonl: has changed" in message
        assert saved["files"]["train.jsonl"] in message
        assert message.count("sha256") == 1
        assert "held" not in message

    def test_other_files_are_refused(self, saved, tmp_path):
        settings = DataSettings(train="train.jsonl")
        assert "split.json: is a split of files other than the recipe's" in refusal(
            restored, saved, settings.in_folder(tmp_path)
        )

    def test_rows_that_are_read_differently_now_are_refused(self, saved, tmp_path):
        saved["eval"].append(["train.jsonl", 21])
        message = refusal(restored, saved, self.SETTINGS.in_folder(tmp_path))
        assert "row 21 of train.jsonl is in the split" in message

    @pytest.mark.parametrize(
        "damage",
        [
            {},
            {"files": 1},
            {"train": None},
            {"train": [["a"]]},
            {"eval": [["a", "1"]]},
            {"test": [["a", True]]},
            {"files": {"a": 1}},
        ],
    )
    def test_a_damaged_split_file_is_refused(self, saved, tmp_path, damage):
        broken = {**saved, **damage} if damage else {}
        (tmp_path / "split.json").write_text(json.dumps(broken))
        with pytest.raises(RunError, match=r"split\.json: is damaged"):
            SplitRecord.read(tmp_path / "split.json")
