"""With a catalogue, all that people read of the demo, its report, help and errors is in its language."""

from __future__ import annotations

import html
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraloom.cli import app, main
from loraloom.text.catalogue import use_catalogue
from tests.commands.trained import small_recipe
from tests.pseudo_locale import PseudoLocale

# Names and values that are the same in every language.
_NAMED = re.compile(
    r"`[^`]*`|--?\w[\w-]*|[\w./-]+[._/][\w./-]*|\[[^\]]*\]|<[^>]*>|\b[A-Z][A-Z-]*\b|\S*[^\x00-\x7f]\S*"
)
_PHRASE = re.compile(r"[a-z]{2,}(?:[ ,;:]+[a-z]{2,}){2,}")
_NOT_READ = re.compile(r"<(style|script|code|pre)\b.*?</\1>|<p class=\"data.*?</p>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(?:aria-label|title|placeholder|data-label|data-text)="([^"]*)"')


@pytest.fixture(autouse=True)
def pseudo_locale() -> Iterator[None]:
    with use_catalogue(PseudoLocale()):
        yield


def english_phrases(text: str) -> list[str]:
    """Three or more words of English beside each other."""
    return _PHRASE.findall(_NAMED.sub(" 0 ", text))


def test_english_is_found() -> None:
    assert english_phrases("a.csv:1: 2 rows are empty") == ["rows are empty"]
    assert english_phrases("ｔｈｅ ｒｏｗ ｉｓ `not so empty` in a.csv") == []


def test_the_demo_and_its_report_are_translated(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path, tiny("mt5"))
    module = importlib.import_module("loraloom.commands.demo")
    monkeypatch.setattr(module, "read_recipe", lambda _: recipe)
    ended = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "run")], catch_exceptions=False)
    assert "ｐｌａｎ" in ended.stderr
    assert english_phrases(ended.stderr) == []
    assert english_phrases(ended.stdout) == []
    page = _NOT_READ.sub(" ", (tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert '<html lang="en">' in page
    texts = [*re.split("<[^>]*>", page), *_ATTRIBUTE.findall(page)]
    assert "Ｃｈｅｃｋｓ" in texts
    assert [found for text in texts for found in english_phrases(html.unescape(text))] == []


@pytest.mark.parametrize(
    "verb", ["", *(each.name or each.callback.__name__ for each in app.registered_commands)]
)
def test_help_is_translated(verb: str) -> None:
    shown = CliRunner().invoke(app, [*([verb] if verb else []), "--help"], env={"COLUMNS": "300"})
    assert "Ｕｓａｇｅ" in shown.stdout
    assert "Ｓｈｏｗ ｔｈｉｓ ｍｅｓｓａｇｅ ａｎｄ ｅｘｉｔ." in shown.stdout
    assert english_phrases(shown.stdout) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "nothing.yaml"], "nothing.yaml: ｔｈｅｒｅ ｉｓ ｎｏ ｓｕｃｈ ｆｉｌｅ"),
        (["train", "--foo"], "Ｎｏ ｓｕｃｈ ｏｐｔｉｏｎ: --foo"),
        (["trian"], "Ｎｏ ｓｕｃｈ ｃｏｍｍａｎｄ 'trian'"),
        (["search", "starter"], "ｇｉｖｅ ａ ｒｅｃｉｐｅ"),
        (["train"], "ｇｉｖｅ ａ ｒｅｃｉｐｅ"),
        (["search", "starter", "--space", "x", "--trials", "many"], "ｖａｌｉｄ ｉｎｔｅｇｅｒ"),
    ],
)
def test_errors_are_translated(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["loraloom", *words])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().err
    assert said in " ".join(shown.replace("│", "").split())
    assert english_phrases(shown) == []
