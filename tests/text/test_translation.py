"""What people read is in the language of the catalogue, also if it comes from a run's files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loraloom.checks.finding import Finding, raise_errors
from loraloom.cli import main
from loraloom.console import Display, print_findings
from loraloom.data.splitting.split import split_examples
from loraloom.errors import CheckError, DataError, RecipeError
from loraloom.recipe import DataSettings
from loraloom.recipe.reading import parse_recipe, parse_recipe_with_notes
from loraloom.run.documents.checks import checks_text, read_checks
from loraloom.run.events import ExperimentEnd, FileChange, MemoryLimit, Note, Resume, WarningNote
from loraloom.run.folder import create_run
from loraloom.session.data_checks import check_data
from loraloom.text.catalogue import rendered, use_catalogue
from loraloom.text.message import Message
from loraloom.text.units import counted
from tests.pseudo_locale import PseudoLocale, narrow

RECIPE = "model_name_or_path: starter\ndata: {train: rows.jsonl}\n"
_NAMED = re.compile(r"lora, training|\.\w+|`[^`]*`|[\w./-]+\.\w+(:\d+)*|/\S+|\[.*?\]")


@pytest.fixture
def pseudo_locale() -> Iterator[None]:
    with use_catalogue(PseudoLocale()):
        yield


def english_words(text: str) -> list[str]:
    """Two words of English beside each other, outside of what is in backquotes."""
    return re.findall(r"\b[A-Za-z]{2,}\W+[A-Za-z]{2,}\b", _NAMED.sub("", text))


def assert_translated(message: str) -> None:
    """All words of a message are those of its templates."""
    assert isinstance(message, Message)
    shown = rendered(message, PseudoLocale())
    assert narrow(shown) == message
    assert shown != message
    assert not english_words(shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n",
        "a: *b\n",
        RECIPE + "lernin_rate: 1\n",
        RECIPE + "training: {learning_rate: -1, num_train_epochs: many, eval_strategy: often}\n",
        RECIPE + "training: {load_best_model_at_end: false}\nbf16: maybe\n",
        RECIPE + "generation: {num_beams: 4, do_sample: true}\n",
        RECIPE + "experiments: {base: {}, a b: {}, c: {data: {train: x}}}\n",
    ],
)
def test_every_problem_of_a_recipe_is_translated(text: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text, name="recipe.yaml")
    assert_translated(refused.value.as_message())


def test_notes_on_a_recipe_are_translated() -> None:
    text = RECIPE.replace("}", ", eval: 0}") + "experiments: {a: {}, b: {}}\nbf16: false\n"
    reading = parse_recipe_with_notes(text, name="recipe.yaml")
    assert len(reading.notes) == 3
    for note in reading.notes:
        assert_translated(note.as_message())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"question": "a", "answer": "b"}\n{"question": "a"}\n'),
        ("rows.jsonl", '{"question": "a", "answer": ["b"]}\n'),
        ("rows.jsonl", ""),
        ("rows.csv", "question,answer\na,b,c\nd\n"),
        ("rows.json", '[{"x": 1}]'),
        ("rows.xlsx", "PK"),
    ],
)
def test_every_problem_of_data_is_translated(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    recipe = parse_recipe(RECIPE.replace("rows.jsonl", str(tmp_path / name)), name="recipe.yaml")
    with pytest.raises(DataError) as refused:
        split_examples(recipe.data)
    assert_translated(refused.value.as_message())


def test_reasons_for_dropping_rows_are_translated(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\na,b\nd\n", encoding="utf-8")
    settings = DataSettings.model_validate({"train": "rows.csv", "eval": 0, "on_invalid": "drop"})
    (row,) = split_examples(settings.in_folder(tmp_path)).dropped["rows.csv"]
    assert "(found: 1). Allowed: 2" in row.why
    assert_translated(row.why)


@pytest.fixture
def findings(tmp_path: Path) -> list[Finding]:
    """Those of a file with several faults."""
    rows = [{"question": f"question {number}", "answer": "See above."} for number in range(30)]
    rows += [{"question": "question 1", "answer": "Write to me@example.org now"}] * 3
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = parse_recipe(RECIPE.replace("rows.jsonl", str(file)), name="recipe.yaml")
    return list(check_data(recipe, split_examples(recipe.data), []).findings)


def test_findings_are_translated_and_so_are_those_of_a_file(findings: list[Finding], tmp_path: Path) -> None:
    assert {finding.level for finding in findings} >= {"ok", "warning"}
    file = tmp_path / "checks.json"
    file.write_text(checks_text(findings), encoding="utf-8")
    stored = json.loads(file.read_bytes())
    assert all(
        isinstance(each["message"], dict) and each["message"].keys() & {"id", "joined"} for each in stored
    )
    for finding in (*findings, *read_checks(file)):
        assert_translated(finding.message)
        if finding.fix:
            assert_translated(finding.fix)
    assert read_checks(file) == findings


def test_what_programs_read_has_the_text(findings: list[Finding]) -> None:
    shown = json.loads(json.dumps([finding.to_json() for finding in findings]))
    assert [each["message"] for each in shown] == [str(finding.message) for finding in findings]


@pytest.mark.usefixtures("pseudo_locale")
def test_the_table_of_findings_is_translated(
    findings: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    print_findings(findings, show_all=True)
    shown = capsys.readouterr().out
    assert "ｗａｒｎｉｎｇ" in shown
    assert not english_words("\n".join(line.split(":", 1)[-1] for line in shown.splitlines()))


def test_the_error_of_a_check_is_translated() -> None:
    finding = Finding("error", "leakage", "data.eval", Message("{rows} are known", rows=counted(3, "row")))
    with pytest.raises(CheckError) as refused:
        raise_errors([finding])
    assert_translated(refused.value.as_message())


EVENTS = [
    Note(message=Message("answers of {rows} were cut", rows=counted(2, "row"))),
    Resume(step=3, reason=Message("the newest checkpoint")),
    FileChange(path="split.json", what=Message("it is written anew")),
    MemoryLimit(step=4, phase="training", tried=8, pass_tokens=4, eval_rows=None),
    MemoryLimit(step=4, phase="evaluation", tried=8, pass_tokens=None, eval_rows=4),
    MemoryLimit(step=4, phase="lifted", experiment="x", tried=9, pass_tokens=5, eval_rows=None),
]


@pytest.mark.usefixtures("pseudo_locale")
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_events_are_translated_and_so_are_those_of_a_log(
    event: Note, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run(tmp_path / "run")
    run.append_event(event)
    (logged,) = run.events()
    assert logged == event
    for each in (event, logged):
        Display()(each)
        shown = capsys.readouterr().err
        assert shown
        assert not english_words(shown.removesuffix("\n"))


def test_a_log_has_data_and_no_sentence(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    run.append_event(EVENTS[0])
    (line,) = map(json.loads, run.events_file.read_text(encoding="utf-8").splitlines())
    assert line["message"] == {
        "id": "answers of {rows} were cut",
        "values": {"rows": {"id": "{count:,} row", "plural": "{count:,} rows", "values": {"count": 2}}},
    }


@pytest.mark.usefixtures("pseudo_locale")
def test_a_log_of_an_older_version_is_shown_as_it_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run(tmp_path / "run")
    end = {"event": "end", "time": "", "step": 3, "experiment": "a", "experiment_step": 3, "status": "failed"}
    end |= {"reason": "loss {inf}", "best_step": None, "best_metric": None, "forgetting": None}
    run.events_file.write_text(json.dumps(end) + "\n", encoding="utf-8")
    (logged,) = run.events()
    assert isinstance(logged, ExperimentEnd)
    Display()(logged)
    assert "loss {inf}" in capsys.readouterr().err
    Display()(WarningNote(message="plain text"))
    assert capsys.readouterr().err == "ｗａｒｎｉｎｇ: plain text\n"


@pytest.mark.usefixtures("pseudo_locale")
def test_the_command_line_renders_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["loraloom", "check", "nothing.yaml"])
    with pytest.raises(SystemExit):
        main()
    assert "nothing.yaml: ｔｈｅｒｅ ｉｓ ｎｏ ｓｕｃｈ ｆｉｌｅ" in capsys.readouterr().err
