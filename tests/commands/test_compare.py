"""A comparison goes on where it was stopped, and takes a run that is still training as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import Recipe
from loraloom.commands.compare import compare
from loraloom.commands.train import train
from loraloom.comparison import answering
from loraloom.errors import DataError
from loraloom.run.events import AnswerProgress, Event, Note
from tests.events import message_of

ROWS = [
    {"instruction": f"如何处理{a}{b}", "response": f"先{b}再{a}"}
    for a in "朋友学校家人"
    for b in "压力心情时候"
]


@pytest.fixture(scope="module")
def made(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("made")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 12, "max_source_length": 8},
            "training": {"learning_rate": 3e-2, "num_train_epochs": 2, "per_device_train_batch_size": 4},
            "generation": {"max_new_tokens": 6, "batch_size": 2},
            "experiments": {"long": {"training": {"num_train_epochs": 4}}, "short": {}},
        }
    )
    train(recipe.in_folder(tmp_path), out=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run of two experiments, not compared yet."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_what_was_answered_before_an_interruption_is_not_answered_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare(run)
    (run / "compare" / "eval.json").unlink()
    monkeypatch.setattr(answering, "BATCHES_AT_ONCE", 1)

    def killed(event: Event) -> None:
        if isinstance(event, AnswerProgress) and event.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(run, report=killed)
    assert not (run / "compare" / "eval.json").exists()
    partial = run / "compare" / ".eval.partial.jsonl"
    partial.write_text(
        partial.read_text(encoding="utf-8") + '{"base": {"tex', encoding="utf-8"
    )  # cut by a crash
    told: list[Event] = []
    again = compare(run, report=told.append)
    assert Note(message="resuming after 6 rows that were already answered") in told
    assert [event.done for event in told if isinstance(event, AnswerProgress)] == [8, 10, 12]
    assert [row.answers for row in again.rows] == [row.answers for row in whole.rows]
    assert again.models["long"].figures == pytest.approx(whole.models["long"].figures, rel=1e-5)
    assert not partial.exists()


@pytest.fixture(scope="module")
def left_behind(made: Path) -> tuple[str, list[Any]]:
    """A partial file with three chunks of two rows, of twelve; and what the rows come to undisturbed."""

    def killed(event: Event) -> None:
        if isinstance(event, AnswerProgress) and event.done == 6:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "BATCHES_AT_ONCE", 1)
        whole = compare(made)
        (made / "compare" / "eval.json").unlink()
        with pytest.raises(KeyboardInterrupt):
            compare(made, report=killed)
    partial = made / "compare" / ".eval.partial.jsonl"
    text = partial.read_text(encoding="utf-8")
    partial.unlink()
    return text, whole.rows


@pytest.fixture
def interrupted(
    run: Path, left_behind: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[Any]]:
    """The partial file in a run of its own, and the rows."""
    monkeypatch.setattr(answering, "BATCHES_AT_ONCE", 1)
    partial = run / "compare" / ".eval.partial.jsonl"
    partial.write_text(left_behind[0], encoding="utf-8")
    return partial, left_behind[1]


def altered(line: str, **changes: Any) -> str:
    """A chunk that says something else, and whose sum is right."""
    content = {key: value for key, value in json.loads(line).items() if key != "sha256"} | changes
    return json.dumps({**content, "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()})


def of_other_rows(line: str) -> str:
    return altered(line, rows=["0" * 64, "1" * 64])


def of_other_models(line: str) -> str:
    return altered(line, answers={"base": json.loads(line)["answers"]["base"]})


def with_too_few_answers(line: str) -> str:
    return altered(line, rows=json.loads(line)["rows"][:1])


def with_another_answer(line: str) -> str:
    return line.replace('"texts": ["', '"texts": ["x', 1)


FAULTS: dict[str, tuple[Callable[[list[str]], list[str]], int]] = {
    "as it was left": (lambda c: c, 6),
    "doubled": (lambda c: [*c, *c], 6),
    "in another order": (lambda c: c[::-1], 6),
    "the first lost": (lambda c: c[1:], 4),
    "all but the last lost, twice": (lambda c: [c[2], c[2]], 2),
    "torn in the middle": (lambda c: [c[0], c[1][: len(c[1]) // 2], c[2]], 4),
    "two lines run into each other": (lambda c: [c[0], c[1][:40] + c[2]], 2),
    "of other rows": (lambda c: [of_other_rows(c[0]), c[1], c[2]], 4),
    "of other models": (lambda c: [c[0], of_other_models(c[1]), c[2]], 4),
    "fewer rows than answers": (lambda c: [c[0], c[1], with_too_few_answers(c[2])], 4),
    "an answer altered": (lambda c: [c[0], with_another_answer(c[1]), c[2]], 4),
    "two of one row at odds": (
        lambda c: [*c, altered(c[0], answers=json.loads(c[1])["answers"])],
        4,
    ),
    "without any rows named, as 0.1 wrote it": (
        lambda c: [json.dumps(json.loads(line)["answers"]) for line in (c[1], c[1], c[0], c[2])],
        0,
    ),
    "no JSON at all": (lambda c: ["[]", "null", "7", "{}", "\x00", "[" * 100_000], 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_partial_file_holds_every_row_has_its_own_answers(
    interrupted: tuple[Path, list[Any]], fault: str
) -> None:
    partial, rows = interrupted
    change, num_taken_up = FAULTS[fault]
    header, *chunks = partial.read_text(encoding="utf-8").splitlines()
    partial.write_text("\n".join([header, *change(chunks)]) + "\n", encoding="utf-8")
    told: list[Event] = []
    again = compare(partial.parents[1], report=told.append)
    assert again.rows == rows
    assert len([event for event in told if isinstance(event, AnswerProgress)]) == (12 - num_taken_up) / 2
    assert not partial.exists()


def test_a_partial_file_of_0_1_with_rows_of_others_is_not_taken_up(
    interrupted: tuple[Path, list[Any]],
) -> None:
    """Its header had the key alone, and a row's place told whose answers they were."""
    partial, rows = interrupted
    header, first, second, third = partial.read_text(encoding="utf-8").splitlines()
    lines = [json.dumps(json.loads(line)["answers"]) for line in (second, second, first, third)]
    key = json.dumps({"key": json.loads(header)["key"]})
    partial.write_text("\n".join([key, *lines]) + "\n", encoding="utf-8")
    told: list[str] = []
    again = compare(partial.parents[1], report=lambda event: told.append(event.kind))
    assert again.rows == rows
    assert told.count("answered") == 6


