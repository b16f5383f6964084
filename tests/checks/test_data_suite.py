"""The data checks together: clean files, names, text that must not leak, tuples and documents that agree."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from loraloom.checks.allowances import apply_allowed, why_not_allowable
from loraloom.checks.data.data_suite import DATA, TOKENS, DataCheck, run_data_checks
from loraloom.checks.data.data_view import of_sample, places, sample
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.finding import Finding
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings
from loraloom.recipe.reading import read_recipe
from loraloom.session.data_checks import check_data
from loraloom.starter import model_folder
from tests.checks.data_rows import examples, good, seen

ROOT = Path(__file__).resolve().parents[2]
SECRET = "机密口令"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.of_folder(model_folder())


def test_the_starters_own_data_is_in_order() -> None:
    recipe = read_recipe("starter")
    found = check_data(recipe, split_examples(recipe.data)).findings
    assert {finding.level for finding in found if finding.check != "data"} == {"ok"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        # The starter's recipe lets an answer have 80 tokens; these responses have up to 178 characters.
        ("counselling_real.json", {"truncation", "answer-length"}),
        # Its later turns are trained without what was said before, unless the recipe says otherwise.
        ("conversations_real.json", {"truncation", "history", "answer-length"}),
        # It has seven duplicates, and rows in English.
        ("alpaca_zh_real.json", {"truncation", "unknown-tokens", "duplicates", "scripts", "answer-length"}),
    ],
)
def test_real_data_raises_no_false_alarm(file: str, expected: set[str], shared_data: Path) -> None:
    recipe = read_recipe("starter")
    recipe = recipe.model_copy(update={"data": DataSettings(train=file)})
    found = check_data(recipe, split_examples(recipe.data.in_folder(shared_data))).findings
    assert {finding.check for finding in found if finding.level != "ok"} - {"data"} == expected


def test_no_finding_holds_text_of_a_row(tokenizer: TextTokenizer) -> None:
    bad = [
        (SECRET, SECRET),
        (f"{SECRET} 13912345678", f"{SECRET}\ufffd"),
        (f"{SECRET}<br>", f"{SECRET}\u200b"),
        (f"{SECRET} in English words that go on", f"{SECRET * 200}"),
        (f"{SECRET}龘𠀀", f"{SECRET}\n\n👩‍👩‍👧"),
    ]
    same = [(f"{SECRET}问题{n}", f"{SECRET}答案") for n in range(20)]
    data = seen([*bad, *bad, *same], held_out=bad, tokenizer=tokenizer, max_source_length=8)
    found = run_data_checks(data)
    assert len({finding.check for finding in found if finding.level != "ok"}) >= 9
    text = json.dumps([finding.to_json() for finding in found], ensure_ascii=False)
    assert not any(part in text for part in (SECRET, "机密", "1391", "\ufffd", "龘", "👩"))


@pytest.mark.parametrize(("name", "check"), (DATA | TOKENS).items())
def test_every_check_speaks_by_its_name_where_there_is_little_to_look_at(
    name: str, check: DataCheck, tokenizer: TextTokenizer
) -> None:
    for data in (
        seen(good(1), tokenizer=tokenizer),
        seen(good(2), held_out=[("?", "!")], tokenizer=tokenizer),
    ):
        found = check(data)
        assert found
        assert {finding.check for finding in found} == {name}
        assert all(finding.message for finding in found)


def names_in_the_code() -> set[str]:
    """The second argument of every `Finding(…)` that is written out."""
    names = set()
    for path in (ROOT / "loraloom").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "Finding(" in text else ():
            is_finding = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
            )
            if is_finding and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                names.add(node.args[1].value)
    return names


def test_the_page_of_checks_names_every_one() -> None:
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    names = names_in_the_code()
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in page] == []


def test_an_allowed_error_is_a_warning_that_says_so() -> None:
    error = Finding("error", "leakage", "eval.json:3", "a source stands in two parts", "Take it out.")
    (warning,) = apply_allowed([error], ["leakage"])
    assert warning.level == "warning"
    assert warning.message == "a source stands in two parts (allowed by --allow leakage)"
    (still,) = apply_allowed([error], ["alike"])
    assert still.level == "error"
    assert still.fix == "Take it out, or accept it with --allow leakage."


def test_what_training_could_not_survive_is_never_allowed() -> None:
    error = Finding("error", "labels", "labels", "rows do not end in EOS")
    assert apply_allowed([error], ["labels"]) == [error]
    assert "cannot be allowed" in why_not_allowable("labels")
    assert "Did you mean `leakage`?" in why_not_allowable("leekage")
    assert why_not_allowable("leakage") == ""


def test_places_name_lines_or_rows() -> None:
    rows = examples(good(8))
    assert places(rows[:2]) == "data.jsonl:1, 2"
    assert places(rows) == "data.jsonl:1, 2, 3, 4, 5 and 3 more"


def test_a_sample_is_spread_evenly_and_said() -> None:
    assert list(sample(range(10), 5)) == [0, 2, 4, 6, 8]
    assert list(sample(range(3), 5)) == [0, 1, 2]
    assert (of_sample(5, 5), of_sample(5, 1000)) == ("", " (5 of 1,000 rows examined)")
