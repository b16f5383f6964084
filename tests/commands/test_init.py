"""init: what it recognises it writes, and what it does not it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.init import init_recipe
from loraloom.errors import DataError, ModelError, RecipeError
from loraloom.recipe import learning_rate_rule as rule
from loraloom.recipe.reading import parse_recipe
from tests.events import message_of


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(rows: list[Any] | str, name: str = "data.json") -> Path:
        path = tmp_path / name
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
        return path

    return to_file


def talk(number: int, *roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"{role} says {number}"} for role in roles]}


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "title": "t"},
        {"sentence1": "a", "sentence2": "b"},
        {"id": "1", "text": "t"},
        {"url": "u", "date": "d"},
    ],
)
def test_columns_that_are_not_recognised_are_asked_for(
    write: Callable[..., Path], row: dict[str, str]
) -> None:
    path = write([row] * 10)
    with pytest.raises(DataError) as caught:
        init_recipe(path, "starter")
    message = str(caught.value)
    assert all(f"`{name}`" in message for name in row)
    assert (
        f"loraloom init {path} --columns instruction=QUESTION_COLUMN --columns response=ANSWER_COLUMN"
        in message
    )


def test_a_tables_header_is_shown_and_a_first_row_is_not(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"found: `id`, `title`, `body text`"):
        init_recipe(write("id,title,body text\n1,a,b\n", "a.csv"), "starter")
    for line in ("我很难过,怎么办", "I am so sad today and tired,why", "a@b.de,x"):
        with pytest.raises(DataError, match="found: 2 columns in its first line") as caught:
            init_recipe(write(f"{line}\n1,a\n", "b.csv"), "starter")
        assert line.partition(",")[0] not in str(caught.value)


@pytest.mark.parametrize(
    "columns", [["instruction=title", "response=body"], ["instruction=title,response=body"]]
)
def test_columns_say_which_is_which(write: Callable[..., Path], columns: list[str]) -> None:
    text = init_recipe(write([{"id": 1, "title": "t", "body": "b"}] * 9), "starter", columns=columns)
    recipe = parse_recipe(text, name="r")
    assert recipe.data.columns == {"instruction": "title", "response": "body"}


def test_a_table_of_one_column_is_refused_with_the_setting_that_separates_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("instruction~response\nq~a\n")
    with pytest.raises(DataError, match=r"set `data\.delimiter`.*found: 1 column in its first line"):
        init_recipe(path, "starter")
    assert "/response" in init_recipe(path, "starter", sets=['data.delimiter="~"'])


def test_a_wrong_option_is_refused(write: Callable[..., Path]) -> None:
    path = write([{"title": "t", "body": "b"}])
    with pytest.raises(RecipeError, match="ROLE=COLUMN, where ROLE is instruction, response, input"):
        init_recipe(path, "starter", columns=["question=title"])
    with pytest.raises(RecipeError, match="init accepts only settings of `data`, not of lora"):
        init_recipe(path, "starter", sets=["lora.r=4"])


def test_answers_that_are_reckoned_from_the_first_rows_are_said_to_be_so(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.data.preview.PEEK_ROWS", 10)
    said: list[str] = []
    short = [talk(n, "user", "assistant") for n in range(10)]
    long = [talk(n, "user", "assistant", "user", "assistant") for n in range(10, 20)]
    text = init_recipe(write(short + long), "starter", report=lambda event: said.append(message_of(event)))
    assert "# Data: about 20 rows, one per answer, from 20 entries" in text
    assert any("the first 10 rows; " in note for note in said)


def test_conversations_of_several_turns_get_their_history(write: Callable[..., Path]) -> None:
    said: list[str] = []
    path = write([talk(n, "user", "assistant", "user", "assistant") for n in range(30)])
    text = init_recipe(path, "starter", report=lambda event: said.append(message_of(event)))
    assert parse_recipe(text, name="r").data.conversation_history is True
    assert "# Data: 60 rows, one per answer, from 30 entries, recognised as messages" in text
    assert any("30 answers come later in a conversation" in note for note in said)
    assert not any("what follows" in note for note in said)
    own = init_recipe(path, "starter", sets=["data.conversation_history=false"])
    assert parse_recipe(own, name="r").data.conversation_history is False
    single = init_recipe(write([talk(n, "user", "assistant") for n in range(30)]), "starter")
    assert "conversation_history" not in single


def test_the_epochs_are_for_the_rows_and_not_for_the_conversations(write: Callable[..., Path]) -> None:
    turns = ("user", "assistant") * 50
    recipe = parse_recipe(init_recipe(write([talk(n, *turns) for n in range(40)]), "starter"), name="r")
    assert recipe.training.num_train_epochs == 3


def test_settings_that_reading_takes_are_kept_in_the_recipe(write: Callable[..., Path]) -> None:
    rows = [talk(n, "user", "tool", "assistant") for n in range(9)]
    with pytest.raises(DataError, match="or with `--set`"):
        init_recipe(write(rows), "starter")
    text = init_recipe(write(rows), "starter", sets=["data.roles={user: [tool]}"])
    assert parse_recipe(text, name="r").data.roles == {"user": ["tool"]}


def test_one_direction_of_several_languages_is_asked_for(write: Callable[..., Path]) -> None:
    path = write([{"translation": {"en": "e", "de": "d", "fr": "f"}}] * 9)
    with pytest.raises(DataError) as caught:
        init_recipe(path, "starter")
    assert "3 languages" in str(caught.value)
    assert "found: `en`, `de`, `fr`" in str(caught.value)
    assert "--columns instruction=en --columns response=de" in str(caught.value)
    text = init_recipe(path, "starter", columns=["instruction=fr", "response=en"])
    assert "recognised as translation from `fr` to `en`" in text


def test_a_folder_that_is_not_there_is_no_hub_name(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write([{"instruction": "a", "response": "b"}] * 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelError, match=r"runs/nothere: there is no such folder .*the folder runs"):
        init_recipe(data, "runs/nothere")
    assert "model_name_or_path: google/mt5-small" in init_recipe(data, "google/mt5-small")


def rate_line(base: str, path: Path) -> tuple[float, str]:
    text = init_recipe(path, base)
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("  learning_rate:"))
    start = lines.index("training:")
    return parse_recipe(text, name="recipe.yaml").training.learning_rate, " ".join(lines[start + 1 : place])


def test_the_learning_rate_of_a_t5_like_base_follows_the_rule_and_says_so(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write([{"instruction": f"a {n}", "response": "b"} for n in range(20)])
    base = tmp_path / "base"
    base.mkdir()
    rates = []
    for width in (64, 512, 1024):
        config = {"model_type": "mt5", "d_model": width, "architectures": ["MT5ForConditionalGeneration"]}
        (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
        rate, comment = rate_line(str(base), path)
        rates.append(rate)
        assert f"from d_model {width}" in comment.replace("  # ", " ").replace("# ", "")
        assert "--find-lr" in comment
    assert rates == [2.4e-3, 1.8e-3, 1.3e-3]
    for width in (10**400, 0, "512", True, None):  # a folder from elsewhere
        config = {"model_type": "mt5", "d_model": width, "architectures": ["MT5ForConditionalGeneration"]}
        (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert rate_line(str(base), path)[0] == 3e-4
    bart = {"model_type": "bart", "d_model": 512, "architectures": ["BartForConditionalGeneration"]}
    (base / "config.json").write_text(json.dumps(bart), encoding="utf-8")
    for other in (str(base), "google/flan-t5-base"):  # another family; not on this machine
        assert rate_line(other, path) == (3e-4, "  # Peak learning rate.")


def test_the_rule_is_that_of_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "learning_rate.md").read_text(encoding="utf-8")
    assert f"**{rule.RATE:.2g}**" in page
    assert f"| width doubles | × {rule.PER_WIDTH:.2f} |" in page
