"""What `check` says of conversations of several turns."""

from __future__ import annotations

from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.history import check_history
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.data.splitting.split import Split
from loraloom.recipe import DataSettings


def found(**settings: object) -> Finding:
    """What is said of 10 conversations whose second question is `and then?`, and of 5 single rows."""
    rows = [
        Example(text, "a", "a.jsonl", row, row, turn, str(row), has_history=turn > 1)
        for row in range(1, 11)
        for turn, text in ((1, f"what should I do about the matter number {row}?"), (2, "and then?"))
    ]
    rows += [Example(f"q{row}", "a", "a.jsonl", row, row, 0, str(row)) for row in range(11, 16)]
    data = DataSettings.model_validate({"train": "a.jsonl", **settings})
    (finding,) = check_history(DataView(Split(rows, [], [], {}, []), data))
    return finding


def test_later_turns_without_their_history_are_a_warning_with_counts() -> None:
    finding = found()
    assert finding.level == "warning"
    assert finding.message.startswith("10 of 25 (40 %) rows answer a later turn of a conversation")
    assert (
        "10 of these sources have at most 16 characters, and 10 are also the source of another row"
        in finding.message
    )
    assert "`data.conversation_history: true`" in finding.fix


def test_with_their_history_the_other_choice_is_told() -> None:
    finding = found(conversation_history=True)
    assert (finding.level, finding.where) == ("note", "data.conversation_history")
    assert finding.message.startswith("10 of 25 (40 %) rows")
    assert "with `false`, each would be trained on its last question alone" in finding.message


def test_a_template_decides_instead_of_the_setting() -> None:
    assert found(source_prefix="{history} {input}").level == "note"
    without = found(source_prefix="ask: {input}", conversation_history=True)
    assert without.level == "warning"
    assert "{history}" in without.fix


def test_rows_of_their_own_are_in_order() -> None:
    rows = [Example("q", "a", "a.jsonl", 1, 1, 0, "1")]
    (finding,) = check_history(DataView(Split(rows, [], [], {}, []), DataSettings(train="a.jsonl")))
    assert finding.level == "ok"
