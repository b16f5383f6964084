"""The Chinese catalogue is whole, says what the English says, and is what people get."""

from __future__ import annotations

import gettext
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loraloom.cli import main
from loraloom.errors import DataError, Problem
from loraloom.text.catalogue import rendered, use_catalogue
from loraloom.text.language import LOCALES, catalogue_of, language_named, language_of_user
from loraloom.text.message import Message, joined
from loraloom.text.template import pieces
from loraloom.text.units import counted, percent, size
from tests.text.message_files import Entry, entries
from tools.messages.templates import PACKAGE, templates

pytestmark = pytest.mark.usefixtures("without_collections")
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "loraloom.po"
ENTRIES = entries(PO)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Code, which keeps its own punctuation, and placeholders.
_CODE = re.compile(r"`[^`]*`|\{[^{}]*\}|--[\w-]+|\w+\([^()]*\)")
_HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?()](?!\w)|[,;:!?()](?=[\u4e00-\u9fff])")
_TOUCHING = re.compile(r"[\u4e00-\u9fff][A-Za-z0-9`]|[A-Za-z0-9%`][\u4e00-\u9fff]")


def shown(found: list[Entry]) -> list[str]:
    return [entry.template.text for entry in found]


def placeholders(text: str) -> set[tuple[str, str]]:
    return {(name, spec) for _, name, spec in pieces(text) if name}


def test_every_message_has_a_translation_and_every_translation_a_message() -> None:
    """If not, run `make messages` and translate what is empty in the .po file."""
    assert {entry.template for entry in ENTRIES} == set(templates())
    assert shown([entry for entry in ENTRIES if not all(entry.translations)]) == []
    assert shown([entry for entry in ENTRIES if entry.is_fuzzy]) == []
    assert len(ENTRIES) > 1500


def test_every_translation_has_the_placeholders_of_its_message() -> None:
    wrong = [
        entry
        for entry in ENTRIES
        if placeholders(entry.template.plural or entry.template.text) != placeholders(entry.translations[0])
    ]
    assert shown(wrong) == []


def test_what_is_loaded_is_what_was_translated() -> None:
    """If not, run `make messages`."""
    catalogue = catalogue_of("zh")
    assert isinstance(catalogue, gettext.GNUTranslations)
    for entry in ENTRIES:
        template, plural = entry.template.text, entry.template.plural
        loaded = catalogue.ngettext(template, plural, 2) if plural else catalogue.gettext(template)
        assert [loaded] == entry.translations


def test_sentences_end_as_chinese_ones_do() -> None:
    wrong = [
        entry
        for entry in ENTRIES
        if re.search(r"[^.]\.\s*$|^\.$", entry.template.text)
        and not re.search(r"[。，；] ?$", entry.translations[0])
    ]
    assert shown(wrong) == []


