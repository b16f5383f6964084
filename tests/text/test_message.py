"""Messages keep their template and values, whatever happens to them on the way to a person."""

from __future__ import annotations

import copy
import gettext
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loraloom.errors import DataError, Problem
from loraloom.text.catalogue import rendered, use_catalogue
from loraloom.text.message import DEEPEST, Message, from_data, joined, mapped, to_data
from loraloom.text.units import counted, percent
from tests.pseudo_locale import PseudoLocale, narrow

ROWS = counted(1200, "row")
MESSAGES = [
    Message("plain"),
    Message("{{braces}} and {name}", name="{a}"),
    Message("{name:clause}, but {other:sentence}", name=Message("This is a bug."), other="no end"),
    Message("{loss:.4f} of {num:,}, {sum:+.2e}", loss=0.123456, num=12000, sum=-1e-9),
    Message("{loss:.2f} {other}", loss=float("inf"), other=float("nan")),
    Message("{path} has {rows}", path=Path("a.csv"), rows=ROWS),
    Message("{value}", value=None),
    joined("; ", [ROWS, "no message", Message("{share} lost", share=percent(0.9999))]),
    joined(" and ", ["a", "b"]),
    ROWS + ": " + Message("none is left"),
    "all of " + ROWS,
    DataError(
        [Problem(Message("is empty"), "a.csv"), Problem(Message("is bad."), "b", "1", "2", Message("Go."))]
    ).as_message(),
]


def test_a_message_is_its_text_in_english() -> None:
    assert [str(message) for message in MESSAGES[:6]] == [
        "plain",
        "{braces} and {a}",
        "This is a bug, but no end.",
        "0.1235 of 12,000, -1.00e-09",
        "inf nan",
        "a.csv has 1,200 rows",
    ]
    assert MESSAGES[7] == "1,200 rows; no message; above 99.9 % lost"
    assert MESSAGES[9] == "1,200 rows: none is left"
    assert MESSAGES[10] == "all of 1,200 rows"


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_survives_a_file_a_copy_and_a_process(message: Message) -> None:
    from_file = from_data(json.loads(json.dumps(to_data(message), allow_nan=False)))
    for other in (from_file, copy.deepcopy(message), copy.copy(message), pickle.loads(pickle.dumps(message))):
        assert other == message
        assert rendered(other, PseudoLocale()) == rendered(message, PseudoLocale())
        assert to_data(other) == to_data(message)


def test_every_template_is_translated_and_no_value() -> None:
    told = rendered(MESSAGES[7], PseudoLocale())
    assert told == "1,200 ｒｏｗｓ; no message; ａｂｏｖｅ 99.9 % ｌｏｓｔ"
    assert rendered(MESSAGES[8], PseudoLocale()) == "a ａｎｄ b"
    assert rendered(MESSAGES[11], PseudoLocale()) == (
        "a.csv: ｉｓ ｅｍｐｔｙ.\n"
        "b: ｉｓ ｂａｄ. (ｆｏｕｎｄ: 1). Ａｌｌｏｗｅｄ: 2. Ｇｏ.\n"
        "2 ｐｒｏｂｌｅｍｓ ｉｎ ａｌｌ."
    )
    for message in MESSAGES:
        assert narrow(rendered(message, PseudoLocale())) == message


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{a", {"a": 1}),
        ("a}", {}),
        ("{}", {}),
        ("{0}", {}),
        ("{a.b}", {"a": 1}),
        ("{a[0]}", {"a": "x"}),
        ("{a!r}", {"a": "x"}),
        ("{a:>10}", {"a": "x"}),
        ("{a:999999999d}", {"a": 1}),
        ("{a:.999f}", {"a": 1.0}),
        ("{a}", {}),
    ],
)
def test_a_template_that_is_none_is_refused(template: str, values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"message"):
        Message(template, **values)
    with pytest.raises(ValueError, match=r"message"):
        from_data({"id": template, "values": values})


def nested(depth: int) -> object:
    data: object = "end"
    for _ in range(depth):
        data = {"id": "{a}", "values": {"a": data}}
    return data


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        [],
        {},
        {"id": 7},
        {"id": "a", "values": []},
        {"id": "{count} a", "plural": "{count} b", "values": {}},
        {"id": "{count} a", "plural": "{count} b", "values": {"count": "2"}},
        {"id": "{a}", "values": {"a": [1]}},
        {"joined": [7], "by": ""},
        {"joined": "ab", "by": ""},
        nested(DEEPEST + 2),
        nested(200),
    ],
    ids=lambda data: str(data)[:40],
)
def test_what_is_no_message_in_a_file_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"message"):
        from_data(data)


@pytest.mark.parametrize("value", [None, "many", 10**400, True])
def test_a_value_that_was_edited_is_shown_as_it_is(value: object) -> None:
    assert str(value) in from_data({"id": "{a:.1f} and {a}", "values": {"a": value}})


def test_text_of_older_files_is_read() -> None:
    assert from_data("it is {finished}") == "it is {finished}"
    assert rendered(from_data("it is {finished}"), PseudoLocale()) == "it is {finished}"
    assert from_data(nested(DEEPEST - 1)) == "end"


@pytest.mark.parametrize("broken", ["{", "{unknown}", "{a.__class__}", "{a!r}"])
def test_a_broken_translation_is_replaced_by_the_english(broken: str) -> None:
    class Broken(gettext.NullTranslations):
        def gettext(self, message: str) -> str:
            return broken

    assert Message("{a} rows", a=1).rendered(Broken()) == "1 rows"


def test_values_are_those_of_json_and_read_as_before() -> None:
    message = Message(
        "{a} {b} {c:.3g} {d} {e:,}",
        a=np.int64(3),
        b=np.float32(0.1),
        c=np.float32(0.1),
        d=np.True_,
        e=np.int32(4),
    )
    assert message == f"{np.int64(3)} {np.float32(0.1)} {np.float32(0.1):.3g} {np.True_} {np.int32(4):,}"
    assert [type(value) for value in message.values.values()] == [int, float, float, str, int]
    problem = Problem("is {bad}", where="a.csv")
    held = Message("It says: {problem}", problem=problem)
    assert held == "It says: a.csv: is {bad}."
    assert isinstance(held.values["problem"], Message)


def test_what_changes_a_text_changes_the_values_alone() -> None:
    message = joined("; ", [Message("a {a} in {b}", a="a", b=Message("a {c}", c="a")), "a"])
    assert mapped(message, str.upper) == "a A in a A; A"
    assert mapped("a", str.upper) == "A"
    assert mapped(3, str.upper) == 3


@pytest.fixture
def pseudo_locale() -> Iterator[None]:
    with use_catalogue(PseudoLocale()):
        yield


@pytest.mark.usefixtures("pseudo_locale")
def test_a_catalogue_in_use_renders_all_messages() -> None:
    assert rendered(ROWS) == "1,200 ｒｏｗｓ"
    assert rendered("no message") == "no message"


def test_without_a_catalogue_messages_are_in_english() -> None:
    assert rendered(ROWS) == "1,200 rows"
    assert type(rendered(ROWS)) is str
