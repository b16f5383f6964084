"""Rows that repeat one another, word for word and nearly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraloom.checks.data.code_points import strip_marks
from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.duplicates import check_duplicates, check_leakage, check_near_duplicates
from loraloom.checks.data.near_duplicates import SHORTEST, SIMILAR, near_copies
from loraloom.data.example import Example
from loraloom.data.sources.source import Kind, Piece, join, packed
from loraloom.data.splitting.split import Split
from loraloom.recipe import DataSettings
from tests.checks.data_rows import good, only, seen


def shingles(text: str) -> set[str]:
    return {text[place : place + 4] for place in range(len(text) - 3)}


def jaccard(one: str, other: str) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def changed(text: str, number: int, random_: random.Random) -> str:
    letters = list(text)
    for place in random_.sample(range(len(letters)), number):
        letters[place] = random_.choice("天地玄黄宇宙洪荒")
    return "".join(letters)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_near_copies_are_those_that_an_exact_comparison_finds(seed: int) -> None:
    random_ = random.Random(seed)
    texts: list[str] = []
    for _ in range(40):
        if texts and random_.random() < 0.4:
            texts.append(changed(random_.choice(texts), random_.randrange(6), random_))
        else:
            size = random_.randrange(SHORTEST, 120)
            texts.append("".join(chr(random_.randrange(0x4E00, 0x4F00)) for _ in range(size)))
    found = near_copies(texts)
    for later in range(len(texts)):
        best = max((jaccard(texts[earlier], texts[later]) for earlier in range(later)), default=0)
        if later in found:
            assert jaccard(texts[found[later]], texts[later]) >= SIMILAR
        else:
            # A pair just above the threshold may share no band; at 0.9 that has a chance of 1 in 10^7.
            assert best < 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_later_texts_are_compared_with_earlier_ones_only(seed: int) -> None:
    """A held-out row that resembles a training row is found even if it resembles another held-out row."""
    random_ = random.Random(seed)
    train = ["".join(chr(random_.randrange(0x4E00, 0x4F00)) for _ in range(100)) for _ in range(3)]
    texts = [*train, *(changed(random_.choice(train), random_.randrange(3), random_) for _ in range(30))]
    found = near_copies(texts, first_later=len(train))
    for later in range(len(train), len(texts)):
        best = max(range(len(train)), key=lambda earlier: jaccard(texts[earlier], texts[later]))
        if jaccard(texts[best], texts[later]) >= 0.9:
            assert found[later] == best
    assert all(earlier < len(train) <= later for later, earlier in found.items())


def test_short_texts_and_none_are_passed_over() -> None:
    assert near_copies([]) == {}
    assert near_copies(["a" * (SHORTEST - 1)] * 3) == {}
    assert near_copies(["", "b" * SHORTEST, "b" * SHORTEST]) == {2: 1}


def test_later_texts_without_a_long_earlier_one_repeat_nothing() -> None:
    long = "b" * SHORTEST
    assert near_copies(["short", "tiny", long, long], first_later=2) == {}
    assert near_copies([long, "tiny", long, long], first_later=2) == {2: 0, 3: 0}


def test_the_closest_of_many_similar_texts_is_compared() -> None:
    random_ = random.Random(0)
    parent = "".join(chr(random_.randrange(0x4E00, 0x4F00)) for _ in range(120))
    train = [changed(parent, 12, random_) for _ in range(100)]
    texts = [*train, *(changed(each, 1, random_) for each in train)]
    assert len(near_copies(texts, first_later=len(train))) == len(train)


def test_a_text_is_compared_without_what_lies_beside_it() -> None:
    """Texts are hashed end to end: a shingle must not reach into the next one."""
    text = "相同的文字一共有十六个字才能够比较"
    for before, behind in (("甲" * 20, "乙" * 20), ("丙" * 33, "丁" * 17)):
        assert near_copies([text, before, text, behind]) == {2: 0}


def test_good_rows_are_in_order() -> None:
    data = seen(good(100), held_out=good(20, first=100))
    for check in (check_leakage, check_duplicates, check_near_duplicates):
        assert only(check(data)).level == "ok"


def test_25_duplicates_are_counted_with_their_lines() -> None:
    rows = good(20)
    data = seen([*rows, rows[2], rows[2], (rows[4][0], "另一个回答，与先前不同。")])
    copies, again = check_duplicates(data)
    assert (copies.level, copies.where) == ("warning", "data.jsonl:21, 22")
    assert copies.message.startswith("2 of 23 (8.7 %) rows are identical to an earlier one")
    assert "rows 21 = 3, 22 = 3" in copies.message
    assert (again.level, again.where) == ("note", "data.jsonl:23")
    assert "23 = 5" in again.message


def test_26_a_source_in_two_parts_is_an_error() -> None:
    rows = good(20)
    found = only(check_leakage(seen(rows, held_out=[*good(5, first=50), (f" {rows[3][0]}\n", "x")])))
    assert (found.level, found.where) == ("error", "eval.jsonl:6")
    assert "1 of 6 (16.7 %) eval rows" in found.message
    assert "6 = 4 of data.jsonl" in found.message


def test_a_response_that_two_parts_have_is_noted() -> None:
    rows = good(20)
    found = only(check_duplicates(seen(rows, held_out=[("全新的问题？", rows[5][1])])))
    assert (found.level, found.where) == ("note", "eval.jsonl:1")
    assert (
        "1 of 1 (100 %) eval rows have the same response as a training row (rows 1 = 6 of data.jsonl)"
        in found.message
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("，", ","),
        lambda text: text.replace("？", "??!"),
        lambda text: f"  {text} \n",
        lambda text: text.upper(),
        lambda text: text.replace("第", "第 "),
    ],
)
def test_27_rows_that_differ_in_form_are_near_duplicates(change) -> None:
    rows = good(20)
    source, response = rows[7][0] + "abc", rows[7][1]
    rows[7] = (source, response)
    data = seen([*rows, (change(source), change(response))])
    found = only(check_near_duplicates(data))
    assert (found.level, found.where) == ("warning", "data.jsonl:21")
    assert "1 of 21 (4.8 %) training rows nearly repeat an earlier one" in found.message
    assert "rows 21 = 8" in found.message


def test_held_out_rows_that_equal_one_another_are_compared_with_the_training_rows() -> None:
    rows = good(20)
    source = "".join(source for source, _ in good(5, first=200))
    rows[7] = source, "甲的回答"
    (found,) = check_near_duplicates(seen(rows, held_out=[(f"{source}吗", "乙"), (f"{source}吗", "丙")]))
    assert (found.level, found.where) == ("warning", "eval.jsonl:1, 2")
    assert "the sources of 2 of 2 (100 %) eval rows nearly repeat one in the training part" in found.message


def test_27_a_word_changed_in_a_long_row_is_a_near_duplicate() -> None:
    long = (
        "".join(source for source, _ in good(5, first=200)),
        "".join(response for _, response in good(5, first=200)),
    )
    other = (long[0].replace("怎么办", "如何是好", 1), long[1])
    found = only(check_near_duplicates(seen([*good(10), long, *good(10, first=10), other])))
    assert (found.level, found.where) == ("warning", "data.jsonl:22")
    assert "22 = 11" in found.message


def test_27_near_duplicates_across_the_split_are_found_by_their_source() -> None:
    rows = good(20)
    data = seen(rows, held_out=[*good(4, first=60), (rows[9][0].replace("，", " , "), "完全不同的回答。")])
    found = only(check_near_duplicates(data))
    assert (found.level, found.where) == ("warning", "eval.jsonl:5")
    assert "5 = 10 of data.jsonl" in found.message


def test_signs_of_arithmetic_are_not_form() -> None:
    assert strip_marks("3 + 2 = ?") != strip_marks("3 * 2 = ?")
    assert strip_marks("Ａ，b。C") == strip_marks("a B c!")


def test_of_a_million_rows_a_sample_is_compared_and_its_size_is_said(monkeypatch) -> None:
    import loraloom.checks.data.duplicates as copies
    from loraloom.checks.data.data_view import sample

    monkeypatch.setattr(copies, "sample", lambda rows: sample(rows, 50))
    rows = good(99)
    found = only(check_near_duplicates(seen([*rows[:50], *[(f"{s}！", r) for s, r in rows[:50]]])))
    assert "50 of 100 rows examined" in found.message


SYSTEM = "You are a patient counsellor for young people. Answer in two sentences, without lists. "


def with_system(questions: list[str], path: str, systems: tuple[str, ...] = (SYSTEM * 3,)) -> list[Example]:
    rows = []
    for number, question in enumerate(questions, start=1):
        pieces = [Piece(Kind.SYSTEM, systems[number % len(systems)], "\n"), Piece(Kind.QUESTION, question)]
        answer = f"Write down thought {number} and then number {number * 7} of your list."
        rows.append(Example(join(pieces), answer, path, number, number, 0, str(number), parts=packed(pieces)))
    return rows


def view(train: list[Example], held_out: list[Example]) -> DataView:
    return DataView(Split(train, held_out, [], {}, []), DataSettings(train="data.jsonl"), None)


def test_a_long_system_text_that_rows_share_makes_no_two_of_them_alike() -> None:
    asked = [source for source, _ in good(30)]
    data = view(with_system(asked[:20], "data.jsonl"), with_system(asked[20:], "eval.jsonl"))
    assert only(check_near_duplicates(data)).level == "ok"


def test_questions_that_are_nearly_alike_are_found_under_a_shared_system_text() -> None:
    asked = [source for source, _ in good(20)]
    data = view(with_system(asked, "data.jsonl"), with_system([asked[4].replace("，", ", ")], "eval.jsonl"))
    found = only(check_near_duplicates(data))
    assert (found.level, found.where) == ("warning", "eval.jsonl:1")


def test_one_text_under_two_tasks_is_not_the_same_source() -> None:
    tasks = ("Translate the text into German.", "Summarise the text in one sentence.")
    asked = [source for source, _ in good(20)]
    held_out = with_system(asked, "eval.jsonl", tasks[::-1])
    assert only(check_near_duplicates(view(with_system(asked, "data.jsonl", tasks), held_out))).level == "ok"