def test_punctuation_is_of_full_width_and_spaces_are_between_scripts() -> None:
    texts = [entry.translations[0] for entry in ENTRIES]
    assert [text for text in texts if _HALF_WIDTH.search(_CODE.sub("X", text))] == []
    assert [text for text in texts if _TOUCHING.search(text)] == []


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN", "LC_MESSAGES": "zh_CN", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US", "LORALOOM_LANG": "zh"}, "zh"),
        ({"LC_ALL": "zh_CN", "LORALOOM_LANG": "en"}, "en"),
        ({"LC_ALL": "zh_CN", "LORALOOM_LANG": ""}, "zh"),
        ({"LORALOOM_LANG": "zh-CN"}, "zh"),
        ({"LORALOOM_LANG": "ZH_cn.utf8@x"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_variable_or_else_the_locale(
    environment: dict[str, str], language: str
) -> None:
    assert language_of_user(environment) == language


def test_every_language_has_a_catalogue() -> None:
    folders = {folder.name for folder in (PACKAGE / "locale").iterdir() if folder.is_dir()}
    assert folders == set(LOCALES.values()) - {""}
    assert language_named("zho") is None
    assert catalogue_of("en").gettext("no such file") == "no such file"


def test_the_api_uses_a_catalogue() -> None:
    with use_catalogue(catalogue_of("zh")):
        assert rendered(counted(1200, "row")) == "1,200 行"
    assert rendered(counted(1200, "row")) == "1,200 rows"


def zh(text: str) -> str:
    return rendered(text, catalogue_of("zh"))


def test_figures_lists_and_sentences_read_as_chinese() -> None:
    assert [zh(counted(number, "trial")) for number in (1, 2)] == ["1 个试验", "2 个试验"]
    assert [zh(percent(0.9999)), zh(percent(0.5)), zh(size(12))] == ["99.9 % 以上", "50 %", "12 字节"]
    assert zh(joined(", ", [counted(3, "error"), counted(2, "warning")])) == "3 个错误、2 个警告"
    assert zh(joined(" and ", ["`a`", "`b`"])) == "`a` 和 `b`"
    problem = Problem(Message("no such file"), "a.json:3", "x", "y", Message("Choose another `--out`."))
    assert zh(DataError([problem, Problem(Message("is empty"), "b.json")]).as_message()) == (
        "a.json:3：没有这个文件（实际：x）。允许：y。换一个 `--out`。\nb.json：是空的。\n共 2 个问题。"
    )


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, in which commands run in Chinese."""
    monkeypatch.setenv("LORALOOM_LANG", "zh")
    monkeypatch.chdir(tmp_path)
    lines = [{"instruction": f"问题 {number}", "response": f"回答 {number}。"} for number in range(40)]
    lines += lines[:2]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(
        "model_name_or_path: starter\ndata: {train: rows.jsonl}\n", encoding="utf-8"
    )
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run a command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["loraloom", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.usefixtures("rows")
def test_check_answers_in_chinese(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", "recipe.yaml", "--data-only") == 0
    told = capsys.readouterr().out
    assert "警告 duplicates: rows.jsonl:41" in told
    assert "行与前面某行完全相同" in told
    assert "项通过" in told
    assert "rows are" not in told


@pytest.mark.usefixtures("rows")
def test_help_is_in_chinese_and_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", "--help") == 0
    told = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "用法：" in told
    assert "--allowCHECK即使这项检查出错也继续，并记录在运行中；可以重复。" in told


@pytest.mark.usefixtures("rows")
def test_json_has_the_keys_of_programs_and_the_texts_of_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", "recipe.yaml", "--data-only", "--json") == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {tuple(finding) for finding in findings} == {("level", "check", "where", "message", "fix")}
    (copies,) = [finding for finding in findings if finding["check"] == "duplicates"]
    assert copies["level"] == "warning"
    assert CHINESE.search(copies["message"])
    assert CHINESE.search(copies["fix"])


@pytest.mark.usefixtures("rows")
def test_errors_are_in_chinese(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "check", "recipe.yaml", "--data-only", "--set", "lora.r=0") == 1
    told = capsys.readouterr().err
    assert told.startswith("RecipeError: ")
    assert "`lora.r` 不能小于 1（实际：0）。允许：至少 1、至多 4,096。" in told


def test_a_language_without_messages_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORALOOM_LANG", "tlh")
    assert run(monkeypatch, "runs") == 1
    assert capsys.readouterr().err == (
        "LoRALoomError: LORALOOM_LANG: there are no messages in this language (found: `tlh`). "
        "Allowed: `en`, `zh`. Unset this variable to use the language of the locale.\n"
    )
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert run(monkeypatch, "runs") == 1
    assert "LORALOOM_LANG：没有这种语言的消息（实际：`tlh`）" in capsys.readouterr().err


def test_a_process_of_its_own_answers_in_the_language_of_its_locale(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "LORALOOM_LANG"}
    done = subprocess.run(
        [sys.executable, "-c", "from loraloom.cli import main; main()", "check", "nothing.yaml"],
        env={**environment, "LC_ALL": "zh_CN.UTF-8"},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "nothing.yaml：没有这个文件" in done.stderr
