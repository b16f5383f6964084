"""Names of labels held against their numbers are no judgement, and that is said."""

from __future__ import annotations

from loraloom.evaluate.label_numbers import describe_label_mismatch


def test_names_against_numbers_are_said_in_both_directions() -> None:
    said = describe_label_mismatch(["0", "1", "1"], {"main": ["no", "yes", "yes"], "other": ["0", "no", "1"]})
    assert "every known answer is a whole number, but main never answers with one" in said
    assert "other" not in said
    assert "`data.labels`" in said
    said = describe_label_mismatch(["no", "yes"], {"main": ["0", "1"]})
    assert "main answers only with whole numbers, but no known answer is one" in said


def test_what_can_match_is_not_mentioned() -> None:
    for references, answers in (
        (["no", "yes"], ["yes", "maybe"]),
        (["0", "1"], ["1", "perhaps"]),
        (["0", "1", "many"], ["none", "few", "many"]),
        ([], []),
    ):
        assert describe_label_mismatch(references, {"main": answers}) == ""
