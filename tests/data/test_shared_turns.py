"""A turn that many conversations share ties nothing, and is never held out."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from data_files import refusal, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.duplicates import check_leakage, check_near_duplicates
from loraloom.checks.data.near_duplicates import near_copies
from loraloom.data.splitting.groups import SourceGroups, source_key
from loraloom.data.splitting.split import Split, split_examples
from loraloom.recipe import DataSettings

LETTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def talk(*questions):
    return {
        "messages": [
            turn
            for place, question in enumerate(questions)
            for turn in (
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"answer {place} to {question}"},
            )
        ]
    }


@pytest.fixture
def split(tmp_path):
    def write_and_split(rows, allow_leakage=False, held_out=None, **options):
        write_lines(tmp_path / "train.jsonl", rows)
        if held_out is not None:
            write_lines(tmp_path / "eval.jsonl", held_out)
            options["eval"] = "eval.jsonl"
        data = DataSettings(train="train.jsonl", **options)
        return split_examples(data.in_folder(tmp_path), allow_leakage=allow_leakage)

    return write_and_split


def sources(examples):
    return {source_key(example.source) for example in examples}


def groups_of(conversations):
    groups = SourceGroups()
    for row, questions in enumerate(conversations, start=1):
        groups.join(row, questions)
    shared = groups.tie()
    return [groups.of(row) for row in range(1, len(conversations) + 1)], shared


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
def test_two_hundred_conversations_with_one_common_turn_are_split(split, history, place):
    rows = []
    random = Random(0)
    for _ in range(200):
        questions = ["".join(random.choices(LETTERS, k=20)) for _ in range(2)]
        questions.insert(0 if place == 0 else 2, "你好" if place == 0 else "谢谢")
        rows.append(talk(*questions))
    done = split(rows, eval=0.1, test=0.1, conversation_history=history)
    is_shared = place == 0 or not history  # behind its own history, a 谢谢 is nobody else's
    assert (len(done.train), len(done.eval), len(done.test)) == (480, 60, 60)
    assert not sources(done.train) & sources(done.eval)
    assert not sources(done.train + done.eval) & sources(done.test)
    assert sum(example.is_shared for example in done.train) == (200 if is_shared else 0)
    assert not any(example.is_shared for example in done.eval + done.test)
    told = [note for note in done.notes if "turns that many conversations share" in note]
    assert len(told) == is_shared
    if is_shared:
        assert "the sources of 200 rows" in told[0]
        assert "are not used for eval and test" in told[0]
    seen = DataView(done, DataSettings(train="train.jsonl", conversation_history=history))
    assert [found.level for found in check_leakage(seen)] == ["ok"]
    assert [found.level for found in check_near_duplicates(seen)] == ["ok"]


def test_the_split_comes_back(split, tmp_path):
    done = split([talk("你好", f"q{i}") for i in range(50)], eval=0.2)
    settings_now = DataSettings(train="train.jsonl", eval=0.2)
    again = Split.restore(done.record(), settings_now.in_folder(tmp_path))
    assert (again.train, again.eval) == (done.train, done.eval)


def test_conversations_that_share_what_few_have_stay_together():
    conversations = [[f"q{i}", f"r{i}", "thanks"] for i in range(100)]
    conversations += [["q0", "another"], ["q1", "r1", "thanks"]]
    groups, shared = groups_of(conversations)
    assert groups[100] == 1
    assert groups[101] == 2  # a copy
    assert groups[:100] == list(range(1, 101))
    assert shared == {source_key("thanks")}


def test_copies_of_a_few_conversations_are_so_many_groups():
    groups, shared = groups_of([[f"q{i % 5}", f"r{i % 5}"] for i in range(500)])
    assert sorted(set(groups)) == [1, 2, 3, 4, 5]
    assert not shared


def test_a_chain_of_rare_turns_makes_no_group_of_all():
    groups, shared = groups_of([[f"link{i}", f"link{i + 1}", f"own{i}"] for i in range(200)])
    largest = max(groups.count(group) for group in groups)
    assert largest <= 10
    assert shared


def test_rows_of_one_source_are_one_group_however_many():
    groups, shared = groups_of([["same"]] * 50 + [["other"]])
    assert groups == [1] * 50 + [51]
    assert not shared


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=4), min_size=1, max_size=40))
def test_a_source_is_in_one_group_or_shared(conversations):
    groups, shared = groups_of(conversations)
    of_source: dict[bytes, set[int]] = {}
    for group, questions in zip(groups, conversations, strict=True):
        for question in questions:
            of_source.setdefault(source_key(question), set()).add(group)
    assert all(len(found) == 1 or key in shared for key, found in of_source.items())


def test_a_file_of_its_own_loses_the_turns_that_train_has_too(split):
    train = [talk("hello", f"q{i}") for i in range(40)]
    done = split(train, held_out=[talk("hello", "new 1"), talk("hello", "new 2"), talk("hello")])
    assert [example.source for example in done.eval] == ["new 1", "new 2"]
    assert any("eval.jsonl: 3 rows are not used for eval" in note for note in done.notes)
    assert len(done.train) == 80


def test_a_copied_conversation_in_a_file_of_its_own_is_still_refused(split):
    train = [talk("hello", f"q{i}") for i in range(40)]
    message = refusal(split, train, held_out=[talk("q3", "q3"), talk("new", "q9")])
    assert "row 1 (answer 1) has the same source as row 4 (answer 2)" in message
    assert "row 2" not in message
    kept = split(train, held_out=[talk("hello", "q3")], allow_leakage=True)
    assert len(kept.eval) == 2


def test_where_every_turn_is_shared_the_way_out_is_named(split):
    rows = [talk(*questions) for questions in itertools.combinations("abcdefg", 3)]
    message = refusal(split, rows, eval=0.1)
    assert "of its 105 rows from 35 entries of the file, 105 have a source shared by many" in message
    assert "Set `data.conversation_history: true`" in message
    done = split(rows, eval=0.1, conversation_history=True)
    assert done.eval
    assert not sources(done.train) & sources(done.eval)


def test_later_turns_with_their_history_do_not_count_as_near_copies(split):
    random = Random(0)
    rows = [talk(*("".join(random.choices(LETTERS, k=40)) for _ in range(6))) for _ in range(10)]
    for row in rows:  # short answers, so that a later source is mostly the one before it
        for turn in row["messages"][1::2]:
            turn["content"] = random.choice(LETTERS)
    done = split(rows, eval=0, conversation_history=True)
    texts = [example.source for example in done.train]
    assert near_copies(texts)
    seen = DataView(done, DataSettings(train="train.jsonl"))
    assert [found.level for found in check_near_duplicates(seen)] == ["ok"]
    copied = split([*rows, rows[0]], eval=0, conversation_history=True)
    found = check_near_duplicates(DataView(copied, DataSettings(train="train.jsonl")))
    assert [each.level for each in found] == ["ok"]  # word for word the same: that is check_duplicates'


def test_a_file_of_one_group_is_refused_in_a_whole_sentence(split):
    message = refusal(split, [talk("hello") for _ in range(40)])
    said = "the turns of one conversation; its 40 rows from 40 entries of the file form 1 such group. Check"
    assert said in message