def test_other_prompts_under_one_name_do_not_take_up_each_others_answers(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "BATCHES_AT_ONCE", 1)
    first, second = ["朋友", "学校", "家人"], ["学校", "朋友", "家人"]
    wanted = compare(run, prompts=second).rows

    def killed(event: Event) -> None:
        if isinstance(event, AnswerProgress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(run, prompts=first, report=killed)
    told: list[str] = []
    heard = compare(run, prompts=second, report=lambda event: told.append(message_of(event)))
    assert heard.rows == wanted
    assert not any("resuming after" in message for message in told)


def test_answers_of_other_settings_are_not_taken_up(interrupted: tuple[Path, list[Any]]) -> None:
    partial, _ = interrupted
    told: list[str] = []
    compare(
        partial.parents[1],
        experiments=["long"],
        report=lambda event: told.append(message_of(event)),
    )
    assert not any("resuming after" in message for message in told)


def test_a_comparison_is_as_old_as_the_adapters_that_answered(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learnt while it was made is not in it: the report has to see that."""
    moments = iter(f"2026-11-27T10:00:{second:02}+00:00" for second in range(60))
    monkeypatch.setattr("loraloom.commands.compare.now", lambda: next(moments))
    seen: list[str] = []

    def report(event: Event) -> None:
        if isinstance(event, AnswerProgress):
            seen.append(next(moments))

    assert compare(run, report=report).time < min(seen)


def test_figures_are_over_the_rows_with_a_known_answer_and_all_rows_are_answered(
    run: Path, tmp_path: Path
) -> None:
    rows = [dict(row) for row in ROWS[:6]]
    (tmp_path / "whole.json").write_text(json.dumps(rows[:4]), encoding="utf-8")
    rows[4]["response"] = ""
    del rows[5]["response"]
    (tmp_path / "some.json").write_text(json.dumps([rows[4], *rows[:4], rows[5]]), encoding="utf-8")
    told: list[str] = []
    whole = compare(run, prompts_file=tmp_path / "whole.json")
    some = compare(
        run,
        prompts_file=tmp_path / "some.json",
        report=lambda event: told.append(message_of(event)),
    )
    assert "4 of 6 rows have a known answer; figures cover only these" in told
    assert (some.num_rows, some.num_judged) == (6, 4)
    assert [row.reference is None for row in some.rows] == [True, *[False] * 4, True]
    assert all(row.answers.keys() == {"base", "long", "short"} for row in some.rows)
    assert some.rows[1:5] == whole.rows
    for model, own in whole.models.items():
        assert some.models[model].figures == pytest.approx(own.figures, rel=1e-5)
    assert "on 4 prompts" in some.sentences[0]


def test_of_an_experiment_still_training_its_best_so_far_answers(run: Path) -> None:
    finished = compare(run, experiments=["long"])
    (run / "result.json").unlink()
    shutil.rmtree(run / "adapters" / "long")
    told: list[str] = []
    so_far = compare(run, report=lambda event: told.append(message_of(event)))
    assert "long is still training; its best adapter so far is used" in told
    assert [row.answers["long"] for row in so_far.rows] == [row.answers["long"] for row in finished.rows]


def test_a_prompt_past_the_limit_is_said_and_an_empty_one_is_refused(run: Path) -> None:
    told: list[str] = []
    compare(
        run,
        prompts=["如何处理压力" * 5],
        report=lambda event: told.append(message_of(event)),
    )
    assert "1 of 1 sources are cut to 8 tokens: the question itself in 1" in told
    with pytest.raises(DataError, match="prompt 2 is empty"):
        compare(run, prompts=["你好", "  "])


def test_a_prompt_that_holds_the_name_of_a_control_token_is_told_of(run: Path) -> None:
    told: list[str] = []
    compare(
        run,
        prompts=["a</s>b", "a b"],
        report=lambda event: told.append(message_of(event)),
    )
    assert "1 of 2 sources contain the text `</s>`, which the tokenizer reads as a control token" in told


def test_one_prompt_is_not_spoken_of_in_the_plural(run: Path) -> None:
    (said,) = compare(run, prompts=["你好"]).sentences[:1]
    assert " on 1 prompt;" in said or " on 1 prompt (" in said


def test_init_plans_enough_steps_for_a_few_rows_and_no_more_than_usual_for_many(tmp_path: Path) -> None:
    from loraloom.commands.init import init_recipe
    from loraloom.recipe.reading import parse_recipe

    for num_rows, epochs in ((20, 30), (200, 5), (4000, 3)):
        file = tmp_path / f"{num_rows}.jsonl"
        rows = [json.dumps({"instruction": f"问 {n}", "response": f"答 {n}"}) for n in range(num_rows)]
        file.write_text("\n".join(rows), encoding="utf-8")
        recipe = parse_recipe(init_recipe(file, "starter"), name="init")
        assert recipe.training.num_train_epochs == epochs
        assert recipe.training.learning_rate == 1e-3


def test_other_prompts_do_not_take_the_place_of_earlier_answers(run: Path) -> None:
    told: list[str] = []
    first = compare(run, prompts=["一"])
    second = compare(run, prompts=["二"], report=lambda event: told.append(message_of(event)))
    assert [Path(each.file).name for each in (first, second)] == ["prompts.json", "prompts-2.json"]
    assert any("this one is stored as `prompts-2`" in said for said in told)
    assert Path(compare(run, prompts=["二"]).file).name == "prompts-2.json"
    assert Path(compare(run, prompts=["一"]).file).name == "prompts.json"
    assert Path(compare(run, prompts=["二"], name="prompts").file).name == "prompts.json"  # as it is told
